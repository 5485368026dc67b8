//! The one-key menu at a breakpoint: a shell right here, go on, stop.
//!
//! A thread of its own, started by `app` when there is a terminal to ask at. It has the terminal
//! only while the build is paused; the shell is an ordinary session, by way of the build's own
//! control socket.

use super::attach::attach;
use super::connection::Client;
use super::terminal::{RawMode, can_be_asked};
use crate::driver::Progress;
use crate::driver::inbox::Inbox;
use crate::signals::Signals;
use crate::sinks::Gate;
use crate::state::BuildDir;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use runner_core::event::Notice;
use runner_core::machine::Input;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::watch;

/// What the menu works with.
pub(crate) struct Menu {
    pub(crate) dir: BuildDir,
    pub(crate) inbox: Inbox,
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) gate: Arc<Gate>,
    /// Carries the window's size; SIGWINCH must be blocked in every thread.
    pub(crate) signals: Signals,
}

impl Menu {
    /// Starts asking; ends when the build is over. Must be called in the runtime.
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let waker = Arc::clone(&wake);
        let mut progress = self.progress.clone();
        tokio::spawn(async move {
            while progress.changed().await.is_ok() {
                let _ = waker.write(1);
            }
            let _ = waker.write(1);
        });
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            if let Err(error) = self.run(&wake) {
                tracing::debug!(%error, "the key menu has stopped");
            }
        })
    }

    fn run(&self, wake: &EventFd) -> io::Result<()> {
        while !self.is_over() {
            if self.is_paused() && can_be_asked() {
                let asked = self.ask(wake);
                self.gate.hear(false);
                asked?;
            } else {
                wait(&mut [PollFd::new(wake.as_fd(), PollFlags::POLLIN)])?;
                let _ = wake.read();
            }
        }
        Ok(())
    }

    /// Reads keys as long as the build is paused, or until one has its effect.
    fn ask(&self, wake: &EventFd) -> io::Result<()> {
        let mut mode = RawMode::keys()?;
        self.gate.hear(true);
        while self.is_paused() {
            let stdin = io::stdin();
            let mut ready = [
                PollFd::new(wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            wait(&mut ready)?;
            if ready[0].any().unwrap_or(false) {
                let _ = wake.read();
                continue;
            }
            let mut key = [0];
            if nix::unistd::read(&stdin, &mut key)? == 0 {
                return Ok(());
            }
            match key[0] {
                b's' | b'S' => {
                    drop(mode);
                    self.gate.close();
                    let said = self.shell();
                    // Ready for the next key before the menu shows again.
                    let again = RawMode::keys();
                    self.gate.open();
                    if let Some(text) = said {
                        self.inbox.send_blocking(Input::Notice(Notice::note(text)));
                    }
                    mode = again?;
                }
                b'r' | b'R' => {
                    self.inbox.resume_blocking();
                    return Ok(());
                }
                b'q' | b'Q' => {
                    self.inbox.send_blocking(Input::Stop { at_once: false });
                    return self.wait_for_change(wake);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Until the stop shows; meanwhile no key means anything.
    fn wait_for_change(&self, wake: &EventFd) -> io::Result<()> {
        while self.is_paused() && !self.is_over() {
            wait(&mut [PollFd::new(wake.as_fd(), PollFlags::POLLIN)])?;
            let _ = wake.read();
        }
        Ok(())
    }

    /// Runs a shell to its end; what there is to say about that.
    fn shell(&self) -> Option<String> {
        let result =
            Client::connect(&self.dir).and_then(|client| attach(client, None, &self.signals));
        match result {
            Ok(ended) => ended.message,
            Err(error) => Some(error.to_string()),
        }
    }

    fn is_paused(&self) -> bool {
        let progress = self.progress.borrow();
        progress.view.as_ref().is_some_and(|view| !view.paused.is_empty())
    }

    fn is_over(&self) -> bool {
        self.progress.borrow().is_over || self.progress.has_changed().is_err()
    }
}

fn wait(ready: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match poll(ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => {}
            done => return done.map(drop).map_err(Into::into),
        }
    }
}
