//! A non-blocking descriptor for reading and writing that watches each direction only while needed.
//!
//! Used for programs' terminals and pipes, and by both ends of a build's control socket. tokio's
//! own sockets always watch both directions: each time a peer reads something, an idle writer wakes
//! up, once for each key press.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A terminal's master, a pipe or a connected socket.
#[derive(Debug)]
pub struct Duplex {
    fd: AsyncFd<OwnedFd>,
    /// A duplicate while writing is blocked, watched under its own number.
    full: Mutex<Option<AsyncFd<OwnedFd>>>,
}

impl Duplex {
    /// Call this in the runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Duplex { fd: watched(fd, Interest::READABLE)?, full: Mutex::default() })
    }

    /// Reads what is available: 0 at the end, `None` if nothing is.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        now(|| Ok(nix::unistd::read(self, buffer)?))
    }

    /// Writes as much as fits now; `None` if nothing does.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        now(|| Ok(nix::unistd::write(self, bytes)?))
    }

    /// Resolves when there may be data or an error to read. Data that arrived earlier is not
    /// reported again, so the waiting task must have read everything.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// Like [`Self::readable`], for waiting on several things at once.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fd.poll_read_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Reads the next bytes; 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(read) = self.read_now(buffer)? {
                return Ok(read);
            }
            self.readable().await?;
        }
    }

    /// Resolves when there is room again. Call it after a write that found none.
    pub async fn writable(&self) -> io::Result<()> {
        poll_fn(|context| self.poll_writable(context)).await
    }

    /// Like [`Self::writable`], for waiting on several things at once.
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

    /// Resolves when all bytes have been written.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(bytes, |fd, bytes| Ok(nix::unistd::write(fd, bytes)?)).await
    }

    /// The same with another call, which returns the number of bytes it took.
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
