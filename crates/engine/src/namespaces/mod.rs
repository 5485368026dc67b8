//! Our own engine: Linux namespaces, no daemon, nothing to install.
//!
//! Turns a [`ContainerSpec`] into a `SandboxSpec` (`spec`), finds a place for the layer and starts
//! the sandbox on a thread that may block; `explain` words failures. `init` then runs programs in
//! the container.

mod explain;
mod spec;

use super::cached::{self, Handed};
use super::container::{InitContainer, Own};
use super::freezing::GroupFreezer;
use super::host_image::{EtcCopies, EtcCopy};
use super::init::InitClient;
use super::leftover::LeftoverContainer;
use super::note::LayerPlace;
use super::pasta::{self, Pasta, Resolver};
use super::written::WrittenLayer;
use super::{
    CachedTrees, Container, ContainerSpec, Engine, EngineError, EngineNote, Fut, NetworkAccess,
    Recorder, Teller, limits,
};
use crate::image::{Getter, PreparedImage};
use explain::{NO_USER_NAMESPACES, explain, file_system};
use runner_host::users;
use runner_sandbox::{
    BuildLayer, ContainerGroups, GroupView, LayerStore, Sandbox, SetupStep, StartError, UserMap,
};
use spec::{Base, sandbox_spec, start_of_root};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes containers from namespaces.
#[derive(Clone)]
pub struct Namespaces {
    /// Fetches images.
    pub images: Getter,
    pub record: Recorder,
    pub tell: Teller,
    /// The build's private folder for network files.
    pub network: PathBuf,
    pub kept: KeptImage,
    /// Copies of /etc for the image `host`.
    pub etc: EtcCopies,
}

/// The image that the first container used, with its users. A second container uses the same one,
/// even if the tag has changed since.
pub type KeptImage = Arc<Mutex<Option<(Option<UserMap>, Option<Arc<PreparedImage>>)>>>;

impl Engine for Namespaces {
    fn give_up(&self) {
        self.images.given_up.notify_one();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        let mut engine = self.clone();
        if spec.kept.is_some() {
            // The first container has already reported everything.
            engine.tell = Arc::new(|_| {});
        }
        Box::pin(async move {
            let has_toolbox = spec.toolbox.is_some();
            let plain = ContainerSpec { cached: None, ..spec.clone() };
            let mut up = match engine.start_now(&spec).await {
                Err(error) if spec.cached.is_some() && spec.kept.is_none() => {
                    tracing::debug!(%error, "once more, without the cache as a layer");
                    for layer in &plain.layers {
                        // If something is left, the next attempt reports it.
                        let _ = runner_host::private::remove_tree(layer);
                    }
                    engine.start_now(&plain).await?
                }
                done => done?,
            };
            let control = up.sandbox.take_control().ok_or(io::ErrorKind::NotConnected.into());
            let init = control.and_then(InitClient::new).map_err(|error| {
                EngineError::fault(format!("cannot talk to the container: {error}"), None)
            })?;
            let StartedContainer {
                sandbox,
                pasta,
                image,
                etc,
                groups,
                has_one_user,
                is_layered,
                layer,
            } = up;
            let root = start_of_root(image.as_deref());
            let holds = Box::new(move |trees: &CachedTrees| cached::can_lay(trees, &plain, &root));
            let freezing = GroupFreezer::with(Arc::clone(&engine.record));
            let own = Own { sandbox, pasta, image, etc, groups, freezing };
            let container = InitContainer::with_users(
                init,
                own,
                has_one_user,
                has_toolbox,
                is_layered,
                holds,
                layer,
            );
            Ok(Arc::new(container) as Arc<dyn Container>)
        })
    }
}

impl Namespaces {
    async fn start_now(&self, spec: &ContainerSpec) -> Result<StartedContainer, EngineError> {
        pasta::check(spec)?;
        if let Some(kept) = &spec.kept {
            let started = self.start_with(spec, kept.users.as_ref()).await;
            return started.map_err(NotStarted::into_error);
        }
        let maps = users::maps();
        if spec.privileged && !maps.is_empty() {
            (self.tell)(EngineNote::LessPrivileged);
        }
        let mut refused = None;
        // Root uses the host's own users.
        if maps.is_empty() {
            return self.start_with(spec, None).await.map_err(NotStarted::into_error);
        }
        for map in maps {
            if map.is_single() {
                (self.tell)(EngineNote::OneUser { refused: refused.clone() });
            }
            match self.start_with(spec, Some(&map)).await {
                Err(NotStarted::Users(error)) if !map.is_single() => refused = Some(error),
                done => return done.map_err(NotStarted::into_error),
            }
        }
        Err(EngineError::fault("no users can be had for the container".to_owned(), None))
    }

