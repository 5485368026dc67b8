//! The engines `docker` and `podman`: a daemon makes the container, our own program is in it.
//!
//! The program is mounted in and is the entrypoint; it connects to a socket in that mount, and from
//! then on everything is as in `namespaces`: the same protocol, the same [`InitContainer`], the same
//! speed. The daemon is asked for nothing but images and the container's beginning and end.

mod create;
mod furnish;
mod image;
mod leftover;

pub(crate) use leftover::remove_leftover;

use super::container::{Held, InitContainer};
use super::init::InitClient;
use super::limits;
use super::{Container, ContainerSpec, Engine, EngineError, Fut, Recorder, Teller};
use crate::daemon::{self, Daemon, Program, find, said};
use crate::image::Getter;
use crate::state::{ContainerFile, listen, make_private};
use bollard::errors::Error;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    WaitContainerOptionsBuilder,
};
use futures_util::StreamExt;
use runner_sandbox::{Pressure, WatchedGroups};
use runner_wire::abi::{BREAKPOINT_NAME, CONTAINER_NAME};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How long a container that was started has until our program in it connects.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a daemon has to remove a container whose processes are gone.
const REMOVAL: Duration = Duration::from_secs(60);
/// Name of the socket our program connects to, in the folder that is mounted.
const SOCKET: &str = "init.sock";
/// What crun says on a machine whose control groups are of both versions.
const HYBRID: &str = "cgroups in hybrid mode not supported";

/// What is said of a daemon on another machine, in a virtual machine or outside of this container.
const FOREIGN: &str = "run the runner where the daemon is, or give it a RUNNER_HOME that both see at the \
                       same path; a daemon on this machine is needed, not Docker Desktop's or a remote one";

/// Whether a daemon has said that it does not know a path.
fn is_foreign(text: &str) -> bool {
    ["bind source path does not exist", "no such file or directory", "invalid mount config"]
        .iter()
        .any(|said| text.contains(said))
        && text.contains("readonly")
}

/// Makes containers with Docker or Podman.
#[derive(Clone)]
pub(crate) struct DaemonEngine {
    pub(crate) program: Program,
    /// The build's uuid.
    pub(crate) build: String,
    /// A folder of the caller's own, gone with the build.
    pub(crate) place: PathBuf,
    /// Who the caller is at registries, and where progress is shown.
    pub(crate) images: Getter,
    pub(crate) record: Recorder,
    pub(crate) tell: Teller,
    pub(crate) warn: Teller,
}

impl Engine for DaemonEngine {
    fn give_up(&self) {
        self.images.given_up.notify_one();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        Box::pin(async move {
            make_private(&self.place).map_err(|error| {
                EngineError::fault(format!("{}: {error}", self.place.display()), None)
            })?;
            let daemon = find(self.program, &self.place)
                .await
                .map_err(|why| EngineError::incapable(why.to_string(), Some(&why.hint())))?;
            self.start_on(daemon, spec).await
        })
    }
}

