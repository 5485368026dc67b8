//! The engine of this program's own: Linux namespaces, no daemon, nothing to install.
//!
//! Turns a [`ContainerSpec`] into a `SandboxSpec`, finds a place for the layer, and starts it on a
//! thread that may wait. What runs in the container is asked for through `init`.

use super::cached::{self, Handed};
use super::container::{InitContainer, Own};
use super::host_image::{EtcCopies, EtcCopy};
use super::init::InitClient;
use super::leftover::Record;
use super::note::LayerPlace;
use super::pasta::{self, Pasta, Resolver};
use super::unseen::Unseen;
use super::{
    CachedTrees, Container, ContainerSpec, Engine, EngineError, Fut, Network, Note, Recorder,
    SourceMount, Teller, host_image, limits,
};
use crate::image::{Getter, Prepared};
use crate::users;
use runner_sandbox::{
    Confinement, Entry, GroupView, Groups, Hidden, IdSwap, Layer, Root, Sandbox, SandboxSpec,
    StartError, Step, Store, UserMap,
};
use runner_wire::abi::COMMANDS;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Makes containers out of namespaces.
#[derive(Clone)]
pub(crate) struct Namespaces {
    /// Where images come from.
    pub(crate) images: Getter,
    pub(crate) record: Recorder,
    pub(crate) tell: Teller,
    /// A folder of the build's own for what its network needs.
    pub(crate) network: PathBuf,
    pub(crate) kept: KeptImage,
    /// Where the image `host` has its /etc from.
    pub(crate) etc: EtcCopies,
}

/// The image as the first container has found it, for whose users: a second one is made of the same, whatever
/// a tag has come to mean meanwhile.
pub(crate) type KeptImage = Arc<Mutex<Option<(Option<UserMap>, Option<Arc<Prepared>>)>>>;

impl Engine for Namespaces {
    fn give_up(&self) {
        self.images.given_up.notify_one();
    }

    fn start(&self, spec: ContainerSpec) -> Fut<'_, Result<Arc<dyn Container>, EngineError>> {
        let engine = self.clone();
        Box::pin(async move {
            let has_toolbox = spec.toolbox.is_some();
            let plain = ContainerSpec { cached: None, ..spec.clone() };
            let mut up = match engine.start_now(&spec).await {
                Err(error) if spec.cached.is_some() => {
                    tracing::debug!(%error, "once more, without the cache as a layer");
                    for layer in &plain.layers {
                        // What is left of it is told by the next attempt.
                        let _ = crate::state::remove_tree(layer);
                    }
                    engine.start_now(&plain).await?
                }
                done => done?,
            };
            let control = up.sandbox.take_control().ok_or(io::ErrorKind::NotConnected.into());
            let init = control.and_then(InitClient::new).map_err(|error| {
                EngineError::fault(format!("cannot talk to the container: {error}"), None)
            })?;
            let Up { sandbox, pasta, image, etc, groups, has_one_user, is_layered } = up;
            let root = start_of_root(image.as_deref());
            let holds = Box::new(move |trees: &CachedTrees| cached::can_lay(trees, &plain, &root));
            let own = Own { sandbox, pasta, image, etc, groups };
            let container =
                InitContainer::with_users(init, own, has_one_user, has_toolbox, is_layered, holds);
            Ok(Arc::new(container) as Arc<dyn Container>)
        })
    }
}

impl Namespaces {
    async fn start_now(&self, spec: &ContainerSpec) -> Result<Up, EngineError> {
        pasta::check(spec)?;
        let maps = users::maps();
        if spec.privileged && !maps.is_empty() {
            (self.tell)(Note::LessPrivileged);
        }
        let mut refused = None;
        // Root has the host's own users.
        if maps.is_empty() {
            return self.start_with(spec, None).await.map_err(NotStarted::into_error);
        }
        for map in maps {
            if map.is_single() {
                (self.tell)(Note::OneUser { refused: refused.clone() });
            }
            match self.start_with(spec, Some(&map)).await {
                Err(NotStarted::Users(error)) if !map.is_single() => refused = Some(error),
                done => return done.map_err(NotStarted::into_error),
            }
        }
        Err(EngineError::fault("no users can be had for the container".to_owned(), None))
    }

