//! Containers beside the build: a database, a queue. `--service NAME=IMAGE[:PORT]`.
//!
//! Each service runs in its own container with a separate network that has only a loopback. The
//! runner listens for it at a loopback address that no other build uses, and forwards connections
//! into the container (`relay`); in the build, the service's name resolves to that address. The
//! loopback is that of the build's own network if it has one, otherwise this machine's. Services
//! start before the build's container and end after it; their output is kept, masked, in the
//! build's folder (`log`).

mod log;
mod relay;

use crate::driver::Beside;
use crate::driver::inbox::Inbox;
use log::ServiceLog;
use runner_core::env::{DEFAULT_PATH, Variables};
use runner_core::event::Notice;
use runner_core::machine::MachineInput;
use runner_core::mask::SharedSecrets;
use runner_core::phase::StatusCode;
use runner_engine::image::{Image, ImageConfig};
use runner_engine::leftover::{EngineFolder, Leavings};
use runner_engine::unseen::Unseen;
use runner_engine::{
    Container, ContainerSpec, Engine, EngineError, EngineParts, ExecError, ExecSpec, Fut,
    NetworkAccess, ProgramEnds, SERVICES, StartedProgram, Stdio, users,
};
use runner_host::private::{make_private, remove_tree};
use runner_sandbox::{GroupPlan, ResourceLimits};
use runner_wire::init::{Exit, Listener};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};

/// Time limit for a service's port to answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pauses between two checks: short at first, longer later.
const FIRST: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(250);
/// Directory for the container's read-only files, below the service's folder.
const READONLY: &str = "readonly";
/// Time limit for stopping a service.
const ENDING: Duration = Duration::from_secs(10);

/// A requested service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRequest {
    /// The name under which the build finds it.
    pub name: String,
    pub image: Image,
    /// The port it listens on; `None`: the first port that its image exposes.
    pub port: Option<u16>,
    /// Variables added to those of its image.
    pub variables: Variables,
}

/// What services are started with.
pub(super) struct Surroundings {
    pub(super) build: uuid::Uuid,
    /// The build's folder.
    pub(super) folder: PathBuf,
    pub(super) unseen: Unseen,
    pub(super) secrets: SharedSecrets,
    pub(super) inbox: Inbox,
    /// The build's network access.
    pub(super) network: NetworkAccess,
    pub(super) limits: ResourceLimits,
    /// The resource groups noted for each service, in order.
    pub(super) groups: Vec<Option<GroupPlan>>,
}

/// The services of a build.
pub(super) struct Services {
    wanted: Vec<ServicePlace>,
    surroundings: Surroundings,
    up: Mutex<Option<Vec<ReadyService>>>,
    given_up: Notify,
}

/// A service and its resources.
struct ServicePlace {
    service: ServiceRequest,
    address: Ipv4Addr,
    engine: Arc<dyn Engine>,
    /// The service's folder within the build's.
    dir: PathBuf,
    layers: Vec<PathBuf>,
    groups: Option<GroupPlan>,
}

/// A service that answers.
struct ReadyService {
    container: Arc<dyn Container>,
    /// The address at which the build finds it.
    at: SocketAddr,
    /// Tasks that forward connections and report its end.
    tasks: JoinSet<()>,
    /// Stops the forwarding for the build's current container.
    way: Option<AbortHandle>,
}

/// A service's folder, below the build's folder.
pub(super) fn dir(build: &Path, name: &str) -> PathBuf {
    build.join("services").join(name)
}

/// Directories that may hold a service's files; a sweep finds them again.
pub(super) fn layers(build: &Path, uuid: &str, name: &str) -> Vec<PathBuf> {
    let folder = EngineFolder::of(&dir(build, name));
    SERVICES.traits().layers(&folder, &container_name(uuid, name))
}

/// Name of its container.
fn container_name(build: &str, name: &str) -> String {
    format!("{build}-{name}")
}

