//! The `auto` engine: uses the first engine that works.
//!
//! Namespaces come first, then Docker or Podman if one answers. Isolation never drops below that:
//! if none of them works, the error comes from the namespaces engine, which says how to fix it.

use super::daemon::DaemonEngine;
use super::namespaces::Namespaces;
use super::{Container, ContainerSpec, Engine, EngineError, EngineNote, Fut};
use crate::docker::{DaemonProgram, find};
use std::sync::Arc;

/// Tries one engine after another.
pub(crate) struct Auto {
    pub namespaces: Namespaces,
    /// Used for both programs, whichever one it names.
    pub daemon: DaemonEngine,
}

impl Engine for Auto {
    fn give_up(&self) {
        // Both engines share this notification.
        self.namespaces.give_up();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        Box::pin(async move {
            let refused = match self.namespaces.start(spec.clone()).await {
                // Only the namespaces engine supports a toolbox.
                Err(error) if error.is_incapable && spec.toolbox.is_none() => error,
                done => return done,
            };
            for program in [DaemonProgram::Docker, DaemonProgram::Podman] {
                let DaemonEngine { place, storage, .. } = &self.daemon;
                let _ = runner_host::private::make_private(place);
                let Ok(daemon) = find(program, place, storage).await else { continue };
                let because = refused.message.clone();
                (self.daemon.tell)(EngineNote::Fallback { engine: daemon.program, because });
                return self.daemon.start_on(daemon, spec).await;
            }
            Err(EngineError {
                message: format!("{}; and neither Docker nor Podman answers", refused.message),
                ..refused
            })
        })
    }
}
