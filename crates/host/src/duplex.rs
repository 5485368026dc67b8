//! A descriptor read and written without blocking, each way waited for only while something is to go
//! that way.
//!
//! Used for programs' terminals and pipes, and by both ends of a build's control socket. tokio's own sockets
//! are watched both ways all the time: a peer that has read something then wakes up a writer that has
//! nothing to say, once for each key.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A terminal's master, a pipe, or a connected socket.
#[derive(Debug)]
pub struct Duplex {
    fd: AsyncFd<OwnedFd>,
    /// The same once more while it is full: watched under another number.
    full: Mutex<Option<AsyncFd<OwnedFd>>>,
}

impl Duplex {
    /// Must be called in the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Duplex { fd: watched(fd, Interest::READABLE)?, full: Mutex::default() })
    }

    /// What is there now, 0 at the end; `None` when nothing is.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        now(|| Ok(nix::unistd::read(self, buffer)?))
    }

    /// Writes what there is room for now; `None` where there is none.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        now(|| Ok(nix::unistd::write(self, bytes)?))
    }

    /// Resolves when there may be something to read, or an error to find. What has come before it
    /// resolved is not reported again: the waiting task has read everything.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// As [`Self::readable`], to wait for several things at once.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fd.poll_read_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// The next bytes; 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(read) = self.read_now(buffer)? {
                return Ok(read);
            }
            self.readable().await?;
        }
    }

    /// Resolves when there is room again. To be asked after a call that has found none.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// As [`Self::writable`], to wait for several things at once.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = match &mut *full {
            Some(watched) => watched,
            none => none.insert(watched(self.fd.get_ref().try_clone()?, Interest::WRITABLE)?),
        };
        let is_writable = ready!(watched.poll_write_ready(context)).map(drop);
        *full = None;
        Poll::Ready(is_writable)
    }

    /// Resolves when all bytes are on their way.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(bytes, |fd, bytes| Ok(nix::unistd::write(fd, bytes)?)).await
    }

    /// The same by another call, which says how many bytes it took.
    pub async fn send_all(
        &self,
        mut bytes: &[u8],
        mut send: impl FnMut(BorrowedFd<'_>, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match now(|| send(self.as_fd(), bytes))? {
                Some(sent) => bytes = &bytes[sent..],
                None => self.writable().await?,
            }
        }
        Ok(())
    }
}

impl AsFd for Duplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `None` if the call would block.
fn now(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            done => return done.map(Some),
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe because some types may close their descriptor early; an \
              OwnedFd does not, and unsafe code has no place here"
)]
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