/// The resource groups for services: the build's limits apply to each one separately.
pub(super) fn groups(
    services: &[ServiceRequest],
    uuid: &str,
    limits: ResourceLimits,
) -> io::Result<Vec<Option<GroupPlan>>> {
    let named = services.iter().map(|service| container_name(uuid, &service.name));
    named.map(|name| SERVICES.traits().groups(&name, limits, false)).collect()
}

/// Removes everything of a service except its log. Continues after a failure and returns the first
/// one.
pub(super) fn clear(build: &Path, service: &str, leavings: &Leavings) -> io::Result<()> {
    let dir = dir(build, service);
    [EngineFolder::of(&dir).clear(leavings), remove_tree(&dir.join(READONLY))].into_iter().collect()
}

/// Like `clear`, for every service with a folder in a killed runner's build.
pub(super) fn clear_all(build: &Path) -> io::Result<()> {
    let names = match fs::read_dir(build.join("services")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Layers are listed in the build's own notes, wherever they are.
    let none = Leavings { layers: Vec::new(), groups: Vec::new() };
    let clear_one = |entry: io::Result<fs::DirEntry>| match entry?.file_name().into_string() {
        Ok(name) => {
            EngineFolder::of(&dir(build, &name)).end_container(&name)?;
            clear(build, &name, &none)
        }
        // Not a name of a service.
        Err(_) => Ok(()),
    };
    names.map(clear_one).collect::<Vec<_>>().into_iter().collect()
}

impl Services {
    pub(super) fn new(
        services: &[ServiceRequest],
        surroundings: Surroundings,
        parts: &dyn Fn(EngineFolder) -> EngineParts,
    ) -> Self {
        let uuid = surroundings.build.to_string();
        let place = |(number, service): (usize, &ServiceRequest)| {
            let dir = dir(&surroundings.folder, &service.name);
            let folder = EngineFolder::of(&dir);
            ServicePlace {
                service: service.clone(),
                address: address(&surroundings.build, number),
                engine: SERVICES.engine(parts(folder)),
                layers: layers(&surroundings.folder, &uuid, &service.name),
                groups: surroundings.groups.get(number).cloned().flatten(),
                dir,
            }
        };
        let wanted = services.iter().enumerate().map(place).collect();
        Services { wanted, surroundings, up: Mutex::default(), given_up: Notify::new() }
    }

    /// The addresses and names under which the build knows the services.
    pub(super) fn hosts(&self) -> Vec<(Ipv4Addr, String)> {
        self.wanted.iter().map(|place| (place.address, place.service.name.clone())).collect()
    }

    /// Stops the services and removes their files.
    pub(super) async fn stop(&self) {
        if self.up.try_lock().is_err() {
            // They are still being started.
            self.give_up();
        }
        for ReadyService { container, mut tasks, .. } in
            self.up.lock().await.take().unwrap_or_default()
        {
            tasks.abort_all();
            if tokio::time::timeout(ENDING, container.stop()).await.is_err() {
                drop(container.kill());
            }
        }
        for place in &self.wanted {
            let leavings = Leavings { layers: place.layers.clone(), groups: Vec::new() };
            if let Err(error) = clear(&self.surroundings.folder, &place.service.name, &leavings) {
                tracing::debug!(%error, "the files of a service are not removed");
            }
        }
    }

    async fn start_one(&self, place: &ServicePlace) -> Result<ReadyService, EngineError> {
        let ServiceRequest { name, image, .. } = &place.service;
        let failed = |why: String, hint: Option<String>| failure(&place.service, &why, hint);
        let readonly = place.dir.join(READONLY);
        make_private(&readonly).map_err(|error| failed(error.to_string(), None))?;
        let started = place.engine.start(self.container_spec(place, readonly)).await;
        let container = started.map_err(|error| failed(error.message, error.hint))?;
        let config = container.image_config();
        let port = place.service.port.or(config.ports.first().copied()).ok_or_else(|| {
            let hint = format!("write it behind the image: --service {name}=IMAGE:TAG:PORT");
            failed("its image does not say at which port it listens".to_owned(), Some(hint))
        })?;
        let spec = program(&*container, config, &place.service.variables).await;
        let spec = spec.map_err(|why| failed(why, None))?;
        let process = container.exec(spec).await;
        let process = process.map_err(|error| failed(format!("its program: {error}"), None))?;
        let StartedProgram { ends: ProgramEnds::Merged(pipe), mut exit, .. } = process else {
            return Err(EngineError::lost(&ExecError::ContainerGone));
        };
        let mut log = ServiceLog::start(pipe, &place.dir.join("log"), &self.surroundings.secrets)
            .map_err(|error| failed(format!("its log: {error}"), None))?;
        if let Err(why) = answers(&*container, port, &mut exit).await {
            let last = log.last_lines().await;
            let words =
                if last.is_empty() { String::new() } else { format!("; its last words:\n{last}") };
            let _ = tokio::time::timeout(ENDING, container.stop()).await;
            let hint = format!(
                "its output is in {}; set variables that it needs: --service-env {name}:NAME=VALUE",
                log.path().display()
            );
            return Err(failed(format!("{why}{words}"), Some(hint)));
        }
        let at = SocketAddr::from((place.address, port));
        let mut up = ReadyService { container, at, tasks: JoinSet::new(), way: None };
        if self.surroundings.network == NetworkAccess::Host {
            self.lead(&mut up, None).await.map_err(|error| failed(error.0, error.1))?;
        }
        let text = format!("service {name}: {image} at {name}:{port}");
        self.surroundings.inbox.send(MachineInput::Notice(Notice::note(text))).await;
        let (inbox, name) = (self.surroundings.inbox.clone(), name.clone());
        up.tasks.spawn(async move {
            let how = ended(exit.await.ok());
            let text = format!("service {name} has ended by itself: {how}");
            inbox.send(MachineInput::Notice(Notice::warning(text))).await;
        });
        Ok(up)
    }

    /// Forwards connections to a service's address, in this machine's network or the build's.
    async fn lead(
        &self,
        up: &mut ReadyService,
        build: Option<&dyn Container>,
    ) -> Result<(), (String, Option<String>)> {
        let listener = relay::listen(up.at, build).await.map_err(|error| {
            let hint = match error.kind() {
                _ if build.is_some() => None,
                io::ErrorKind::PermissionDenied => Some(
                    "without root a port below 1024 needs --network pasta or none, which are networks of \
                     the build's own, or an image that listens at another port",
                ),
                _ => Some("something on this machine listens there on all addresses: --network pasta gives \
                           the build its own network"),
            };
            (format!("cannot listen at {}: {error}", up.at), hint.map(str::to_owned))
        })?;
        let way = relay::start(&mut up.tasks, Arc::clone(&up.container), listener, up.at.port());
        if let Some(before) = up.way.replace(way) {
            before.abort();
        }
        Ok(())
    }

    fn container_spec(&self, place: &ServicePlace, readonly: PathBuf) -> ContainerSpec {
        ContainerSpec {
            hostname: place.service.name.clone(),
            image: place.service.image.clone(),
            sources: Vec::new(),
            readonly,
            mounts: Vec::new(),
            cached: None,
            layers: place.layers.clone(),
            kept: None,
            unseen: self.surroundings.unseen.clone(),
            limits: self.surroundings.limits,
            groups: place.groups.clone(),
            network: NetworkAccess::None,
            hosts: Vec::new(),
            loopback_port: None,
            privileged: false,
            toolbox: None,
        }
    }
}

impl Beside for Services {
    fn start(&self) -> Fut<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let mut up = self.up.lock().await;
            if up.is_some() {
                return Ok(());
            }
            let all = self.wanted.iter().map(|place| self.start_one(place));
            let all = futures_util::future::try_join_all(all);
            *up = Some(tokio::select! {
                started = all => started?,
                () = self.given_up.notified() => {
                    return Err(EngineError::fault("not started: the build was stopped", None));
                }
            });
            Ok(())
        })
    }

    fn open<'b>(&'b self, build: &'b dyn Container) -> Fut<'b, Result<(), EngineError>> {
        Box::pin(async move {
            if self.surroundings.network == NetworkAccess::Host {
                return Ok(());
            }
            for (place, up) in self.wanted.iter().zip(self.up.lock().await.iter_mut().flatten()) {
                self.lead(up, Some(build))
                    .await
                    .map_err(|(why, hint)| failure(&place.service, &why, hint))?;
            }
            Ok(())
        })
    }

    fn give_up(&self) {
        self.wanted.iter().for_each(|place| place.engine.give_up());
        self.given_up.notify_one();
    }
}

