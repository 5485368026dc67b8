//! The gate to the terminal: closed while something else uses it. Also says whether keys have an
//! effect.
//!
//! Opened and closed by the key menu and by progress bars of a pull; respected by the sink that
//! draws on the terminal. Meanwhile events are logged as usual, and shown when it opens.

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
    /// Whether a key typed now has an effect.
    hears: bool,
    /// The message of whatever used the terminal.
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

    /// Opens it; `said` is then shown.
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

    /// Sets whether keys have an effect. Displays must not offer keys before that: earlier input is
    /// discarded.
    pub(super) fn hear(&self, hears: bool) {
        self.lock().hears = hears;
    }

    pub(super) fn is_hearing(&self) -> bool {
        self.lock().hears
    }

    /// Makes way; blocks while the gate is closed. Returns the message to show once it is open.
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

    /// Notes that the sink has ended, so nobody has to wait for it.
    pub(super) fn sink_ended(&self) {
        self.lock().clear = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
