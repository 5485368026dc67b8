//! The user's signals, as inputs.
//!
//! Ctrl-C once stops the build, twice ends it at once; SIGTERM and SIGHUP count as Ctrl-C. Ctrl-Z
//! stops this program and with it the build's clock, though not the build.

use super::inbox::Inbox;
use crate::clock;
use nix::sys::signal::{Signal, raise};
use runner_core::event::NoticeLevel;
use runner_core::machine::Input;
use std::future::{Future, pending};
use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves when somebody wants the program to end, for as long as no build hears it. Listens from the
/// call on, not from the first wait. Must be called in the runtime.
pub(crate) fn stop_asked() -> impl Future<Output = ()> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let signals = kinds.map(signal);
    async move {
        let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)] = signals else {
            return pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    }
}

/// Listens from now on. Must be called in the runtime.
pub(crate) fn listen(inbox: Inbox) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut suspend = signal(SignalKind::from_raw(Signal::SIGTSTP as i32))?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "Ctrl-C",
                _ = terminate.recv() => "SIGTERM",
                _ = hang_up.recv() => "SIGHUP",
                _ = suspend.recv() => {
                    let stopped = clock::boot();
                    // Comes back when the shell lets this program go on.
                    let _ = raise(Signal::SIGSTOP);
                    let slept = clock::boot().saturating_sub(stopped);
                    inbox.send(Input::Slept(slept)).await;
                    continue;
                }
            };
            if !asked {
                let text = format!("{name}: stopping the build; once more ends it at once");
                inbox.send(Input::Notice(NoticeLevel::Note, text)).await;
            }
            inbox.send(Input::Stop { at_once: asked }).await;
            asked = true;
        }
    });
    Ok(())
}
