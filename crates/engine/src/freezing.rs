//! Where what a build runs stands still without noticing: a group of its own, made at the first pause.
//!
//! Used by `container`. The group is written down before it is made, so that a killed runner leaves none.

use super::Recorder;
use super::leftover::LeftoverContainer;
use runner_sandbox::{ContainerGroups, Freezer, Sandbox};
use std::fs::File;
use std::sync::Arc;

/// The group, where there can be one.
#[derive(Default)]
pub(super) struct GroupFreezer {
    /// Writes it down; none where there is to be no group.
    record: Option<Recorder>,
    group: Option<Arc<Freezer>>,
    is_frozen: bool,
}

impl GroupFreezer {
    /// Where the container has processes with numbers of their own.
    pub(super) fn with(record: Recorder) -> Self {
        GroupFreezer { record: Some(record), ..GroupFreezer::default() }
    }

    /// The file that takes its processes; none where there can be no group.
    pub(super) fn group(&mut self, sandbox: &Sandbox, groups: &ContainerGroups) -> Option<File> {
        if self.group.is_none() {
            // What has failed once is not tried again.
            let record = self.record.take()?;
            let (pid, start_time) = (sandbox.pid, sandbox.start_time);
            let name = format!("runner-still-{pid}-{start_time}");
            let dir = Freezer::place(groups, &name)?;
            let made =
                record(&LeftoverContainer::Process { pid, start_time, group: Some(dir.clone()) })
                    .and_then(|()| Freezer::make(dir))
                    .inspect_err(|error| tracing::debug!(%error, "no group to freeze"));
            self.group = Some(Arc::new(made.ok()?));
        }
        self.group.as_ref()?.processes().ok()
    }

    /// What stops all that is in it, and waits for that.
    pub(super) fn freezer(&self) -> Option<Arc<Freezer>> {
        self.group.clone()
    }

    pub(super) fn stands_still(&mut self) {
        self.is_frozen = true;
    }

    /// Lets it go on; whether it stood still.
    pub(super) fn thaw(&mut self) -> bool {
        let is_frozen = std::mem::take(&mut self.is_frozen);
        if is_frozen && let Some(Err(error)) = self.group.as_ref().map(|group| group.thaw()) {
            tracing::warn!(%error, "what stood still cannot be let go on");
        }
        is_frozen
    }
}
