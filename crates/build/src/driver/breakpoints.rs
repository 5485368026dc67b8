//! The processes that wait at breakpoints, between the socket they wait on and the driver that lets
//! them go.
//!
//! Filled by `control::shim`; emptied when the machine says so. Sessions look here for the variables
//! and the directory of the process they are opened for.

use runner_core::machine::CallId;
use runner_wire::shim::BreakpointCaller;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// Processes that wait at breakpoints.
#[derive(Debug, Default)]
pub struct PausedProcesses {
    waiting: Mutex<WaitingBreakpoints>,
}

#[derive(Debug, Default)]
struct WaitingBreakpoints {
    last: u64,
    callers: BTreeMap<CallId, (BreakpointCaller, oneshot::Sender<()>)>,
}

impl PausedProcesses {
    /// Lets a process go on.
    pub fn release(&self, call: CallId) {
        if let Some((_, release)) = self.lock().callers.remove(&call) {
            // It may be gone already.
            let _ = release.send(());
        }
    }

    /// The process that has waited longest.
    pub fn first_waiting(&self) -> Option<BreakpointCaller> {
        self.lock().callers.values().next().map(|(caller, _)| caller.clone())
    }

    /// Forgets everybody; the build is over.
    pub fn close(&self) {
        self.lock().callers.clear();
    }

    /// One more waits; its call, and what tells it to go on.
    pub fn add(&self, caller: BreakpointCaller) -> (CallId, oneshot::Receiver<()>) {
        let (release_tx, release_rx) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.last += 1;
        let call = CallId(waiting.last);
        waiting.callers.insert(call, (caller, release_tx));
        (call, release_rx)
    }

    pub fn forget(&self, call: CallId) {
        self.lock().callers.remove(&call);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WaitingBreakpoints> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
