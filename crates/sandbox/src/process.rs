//! A child process that ends with its handle.
//!
//! Used by `parent` and `users`.
#![forbid(unsafe_code)]

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};
use rustix::process::{pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, ExitStatus};
use std::time::Duration;

/// How long a reaper may take to end its descendants, in milliseconds.
pub(crate) const PATIENCE_MS: u16 = 10_000;

/// A process, by its pidfd. Dropping it kills and reaps the process.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    /// How long to wait for the process to end by itself first.
    patience: PollTimeout,
}

impl Child {
    /// A process that can be killed at once.
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Child { pidfd, patience: PollTimeout::ZERO }
    }

    /// A process that needs time to end; the caller must tell it to.
    pub(crate) fn with_patience(pidfd: OwnedFd, patience: PollTimeout) -> Self {
        Child { pidfd, patience }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn has_patience(&self) -> bool {
        self.patience != PollTimeout::ZERO
    }

    pub(crate) fn kill(&self) {
        // It may be dead already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Returns how it ended, for a message.
    pub(crate) fn kill_and_wait(&self) -> String {
        self.kill();
        self.wait()
    }

    pub(crate) fn wait(&self) -> String {
        match self.wait_for_end() {
            Ok(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (_, Some(signal)) => format!("signal {signal}"),
                _ => "no status".to_owned(),
            },
            Err(errno) => errno.to_string(),
        }
    }

    /// Whether it has ended in so many milliseconds. It is still to be waited for.
    pub(crate) fn has_ended_within(&self, time: u16) -> bool {
        ends_within(&self.pidfd, time.into()).unwrap_or(false)
    }

    /// Its exit code, if it has one.
    pub(crate) fn wait_for_code(&self) -> Option<i32> {
        self.wait_for_end().ok()?.exit_status()
    }

    fn wait_for_end(&self) -> Result<WaitIdStatus, Errno> {
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)
            {
                Ok(Some(status)) => return Ok(status),
                Err(Errno::INTR) | Ok(None) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.has_patience() {
            // A stopped process could do nothing in that time.
            let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
            // If waiting fails, killing remains.
            let _ = ends_within(&self.pidfd, self.patience);
        }
        self.kill_and_wait();
    }
}

/// Waits for a program that was told to end, and kills it if it takes longer than `patience`, even
/// if it is stopped.
///
/// # Errors
/// Even then it does not end, or it is no child of this process any more.
pub fn wait_or_kill(child: &mut process::Child, patience: Duration) -> io::Result<ExitStatus> {
    /// How long the kernel may take to end it, in milliseconds: normally none, unless the program
    /// hangs in a system call.
    const KILLED: u16 = 1000;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // A stopped program has not seen what it was told.
    let _ = pidfd_send_signal(&pidfd, Signal::CONT);
    if !ends_within(&pidfd, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX))? {
        child.kill()?;
        if !ends_within(&pidfd, KILLED.into())? {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    child.wait()
}

/// Whether the process ends within that time.
pub(crate) fn ends_within(pidfd: &OwnedFd, time: PollTimeout) -> io::Result<bool> {
    loop {
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ended, time) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return Ok(done? > 0),
        }
    }
}
