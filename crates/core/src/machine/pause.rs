//! Breakpoints, and the clock that stands still at them.
//!
//! Used by `machine::build`. Paused means: at least one process waits at a breakpoint. The clock
//! also stands still while the runner itself is stopped (Ctrl-Z).

use std::collections::VecDeque;
use std::time::Duration;

/// A process that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Number of the breakpoint in this build.
    pub(super) breakpoint: u64,
    /// Since when nobody has been there for it.
    pub(super) alone_since: Duration,
}

/// Who waits, and who is there.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    waiting: VecDeque<Waiting>,
    sessions: u32,
}

impl Pauses {
    pub(super) fn is_paused(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn hit(&mut self, breakpoint: u64, now: Duration) {
        self.waiting.push_back(Waiting { breakpoint, alone_since: now });
    }

    /// The one that has waited longest, taken off.
    pub(super) fn release_first(&mut self) -> Option<u64> {
        self.waiting.pop_front().map(|waiting| waiting.breakpoint)
    }

    /// Whether that breakpoint was waiting; it is not any more.
    pub(super) fn forget(&mut self, breakpoint: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.breakpoint != breakpoint);
        self.waiting.len() < before
    }

    pub(super) fn forget_all(&mut self) -> Vec<u64> {
        self.waiting.drain(..).map(|waiting| waiting.breakpoint).collect()
    }

    pub(super) fn session_opened(&mut self) {
        self.sessions += 1;
    }

    pub(super) fn session_closed(&mut self, now: Duration) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.sessions == 0 {
            for waiting in &mut self.waiting {
                waiting.alone_since = now;
            }
        }
    }

    /// When patience with the first of them ends.
    pub(super) fn deadline(&self, patience: Option<Duration>) -> Option<Duration> {
        let first = self.waiting.front().filter(|_| self.sessions == 0)?;
        Some(first.alone_since + patience?)
    }

    /// The runner has slept for that long; nobody could have come.
    pub(super) fn shift(&mut self, by: Duration) {
        for waiting in &mut self.waiting {
            waiting.alone_since += by;
        }
    }
}

/// How long a build has run, without the time it stood still.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    started: Option<Duration>,
    stopped: Option<Duration>,
    stood_still: Duration,
}

impl Stopwatch {
    pub(super) fn start(&mut self, now: Duration) {
        self.started = Some(now);
    }

    pub(super) fn stop(&mut self, now: Duration) {
        self.stopped.get_or_insert(now);
    }

    pub(super) fn go_on(&mut self, now: Duration) {
        if let Some(stopped) = self.stopped.take() {
            self.stood_still += now.saturating_sub(stopped);
        }
    }

    /// When it will have run for `limit`; none while it stands still.
    pub(super) fn deadline(&self, limit: Duration) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        Some(self.started? + self.stood_still + limit)
    }
}