    /// Starts it with these users.
    async fn start_with(
        &self,
        spec: &ContainerSpec,
        users: Option<&UserMap>,
    ) -> Result<Up, NotStarted> {
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
    ) -> Result<Option<Arc<Prepared>>, EngineError> {
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

    /// Starts it within its limits, as far as they can be had. Blocks until it is up.
    fn start_limited(
        &self,
        spec: &ContainerSpec,
        image: Option<Arc<Prepared>>,
        users: Option<&UserMap>,
    ) -> Result<Up, NotStarted> {
        let has_one_user = users.is_some_and(UserMap::is_single);
        let etc = if image.is_none() { Some(self.etc()?) } else { None };
        let base = Base { image: image.as_deref(), etc: etc.as_ref() };
        let mut groups = limits::groups(spec, &self.tell);
        let (sandbox, is_layered) = match self.start_somewhere(spec, base, users, &groups) {
            Err(NotStarted::Groups(error)) => {
                groups = Groups::default();
                (self.tell)(limits::not_enforced(&spec.limits, error));
                self.start_somewhere(spec, base, users, &groups)?
            }
            done => done?,
        };
        let pasta = match spec.network {
            Network::Host | Network::None => None,
            Network::Pasta => {
                let wanted = pasta::Wanted {
                    pid: sandbox.pid,
                    port: spec.loopback_port,
                    resolver: &Resolver::of_host(&pasta::resolv_conf()).0,
                    dir: &self.network,
                    has_users: users.is_some(),
                };
                Some(Pasta::start(&wanted, &self.tell)?)
            }
        };
        Ok(Up { sandbox, pasta, image, etc, groups, has_one_user, is_layered })
    }

    fn etc(&self) -> Result<EtcCopy, EngineError> {
        self.etc.current().map_err(|error| {
            let message = format!("cannot copy this machine's /etc for the build: {error}");
            EngineError::image(message, Some("the copy is kept in the state folder: has it room?"))
        })
    }

    /// Starts it with its layer in the first place that can hold one.
    fn start_somewhere(
        &self,
        spec: &ContainerSpec,
        base: Base<'_>,
        users: Option<&UserMap>,
        groups: &Groups,
    ) -> Result<(Sandbox, bool), NotStarted> {
        let mut failures = Vec::new();
        let view = (!groups.is_empty()).then(|| GroupView {
            writable: spec.privileged,
            leaf: groups.leaf().map(Path::to_path_buf),
        });
        for (dir, store) in layer_places(spec) {
            let layer = Layer { dir: dir.clone(), store };
            let (sandbox_spec, layered) =
                sandbox_spec(spec, base, layer, users.cloned(), view.clone())?;
            let handed = layered.as_ref().map(Handed::descriptors).unwrap_or_default();
            let entries = sandbox_spec.entries.len();
            tracing::debug!(layer = %dir.display(), ?store, entries, "starting the container");
            if let Err(error) = crate::state::make_private(&dir) {
                failures.push(format!("{}: {error}", dir.display()));
                continue;
            }
            let mut refused = None;
            let record = |pid, start_time| {
                (self.record)(&Record::Process { pid, start_time })?;
                groups.add(pid).inspect_err(|error| refused = Some(error.to_string()))
            };
            match runner_sandbox::start(&sandbox_spec, &handed, record) {
                Ok(sandbox) => {
                    tracing::debug!(pid = sandbox.pid, "the container is up");
                    groups.open_for_division();
                    if !failures.is_empty() {
                        let place = place_of(dir, store);
                        (self.tell)(Note::LayerIn { place, failures });
                    }
                    return Ok((sandbox, layered.is_some()));
                }
                // This file system cannot hold an overlay's upper layer; another one may.
                Err(StartError::Setup(failure)) if failure.step == Step::Layer => {
                    let kind = file_system(&dir);
                    failures.push(format!("{}: {failure} ({kind})", dir.display()));
                    // Nothing of value can be in it.
                    let _ = crate::state::remove_tree(&dir);
                }
                Err(StartError::Record(_)) if refused.is_some() => {
                    return Err(NotStarted::Groups(refused.unwrap_or_default()));
                }
                Err(StartError::Users(error)) => return Err(NotStarted::Users(error.to_string())),
                Err(error) => return Err(explain(&error).into()),
            }
        }
        Err(NotStarted::Other(EngineError::incapable(
            format!("no place here can hold what the build writes:\n  {}", failures.join("\n  ")),
            Some(
                "set RUNNER_HOME to a directory on ext4, xfs, btrfs or tmpfs: overlayfs does not \
                 take an overlay or a network file system for its upper layer",
            ),
        )))
    }
}

/// A container that has been started.
struct Up {
    sandbox: Sandbox,
    pasta: Option<Pasta>,
    image: Option<Arc<Prepared>>,
    etc: Option<EtcCopy>,
    groups: Groups,
    has_one_user: bool,
    /// Whether the cache is in it.
    is_layered: bool,
}

/// Why there is no container, as far as another try may be worth it.
enum NotStarted {
    /// It cannot have these users.
    Users(String),
    /// It may not be put into its control groups.
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

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where container daemons keep layers: the kernel takes no overlay for the upper half of another.
const OF_DAEMONS: [&str; 2] = ["/var/lib/docker", "/var/lib/containerd"];

const NO_USER_NAMESPACES: &str = "user namespaces are closed to this user: see \
                                  kernel.apparmor_restrict_unprivileged_userns, \
                                  kernel.unprivileged_userns_clone and user.max_user_namespaces in \
                                  sysctl; run as root, or do without a container: --engine \
                                  process";

const IN_A_CONTAINER: &str = "the runner is in a container that lets it make no container of its own; \
                              start that one with: docker run --security-opt seccomp=unconfined \
                              --security-opt systempaths=unconfined (where there is AppArmor, also \
                              --security-opt apparmor=unconfined), or do without a container: \
                              --engine process";

/// Whether a container engine says that this process is in a container.
fn is_in_container() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv"];
    marks.iter().any(|mark| Path::new(mark).exists()) || std::env::var_os("container").is_some()
}

/// Where the layer may go, best first: the given directories, then memory.
fn layer_places(spec: &ContainerSpec) -> Vec<(PathBuf, Store)> {
    let on_disk = spec.layers.iter().map(|dir| (dir.clone(), Store::Directory));
    let memory = spec.layers.first().map(|dir| (dir.clone(), Store::Memory(memory_for_layer())));
    on_disk.chain(memory).collect()
}

/// Half of the machine's memory, as a tmpfs takes by itself.
fn memory_for_layer() -> u64 {
    fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(1 << 30, |kib| kib * 1024 / 2)
}

fn place_of(dir: PathBuf, store: Store) -> LayerPlace {
    match store {
        Store::Directory => LayerPlace::Directory(dir),
        Store::Memory(bytes) => LayerPlace::Memory(bytes),
    }
}

fn file_system(dir: &Path) -> String {
    use nix::sys::statfs::{
        BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
        XFS_SUPER_MAGIC,
    };
    match nix::sys::statfs::statfs(dir).map(|stat| stat.filesystem_type()) {
        Ok(OVERLAYFS_SUPER_MAGIC) => "on an overlay".to_owned(),
        Ok(NFS_SUPER_MAGIC) => "on NFS".to_owned(),
        Ok(TMPFS_MAGIC) => "on tmpfs".to_owned(),
        Ok(EXT4_SUPER_MAGIC) => "on ext4".to_owned(),
        Ok(XFS_SUPER_MAGIC) => "on xfs".to_owned(),
        Ok(BTRFS_SUPER_MAGIC) => "on btrfs".to_owned(),
        Ok(other) => format!("file system type {:#x}", other.0),
        Err(error) => error.to_string(),
    }
}

/// The root a container starts with: the image's, or none.
fn start_of_root(image: Option<&Prepared>) -> Root {
    match image {
        None => Root::Empty,
        Some(image) => Root::Image { lower: image.lower.clone(), restored: image.restored.clone() },
    }
}

/// What a container begins with: an image, or this machine's own tools with a copy of /etc.
#[derive(Clone, Copy)]
struct Base<'a> {
    image: Option<&'a Prepared>,
    etc: Option<&'a EtcCopy>,
}

