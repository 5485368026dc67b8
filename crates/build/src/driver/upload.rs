//! UPLOAD_ARTIFACTS: collects the build's outputs, one after the other.
//!
//! Used by `effects`; the result goes to the machine. Every output is tried, even after an earlier
//! one failed.

use super::inbox::Inbox;
use super::shell::BuildShell;
use super::world::World;
use runner_core::event::Notice;
use runner_core::machine::MachineInput;
use runner_core::phase::PhaseContext;
use runner_core::plan::PlannedWork;
use runner_engine::Container;
use runner_host::clock;
use runner_outputs::artifacts::{Collector, Uncollected};
use runner_outputs::cache::{CacheState, Caching};
use runner_outputs::reports::Reports;
use runner_outputs::{PriorLeavings, Reporter, SourceDirectories, Workplace};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A request for an upload.
pub(super) struct UploadRequest<'a> {
    pub(super) world: &'a World,
    pub(super) work: &'a PlannedWork,
    pub(super) shell: &'a BuildShell,
    pub(super) container: Arc<dyn Container>,
    pub(super) inbox: &'a Inbox,
    /// Becomes true when nobody waits for it any more.
    pub(super) cancelled: watch::Receiver<bool>,
    /// Whether nothing has failed so far.
    pub(super) succeeding: bool,
}

/// Collects all outputs.
pub(super) async fn upload(asked: &UploadRequest<'_>) -> Result<(), PhaseContext> {
    let UploadRequest { world, work, shell, container, inbox, cancelled, succeeding } = asked;
    if !work.exported.is_empty() {
        inbox.send(MachineInput::Exported(shell.values(&work.exported))).await;
    }
    // Look before any output of this build exists.
    let leavings = world.outputs.leavings.look(&**container).await;
    let at = workplace(world, shell, Arc::clone(container), inbox, cancelled.clone());
    let at = Workplace { leavings, ..at };
    let collector = Collector { at: at.clone(), arn: world.plan.facts.arn.clone() };
    let mut result = Ok(());
    if let (Some(artifacts), Some(to)) = (&work.artifacts, &world.outputs.artifacts)
        && let Err(Uncollected { context, hint }) = collector.collect(artifacts, to).await
    {
        if let Some(hint) = hint {
            inbox.send(MachineInput::Notice(Notice::hint(hint))).await;
        }
        result = Err(context);
    }
    let reports = Reports {
        kept: world.outputs.scratch.clone(),
        dir: world.outputs.reports.dir.clone(),
        discovers: world.outputs.reports.discovers,
        project: world.outputs.reports.project.clone(),
        secrets: world.secrets.get(),
        created: clock::wall().epoch_seconds(),
    };
    // The first failure is the one reported.
    result = result.and(reports.collect(&collector, &work.reports).await);
    // The files of a failed build are no good start for the next one.
    if let (Some(cache), Some(to), true) = (&work.cache, &world.outputs.cache, *succeeding) {
        let state = std::mem::take(&mut *lock(&world.outputs.cache_state));
        Caching { at }.save(cache, to, &state).await;
    }
    result
}

/// The workplace at the start or end of the build, with no exclusions from what is collected.
pub(super) fn workplace(
    world: &World,
    shell: &BuildShell,
    container: Arc<dyn Container>,
    inbox: &Inbox,
    cancel: watch::Receiver<bool>,
) -> Workplace {
    Workplace {
        container,
        teller: Reporter(Arc::new(inbox.clone())),
        values: shell.surroundings(),
        source: world.plan.places.source.clone(),
        leavings: PriorLeavings::default(),
        sources: SourceDirectories::new(&world.container_spec.sources),
        secrets: world.secrets.clone(),
        build: world.plan.facts.uuid.clone(),
        scratch: world.outputs.scratch.clone(),
        identity: world.outputs.identity.clone(),
        cancel,
    }
}

/// Locks the state of the build's cache.
pub(super) fn lock(state: &Mutex<CacheState>) -> MutexGuard<'_, CacheState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
