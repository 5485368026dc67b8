//! Containers beside the build: a database, a queue. `--service NAME=IMAGE[:PORT]`.
//!
//! Each is a container of ours with a network of its own, in which nothing but its loopback is. The runner listens for it
//! at an address of this machine's loopback that no other build has, and carries what connects there inside (`relay`);
//! the build knows that address by the service's name. They are started before the build's container and end after it;
//! what they write is kept in the build's folder, masked (`log`).

mod log;
mod relay;

use crate::driver::Beside;
use crate::driver::inbox::Inbox;
use log::Log;
use runner_core::env::{DEFAULT_PATH, Variables};
use runner_core::event::Notice;
use runner_core::machine::Input;
use runner_core::mask::SharedSecrets;
use runner_core::phase::StatusCode;
use runner_engine::image::{Config, Image};
use runner_engine::leftover::{Folder, Leavings};
use runner_engine::unseen::Unseen;
use runner_engine::{
    Container, ContainerSpec, Ends, Engine, EngineError, ExecError, ExecSpec, Fut, Ids, Network,
    Parts, Process, SERVICES, Stdio, users,
};
use runner_host::private::make_private;
use runner_wire::init::{Exit, Listener};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinSet;

/// How long a service may take until its port answers.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked: soon at first, then now and then.
const FIRST: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(250);
/// How long its end may take.
const ENDING: Duration = Duration::from_secs(10);

/// A service, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// By which the build finds it.
    pub name: String,
    pub image: Image,
    /// Where it listens; none: the first port that its image exposes.
    pub port: Option<u16>,
    /// Variables besides those of its image.
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
}

/// The services of a build.
pub(super) struct Services {
    wanted: Vec<Place>,
    surroundings: Surroundings,
    up: Mutex<Option<Vec<Up>>>,
    given_up: Notify,
}

/// A service and what is made for it.
struct Place {
    service: Service,
    address: Ipv4Addr,
    engine: Arc<dyn Engine>,
    folder: Folder,
    /// Of the build's folder.
    dir: PathBuf,
    layers: Vec<PathBuf>,
}

/// One that answers.
struct Up {
    container: Arc<dyn Container>,
    /// Carries connections, and tells of its end.
    tasks: JoinSet<()>,
}

/// Where a service's files are, below the build's folder.
pub(super) fn dir(build: &Path, name: &str) -> PathBuf {
    build.join("services").join(name)
}

/// Where what a service writes may be kept: found again by whoever sweeps.
pub(super) fn layers(build: &Path, uuid: &str, name: &str) -> Vec<PathBuf> {
    let folder = Folder::of(&dir(build, name));
    SERVICES.traits().layers(&folder, &format!("{uuid}-{name}"))
}

impl Services {
    pub(super) fn new(
        services: &[Service],
        surroundings: Surroundings,
        parts: &dyn Fn(Folder) -> Parts,
    ) -> Self {
        let uuid = surroundings.build.to_string();
        let place = |(number, service): (usize, &Service)| {
            let dir = dir(&surroundings.folder, &service.name);
            let folder = Folder::of(&dir);
            Place {
                service: service.clone(),
                address: address(&surroundings.build, number),
                engine: SERVICES.engine(parts(folder.clone())),
                layers: layers(&surroundings.folder, &uuid, &service.name),
                folder,
                dir,
            }
        };
        let wanted = services.iter().enumerate().map(place).collect();
        Services { wanted, surroundings, up: Mutex::default(), given_up: Notify::new() }
    }

    /// By which addresses the build knows them.
    pub(super) fn hosts(&self) -> Vec<(Ipv4Addr, String)> {
        self.wanted.iter().map(|place| (place.address, place.service.name.clone())).collect()
    }

    /// Ends them, and removes what they wrote to their files.
    pub(super) async fn stop(&self) {
        if self.up.try_lock().is_err() {
            // They are still being started.
            self.give_up();
        }
        for Up { container, mut tasks } in self.up.lock().await.take().unwrap_or_default() {
            tasks.abort_all();
            if tokio::time::timeout(ENDING, container.stop()).await.is_err() {
                drop(container.kill());
            }
        }
        for place in &self.wanted {
            let leavings = Leavings { layers: place.layers.clone(), groups: Vec::new() };
            if let Err(error) = place.folder.clear(&leavings) {
                tracing::debug!(%error, "what a service wrote is left");
            }
        }
    }