    /// Starts the container with these users.
    async fn start_with(
        &self,
        spec: &ContainerSpec,
        users: Option<&UserMap>,
    ) -> Result<StartedContainer, NotStarted> {
        let image = self.image(spec, users).await?;
        let (engine, spec, users) = (self.clone(), spec.clone(), users.cloned());
        let started =
            tokio::task::spawn_blocking(move || engine.start_limited(&spec, image, users.as_ref()));
        started.await.map_err(|panic| EngineError::lost(&panic))?
    }

    async fn image(
        &self,
        spec: &ContainerSpec,
        users: Option<&UserMap>,
    ) -> Result<Option<Arc<PreparedImage>>, EngineError> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, image)) = &*kept()
            && of.as_ref() == users
        {
            return Ok(image.clone());
        }
        let image = self.images.prepare(&spec.image, users).await?.map(Arc::new);
        *kept() = Some((users.cloned(), image.clone()));
        Ok(image)
    }

    /// Starts the container within the limits that can be enforced. Blocks until it is up.
    fn start_limited(
        &self,
        spec: &ContainerSpec,
        image: Option<Arc<PreparedImage>>,
        users: Option<&UserMap>,
    ) -> Result<StartedContainer, NotStarted> {
        let has_one_user = users.is_some_and(UserMap::is_single);
        let etc = if image.is_none() { Some(self.etc()?) } else { None };
        let base = Base { image: image.as_deref(), etc: etc.as_ref() };
        let mut groups = limits::groups(spec, &self.tell);
        let (sandbox, is_layered, layer) = match self.start_somewhere(spec, base, users, &groups) {
            Err(NotStarted::Groups(error)) => {
                groups = ContainerGroups::default();
                (self.tell)(limits::not_enforced(&spec.limits, error));
                self.start_somewhere(spec, base, users, &groups)?
            }
            done => done?,
        };
        let pasta = match spec.network {
            NetworkAccess::Host | NetworkAccess::None => None,
            NetworkAccess::Pasta => {
                let wanted = pasta::PastaOptions {
                    pid: sandbox.pid,
                    port: spec.loopback_port,
                    resolver: &Resolver::of_host(&pasta::resolv_conf()).0,
                    dir: &self.network,
                    has_users: users.is_some(),
                };
                Some(Pasta::start(&wanted, &self.tell)?)
            }
        };
        Ok(StartedContainer { sandbox, pasta, image, etc, groups, has_one_user, is_layered, layer })
    }

    fn etc(&self) -> Result<EtcCopy, EngineError> {
        self.etc.current().map_err(|error| {
            let message = format!("cannot copy this machine's /etc for the build: {error}");
            EngineError::image(
                message,
                Some("the copy is stored in the state folder: is there room in it?"),
            )
        })
    }

    /// Starts the container with its layer in the first place that can hold one.
    fn start_somewhere(
        &self,
        spec: &ContainerSpec,
        base: Base<'_>,
        users: Option<&UserMap>,
        groups: &ContainerGroups,
    ) -> Result<(Sandbox, bool, LayerOrReason), NotStarted> {
        let mut failures = Vec::new();
        let view = (!groups.is_empty()).then(|| GroupView {
            writable: spec.privileged,
            leaf: groups.leaf().map(Path::to_path_buf),
        });
        for (dir, store) in layer_places(spec) {
            let is_kept = spec.kept.is_some();
            let stack = spec.kept.as_ref().map(|kept| kept.stack.clone()).unwrap_or_default();
            let layer = BuildLayer { dir: dir.clone(), store, is_kept, stack };
            let (sandbox_spec, layered) =
                sandbox_spec(spec, base, layer, users.cloned(), view.clone())?;
            let handed = layered.as_ref().map(Handed::descriptors).unwrap_or_default();
            let entries = sandbox_spec.entries.len();
            tracing::debug!(layer = %dir.display(), ?store, entries, "starting the container");
            if let Err(error) = runner_host::private::make_private(&dir) {
                failures.push(format!("{}: {error}", dir.display()));
                continue;
            }
            let mut refused = None;
            let record = |pid, start_time| {
                (self.record)(&LeftoverContainer::Process { pid, start_time, group: None })?;
                groups.add(pid).inspect_err(|error| refused = Some(error.to_string()))
            };
            match runner_sandbox::start(&sandbox_spec, &handed, &groups.doors(), record) {
                Ok(sandbox) => {
                    tracing::debug!(pid = sandbox.pid, "the container is up");
                    groups.open_for_division();
                    if !failures.is_empty() {
                        let place = place_of(dir.clone(), store);
                        (self.tell)(EngineNote::LayerIn { place, failures });
                    }
                    let is_layered = layered.is_some();
                    let layer = match store {
                        LayerStore::Directory => {
                            let handed = layered.unwrap_or_default();
                            Ok(WrittenLayer::new(sandbox_spec, handed, spec.privileged))
                        }
                        LayerStore::Memory(_) => Err("the build's files are in memory"),
                    };
                    return Ok((sandbox, is_layered, layer));
                }
                // This file system cannot hold an overlay's upper layer; the next one may.
                Err(StartError::Setup(failure)) if failure.step == SetupStep::Layer => {
                    let kind = file_system(&dir);
                    failures.push(format!("{}: {failure} ({kind})", dir.display()));
                    if !is_kept {
                        // Nothing valuable can be in it.
                        let _ = runner_host::private::remove_tree(&dir);
                    }
                }
                Err(StartError::Record(_)) if refused.is_some() => {
                    return Err(NotStarted::Groups(refused.unwrap_or_default()));
                }
                Err(StartError::Users(error)) => return Err(NotStarted::Users(error.to_string())),
                Err(error) => return Err(explain(&error).into()),
            }
        }
        Err(NotStarted::Other(EngineError::incapable(
            format!("no directory here can hold the build's files:\n  {}", failures.join("\n  ")),
            Some(
                "set RUNNER_HOME to a directory on ext4, xfs, btrfs or tmpfs: overlayfs does not \
                 take an overlay or a network file system for its upper layer",
            ),
        )))
    }
}

