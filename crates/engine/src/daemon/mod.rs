//! The `docker` and `podman` engines: a daemon makes the container and our own program runs in it.
//!
//! Our program is mounted into the container as its entrypoint and connects to a socket in that
//! mount. From then on everything is as in `namespaces`: the same protocol, the same
//! [`InitContainer`], the same speed (`mounted`). If the daemon does not see our files, the program
//! is copied in, and the same protocol goes through the daemon's exec API and the relay (`remote`).
//! Otherwise the daemon only provides images and starts and ends the container.

mod create;
mod furnish;
mod held;
mod image;
mod leftover;
mod mounted;
mod remote;

pub(super) use leftover::remove_leftover;

use super::container::{ContainerHandle, InitContainer, Made};
use super::leftover::LeftoverContainer;
use super::limits;
use super::{Container, ContainerSpec, Engine, EngineError, EngineNote, Fut, Recorder, Teller};
use crate::docker::{Daemon, DaemonProgram, Storage, find};
use crate::image::Getter;
use held::HeldByDaemon;
use mounted::MountedStartError;
use runner_host::private::make_private;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long our program has to answer once the container has started.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes containers with Docker or Podman.
#[derive(Clone)]
pub struct DaemonEngine {
    pub program: DaemonProgram,
    /// The build's uuid.
    pub build: String,
    /// A private folder of the caller's, removed with the build.
    pub place: PathBuf,
    /// Where a Podman started for this engine keeps its containers.
    pub storage: Storage,
    /// The caller's registry logins, and where to show progress.
    pub images: Getter,
    pub record: Recorder,
    pub tell: Teller,
}

impl Engine for DaemonEngine {
    fn give_up(&self) {
        self.images.given_up.notify_one();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        Box::pin(async move {
            if spec.copies_on_write() {
                let message = format!("{} shows nothing copy-on-write", self.program);
                let hint = "leave out --home-tools, and :cow of --mount";
                return Err(EngineError::fault(message, Some(hint)));
            }
            make_private(&self.place).map_err(|error| {
                EngineError::fault(format!("{}: {error}", self.place.display()), None)
            })?;
            let daemon = find(self.program, &self.place, &self.storage)
                .await
                .map_err(|why| EngineError::incapable(why.to_string(), Some(&why.hint())))?;
            self.start_on(daemon, spec).await
        })
    }
}

impl DaemonEngine {
    /// Starts a container at the given daemon.
    pub async fn start_on(
        &self,
        daemon: Daemon,
        spec: ContainerSpec,
    ) -> Result<Arc<dyn Container>, EngineError> {
        tracing::debug!(program = %daemon.program, address = daemon.address, version = daemon.version, "found");
        let image = tokio::select! {
            image = image::prepare(&daemon, &spec.image, &self.build, &self.images) => image?,
            () = self.images.given_up.notified() => {
                let message = format!("image {}: not got, because the build was stopped", spec.image);
                return Err(EngineError::image(message, None));
            }
        };
        let record = LeftoverContainer::Daemon {
            program: daemon.program.command().to_owned(),
            address: daemon.service.is_none().then(|| daemon.address.clone()),
            image: image.is_passing.then(|| image.reference.clone()),
        };
        (self.record)(&record).map_err(|error| {
            EngineError::fault(format!("cannot record the container: {error}"), None)
        })?;
        if spec.toolbox.is_some() {
            (self.tell)(EngineNote::ToolboxNotShown);
        }
        let image_reference = image.reference.clone();
        let name = create::name_of(&self.build);
        let mut held = HeldByDaemon { daemon, name, image, groups: None };
        let started = match mounted::start(self, &mut held, &spec, &image_reference).await {
            Ok(init) => {
                if spec.limits.is_any()
                    && let Some(pid) = held.pid().await
                {
                    let program = held.daemon.program;
                    held.groups = limits::watched(pid, spec.limits, program, &self.tell);
                }
                Ok(init)
            }
            Err(MountedStartError::Failed(error)) => Err(error),
            Err(MountedStartError::Elsewhere(how)) => {
                remote::start(self, &mut held, &spec, &image_reference, &how).await
            }
        };
        match started {
            Ok(init) => {
                let made = Made {
                    engine: held.daemon.program.command(),
                    image: held.image.id.clone(),
                    config: held.image.config.clone(),
                };
                let container = InitContainer::held(init, Box::new(held), made);
                if let Err(error) = furnish::furnish(&container, &spec, &self.tell).await {
                    container.stop().await;
                    return Err(error);
                }
                Ok(Arc::new(container))
            }
            Err(error) => {
                Box::new(held).release().await;
                Err(error)
            }
        }
    }
}
