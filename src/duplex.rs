//! A descriptor read and written without blocking, each way waited for only while something is to go
//! that way.
//!
//! Used by the hub for terminals and by `control` for clients that have a session. tokio's own sockets
//! are watched both ways all the time: a peer that has read something then wakes up a writer that has
//! nothing to say, once for each key.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A terminal's master, or a connected socket.
#[derive(Debug)]
pub(crate) struct Duplex(AsyncFd<OwnedFd>);

impl Duplex {
    /// Must be called in the runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Duplex(watched(fd, Interest::READABLE)?))
    }

    /// What is there now, 0 at the end; `None` when nothing is.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        now(|| Ok(nix::unistd::read(&self.0, buffer)?))
    }

    /// Resolves when there may be something to read, or an error to find.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// The next bytes; 0 at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(read) = self.read_now(buffer)? {
                return Ok(read);
            }
            self.readable().await?;
        }
    }

    /// Resolves when all bytes are on their way.
    pub(crate) async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        self.send_all(bytes, |fd, bytes| Ok(nix::unistd::write(fd, bytes)?)).await
    }

    /// The same by another call, which says how many bytes it took.
    pub(crate) async fn send_all(
        &self,
        mut bytes: &[u8],
        mut send: impl FnMut(BorrowedFd<'_>, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut full = None;
        while !bytes.is_empty() {
            if let Some(sent) = now(|| send(self.as_fd(), bytes))? {
                bytes = &bytes[sent..];
                continue;
            }
            let full = match &mut full {
                Some(full) => full,
                // Watched under a number of its own.
                none => none.insert(watched(self.0.get_ref().try_clone()?, Interest::WRITABLE)?),
            };
            full.writable().await?.clear_ready();
        }
        Ok(())
    }
}

impl AsFd for Duplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Nothing where the call would have to wait.
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
fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
