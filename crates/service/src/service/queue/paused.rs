//! Paused builds, whose places others use meanwhile.
//!
//! A build that waits for a person has nothing to do. When it continues it takes its place again at
//! once, so for a while more builds may run than there are places; in total never more than four
//! times as many live.

use super::{RunningBuild, StoredBuild};
use crate::service::Service;
use runner_folder::events::Follower;
use runner_folder::state::BuildDir;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Maximum live builds, paused or not, per place.
const MOST: usize = 4;

/// Checks whether a build is paused.
pub(super) struct PauseProbe {
    dir: BuildDir,
    log: Option<Follower>,
}

impl PauseProbe {
    fn is_paused(&mut self) -> bool {
        if self.log.is_none() {
            // The build has not begun.
            self.log = Follower::open(&self.dir).ok();
        }
        let view = self.log.as_mut().and_then(|log| log.catch_up().ok().flatten());
        view.is_some_and(|view| !view.paused.is_empty() && view.ended.is_none())
    }
}

/// Whether another build may start.
pub(super) fn has_room(running: &mut HashMap<String, RunningBuild>, places: usize) -> bool {
    if running.len() < places {
        return true;
    }
    if running.len() >= places.saturating_mul(MOST) {
        return false;
    }
    let mut busy = running.len();
    for pauses in running.values_mut().filter_map(|run| run.pauses.as_mut()) {
        busy -= usize::from(pauses.is_paused());
    }
    busy < places
}

impl Service {
    /// Registers a build that is about to run.
    pub(super) fn running(&self, build: &StoredBuild) -> RunningBuild {
        let has_sessions = build.order.as_ref().is_some_and(|order| order["sessions"] == true);
        let pauses = || PauseProbe { dir: BuildDir::of(&self.home, &build.uuid), log: None };
        RunningBuild { pauses: has_sessions.then(pauses), is_to_stop: Arc::default() }
    }

    /// Whether any running build can pause.
    pub(super) fn may_pause(&self) -> bool {
        self.queue.can_pause.load(Ordering::Acquire) > 0
    }
}