/// And what is handed over with it for the cache that is in it, if one is.
fn sandbox_spec(
    spec: &ContainerSpec,
    base: Base<'_>,
    layer: Layer,
    users: Option<UserMap>,
    groups: Option<GroupView>,
) -> Result<(SandboxSpec, Option<Handed>), EngineError> {
    let mut root = start_of_root(base.image);
    let mut entries = match base.etc {
        Some(etc) => host_image::entries(etc).map_err(|error| {
            let message = format!("cannot look at this machine's own tools: {error}");
            EngineError::image(message, None)
        })?,
        None => rootfs_entries(),
    };
    entries.extend(common_entries(&spec.hostname));
    if spec.network == Network::Pasta
        && let (_, Some(text)) = Resolver::of_host(&pasta::resolv_conf())
    {
        // In place of the host's.
        let path = RESOLV_CONF.into();
        entries.push(Entry::File { path, mode: 0o644, from: None, text });
    }
    if spec.privileged {
        let plain = |dir: &str| Entry::Plain { path: dir.into(), mode: 0o710 };
        entries.extend(OF_DAEMONS.map(plain));
    }
    entries.push(Entry::Bind {
        path: "/codebuild/readonly".into(),
        source: spec.readonly.clone(),
        writable: false,
        hidden: Vec::new(),
    });
    entries.extend(spec.sources.iter().flat_map(source_entries));
    // Two work trees may share a repository.
    let mut seen = HashSet::new();
    entries.retain(|entry| match entry {
        Entry::Overlay { path, .. } => seen.insert(path.clone()),
        _ => true,
    });
    entries.extend(spec.mounts.iter().map(|mount| Entry::Bind {
        path: mount.target.clone(),
        source: mount.source.clone(),
        writable: mount.writable,
        hidden: Vec::new(),
    }));
    entries.iter_mut().for_each(|entry| hide_state(entry, &spec.unseen));
    let layered = cached::lay(spec, &mut root, &mut entries);
    let owner = spec.sources.first().and_then(|source| fs::metadata(&source.dir).ok());
    let owner = owner.map(|dir| IdSwap { uid: dir.uid(), gid: dir.gid() });
    let (hostname, network) = (spec.hostname.clone(), spec.network);
    let spec = SandboxSpec {
        hostname,
        layer,
        root,
        entries,
        // In a user namespace the caller is root as it is, and owners cannot be swapped.
        owner: owner.filter(|owner| owner.uid != 0 && users.is_none()),
        users,
        network: match network {
            Network::Host => runner_sandbox::Network::Host,
            Network::None | Network::Pasta => runner_sandbox::Network::Own,
        },
        confinement: if spec.privileged { Confinement::Privileged } else { Confinement::Build },
        groups,
        toolbox: spec.toolbox.clone(),
    };
    Ok((spec, layered))
}

