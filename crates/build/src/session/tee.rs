//! Copies what a recorded program writes to its client and to the transcript; for a terminal, also
//! forwards the input.
//!
//! Created by `program` if sessions are recorded; otherwise the client receives the program's own
//! terminal or pipes. A slow client slows the program, as its own terminal or pipe would.

use super::transcript::Transcript;
use runner_host::duplex::Duplex;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;
/// Pipe capacity in bytes, if the machine allows it.
const PIPE: usize = 1 << 20;
/// More bytes than a terminal can buffer.
const TERMINAL: u64 = 1 << 20;

/// The outputs of one program, and its input if it has a terminal.
pub(super) struct Tee {
    outputs: Vec<TeeDirection>,
    input: Option<TeeDirection>,
    /// `None` after a failed write.
    transcript: Option<Transcript>,
}

/// One direction.
struct TeeDirection {
    /// `None` after the end, or when nobody reads the data.
    from: Option<Arc<Duplex>>,
    to: Option<Arc<Duplex>>,
    /// Bytes read but not yet written to the other end.
    pending: Vec<u8>,
    /// Maximum bytes still to read from a program that has ended.
    left: Option<u64>,
}

impl Tee {
    /// Puts itself between these pipes of a program and the returned ones, which are the client's.
    pub(super) fn pipes(
        from: Vec<OwnedFd>,
        transcript: Transcript,
    ) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (mut outputs, mut shown) = (Vec::new(), Vec::new());
        for from in from {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // Larger pipes mean fewer context switches; it also works without them.
            let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE);
            outputs.push(TeeDirection::new(
                Arc::new(Duplex::new(from)?),
                Arc::new(Duplex::new(write)?),
            ));
            shown.push(read);
        }
        Ok((Tee { outputs, input: None, transcript: Some(transcript) }, shown))
    }

    /// Puts itself between a program's terminal and the returned one, which is the client's.
    pub(super) fn terminal(master: OwnedFd, transcript: Transcript) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let (master, ours) = (Arc::new(Duplex::new(master)?), Arc::new(Duplex::new(ours.into())?));
        let input = TeeDirection::new(Arc::clone(&ours), Arc::clone(&master));
        let outputs = vec![TeeDirection::new(master, ours)];
        let tee = Tee { outputs, input: Some(input), transcript: Some(transcript) };
        Ok((tee, theirs.into()))
    }

    /// The program has ended: only output already written is read, even if other processes write
    /// more.
    pub(super) fn ends(&mut self) {
        let is_terminal = self.input.take().is_some();
        for output in &mut self.outputs {
            let in_pipe = |from: &Arc<Duplex>| rustix::io::ioctl_fionread(from).ok();
            // A terminal reports only a part of what it buffers.
            output.left =
                if is_terminal { Some(TERMINAL) } else { output.from.as_ref().and_then(in_pipe) };
        }
    }

    /// Whether the client has received everything.
    pub(super) fn is_done(&self) -> bool {
        self.outputs.iter().all(TeeDirection::is_done)
    }

    /// Forwards data until that is the case, or the transcript cannot be written. Safe to cancel:
    /// nothing is lost.
    pub(super) async fn flow(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            // Input is not recorded: the terminal echoes what is meant to be seen.
            let _ = input.poll(context, &mut |_| Ok(()));
        }
        for (stream, output) in self.outputs.iter_mut().enumerate() {
            let mut keep = |bytes: &[u8]| match &mut self.transcript {
                Some(transcript) => transcript.write(stream, bytes),
                None => Ok(()),
            };
            if let Poll::Ready(Err(error)) = output.poll(context, &mut keep) {
                // Data in transit still reaches the client.
                self.transcript = None;
                return Poll::Ready(Err(error));
            }
        }
        if self.is_done() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl TeeDirection {
    fn new(from: Arc<Duplex>, to: Arc<Duplex>) -> Self {
        TeeDirection { from: Some(from), to: Some(to), pending: Vec::new(), left: None }
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty() && (self.from.is_none() || self.left == Some(0))
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        keep: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(to) = self.to.as_ref().filter(|_| !self.pending.is_empty()) {
                match to.write_now(&self.pending) {
                    Ok(Some(written)) => drop(self.pending.drain(..written)),
                    Ok(None) => drop(ready!(to.poll_writable(context))),
                    // The other end no longer reads; closing tells the writer.
                    Err(_) => {
                        self.pending.clear();
                        (self.from, self.to) = (None, None);
                    }
                }
            }
            if self.is_done() {
                return Poll::Ready(Ok(()));
            }
            let Some(from) = &self.from else { return Poll::Ready(Ok(())) };
            let left = self.left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK));
            let mut space = vec![0; CHUNK.min(left)];
            match from.read_now(&mut space) {
                Ok(None) if self.left.is_some() => self.left = Some(0),
                // An error is found by the next read.
                Ok(None) => drop(ready!(from.poll_readable(context))),
                // The end, which the other end sees at once. A terminal reports it as an error.
                Ok(Some(0)) | Err(_) => (self.from, self.to) = (None, None),
                Ok(Some(read)) => {
                    let bytes = &space[..read];
                    self.left = self.left.map(|left| left.saturating_sub(read as u64));
                    self.pending.extend_from_slice(bytes);
                    keep(bytes)?;
                }
            }
        }
    }
}