/// The error of a service that is not available.
fn failure(service: &ServiceRequest, why: &str, hint: Option<String>) -> EngineError {
    EngineError {
        code: StatusCode::InternalServiceError,
        message: format!("service {} ({}): {why}", service.name, service.image),
        hint,
        is_incapable: false,
    }
}

/// A loopback address for this service of this build; very likely no other build has it.
fn address(build: &uuid::Uuid, number: usize) -> Ipv4Addr {
    let [a, b, c, ..] = *build.as_bytes();
    let last = (usize::from(c) + number) % 254 + 1;
    Ipv4Addr::new(127, 64 + (a & 0x7f), b, u8::try_from(last).unwrap_or(1))
}

/// The program that a service's image runs, with its user and variables.
async fn program(
    container: &dyn Container,
    config: &ImageConfig,
    more: &Variables,
) -> Result<ExecSpec, String> {
    let argv: Vec<Vec<u8>> = config
        .entrypoint
        .iter()
        .chain(&config.command)
        .map(|word| word.clone().into_bytes())
        .collect();
    if argv.is_empty() {
        return Err("its image does not say which program to run (ENTRYPOINT or CMD)".to_owned());
    }
    let user = users::of_image(container, &config.user).await?;
    let mut variables = BTreeMap::from([
        ("HOME".to_owned(), user.home),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
    ]);
    variables.extend(config.env.iter().chain(more).cloned());
    let cwd = if config.working_dir.starts_with('/') { &*config.working_dir } else { "/" };
    Ok(ExecSpec {
        argv,
        path: variables["PATH"].clone().into_bytes(),
        env: variables.iter().map(|(name, value)| format!("{name}={value}").into_bytes()).collect(),
        cwd: cwd.as_bytes().to_vec(),
        cwd_or_root: true,
        user: user.ids,
        stdio: Stdio::Merged,
        toolbox: false,
        // Its container is separate: nothing in it is a command of the build.
        of_build: false,
    })
}

