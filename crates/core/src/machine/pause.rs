//! Pauses, and the clock that stands still at them.
//!
//! Used by `machine::build`. Paused means: at least one pause is open. The clock also stands still
//! while the runner itself is stopped (Ctrl-Z).

use super::step::CallId;
use crate::event::{PauseId, PauseKind};
use crate::phase::PhaseContext;
use std::collections::VecDeque;
use std::time::Duration;

/// The build waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) id: PauseId,
    pub(super) cause: Cause,
    /// Since when nobody has been there for it.
    alone_since: Duration,
}

/// What a build waits for, with what is due when it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A process of the build called `codebuild-breakpoint`; it is released.
    Called(CallId),
    /// The build cannot go on; it ends with this.
    Stuck(PhaseContext),
    /// The build has stopped; what the machine holds goes on.
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

/// The open pauses, the longest first, and who is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenPauses {
    open: VecDeque<Pause>,
    /// Number of the last one, open or over.
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

    /// Opens one; its number.
    pub(super) fn begin(&mut self, cause: Cause, now: Duration) -> PauseId {
        self.last = self.last.next();
        self.open.push_back(Pause { id: self.last, cause, alone_since: now });
        self.last
    }

    /// The one that has been open longest, taken off.
    pub(super) fn end_first(&mut self) -> Option<Pause> {
        self.open.pop_front()
    }

    /// The pause of a call, taken off.
    pub(super) fn end_call(&mut self, call: CallId) -> Option<Pause> {
        let at = self.open.iter().position(|pause| pause.cause == Cause::Called(call))?;
        self.open.remove(at)
    }

    /// The pause of a stop, taken off.
    pub(super) fn end_stop(&mut self) -> Option<Pause> {
        let at = self.open.iter().position(|pause| pause.cause == Cause::Stop)?;
        self.open.remove(at)
    }

    /// Somebody has been there until now.
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

    /// When patience with the first of them ends.
    pub(super) fn deadline(&self, patience: Option<Duration>) -> Option<Duration> {
        let first = self.open.front().filter(|_| self.sessions == 0)?;
        Some(first.alone_since + patience?)
    }

    /// The runner has slept for that long; nobody could have come.
    pub(super) fn shift(&mut self, by: Duration) {
        for pause in &mut self.open {
            pause.alone_since += by;
        }
    }
}

/// How long a build has run, without the time it stood still.
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

    /// When it will have run for `limit`; none while it stands still.
    pub(super) fn deadline(&self, limit: Duration) -> Option<Duration> {
        if self.stopped.is_some() {
            return None;
        }
        Some(self.started? + self.stood_still + limit)
    }
}
