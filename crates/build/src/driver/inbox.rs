//! The driver's inbox: all requests to a running build.
//!
//! Filled by `control` (both sockets), `session`, `signals` and the effects; emptied by
//! `driver::run`. Bounded: a sender that is faster than the driver waits.

use futures_util::FutureExt;
use runner_core::debug::{Breakpoint, Decision, Who};
use runner_core::event::BreakpointId;
use runner_core::machine::MachineInput;
use runner_core::phase::{PhaseContext, StatusCode};
use runner_engine::Fut;
use runner_outputs::InputSink;
use runner_wire::control::{BreakpointLine, VariableLine};
use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Maximum number of queued requests.
const CAPACITY: usize = 64;

/// Answer when the driver is gone.
const OVER: &str = "the build is over";

/// A message to the driver.
#[derive(Debug)]
pub enum DriverCommand {
    /// An event for the machine.
    Input(MachineInput),
    /// Resumes the process that has waited longest; the response is how many still wait, or `None`
    /// if none did.
    Resume(oneshot::Sender<Option<usize>>),
    /// Someone decides what follows a stop; the response is the number of the last run, or why the
    /// decision does not apply.
    Decide(Decision, Who, oneshot::Sender<Result<u32, String>>),
    /// Stops in the middle of the command; the response says why that is impossible.
    Pause(oneshot::Sender<Option<String>>),
    /// Lists the variables of the next command.
    Variables(oneshot::Sender<Vec<VariableLine>>),
    /// Changes breakpoints; the response lists all, or says why the change is impossible.
    Breakpoints(BreakpointChange, oneshot::Sender<Result<Vec<BreakpointLine>, String>>),
}

/// A change of breakpoints.
#[derive(Debug)]
pub enum BreakpointChange {
    /// No change.
    None,
    /// Adds a breakpoint.
    Add(Box<Breakpoint>),
    /// Removes a breakpoint.
    Remove(BreakpointId),
}

/// The sending end. Clones send to the same build.
#[derive(Clone, Debug)]
pub struct Inbox(mpsc::Sender<DriverCommand>);

impl Inbox {
    pub fn new() -> (Self, mpsc::Receiver<DriverCommand>) {
        let (command_tx, command_rx) = mpsc::channel(CAPACITY);
        (Inbox(command_tx), command_rx)
    }

    /// Sends an input. If the driver is gone, the input is dropped.
    pub async fn send(&self, input: MachineInput) {
        let _ = self.0.send(DriverCommand::Input(input)).await;
    }

    /// Sends from a thread outside the runtime.
    pub fn send_blocking(&self, input: MachineInput) {
        let _ = self.0.blocking_send(DriverCommand::Input(input));
    }

    /// Sends without waiting within a runtime, and by blocking on any other thread.
    pub fn post(&self, input: MachineInput) {
        if let Err(mpsc::error::TrySendError::Full(command)) =
            self.0.try_send(DriverCommand::Input(input))
        {
            let sender = self.0.clone();
            match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move { sender.send(command).await })),
                // A thread outside the runtime may block.
                Err(_) => drop(sender.blocking_send(command)),
            }
        }
    }

    /// Performs an effect as a separate task. A panic is reported, too: nobody else would send the
    /// expected answer.
    pub fn perform(
        &self,
        doing: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let inbox = self.clone();
        tokio::spawn(async move {
            // The task's data is its own, or behind a lock that handles panics.
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                let message = format!("the runner has failed to {doing}: {}", said(&*panic));
                inbox
                    .send(MachineInput::Lost(PhaseContext::new(
                        StatusCode::InternalServiceError,
                        message,
                    )))
                    .await;
            }
        })
    }

    /// Applies a decision. Returns the number of the last run, or why the decision does not apply.
    pub async fn decide(&self, decision: Decision, by: Who) -> Result<u32, String> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let _ = self.0.send(DriverCommand::Decide(decision, by, answer_tx)).await;
        answer_rx.await.unwrap_or_else(|_| Err(OVER.to_owned()))
    }

    /// Pauses the running command. Returns why that is impossible, or `None` once the command
    /// stands still.
    pub async fn pause(&self) -> Option<String> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let _ = self.0.send(DriverCommand::Pause(answer_tx)).await;
        answer_rx.await.unwrap_or_else(|_| Some(OVER.to_owned()))
    }

    /// The variables of the next command.
    pub async fn variables(&self) -> Result<Vec<VariableLine>, String> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let _ = self.0.send(DriverCommand::Variables(answer_tx)).await;
        answer_rx.await.map_err(|_| OVER.to_owned())
    }

    /// Changes breakpoints. Returns all of them, or why the change is impossible.
    pub async fn breakpoints(
        &self,
        change: BreakpointChange,
    ) -> Result<Vec<BreakpointLine>, String> {
        let (answer_tx, answer_rx) = oneshot::channel();
        let _ = self.0.send(DriverCommand::Breakpoints(change, answer_tx)).await;
        answer_rx.await.unwrap_or_else(|_| Err(OVER.to_owned()))
    }

    /// Resumes the process that has waited longest. Returns how many still wait, or `None` if none
    /// did.
    pub async fn resume(&self) -> Option<usize> {
        let (released_tx, released_rx) = oneshot::channel();
        let _ = self.0.send(DriverCommand::Resume(released_tx)).await;
        released_rx.await.unwrap_or(None)
    }
}

impl InputSink for Inbox {
    fn send(&self, input: MachineInput) -> Fut<'_, ()> {
        Box::pin(Inbox::send(self, input))
    }
}

/// A panic's message.
fn said(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::phase::Status;

    #[test]
    fn an_effect_that_breaks_off_is_heard_of() -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let (inbox, mut commands) = Inbox::new();
            let broken = async { assert_eq!(Status::Failed, Status::Stopped, "never so") };
            let done = inbox.perform("try it", broken).await;
            assert!(done.is_ok(), "the panic went no further");
            let Some(DriverCommand::Input(MachineInput::Lost(context))) = commands.recv().await
            else {
                panic!("nothing was heard of it")
            };
            assert_eq!(context.status_code, StatusCode::InternalServiceError);
            assert!(context.message.starts_with("the runner has failed to try it: "));
            assert!(context.message.contains("never so"), "{}", context.message);
            Ok(())
        })
    }
}
