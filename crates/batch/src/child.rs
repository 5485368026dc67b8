//! One build of a batch: `runner __build` in a process that does not outlive the owner, and the
//! thread that follows the build's log.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_build::headless::{self, HeadlessAnswer, HeadlessRefusal};
use runner_build::{BuildRequest, sweep};
use runner_core::phase::Status;
use runner_folder::events::Follower;
use runner_folder::state::{BuildDir, FolderChanges, Home};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

/// Exit code of a runner that failed itself.
const OURS: u8 = 3;
/// Exit code of a build that was stopped, possibly before it began.
const STOPPED: u8 = 5;

/// A report of a build's process. Builds are numbered by their place in the plan.
#[derive(Debug)]
pub(crate) enum ChildEvent {
    Refused(usize, HeadlessRefusal),
    Grown(usize),
    Paused(usize),
    Resumed(usize),
    Ended {
        at: usize,
        status: Status,
        code: u8,
    },
    /// Someone asked the batch to end.
    Stop,
}

pub(crate) struct BuildProcess {
    pidfd: OwnedFd,
}

impl BuildProcess {
    /// Stops the build; a second call stops it at once.
    pub(crate) fn stop(&self) {
        // A build that has ended needs no stop.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
    }
}

/// What the thread that follows a build needs.
pub(crate) struct Followed {
    pub(crate) at: usize,
    pub(crate) home: Home,
    pub(crate) dir: BuildDir,
    pub(crate) has_grown: Arc<AtomicBool>,
    pub(crate) inbox: Sender<ChildEvent>,
}

/// Starts a build and follows it. Must be called on a thread that lives as long as the owner: the
/// kernel ends the build when the thread that started it ends.
pub(crate) fn start(request: &BuildRequest, followed: Followed) -> io::Result<BuildProcess> {
    let mut child = headless::spawn(request, Stdio::inherit())?;
    let pidfd = match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(errno) => {
            // Nothing else would end the process.
            let _ = child.kill();
            let _ = child.wait();
            return Err(errno.into());
        }
    };
    let process = BuildProcess { pidfd };
    let name = format!("build {}", followed.at);
    let thread = std::thread::Builder::new().name(name).spawn(move || followed.follow(child));
    if let Err(error) = thread {
        let _ = pidfd_send_signal(&process.pidfd, Signal::KILL);
        return Err(error);
    }
    Ok(process)
}

/// Whether a process has ended.
fn has_ended(process: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

impl Followed {
    fn follow(self, mut child: Child) {
        let refusal = match headless::answer(&mut child) {
            Ok(Some(HeadlessAnswer::Started { .. })) => {
                self.watch(&child);
                None
            }
            Ok(Some(HeadlessAnswer::Failed(refusal))) => Some(refusal),
            Ok(None) | Err(_) => None,
        };
        let exit = child.wait();
        let code = exit.ok().and_then(|exit| exit.code()).and_then(|code| u8::try_from(code).ok());
        // A signal ended it.
        let mut code = code.unwrap_or(OURS);
        let mut status = self.status();
        if status == Status::Succeeded && code != 0 {
            status = Status::Fault;
        }
        if status == Status::Fault && code == 0 {
            code = OURS;
        }
        if let Some(refusal) = refusal {
            code = refusal.code;
            if code == STOPPED {
                status = Status::Stopped;
            }
            self.send(ChildEvent::Refused(self.at, refusal));
        }
        self.send(ChildEvent::Ended { at: self.at, status, code });
    }

    fn send(&self, message: ChildEvent) {
        // A send fails only when the owner has ended and its receiver is gone.
        let _ = self.inbox.send(message);
    }

    /// Follows the log until the build's process has let go of it, or has ended.
    fn watch(&self, child: &Child) {
        // Without notifications the end of the build is still seen, but not its pauses.
        let Ok(changes) = FolderChanges::of_build(self.dir.path(), self.dir.listing()) else {
            return;
        };
        let Ok(process) = pidfd_open(Pid::from_child(child), PidfdFlags::empty()) else { return };
        let mut log: Option<Follower> = None;
        let (mut is_paused, mut last) = (false, None);
        loop {
            // Check this before reading the log, so that nothing the build wrote is missed.
            let is_over = has_ended(&process);
            if log.is_none() {
                log = Follower::open(&self.dir).ok();
            }
            let view = log.as_mut().and_then(|log| log.catch_up().ok().flatten());
            let paused = view.is_some_and(|view| !view.paused.is_empty());
            if paused != is_paused {
                is_paused = paused;
                self.send(match paused {
                    true => ChildEvent::Paused(self.at),
                    false => ChildEvent::Resumed(self.at),
                });
            }
            let seen = view.map(|view| view.last_event);
            let has_changed = seen != last;
            last = seen;
            if has_changed && !self.has_grown.swap(true, Ordering::AcqRel) {
                self.send(ChildEvent::Grown(self.at));
            }
            // All changes may have been read before the build closed the log; then only its exit
            // shows the end.
            if is_over
                || !has_changed && !self.dir.is_owned()
                || changes.wait_or(None, Some(process.as_fd())).is_err()
            {
                return;
            }
        }
    }

    /// The build's final status.
    fn status(&self) -> Status {
        let read = || self.dir.record().ok().flatten().map(|record| record.build_status);
        if let Some(status) = read() {
            return status;
        }
        // The build was killed. Clean up after it now, so that its record exists when the batch's
        // record does.
        if let Err(error) = sweep::sweep(&self.home) {
            tracing::debug!(%error, "a build that was killed is not put right");
        }
        read().unwrap_or(Status::Fault)
    }
}