type Exited = oneshot::Receiver<Result<Exit, ExecError>>;

/// Resolves when the port answers, or with the reason why it will not.
async fn answers(container: &dyn Container, port: u16, exit: &mut Exited) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let listener = Listener::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let mut pause = FIRST;
    loop {
        if container.dial(&listener).await.is_ok() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("port {port} does not answer after {} s", PATIENCE.as_secs()));
        }
        tokio::select! {
            how = &mut *exit => {
                return Err(format!("it ended before port {port} answered: {}", ended(how.ok())));
            }
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LATER),
        }
    }
}

fn ended(how: Option<Result<Exit, ExecError>>) -> String {
    match how {
        Some(Ok(Exit::Code(code))) => format!("exit status {code}"),
        Some(Ok(Exit::Signal(signal))) => format!("signal {signal}"),
        Some(Err(error)) => error.to_string(),
        None => ExecError::ContainerGone.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_an_address_of_the_loopback() {
        let build = uuid::Uuid::from_bytes([255; 16]);
        let addresses: Vec<Ipv4Addr> = (0..3).map(|number| address(&build, number)).collect();
        assert!(addresses.iter().all(Ipv4Addr::is_loopback));
        assert!(addresses.iter().all(|it| it.octets()[1] >= 64 && it.octets()[3] != 0));
        assert!(addresses[0] != addresses[1] && addresses[1] != addresses[2]);
    }
}
