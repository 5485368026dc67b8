//! A process of ours that does not outlive its owner here.
//!
//! Used by `parent` and `users`.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};
use std::os::fd::{AsFd, OwnedFd};

/// A process, by its pidfd, that is killed and collected when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Child(pub(crate) OwnedFd);

impl Child {
    /// How it ended is for a message.
    pub(crate) fn kill_and_wait(&self) -> String {
        // It may be dead already; then there is only the waiting left.
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
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
            match rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return Ok(status),
                Err(Errno::INTR) | Ok(None) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_and_wait();
    }
}