    async fn start_one(&self, place: &Place) -> Result<Up, EngineError> {
        let Service { name, image, .. } = &place.service;
        let failed = |why: String, hint: Option<String>| EngineError {
            code: StatusCode::InternalServiceError,
            message: format!("service {name} ({image}): {why}"),
            hint,
            is_incapable: false,
        };
        let readonly = place.dir.join("readonly");
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
        let Process { ends: Ends::Merged(pipe), mut exit, .. } = process else {
            return Err(EngineError::lost(&ExecError::ContainerGone));
        };
        let mut log = Log::start(pipe, &place.dir.join("log"), &self.surroundings.secrets)
            .map_err(|error| failed(format!("its log: {error}"), None))?;
        if let Err(why) = answers(&*container, port, &mut exit).await {
            let last = log.last_lines().await;
            let words =
                if last.is_empty() { String::new() } else { format!("; its last words:\n{last}") };
            let _ = tokio::time::timeout(ENDING, container.stop()).await;
            let hint = format!(
                "what it wrote is in {}; variables that it needs: --service-env {name}:NAME=VALUE",
                log.path().display()
            );
            return Err(failed(format!("{why}{words}"), Some(hint)));
        }
        let mut tasks = JoinSet::new();
        let listening = SocketAddr::from((place.address, port));
        relay::start(&mut tasks, Arc::clone(&container), listening).await.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "without root a port below 1024 needs sysctl net.ipv4.ip_unprivileged_port_start, \
                     or an image that listens at another port"
                }
                _ => "something on this machine listens there on all addresses; or take another port",
            };
            failed(format!("cannot listen at {listening}: {error}"), Some(hint.to_owned()))
        })?;
        let text = format!("service {name}: {image} at {name}:{port}");
        self.surroundings.inbox.send(Input::Notice(Notice::note(text))).await;
        let (inbox, name) = (self.surroundings.inbox.clone(), name.clone());
        tasks.spawn(async move {
            let how = ended(exit.await.ok());
            let text = format!("service {name} has ended by itself: {how}");
            inbox.send(Input::Notice(Notice::warning(text))).await;
        });
        Ok(Up { container, tasks })
    }

    fn container_spec(&self, place: &Place, readonly: PathBuf) -> ContainerSpec {
        ContainerSpec {
            hostname: place.service.name.clone(),
            image: place.service.image.clone(),
            sources: Vec::new(),
            readonly,
            mounts: Vec::new(),
            cached: None,
            layers: place.layers.clone(),
            unseen: self.surroundings.unseen.clone(),
            limits: runner_sandbox::Limits::default(),
            groups: None,
            network: Network::None,
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

    fn give_up(&self) {
        self.wanted.iter().for_each(|place| place.engine.give_up());
        self.given_up.notify_one();
    }
}

/// An address of the loopback that this build's service has, and with all likelihood no other's.
fn address(build: &uuid::Uuid, number: usize) -> Ipv4Addr {
    let [a, b, c, ..] = *build.as_bytes();
    let last = (usize::from(c) + number) % 254 + 1;
    Ipv4Addr::new(127, 64 + (a & 0x7f), b, u8::try_from(last).unwrap_or(1))
}

/// What a service's image says is to be run, as whom and with which variables.
async fn program(
    container: &dyn Container,
    config: &Config,
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
    let name = config.user.split(':').next().filter(|name| !name.is_empty()).unwrap_or("root");
    let user = users::resolve(container, name).await;
    let user: Ids = user.ok_or_else(|| format!("its image has no user `{name}`"))?;
    let home = if user.uid == 0 { "/root" } else { "/" };
    let mut variables = BTreeMap::from([
        ("HOME".to_owned(), home.to_owned()),
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
        user,
        stdio: Stdio::Merged,
        toolbox: false,
        // A container of its own: nothing in it is a command of the build.
        of_build: false,
    })
}

type Exited = oneshot::Receiver<Result<Exit, ExecError>>;

/// Resolves when the port answers, or with why it will not.
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
