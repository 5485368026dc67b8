//! The pipe in: what anybody may ask of a running build.
//!
//! Filled by `control` (both sockets), `session`, `signals` and the effects; emptied by
//! `driver::run`. Bounded: who sends faster than the driver takes waits.

use crate::engine::Fut;
use crate::outputs::Hears;
use runner_core::machine::Input;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait.
const CAPACITY: usize = 64;

/// Something asked for.
#[derive(Debug)]
pub(crate) enum Command {
    /// Something has happened.
    Input(Input),
    /// Let the first that waits go on; the answer tells whether one did.
    Resume(oneshot::Sender<bool>),
}

/// The sending end. Clones send to the same build.
#[derive(Clone, Debug)]
pub(crate) struct Inbox(mpsc::Sender<Command>);

impl Inbox {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (command_tx, command_rx) = mpsc::channel(CAPACITY);
        (Inbox(command_tx), command_rx)
    }

    /// Sends; a driver that is gone has no use for it any more.
    pub(crate) async fn send(&self, input: Input) {
        let _ = self.0.send(Command::Input(input)).await;
    }

    /// Sends from a thread outside the runtime.
    pub(crate) fn send_blocking(&self, input: Input) {
        let _ = self.0.blocking_send(Command::Input(input));
    }

    /// Sends from wherever there is a runtime, without waiting.
    pub(crate) fn post(&self, input: Input) {
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.0.try_send(Command::Input(input))
        {
            let sender = self.0.clone();
            tokio::spawn(async move { sender.send(command).await });
        }
    }

    /// Lets the first that waits go on, from a thread outside the runtime.
    pub(crate) fn resume_blocking(&self) -> bool {
        let (released_tx, released_rx) = oneshot::channel();
        let _ = self.0.blocking_send(Command::Resume(released_tx));
        released_rx.blocking_recv().unwrap_or(false)
    }

    /// Whether something was paused and goes on.
    pub(crate) async fn resume(&self) -> bool {
        let (released_tx, released_rx) = oneshot::channel();
        let _ = self.0.send(Command::Resume(released_tx)).await;
        released_rx.await.unwrap_or(false)
    }
}

impl Hears for Inbox {
    fn send(&self, input: Input) -> Fut<'_, ()> {
        Box::pin(Inbox::send(self, input))
    }
}