/// A source, and what source control needs of the host for it.
fn source_entries(source: &SourceMount) -> Vec<Entry> {
    let overlay = |lower: &Path, path: &Path| Entry::Overlay {
        path: path.to_path_buf(),
        lower: lower.to_path_buf(),
        hidden: Vec::new(),
        over: Vec::new(),
        owned: true,
    };
    let extras = source.extras.iter().map(|dir| overlay(dir, dir));
    let files = source.files.iter().map(|(path, text)| Entry::File {
        path: source.target.join(path),
        mode: 0o644,
        from: None,
        text: text.clone(),
    });
    [overlay(&source.dir, &source.target)].into_iter().chain(extras).chain(files).collect()
}

/// Empties our own state folder wherever an entry would show it.
fn hide_state(entry: &mut Entry, unseen: &Unseen) {
    match entry {
        Entry::Overlay { lower, hidden, .. } => {
            hidden.extend(unseen.below(lower).map(|path| Hidden::Emptied(path.to_path_buf())));
        }
        Entry::Bind { source, hidden, .. } => {
            hidden.extend(unseen.below(source).map(Path::to_path_buf));
        }
        _ => {}
    }
}

/// What every build finds, whatever its image.
fn common_entries(hostname: &str) -> Vec<Entry> {
    let directory = |path: &str, mode| Entry::Directory { path: path.into(), mode };
    let mut entries = vec![
        directory("/tmp", 0o1777),
        directory("/var/tmp", 0o1777),
        directory("/codebuild", 0o755),
        directory("/codebuild/output", 0o755),
        // Every user's commands save their state there. Not sticky: the kernel would then keep
        // root from opening what another user made.
        directory("/codebuild/output/tmp", 0o777),
        directory("/codebuild/user/bin", 0o755),
        Entry::File {
            path: "/etc/hostname".into(),
            mode: 0o644,
            from: None,
            text: format!("{hostname}\n"),
        },
        Entry::File {
            path: "/etc/hosts".into(),
            mode: 0o644,
            from: Some("/etc/hosts".into()),
            // sudo, for one, wants to find the host it runs on.
            text: format!("\n127.0.1.1\t{hostname}\n"),
        },
        Entry::File {
            path: RESOLV_CONF.into(),
            mode: 0o644,
            from: Some(RESOLV_CONF.into()),
            text: String::new(),
        },
    ];
    // Where the owner of the source cannot be shown as root, and for other users than root.
    entries.push(Entry::Append {
        path: "/etc/gitconfig".into(),
        text: "[safe]\n\tdirectory = *\n".to_owned(),
    });
    for name in COMMANDS {
        let program = PathBuf::from(format!("/codebuild/readonly/bin/{name}"));
        for dir in ["/codebuild/user/bin", "/usr/local/bin"] {
            entries.push(Entry::Link { path: Path::new(dir).join(name), to: program.clone() });
        }
    }
    entries
}

