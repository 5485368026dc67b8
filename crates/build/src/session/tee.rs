//! What a recorded program writes, on its way to its client and into the transcript; and to a terminal, what
//! is typed.
//!
//! Made by `program` where sessions are recorded; otherwise the program's own terminal or pipes are handed
//! to the client, and its bytes pass through nobody. A slow client slows the program, as its own terminal
//! or pipe would.

use super::transcript::Transcript;
use runner_host::duplex::Duplex;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;
/// What a pipe is made to hold, where the machine lets us.
const PIPE: usize = 1 << 20;
/// More than a terminal ever holds.
const TERMINAL: u64 = 1 << 20;

/// All ways from one program, and the one to it where it has a terminal.
pub(super) struct Tee {
    outputs: Vec<TeeDirection>,
    input: Option<TeeDirection>,
    /// None once it could not be written.
    transcript: Option<Transcript>,
}

/// One way.
struct TeeDirection {
    /// None once nothing more comes, or nobody reads it.
    from: Option<Arc<Duplex>>,
    to: Option<Arc<Duplex>>,
    /// Read, and not taken by the other end yet.
    pending: Vec<u8>,
    /// What is left to be read, at most, of a program that has ended.
    left: Option<u64>,
}

impl Tee {
    /// Stands between these pipes of a program and those that are returned, which are the client's.
    pub(super) fn pipes(
        from: Vec<OwnedFd>,
        transcript: Transcript,
    ) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (mut outputs, mut shown) = (Vec::new(), Vec::new());
        for from in from {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // Larger pipes are fewer changes between processes; without them it works as well.
            let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE);
            outputs.push(TeeDirection::new(
                Arc::new(Duplex::new(from)?),
                Arc::new(Duplex::new(write)?),
            ));
            shown.push(read);
        }
        Ok((Tee { outputs, input: None, transcript: Some(transcript) }, shown))
    }

    /// Stands between a program's terminal and what is returned, which is the client's.
    pub(super) fn terminal(master: OwnedFd, transcript: Transcript) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        let (master, ours) = (Arc::new(Duplex::new(master)?), Arc::new(Duplex::new(ours.into())?));
        let input = TeeDirection::new(Arc::clone(&ours), Arc::clone(&master));
        let outputs = vec![TeeDirection::new(master, ours)];
        let tee = Tee { outputs, input: Some(input), transcript: Some(transcript) };
        Ok((tee, theirs.into()))
    }

    /// The program has ended: what it has written by now is its last, whoever may still write more.
    pub(super) fn ends(&mut self) {
        let is_terminal = self.input.take().is_some();
        for output in &mut self.outputs {
            let in_pipe = |from: &Arc<Duplex>| rustix::io::ioctl_fionread(from).ok();
            // A terminal tells only a part of what it holds.
            output.left =
                if is_terminal { Some(TERMINAL) } else { output.from.as_ref().and_then(in_pipe) };
        }
    }

    /// Whether the client has everything.
    pub(super) fn is_done(&self) -> bool {
        self.outputs.iter().all(TeeDirection::is_done)
    }

    /// Carries on until that is so, or the transcript cannot be written. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn flow(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(input) = &mut self.input {
            // What is typed is not kept: a terminal shows what is meant to be seen of it.
            let _ = input.poll(context, &mut |_| Ok(()));
        }
        for (stream, output) in self.outputs.iter_mut().enumerate() {
            let mut keep = |bytes: &[u8]| match &mut self.transcript {
                Some(transcript) => transcript.write(stream, bytes),
                None => Ok(()),
            };
            if let Poll::Ready(Err(error)) = output.poll(context, &mut keep) {
                // What is under way gets to the client all the same.
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
                    // The other end reads no more; its writer learns it the same way.
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
                // The end, which the other end sees at once. A terminal's is an error.
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
