//! Writes a session's masked output to the log.
//!
//! Fed by `tee`.

use super::recording::Recording;
use runner_core::mask::{Masker, SharedSecrets};
use std::io::{self, Write};
use std::sync::Arc;

/// A session's transcript. Output and errors, which are written concurrently, are masked
/// separately: a secret lies within one of them.
pub(super) struct Transcript {
    secrets: SharedSecrets,
    maskers: Vec<Masker>,
    masked: Vec<u8>,
    to: Vec<Box<dyn Write + Send>>,
    /// The terminal's recording.
    recording: Option<Arc<Recording>>,
}

impl Transcript {
    pub(super) fn new(secrets: SharedSecrets, to: Vec<Box<dyn Write + Send>>) -> Self {
        Transcript { secrets, maskers: Vec::new(), masked: Vec::new(), to, recording: None }
    }

    /// Adds a recording with the times and sizes of a terminal.
    pub(super) fn with(mut self, recording: Arc<Recording>) -> Self {
        self.recording = Some(recording);
        self
    }

    pub(super) fn recording(&self) -> Option<Arc<Recording>> {
        self.recording.clone()
    }

    /// Records output of one of the streams.
    pub(super) fn write(&mut self, stream: usize, bytes: &[u8]) -> io::Result<()> {
        while self.maskers.len() <= stream {
            self.maskers.push(Masker::new(self.secrets.get()));
        }
        let Some(masker) = self.maskers.get_mut(stream) else { return Ok(()) };
        // Credentials may have been renewed since the session began.
        masker.renew(self.secrets.get());
        let shown = masker.push(bytes, &mut self.masked);
        if let Some(recording) = &self.recording {
            recording.shows(shown)?;
        }
        self.to.iter_mut().try_for_each(|to| to.write_all(shown))
    }
}

impl Drop for Transcript {
    fn drop(&mut self) {
        // Bytes held back because they could have begun a secret.
        for masker in &mut self.maskers {
            let rest = masker.finish();
            if let Some(recording) = &self.recording {
                let _ = recording.shows(&rest);
            }
            let _ = self.to.iter_mut().try_for_each(|to| to.write_all(&rest));
        }
        if let Some(recording) = &self.recording {
            let _ = recording.ends();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::mask::Secrets;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Written in pieces, with output of the other stream in between.
    #[test]
    fn secrets_are_masked_in_each_stream() {
        let secrets = Secrets::new([b"hunter2".to_vec()]).expect("a secret");
        let kept = Kept::default();
        let mut transcript =
            Transcript::new(SharedSecrets::new(secrets), vec![Box::new(kept.clone())]);
        for (stream, bytes) in [(0, "<hun"), (1, "[hunt"), (0, "ter2>"), (1, "er2]"), (0, "hunt")] {
            transcript.write(stream, bytes.as_bytes()).expect("kept");
        }
        drop(transcript);
        let kept = kept.0.lock().expect("whole").clone();
        assert_eq!(String::from_utf8_lossy(&kept), "<[***>***]hunt");
    }
}
