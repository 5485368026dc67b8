//! A container whose first process is our own program.
//!
//! `namespaces`, `process` and `daemon` all make the same [`Container`]; they differ in what holds
//! it together.

use super::freezing::GroupFreezer;
use super::host_image::EtcCopy;
use super::init::InitClient;
use super::kept::KeptLayer;
use super::pasta::Pasta;
use super::written::WrittenLayer;
use super::{
    CachedTrees, Container, EngineKind, ExecError, ExecSpec, FreezeKind, Fut, Ids, NotSealed,
    OpenMode, READONLY, StartedProgram,
};
use crate::image::{ImageConfig, PreparedImage};
use runner_sandbox::{
    ContainerGroups, Freezer, LayerMerge, Living, NotRestacked, Pressure, Sandbox, living,
};
use runner_wire::init::Listener;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What holds a container: our own sandbox or a daemon.
pub(super) trait ContainerHandle: Send {
    /// How often the container has hit its limits so far.
    fn pressure(&self) -> Pressure;

    /// Memory the container uses, in bytes, if that is counted.
    fn memory(&self) -> Option<u64>;

    /// The first process's pid on this machine.
    fn first(&self) -> Option<u32> {
        None
    }

    /// The first process as a descriptor.
    fn first_itself(&self) -> Option<OwnedFd> {
        None
    }

    /// The cgroup in which the build's processes can be frozen, as the file that takes their pids.
    fn group_to_freeze(&mut self) -> Option<File> {
        None
    }

    /// The freezer for that cgroup.
    fn freezer(&self) -> Option<Arc<Freezer>> {
        None
    }

    /// Notes that the cgroup is frozen.
    fn stands_still(&mut self) {}

    /// Thaws the cgroup. Returns whether it was frozen.
    fn thaw_group(&mut self) -> bool {
        false
    }

    /// Kills whatever holds the container together, and everything in it. The call itself does all
    /// that needs no waiting.
    fn kill(&self) -> Fut<'static, ()>;

    /// Resolves when nothing of the container is left. Its PID 1 has already been told to end.
    fn release(self: Box<Self>) -> Fut<'static, ()>;
}

/// The parts of a container that we run ourselves.
pub(super) struct Own {
    /// Dropping it waits for its end.
    pub(super) sandbox: Sandbox,
    /// Carries the container's network traffic.
    pub(super) pasta: Option<Pasta>,
    /// Must not change while the container lives.
    pub(super) image: Option<Arc<PreparedImage>>,
    /// Must not be removed while the container lives.
    pub(super) etc: Option<EtcCopy>,
    /// Can be removed only when nothing runs in them any more.
    pub(super) groups: ContainerGroups,
    /// Freezes the build's processes, if that is possible.
    pub(super) freezing: GroupFreezer,
}

impl ContainerHandle for Own {
    fn pressure(&self) -> Pressure {
        self.groups.pressure()
    }

    fn memory(&self) -> Option<u64> {
        self.groups.memory()
    }

    fn first(&self) -> Option<u32> {
        Some(self.sandbox.pid)
    }

    fn first_itself(&self) -> Option<OwnedFd> {
        self.sandbox.pidfd().try_clone_to_owned().ok()
    }

    fn group_to_freeze(&mut self) -> Option<File> {
        self.freezing.group(&self.sandbox, &self.groups)
    }

    fn freezer(&self) -> Option<Arc<Freezer>> {
        self.freezing.freezer()
    }

    fn stands_still(&mut self) {
        self.freezing.stands_still();
    }

    fn thaw_group(&mut self) -> bool {
        self.freezing.thaw()
    }

    fn kill(&self) -> Fut<'static, ()> {
        self.sandbox.kill();
        Box::pin(std::future::ready(()))
    }

    fn release(self: Box<Self>) -> Fut<'static, ()> {
        Box::pin(async move {
            let Own { sandbox, pasta, image, etc, groups, freezing } = *self;
            // Waiting for the sandbox's end can take as long as its last process needs to die.
            let released = tokio::task::spawn_blocking(move || {
                drop(sandbox);
                drop(pasta);
                drop((image, etc));
                drop(freezing);
                drop(groups);
            });
            let _ = released.await;
        })
    }
}

/// A container whose first process is our own program.
pub(super) struct InitContainer {
    init: Arc<InitClient>,
    held: Mutex<Option<Box<dyn ContainerHandle>>>,
    /// The build's directory, if the container's root is the caller.
    of_caller: Option<PathBuf>,
    has_one_user: bool,
    is_layered: bool,
    /// Whether a cache could have been laid in it.
    holds: Option<Holds>,
    made: Made,
    has_toolbox: bool,
    written: Result<Mutex<WrittenLayer>, &'static str>,
    /// While mounts change, nothing is started or opened.
    gate: tokio::sync::RwLock<()>,
}

