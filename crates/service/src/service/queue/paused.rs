//! Builds that are paused, and whose places others have meanwhile.
//!
//! A build that waits for a person has nothing to do. It takes its place again at once when it goes on, so that
//! for a while more may run than there are places; all in all never more than four times as many live.

use super::Build;
use crate::service::Service;
use runner_folder::events::Follower;
use runner_folder::state::BuildDir;
use std::collections::HashMap;

/// Builds that live, paused or not, for each place.
const MOST: usize = 4;

/// Looks whether a build is paused.
pub(super) struct Pauses {
    dir: BuildDir,
    log: Option<Follower>,
}

impl Pauses {
    fn is_paused(&mut self) -> bool {
        if self.log.is_none() {
            // It has not begun.
            self.log = Follower::open(&self.dir).ok();
        }
        let view = self.log.as_mut().and_then(|log| log.catch_up().ok().flatten());
        view.is_some_and(|view| !view.paused.is_empty() && view.ended.is_none())
    }
}

/// Whether another may start.
pub(super) fn has_room(running: &mut HashMap<String, Option<Pauses>>, places: usize) -> bool {
    if running.len() < places {
        return true;
    }
    if running.len() >= places.saturating_mul(MOST) {
        return false;
    }
    let mut busy = running.len();
    for pauses in running.values_mut().flatten() {
        busy -= usize::from(pauses.is_paused());
    }
    busy < places
}

impl Service {
    /// What looks whether a build is paused, where it can be.
    pub(super) fn pauses(&self, build: &Build) -> Option<Pauses> {
        let has_sessions = build.order.as_ref().is_some_and(|order| order["sessions"] == true);
        has_sessions.then(|| Pauses { dir: BuildDir::of(&self.home, &build.uuid), log: None })
    }

    /// Whether one that runs can pause.
    pub(super) fn may_pause(&self) -> bool {
        self.queue.running().values().any(Option::is_some)
    }
}
