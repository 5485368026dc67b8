//! The engine `auto`: the first that works.
//!
//! Namespaces, else Docker or Podman if one answers. Never less isolation than that: where none of them
//! works, the error is that of the namespaces, which says what would mend it.

use super::daemon::DaemonEngine;
use super::namespaces::Namespaces;
use super::{Container, ContainerSpec, Engine, EngineError, EngineNote, Fut};
use crate::docker::{DaemonProgram, find};
use std::sync::Arc;

/// Tries one engine after the other.
pub(crate) struct Auto {
    pub namespaces: Namespaces,
    /// With whatever program; both are tried.
    pub daemon: DaemonEngine,
}

impl Engine for Auto {
    fn give_up(&self) {
        // Both are told by it.
        self.namespaces.give_up();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        Box::pin(async move {
            let refused = match self.namespaces.start(spec.clone()).await {
                // A toolbox is for namespaces only.
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