/// What an image's own root gets on top.
fn rootfs_entries() -> Vec<Entry> {
    // As in AWS, HOME is /root, and it has to be there.
    vec![Entry::Directory { path: "/root".into(), mode: 0o700 }]
}

fn explain(error: &StartError) -> EngineError {
    let hint = match error {
        StartError::Namespaces(cause) => Some(match cause.raw_os_error() {
            Some(code) if code == nix::errno::Errno::EPERM as i32 && is_in_container() => {
                IN_A_CONTAINER
            }
            Some(code) if code == nix::errno::Errno::EPERM as i32 => NO_USER_NAMESPACES,
            Some(code) if code == nix::errno::Errno::ENOSYS as i32 => IN_A_CONTAINER,
            Some(code) if code == nix::errno::Errno::ENOSPC as i32 => {
                "there are as many namespaces as user.max_*_namespaces in /proc/sys allows; \
                 without a container: --engine process"
            }
            _ => "look at /proc/sys/user/max_*_namespaces and at the limits of this container",
        }),
        StartError::Setup(failure) => match failure.step {
            Step::Namespaces | Step::Root if failure.errno == nix::errno::Errno::EPERM as i32 => {
                Some(if is_in_container() {
                    IN_A_CONTAINER
                } else {
                    "this process may make namespaces but not mount in them; AppArmor may confine it"
                })
            }
            Step::Confine if failure.errno == nix::errno::Errno::EACCES as i32 => {
                Some("programs in memory may not be executed here; see vm.memfd_noexec in sysctl")
            }
            Step::Namespaces | Step::Layer | Step::Source | Step::Root | Step::Confine => None,
        },
        StartError::Users(_)
        | StartError::Lost(_)
        | StartError::Version(_)
        | StartError::Record(_)
        | StartError::Host(..) => None,
    };
    let is_refused = |errno: i32| errno == nix::errno::Errno::EPERM as i32;
    let is_incapable = match error {
        StartError::Namespaces(_) | StartError::Users(_) => true,
        StartError::Setup(failure) => match failure.step {
            Step::Namespaces | Step::Confine => true,
            Step::Root => is_refused(failure.errno),
            Step::Layer | Step::Source => false,
        },
        StartError::Lost(_)
        | StartError::Version(_)
        | StartError::Record(_)
        | StartError::Host(..) => false,
    };
    EngineError { is_incapable, ..EngineError::fault(error.to_string(), hint) }
}