/// How a container was made.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    pub(super) engine: &'static str,
    pub(super) image: Option<String>,
    pub(super) config: ImageConfig,
}

/// Whether a given cache could be a layer.
pub(super) type Holds = Box<dyn Fn(&CachedTrees) -> bool + Send + Sync>;

impl InitContainer {
    /// A container with its own users.
    pub(super) fn with_users(
        init: Arc<InitClient>,
        own: Own,
        has_one_user: bool,
        has_toolbox: bool,
        is_layered: bool,
        holds: Holds,
        written: Result<WrittenLayer, &'static str>,
    ) -> Self {
        let image = own.image.as_ref();
        let made = Made {
            engine: EngineKind::Namespaces.traits().name,
            image: image.and_then(|image| image.digest.clone()),
            config: image.map(|image| image.config.clone()).unwrap_or_default(),
        };
        let container = Self::held(init, Box::new(own), made);
        InitContainer {
            has_one_user,
            has_toolbox,
            is_layered,
            holds: Some(holds),
            written: written.map(Mutex::new),
            ..container
        }
    }

    /// A container that something else holds together.
    pub(super) fn held(init: Arc<InitClient>, held: Box<dyn ContainerHandle>, made: Made) -> Self {
        InitContainer {
            init,
            held: Mutex::new(Some(held)),
            of_caller: None,
            has_one_user: false,
            is_layered: false,
            holds: None,
            made,
            has_toolbox: false,
            written: Err("files written by a daemon's container belong to the daemon"),
            gate: tokio::sync::RwLock::default(),
        }
    }

    /// A container in which everything runs as the caller unless a command names another user.
    pub(super) fn of_caller(init: Arc<InitClient>, own: Own, layer: PathBuf) -> Self {
        let made = Made { engine: EngineKind::Process.traits().name, ..Made::default() };
        let container = Self::held(init, Box::new(own), made);
        InitContainer {
            of_caller: Some(layer),
            written: Err("it shares this machine's file system"),
            ..container
        }
    }

    fn written(&self) -> Result<MutexGuard<'_, WrittenLayer>, &'static str> {
        let written = self.written.as_ref().map_err(|why| *why)?;
        Ok(written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn ContainerHandle>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Freezes the build's processes in a cgroup. Returns whether they are frozen.
    async fn freeze_group(&self) -> bool {
        let group = self.lock().as_mut().and_then(|held| held.group_to_freeze());
        let Some(group) = group else { return false };
        if self.init.freeze(Some(group.as_fd())).await.is_err() {
            return false;
        }
        let freezer = self.lock().as_ref().and_then(|held| held.freezer());
        let Some(freezer) = freezer else { return false };
        let frozen = tokio::task::spawn_blocking(move || freezer.freeze()).await;
        let is_frozen = matches!(frozen, Ok(Ok(())));
        if is_frozen && let Some(held) = self.lock().as_mut() {
            held.stands_still();
        }
        is_frozen
    }
}

impl Container for InitContainer {
    fn exec(&self, spec: ExecSpec) -> Fut<'_, Result<StartedProgram, ExecError>> {
        let is_other = spec.user != Ids::default();
        Box::pin(async move {
            if let Some(layer) = &self.of_caller
                && is_other
            {
                admit(layer, &spec.user).map_err(|error| ExecError::Admit(error.to_string()))?;
            }
            let _open = self.gate.read().await;
            self.init.exec(&spec, self.of_caller.is_some() && !is_other).await
        })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Fut<'_, io::Result<OwnedFd>> {
        let path = path.to_path_buf();
        Box::pin(async move {
            let _open = self.gate.read().await;
            self.init.open(&path, mode).await
        })
    }

    fn listen(&self, at: SocketAddr) -> Fut<'_, io::Result<OwnedFd>> {
        Box::pin(self.init.listen(at))
    }

