//! Waits for changes of builds through the kernel's notifications (inotify) instead of polling.
//!
//! Used by verbs that wait: `wait`, `stop`, `logs -f`. None of it needs the build's owner, which
//! may be stopped.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// Room for many events; the rest is read right after.
const BUFFER: usize = 16 << 10;

/// Watches for changes.
#[derive(Debug)]
pub struct FolderChanges(OwnedFd);

/// The result of a wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    /// Something has changed. Holds the names of new files where they matter.
    Changed(Vec<String>),
    TimeIsUp,
}

impl FolderChanges {
    /// Watches a build's folder and its listing: the log grows, the record appears, or the owner
    /// lets go.
    pub fn of_build(folder: &Path, listing: &Path) -> io::Result<Self> {
        let changes = Self::new()?;
        let flags = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        inotify::add_watch(&changes.0, folder, flags | WatchFlags::DELETE_SELF)?;
        // It is no longer listed.
        match inotify::add_watch(&changes.0, listing, WatchFlags::DELETE_SELF | WatchFlags::ATTRIB)
        {
            Err(Errno::NOENT) | Ok(_) => Ok(changes),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Watches for builds that begin in this folder.
    pub fn of_builds(folder: &Path) -> io::Result<Self> {
        let changes = Self::new()?;
        inotify::add_watch(&changes.0, folder, WatchFlags::MOVED_TO)?;
        Ok(changes)
    }

    fn new() -> io::Result<Self> {
        Ok(FolderChanges(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?))
    }

    /// Blocks until something changes, or the time is up.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<Waited> {
        self.wait_or(until, None)
    }

    /// The same; input on `other` also counts as a change.
    pub fn wait_or(
        &self,
        until: Option<Instant>,
        other: Option<BorrowedFd<'_>>,
    ) -> io::Result<Waited> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let other = other.unwrap_or(self.0.as_fd());
            let mut ready = [
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
                PollFd::new(other, PollFlags::POLLIN),
            ];
            match poll(&mut ready, timeout) {
                // `poll` cannot wait for less than a millisecond.
                Ok(0) if left.is_some_and(|left| left.as_millis() == 0) => {
                    return Ok(Waited::TimeIsUp);
                }
                Ok(0) | Err(nix::errno::Errno::EINTR) => {}
                Ok(_) => return Ok(Waited::Changed(self.take()?)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads all pending events.
    fn take(&self) -> io::Result<Vec<String>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().and_then(|name| name.to_str().ok());
                    names.extend(name.map(str::to_owned));
                }
                Err(Errno::AGAIN) => return Ok(names),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