/// A container that has been started.
struct StartedContainer {
    sandbox: Sandbox,
    pasta: Option<Pasta>,
    image: Option<Arc<PreparedImage>>,
    etc: Option<EtcCopy>,
    groups: ContainerGroups,
    has_one_user: bool,
    /// Whether the cache is part of it.
    is_layered: bool,
    layer: LayerOrReason,
}

/// The layer if it can be kept, or the reason why not.
type LayerOrReason = Result<WrittenLayer, &'static str>;

/// Why there is no container, by whether another attempt may help.
enum NotStarted {
    /// These users are not possible.
    Users(String),
    /// The control groups refused it.
    Groups(String),
    Other(EngineError),
}

impl NotStarted {
    fn into_error(self) -> EngineError {
        match self {
            NotStarted::Users(message) => EngineError::incapable(message, Some(NO_USER_NAMESPACES)),
            NotStarted::Groups(message) => EngineError::fault(message, None),
            NotStarted::Other(error) => error,
        }
    }
}

impl From<EngineError> for NotStarted {
    fn from(error: EngineError) -> Self {
        NotStarted::Other(error)
    }
}

/// Where the layer may go, best first: the given directories, then memory.
fn layer_places(spec: &ContainerSpec) -> Vec<(PathBuf, LayerStore)> {
    if let Some(kept) = &spec.kept {
        return vec![(kept.dir.clone(), LayerStore::Directory)];
    }
    let on_disk = spec.layers.iter().map(|dir| (dir.clone(), LayerStore::Directory));
    let memory =
        spec.layers.first().map(|dir| (dir.clone(), LayerStore::Memory(memory_for_layer())));
    on_disk.chain(memory).collect()
}

/// Half of this machine's memory in bytes, the default of a tmpfs.
fn memory_for_layer() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(1 << 30, |kib| kib * 1024 / 2)
}

fn place_of(dir: PathBuf, store: LayerStore) -> LayerPlace {
    match store {
        LayerStore::Directory => LayerPlace::Directory(dir),
        LayerStore::Memory(bytes) => LayerPlace::Memory(bytes),
    }
}