    fn dial(&self, listener: &Listener) -> Fut<'_, io::Result<OwnedFd>> {
        let listener = listener.clone();
        Box::pin(async move { self.init.dial(&listener).await })
    }

    fn programs(&self) -> PathBuf {
        match &self.of_caller {
            Some(layer) => layer.join("codebuild/readonly/bin"),
            None => Path::new(READONLY).join("bin"),
        }
    }

    fn has_toolbox(&self) -> bool {
        self.has_toolbox
    }

    fn engine(&self) -> &'static str {
        self.made.engine
    }

    fn image(&self) -> Option<&str> {
        self.made.image.as_deref()
    }

    fn image_config(&self) -> &ImageConfig {
        &self.made.config
    }

    fn has_cache(&self) -> bool {
        self.is_layered
    }

    fn can_hold(&self, cached: &CachedTrees) -> bool {
        self.holds.as_ref().is_some_and(|holds| holds(cached))
    }

    fn has_one_user(&self) -> bool {
        self.has_one_user
    }

    fn is_shared(&self) -> bool {
        self.of_caller.is_some()
    }

    fn pressure(&self) -> Fut<'_, Pressure> {
        let pressure = self.lock().as_ref().map(|held| held.pressure());
        Box::pin(async move { pressure.unwrap_or_default() })
    }

    fn memory(&self) -> Option<u64> {
        self.lock().as_ref().and_then(|held| held.memory())
    }

    fn layer(&self) -> Result<Arc<KeptLayer>, String> {
        self.written().map(|written| Arc::clone(written.layer())).map_err(|why| {
            let engine = self.made.engine;
            match EngineKind::Namespaces.traits().name == engine {
                true => why.to_owned(),
                false => format!("the engine is `{engine}`: {why}; `--engine namespaces` has them"),
            }
        })
    }

    fn seal(
        &self,
        number: u32,
        names: Vec<String>,
        merges: Vec<LayerMerge>,
    ) -> Fut<'_, Result<Arc<KeptLayer>, NotSealed>> {
        Box::pin(async move {
            let _closed = self.gate.write().await;
            self.written().map_err(NotSealed::intact)?.may_seal().map_err(NotSealed::intact)?;
            let is_alone = self.init.is_alone().await;
            if !is_alone.map_err(|error| NotSealed::intact(error.to_string()))? {
                return Err(NotSealed::intact("something runs in the container"));
            }
            let written = self.written().map_err(NotSealed::intact)?.clone();
            let first = self.lock().as_ref().and_then(|it| Some((it.first()?, it.first_itself()?)));
            let Some((pid, first)) = first else {
                return Err(NotSealed::intact("the container is gone"));
            };
            let seal = move || written.seal(number, (&names, &merges), (pid, &first));
            let sealed = match tokio::task::spawn_blocking(seal).await {
                Ok(sealed) => sealed
                    .map_err(|NotRestacked { why, is_intact }| NotSealed { why, is_intact })?,
                Err(panic) => return Err(NotSealed { why: panic.to_string(), is_intact: false }),
            };
            let layer = Arc::clone(sealed.layer());
            *self.written().map_err(NotSealed::intact)? = sealed;
            Ok(layer)
        })
    }

    fn living(&self) -> Fut<'_, Vec<Living>> {
        let first = self.lock().as_ref().and_then(|held| held.first());
        Box::pin(async move {
            let Some(first) = first else { return Vec::new() };
            tokio::task::spawn_blocking(move || living(first)).await.unwrap_or_default()
        })
    }

    fn signal_all(&self, signal: i32) -> Fut<'_, ()> {
        Box::pin(self.init.signal_all(signal))
    }

    fn freeze_unnoticed(&self) -> Fut<'_, bool> {
        Box::pin(self.freeze_group())
    }

    fn freeze(&self) -> Fut<'_, Result<FreezeKind, ExecError>> {
        Box::pin(async move {
            if self.freeze_group().await {
                return Ok(FreezeKind::Unnoticed);
            }
            // Thaw processes that an earlier call froze, so that signals can stop them instead.
            let _ = self.lock().as_mut().map(|held| held.thaw_group());
            self.init.freeze(None).await.map(|()| FreezeKind::Signalled)
        })
    }

    fn thaw(&self) -> Fut<'_, ()> {
        Box::pin(async move {
            let is_thawed = self.lock().as_mut().is_some_and(|held| held.thaw_group());
            if !is_thawed {
                self.init.thaw().await;
            }
        })
    }

    fn kill(&self) -> Fut<'_, ()> {
        match self.lock().as_ref() {
            Some(held) => held.kill(),
            // The container is already being taken down.
            None => Box::pin(std::future::ready(())),
        }
    }

    fn answers(&self) -> Fut<'_, bool> {
        Box::pin(self.init.answers())
    }

    fn ended(&self) -> Fut<'_, ()> {
        Box::pin(self.init.gone())
    }

    fn stop(&self) -> Fut<'_, ()> {
        Box::pin(async move {
            self.init.hang_up();
            if let Ok(written) = self.written() {
                written.close();
            }
            let held = self.lock().take();
            if let Some(held) = held {
                held.release().await;
            }
        })
    }
}

/// Lets another of the build's users in: opens the build's directory to that user's group, and
/// gives the user the saved state of commands. Only root needs this.
fn admit(layer: &Path, user: &Ids) -> io::Result<()> {
    std::os::unix::fs::chown(layer, None, Some(user.gid))?;
    fs::set_permissions(layer, fs::Permissions::from_mode(0o710))?;
    let state = layer.join("codebuild/output/tmp");
    for entry in fs::read_dir(&state)? {
        // Files that a command put there are left alone if this fails.
        let _ = std::os::unix::fs::lchown(entry?.path(), Some(user.uid), None);
    }
    std::os::unix::fs::lchown(state, Some(user.uid), None)
}
