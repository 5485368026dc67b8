//! The cgroup in which a build's processes are frozen without noticing. It is made at the first
//! pause.
//!
//! Used by `container`. The cgroup is recorded before it is made, so a killed runner leaves none
//! behind.

use super::Recorder;
use super::leftover::LeftoverContainer;
use runner_sandbox::{ContainerGroups, Freezer, Sandbox};
use std::fs::File;
use std::sync::Arc;

/// The freezer's cgroup, if there can be one.
#[derive(Default)]
pub(super) struct GroupFreezer {
    /// Records the cgroup; `None` if there is to be none.
    record: Option<Recorder>,
    group: Option<Arc<Freezer>>,
    is_frozen: bool,
}

impl GroupFreezer {
    /// For a container whose processes have their own pid namespace.
    pub(super) fn with(record: Recorder) -> Self {
        GroupFreezer { record: Some(record), ..GroupFreezer::default() }
    }

    /// The file that takes the cgroup's processes; `None` if there can be no cgroup.
    pub(super) fn group(&mut self, sandbox: &Sandbox, groups: &ContainerGroups) -> Option<File> {
        if self.group.is_none() {
            // A failed attempt is not repeated.
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

    /// The freezer, which stops all processes in the cgroup and waits until they have stopped.
    pub(super) fn freezer(&self) -> Option<Arc<Freezer>> {
        self.group.clone()
    }

    pub(super) fn stands_still(&mut self) {
        self.is_frozen = true;
    }

    /// Thaws the cgroup. Returns whether it was frozen.
    pub(super) fn thaw(&mut self) -> bool {
        let is_frozen = std::mem::take(&mut self.is_frozen);
        if is_frozen && let Some(Err(error)) = self.group.as_ref().map(|group| group.thaw()) {
            tracing::warn!(%error, "stopped processes cannot be continued");
        }
        is_frozen
    }
}
