//! The gate to the terminal: closed while a shell has it, and whether keys are heard at it.
//!
//! Closed and opened by the key menu and by bars of a pull; heeded by the sink that draws on the
//! terminal. What happens behind it is logged as ever, and shown when it opens.

use std::sync::{Condvar, Mutex, PoisonError};

/// Open at first.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    /// The sink has made way, or has ended.
    clear: bool,
    /// A key that is typed now has its effect.
    hears: bool,
    /// The message of whatever had the terminal.
    said: Option<String>,
}

impl Gate {
    /// Closes it; blocks until the sink has made way.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let _clear = self
            .changed
            .wait_while(state, |state| !state.clear)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Opens it; `said` is shown.
    pub(super) fn open(&self, said: Option<String>) {
        let mut state = self.lock();
        state.closed = false;
        state.said = said;
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether keys are heard. Until then whoever shows them would ask too early: what is typed before is
    /// thrown away.
    pub(super) fn hear(&self, hears: bool) {
        self.lock().hears = hears;
    }

    pub(super) fn is_hearing(&self) -> bool {
        self.lock().hears
    }

    /// Makes way; blocks while it is closed. What there is to say once it is open.
    pub(super) fn wait(&self) -> Option<String> {
        let mut state = self.lock();
        state.clear = true;
        self.changed.notify_all();
        let mut state = self
            .changed
            .wait_while(state, |state| state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.clear = false;
        state.said.take()
    }

    /// The sink has ended, and with it every need to wait for it.
    pub(super) fn sink_ended(&self) {
        self.lock().clear = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
