//! Pauses, and the stopwatch that they stop.
//!
//! Used by `machine::build`. A build is paused while at least one pause is open. The stopwatch also
//! stops while the runner itself is suspended (Ctrl-Z).

use super::step::CallId;
use crate::event::{PauseId, PauseKind};
use crate::phase::PhaseContext;
use std::collections::VecDeque;
use std::time::Duration;

/// An open pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) id: PauseId,
    pub(super) cause: Cause,
    /// Since when nobody has been present.
    alone_since: Duration,
}

/// Why a build is paused, and what happens when it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A process called `codebuild-breakpoint`; it is released.
    Called(CallId),
    /// The build cannot go on; it ends with this failure.
    Stuck(PhaseContext),
    /// The build has stopped; the held work goes on.
    Stop,
}

impl Cause {
    pub(super) fn kind(&self) -> PauseKind {
        match self {
            Cause::Called(_) => PauseKind::Called,
            Cause::Stuck(_) => PauseKind::Stuck,
            Cause::Stop => PauseKind::Stop,
        }
    }
}

/// The open pauses, oldest first, and the number of open sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenPauses {
    open: VecDeque<Pause>,
    /// Number of the last pause, open or not.
    last: PauseId,
    sessions: u32,
}

impl OpenPauses {
    pub(super) fn is_paused(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.open.iter().any(|pause| pause.cause.kind() == PauseKind::Stuck)
    }

    /// Opens a pause and returns its number.
    pub(super) fn begin(&mut self, cause: Cause, now: Duration) -> PauseId {
        self.last = self.last.next();
        self.open.push_back(Pause { id: self.last, cause, alone_since: now });
        self.last
    }

    /// Removes and returns the oldest pause.
    pub(super) fn end_first(&mut self) -> Option<Pause> {
        self.open.pop_front()
    }

    /// Removes and returns the pause of a call.
    pub(super) fn end_call(&mut self, call: CallId) -> Option<Pause> {
        let at = self.open.iter().position(|pause| pause.cause == Cause::Called(call))?;
        self.open.remove(at)
    }

    /// Removes and returns the pause of a stop.
    pub(super) fn end_stop(&mut self) -> Option<Pause> {
        let at = self.open.iter().position(|pause| pause.cause == Cause::Stop)?;
        self.open.remove(at)
    }

    /// Records that a person was present until now.
    pub(super) fn seen(&mut self, now: Duration) {
        for pause in &mut self.open {
            pause.alone_since = now;
        }
    }

    pub(super) fn end_all(&mut self) -> Vec<Pause> {
        self.open.drain(..).collect()
    }

    pub(super) fn session_opened(&mut self) {
        self.sessions += 1;
    }

    pub(super) fn session_closed(&mut self, now: Duration) {
        self.sessions = self.sessions.saturating_sub(1);
        if self.sessions == 0 {
            self.seen(now);
        }
    }

    /// When the oldest pause times out.
    pub(super) fn deadline(&self, patience: Option<Duration>) -> Option<Duration> {
        let first = self.open.front().filter(|_| self.sessions == 0)?;
        Some(first.alone_since + patience?)
    }

    /// Moves the pauses by the time that the runner was suspended, because nobody could have come.
    pub(super) fn shift(&mut self, by: Duration) {
        for pause in &mut self.open {
            pause.alone_since += by;
        }
    }
}

/// Measures how long a build has run, without the time it was paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// When it will have run for `limit`; `None` while it is stopped.
    pub(super) fn deadline(&self, limit: Duration) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        Some(self.started? + self.stood_still + limit)
    }
}
