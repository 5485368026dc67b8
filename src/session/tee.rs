//! What a program without a terminal writes, on its way to its client and into the transcript.
//!
//! Made by `program` where sessions are recorded; otherwise the program's own pipes are handed to the
//! client, and its bytes pass through nobody. A slow client slows the program, as its own pipe would.

use super::transcript::Transcript;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;
/// What a pipe is made to hold, where the machine lets us.
const PIPE: usize = 1 << 20;

/// All outputs of one program.
pub(super) struct Tee {
    outputs: Vec<Output>,
    /// None once it could not be written.
    transcript: Option<Transcript>,
}

/// One output.
struct Output {
    /// None once nothing more comes, or nobody reads it.
    from: Option<Receiver>,
    to: Option<Sender>,
    /// Read, and not taken by the client yet.
    pending: Vec<u8>,
    /// What is left to be read of a program that has ended.
    left: Option<u64>,
}

impl Tee {
    /// Stands between these pipes of a program and those that are returned, which are the client's.
    pub(super) fn new(
        from: Vec<OwnedFd>,
        transcript: Transcript,
    ) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (mut outputs, mut shown) = (Vec::new(), Vec::new());
        for from in from {
            let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            // Larger pipes are fewer changes between processes; without them it works as well.
            let _ = rustix::pipe::fcntl_setpipe_size(&from, PIPE);
            outputs.push(Output {
                from: Some(Receiver::from_owned_fd(from)?),
                to: Some(Sender::from_owned_fd(write)?),
                pending: Vec::new(),
                left: None,
            });
            shown.push(read);
        }
        Ok((Tee { outputs, transcript: Some(transcript) }, shown))
    }

    /// The program has ended: what lies in its pipes now is its last, whoever may still write more.
    pub(super) fn ends(&mut self) {
        for output in &mut self.outputs {
            output.left =
                output.from.as_ref().and_then(|from| rustix::io::ioctl_fionread(from).ok());
        }
    }

    /// Whether the client has everything.
    pub(super) fn is_done(&self) -> bool {
        self.outputs.iter().all(Output::is_done)
    }

    /// Carries on until that is so, or the transcript cannot be written. Nothing is lost where the wait is
    /// given up.
    pub(super) async fn flow(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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

impl Output {
    fn is_done(&self) -> bool {
        self.pending.is_empty() && (self.from.is_none() || self.left == Some(0))
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        keep: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Poll<io::Result<()>> {
        loop {
            while let Some(to) = self.to.as_mut().filter(|_| !self.pending.is_empty()) {
                match ready!(Pin::new(to).poll_write(context, &self.pending)) {
                    Ok(written) => drop(self.pending.drain(..written)),
                    // The client reads no more; the program learns it the same way.
                    Err(_) => {
                        self.pending.clear();
                        (self.from, self.to) = (None, None);
                    }
                }
            }
            if self.is_done() {
                return Poll::Ready(Ok(()));
            }
            let Some(from) = &mut self.from else { return Poll::Ready(Ok(())) };
            let left = self.left.map_or(CHUNK, |left| usize::try_from(left).unwrap_or(CHUNK));
            let mut space = vec![0; CHUNK.min(left)];
            let mut buffer = ReadBuf::new(&mut space);
            let read = ready!(Pin::new(from).poll_read(context, &mut buffer)).is_ok();
            let bytes = buffer.filled();
            if !read || bytes.is_empty() {
                // The end, which the client sees at once.
                (self.from, self.to) = (None, None);
                continue;
            }
            self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
            self.pending.extend_from_slice(bytes);
            keep(bytes)?;
        }
    }
}
