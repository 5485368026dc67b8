//! The processes that wait at breakpoints: connects the socket they wait on with the driver, which
//! releases them.
//!
//! Filled by `control::shim`; emptied when the machine says so. Sessions take variables and
//! directory from the process they are opened for.

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
    /// Lets a process continue.
    pub fn release(&self, call: CallId) {
        if let Some((_, release)) = self.lock().callers.remove(&call) {
            // The process may be gone already.
            let _ = release.send(());
        }
    }

    /// The process that has waited longest.
    pub fn first_waiting(&self) -> Option<BreakpointCaller> {
        self.lock().callers.values().next().map(|(caller, _)| caller.clone())
    }

    /// Forgets all processes; the build is over.
    pub fn close(&self) {
        self.lock().callers.clear();
    }

    /// Adds a process. Returns its call, and the receiver that tells it to continue.
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
