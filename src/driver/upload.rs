//! UPLOAD_ARTIFACTS: what the build leaves, one thing after the other.
//!
//! Used by `effects`; what comes of it goes into the machine. Everything is tried, whatever came of the
//! things before it.

use super::inbox::Inbox;
use super::shell::Shell;
use super::world::World;
use crate::engine::Container;
use crate::outputs::Teller;
use crate::outputs::artifacts::{Collector, Uncollected};
use runner_core::event::NoticeLevel;
use runner_core::machine::Input;
use runner_core::phase::PhaseContext;
use runner_core::plan::Work;
use std::sync::Arc;
use tokio::sync::watch;

/// Collects all of it. `cancelled` becomes true when nobody waits for it any more.
pub(super) async fn upload(
    world: &World,
    work: &Work,
    shell: &Shell,
    container: Arc<dyn Container>,
    inbox: &Inbox,
    cancelled: watch::Receiver<bool>,
) -> Result<(), PhaseContext> {
    if !work.exported.is_empty() {
        inbox.send(Input::Exported(shell.values(&work.exported))).await;
    }
    let mut result = Ok(());
    if let (Some(artifacts), Some(to)) = (&work.artifacts, &world.artifacts) {
        let collector = Collector {
            container: Arc::clone(&container),
            teller: Teller(inbox.clone()),
            values: shell.surroundings(),
            source: world.places.source.clone(),
            build: world.uuid.clone(),
            arn: world.arn.clone(),
            scratch: world.scratch.clone(),
            identity: world.identity.clone(),
            cancel: cancelled,
        };
        if let Err(Uncollected { context, hint }) = collector.collect(artifacts, to).await {
            if let Some(hint) = hint {
                inbox.send(Input::Notice(NoticeLevel::Note, format!("hint: {hint}"))).await;
            }
            result = Err(context);
        }
    }
    result
}
