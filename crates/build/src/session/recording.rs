//! Records a terminal: its masked output with times, and its size changes.
//!
//! Written by `transcript`, and by `program` when the terminal is resized.

use runner_core::recording::{CastContent, CastEvent, CastHeader, Texts};
use runner_host::clock;
use runner_wire::control::TerminalSize;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A recording in progress.
pub(super) struct Recording {
    start: Duration,
    writing: Mutex<RecordingWriter>,
}

struct RecordingWriter {
    to: Box<dyn Write + Send>,
    texts: Texts,
}

impl Recording {
    /// Begins a recording.
    pub(super) fn begin(
        mut to: Box<dyn Write + Send>,
        size: TerminalSize,
        program: &str,
    ) -> io::Result<Self> {
        let seconds = clock::wall().epoch_millis() / 1000;
        let header = CastHeader::new(size.cols, size.rows, seconds, program);
        to.write_all(header.line().as_bytes())?;
        let writing = Mutex::new(RecordingWriter { to, texts: Texts::default() });
        Ok(Recording { start: clock::boot(), writing })
    }

    /// Records output.
    pub(super) fn shows(&self, bytes: &[u8]) -> io::Result<()> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = writing.texts.push(bytes);
        self.write(&mut writing, text)
    }

    /// Writes the rest.
    pub(super) fn ends(&self) -> io::Result<()> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = writing.texts.finish();
        self.write(&mut writing, text)
    }

    fn write(&self, writing: &mut RecordingWriter, text: String) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let event = CastEvent { at: self.at(), shown: CastContent::Output(text) };
        writing.to.write_all(event.line().as_bytes())
    }

    /// Records a new size. A write error is reported by the next output.
    pub(super) fn resized(&self, size: TerminalSize) {
        let event = CastEvent { at: self.at(), shown: CastContent::Resized(size.cols, size.rows) };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writing.to.write_all(event.line().as_bytes());
    }

    fn at(&self) -> Duration {
        clock::boot().saturating_sub(self.start)
    }
}