impl DaemonEngine {
    /// Starts a container at a daemon that answers.
    pub(crate) async fn start_on(
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
        let record = ContainerFile::Daemon {
            program: daemon.program.command().to_owned(),
            address: daemon.service.is_none().then(|| daemon.address.clone()),
            image: image.is_passing.then(|| image.reference.clone()),
        };
        (self.record)(&record).map_err(|error| {
            EngineError::fault(format!("cannot record the container: {error}"), None)
        })?;
        if spec.toolbox.is_some() {
            let text = "--toolbox: only an engine of our own can show it to sessions alone; here \
                        they have what the image has";
            (self.warn)(text.to_owned());
        }
        let image_reference = image.reference.clone();
        let name = create::name_of(&self.build);
        let mut held = HeldByDaemon { daemon, name, image, groups: None };
        match self.start_mounted(&mut held, &spec, &image_reference).await {
            Ok(init) => {
                if spec.limits.is_any()
                    && let Some(pid) = held.pid().await
                {
                    let program = held.daemon.program.to_string();
                    held.groups = limits::watched(pid, spec.limits, &program, &self.warn);
                }
                let config = held.image.config.clone();
                let container = InitContainer::held(init, Box::new(held), config);
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

    /// Starts it with our program mounted, which connects.
    async fn start_mounted(
        &self,
        held: &mut HeldByDaemon,
        spec: &ContainerSpec,
        image: &str,
    ) -> Result<Arc<InitClient>, EngineError> {
        let ours = |doing: &str, error: io::Error| {
            EngineError::fault(format!("cannot {doing}: {error}"), None)
        };
        let bin = spec.readonly.join("bin");
        fs::hard_link(bin.join(BREAKPOINT_NAME), bin.join(CONTAINER_NAME))
            .map_err(|error| ours("put the container's first process in place", error))?;
        let socket = spec.readonly.join(SOCKET);
        // Whoever its root is there.
        let listener =
            listen(&socket, 0o666).map_err(|error| ours("listen for the container", error))?;
        let start = || create::Start {
            entrypoint: vec![
                format!("{}/bin/{CONTAINER_NAME}", create::READONLY),
                format!("{}/{SOCKET}", create::READONLY),
            ],
            mounts: true,
            on_input: false,
        };
        let program = held.daemon.program;
        let body = create::body(spec, &self.build, program, image, start());
        let mut begun = held.begin(body.clone()).await;
        if let Err(error) = &begun
            && said(error).contains(HYBRID)
            && let Some(daemon) = self.with_runc().await
        {
            // Nothing of the first attempt is to be in the way of the second.
            held.remove().await;
            std::mem::replace(&mut held.daemon, daemon).end().await;
            begun = held.begin(body).await;
        }
        begun.map_err(|error| {
            let text = said(&error);
            // The mount of our own program is the first thing that a stranger's paths fail at.
            if is_foreign(&text) {
                return EngineError::fault(
                    format!(
                        "{program} at {} does not see this machine's files ({text}), so it cannot run \
                         builds of this one",
                        held.daemon.address
                    ),
                    Some(FOREIGN),
                );
            }
            let hint = text.contains(HYBRID).then_some(
                "crun does not take a machine with both versions of control groups; install runc, \
                 which Podman then uses: apt-get install runc",
            );
            EngineError::fault(format!("{program} cannot start the container: {text}"), hint)
        })?;
        let init = tokio::select! {
            connected = tokio::time::timeout(PATIENCE, listener.accept()) => match connected {
                Ok(Ok((stream, _))) => InitClient::greeted(stream)
                    .await
                    .map_err(|error| ours("talk to the container", error)),
                Ok(Err(error)) => Err(ours("hear from the container", error)),
                Err(_) => Err(EngineError::fault("the container's first process does not connect: it shares no kernel with this machine", Some(FOREIGN))),
            },
            code = held.ended() => Err(EngineError::fault(
                format!("the container has ended at once{code}"), None,
            )),
        };
        // Nobody else is to be listened to, and nobody of the build ever was.
        drop(listener);
        let _ = fs::remove_file(&socket);
        init
    }

    /// A Podman that uses runc.
    async fn with_runc(&self) -> Option<Daemon> {
        daemon::podman()?;
        daemon::program_on_path("runc")?;
        let daemon = daemon::serve(Some("runc"), &self.place).await.ok()?;
        (self.tell)("Podman: crun refuses this machine's control groups; using runc".to_owned());
        Some(daemon)
    }
}

/// A container of a daemon's.
struct HeldByDaemon {
    daemon: Daemon,
    name: String,
    image: image::Prepared,
    /// What limits it, where anything does.
    groups: Option<WatchedGroups>,
}

impl HeldByDaemon {
    /// Creates and starts it.
    async fn begin(&self, body: bollard::models::ContainerCreateBody) -> Result<(), Error> {
        let client = &self.daemon.client;
        tracing::debug!(name = self.name, "creating the container");
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        let created = client.create_container(Some(options), body).await?;
        for warning in created.warnings {
            tracing::debug!(warning, "the daemon warns");
        }
        client.start_container(&self.name, None::<StartContainerOptions>).await
    }

    /// Its first process, as this machine sees it.
    async fn pid(&self) -> Option<u32> {
        let container = self.daemon.client.inspect_container(&self.name, None).await.ok()?;
        u32::try_from(container.state?.pid?).ok()
    }

    /// Resolves when it has ended, with its code in words.
    async fn ended(&self) -> String {
        match self.wait("not-running").await {
            Ok(Some(code)) => format!(" (exit code {code})"),
            Ok(None) | Err(_) => String::new(),
        }
    }

    /// Waits for what the daemon calls a condition; the exit code where it is told.
    async fn wait(&self, condition: &str) -> Result<Option<i64>, Error> {
        let options = WaitContainerOptionsBuilder::new().condition(condition).build();
        let mut waited = pin!(self.daemon.client.wait_container(&self.name, Some(options)));
        match waited.next().await {
            None => Ok(None),
            Some(Ok(response)) => Ok(Some(response.status_code)),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(Some(code)),
            Some(Err(error)) => Err(error),
        }
    }

    /// Sees to it that it is gone.
    async fn remove(&self) {
        tracing::debug!(name = self.name, "removing the container");
        let gone = async {
            loop {
                let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                match self.daemon.client.remove_container(&self.name, Some(options)).await {
                    Err(Error::DockerResponseServerError { status_code: 404, .. }) => return,
                    // It is being removed already, or has been just now.
                    Ok(())
                    | Err(Error::DockerResponseServerError { status_code: 409 | 500, .. }) => {
                        if self.wait("removed").await.is_err() {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(name = self.name, error = said(&error), "not removed");
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(REMOVAL, gone).await;
    }
}

impl Held for HeldByDaemon {
    fn pressure(&self) -> Pressure {
        self.groups.as_ref().map(WatchedGroups::pressure).unwrap_or_default()
    }

    fn release(self: Box<Self>) -> Fut<'static, ()> {
        Box::pin(async move {
            self.remove().await;
            if self.image.is_passing {
                image::remove(&self.daemon.client, &self.image.reference).await;
            }
            self.daemon.end().await;
        })
    }
}
