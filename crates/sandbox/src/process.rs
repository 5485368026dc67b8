//! A process of ours that does not outlive its owner here.
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

/// How long a reaper has to end its descendants.
pub(crate) const PATIENCE_MS: u16 = 10_000;

/// A process, by its pidfd, that is killed and collected when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    /// How long it has to end by itself first.
    patience: PollTimeout,
}

impl Child {
    /// One that need not be asked first.
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Child { pidfd, patience: PollTimeout::ZERO }
    }

    /// One that has something to do before it ends; what tells it to is up to the caller.
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

    /// How it ended is for a message.
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

    /// Its exit code, where it ended with one.
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
            // One that is stopped could do nothing in that time.
            let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
            // What goes wrong with the waiting leaves the killing.
            let _ = ends_within(&self.pidfd, self.patience);
        }
        self.kill_and_wait();
    }
}

/// Waits for a program that has been told to end, and kills it when it has not in that time, stopped or not.
///
/// # Errors
/// It does not even end then, or is no child of this process any more.
pub fn wait_or_kill(child: &mut process::Child, patience: Duration) -> io::Result<ExitStatus> {
    /// How long the kernel has to end it, which takes it no time unless the program hangs in there.
    const KILLED: u16 = 1000;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    // Whatever it was told, a stopped one has not heard it.
    let _ = pidfd_send_signal(&pidfd, Signal::CONT);
    if !ends_within(&pidfd, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX))? {
        child.kill()?;
        if !ends_within(&pidfd, KILLED.into())? {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    child.wait()
}

/// Whether the process has ended in that time.
pub(crate) fn ends_within(pidfd: &OwnedFd, time: PollTimeout) -> io::Result<bool> {
    loop {
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ended, time) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return Ok(done? > 0),
        }
    }
}
