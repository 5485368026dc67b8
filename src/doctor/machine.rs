//! Checks whether builds can run here, and with what limits.

use super::{CheckRow, CheckState, Report};
use nix::sys::statvfs::statvfs;
use runner_cloud::{CloudIdentity, ecr};
use runner_core::event::NoticeLevel;
use runner_engine::daemon::DaemonEngine;
use runner_engine::docker::{self, Daemon, DaemonProgram, Storage};
use runner_engine::host_image::EtcCopies;
use runner_engine::image::{Getter, Image, ImageRequester, ImageStore, MOST_BYTES, PullProgress};
use runner_engine::namespaces::Namespaces;
use runner_engine::unseen::Unseen;
use runner_engine::{
    Container, ContainerSpec, Engine, EngineError, EngineNote, ExecSpec, Ids, NetworkAccess,
    ProgramEnds, Stdio, Teller, limits_mend,
};
use runner_folder::state::Home;
use runner_host::users;
use runner_sandbox::{Chore, Cpus, ResourceLimits, UserMap};
use runner_wire::abi::{BREAKPOINT_NAME, FILES_NAME};
use runner_wire::init::Exit;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The oldest kernel with all required features.
const KERNEL: (u32, u32) = (5, 19);
/// With fewer free bytes, a build of any size fails.
const LITTLE: u64 = 1 << 30;
const NOTHING: u64 = 64 << 20;

/// Runs all checks.
pub(crate) fn look(home: &Home, runtime: Runtime) -> io::Result<Report> {
    let trial = Trial::new(home)?;
    let report = runtime.block_on(trial.look(home));
    // A wait for a daemon ends with this program.
    runtime.shutdown_background();
    Ok(report)
}

/// Notes of the trial's engine.
#[derive(Clone, Default)]
struct TrialNotes(Arc<Mutex<Vec<EngineNote>>>);

impl TrialNotes {
    fn teller(&self) -> Teller {
        let told = self.clone();
        Arc::new(move |note| told.lock().push(note))
    }

    /// Warnings that a build would get.
    fn warnings(&self) -> Vec<String> {
        let is_warning = |note: &&EngineNote| note.level() == NoticeLevel::Warning;
        self.lock().iter().filter(is_warning).map(ToString::to_string).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EngineNote>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Trial {
    /// A folder next to those of builds, so that it is on the same file system.
    dir: TempDir,
    images: ImageStore,
    /// Podman's storage. It needs a short path, which the state folder may not have.
    podman: TempDir,
    etc: EtcCopies,
    unseen: Unseen,
}

impl Trial {
    fn new(home: &Home) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(".doctor-").tempdir_in(home.root())?;
        fs::create_dir(dir.path().join("readonly"))?;
        let podman = tempfile::Builder::new().prefix(".runner-").tempdir_in("/tmp")?;
        let (etc, unseen) = (EtcCopies::new(dir.path()), Unseen::of(home.root()));
        Ok(Trial { dir, images: ImageStore::new(home.images()), podman, etc, unseen })
    }

    /// Layers as builds have them.
    fn layers(&self) -> [PathBuf; 2] {
        let elsewhere = format!("/var/tmp/runner-doctor-{}", std::process::id());
        [self.dir.path().join("layer"), elsewhere.into()]
    }

    async fn look(&self, home: &Home) -> Report {
        let mut rows = vec![kernel(&kernel_release())];
        rows.push(user_namespaces());
        let (container, mut of_container) = self.container().await;
        rows.push(system_call_filter());
        rows.append(&mut of_container);
        rows.push(self.pasta().await);
        let (has_docker, docker) = self.daemon(DaemonProgram::Docker).await;
        let (has_podman, podman) = self.daemon(DaemonProgram::Podman).await;
        let engine = match (container, has_docker, has_podman) {
            (true, ..) => Some("namespaces"),
            (false, true, _) => Some("docker"),
            (false, _, true) => Some("podman"),
            _ => None,
        };
        rows.extend([docker, podman]);
        rows.push(image_store(home));
        rows.push(disk(home.root()));
        let is_full = rows.iter().any(|row| row.name == "disk" && row.state == CheckState::Missing);
        let works = engine.is_some() && !is_full;
        let verdict = match engine {
            _ if is_full => "no build can run: the disk is full".to_owned(),
            Some(engine) => format!("a build can run, with the engine {engine}"),
            None => "no build can run in a container; on a disposable machine: \
                     runner run --engine process"
                .to_owned(),
        };
        Report { works, verdict, rows, agent: Vec::new(), diagnostics: Vec::new() }
    }

    /// Starts a container as a build would, and runs a program in it.
    async fn container(&self) -> (bool, Vec<CheckRow>) {
        let begin = Instant::now();
        let limits =
            ResourceLimits { memory: Some(1 << 30), cpus: Some(Cpus(1000)), pids: Some(4096) };
        let told = TrialNotes::default();
        let started = self.start(NetworkAccess::Host, limits, &told).await;
        let container = match started {
            Ok(container) => container,
            Err(error) => {
                let hint = error.hint.clone().unwrap_or_default();
                let consequence = "builds need Docker or Podman, or --engine process";
                let row = CheckRow::new(
                    "container",
                    CheckState::Missing,
                    error.message,
                    consequence,
                    hint,
                );
                return (false, vec![row]);
            }
        };
        let seen = output_of(&*container, &["sh", "-c", "exit 0"]).await;
        let time = begin.elapsed().as_millis();
        let is_running = seen.is_ok();
        let mut rows = vec![match &seen {
            Ok(_) => CheckRow::ok("container", format!("started, used and checked in {time} ms")),
            Err(error) => {
                let found = format!("starts, but cannot run a command: {error}");
                let consequence = "builds need Docker or Podman, or --engine process";
                CheckRow::new(
                    "container",
                    CheckState::Missing,
                    found,
                    consequence,
                    "is /bin/sh there?",
                )
            }
        }];
        rows.push(user_ids(&*container));
        container.stop().await;
        let is_elsewhere = |note: &&EngineNote| matches!(note, EngineNote::LayerIn { .. });
        rows.push(match told.lock().iter().find(is_elsewhere) {
            None => CheckRow::ok("overlay", "the state folder can hold a build's layer"),
            Some(note) => {
                let consequence = "a build's layer is elsewhere, perhaps in memory";
                let mend = "set RUNNER_HOME to a folder on ext4, xfs, btrfs or tmpfs";
                CheckRow::new("overlay", CheckState::Limited, note.to_string(), consequence, mend)
            }
        });
        rows.push(match told.warnings().as_slice() {
            [] => CheckRow::ok("limits", "memory, processors and processes can be limited"),
            warned => CheckRow::new(
                "limits",
                CheckState::Limited,
                warned.join("; "),
                "these options cause a warning and have no effect",
                limits_mend(),
            ),
        });
        (is_running, rows)
    }

    async fn start(
        &self,
        network: NetworkAccess,
        limits: ResourceLimits,
        told: &TrialNotes,
    ) -> Result<Arc<dyn Container>, EngineError> {
        let engine = Namespaces {
            images: self.getter(),
            // It ends with this process.
            record: Arc::new(|_| Ok(())),
            tell: told.teller(),
            network: self.dir.path().join("network"),
            kept: Arc::default(),
            etc: self.etc.clone(),
        };
        let name = format!("runner-doctor-{}", std::process::id());
        let groups = limits.is_any().then(|| runner_sandbox::plan_groups(&name, limits, false));
        let groups = groups.transpose().unwrap_or_else(|error| {
            told.lock().push(EngineNote::NoGroups { cause: error.to_string() });
            None
        });
        let spec = self.spec(Image::Host, self.dir.path().join("readonly"), network);
        engine.start(ContainerSpec { limits, groups, ..spec }).await
    }

    fn getter(&self) -> Getter {
        Getter {
            store: self.images.clone(),
            asker: ImageRequester::Caller,
            ecr: ecr::passwords(CloudIdentity::Default),
            progress: PullProgress::default(),
            // None of its images comes from a registry.
            tell: Arc::new(|_| ()),
            most_bytes: MOST_BYTES,
            given_up: Arc::default(),
        }
    }

    /// A container without limits.
    fn spec(&self, image: Image, readonly: PathBuf, network: NetworkAccess) -> ContainerSpec {
        ContainerSpec {
            hostname: "doctor".to_owned(),
            image,
            sources: Vec::new(),
            readonly,
            cached: None,
            kept: None,
            mounts: Vec::new(),
            layers: self.layers().to_vec(),
            unseen: self.unseen.clone(),
            limits: ResourceLimits::default(),
            groups: None,
            network,
            hosts: Vec::new(),
            loopback_port: None,
            privileged: false,
            toolbox: None,
        }
    }

    async fn pasta(&self) -> CheckRow {
        match self
            .start(NetworkAccess::Pasta, ResourceLimits::default(), &TrialNotes::default())
            .await
        {
            Ok(container) => {
                container.stop().await;
                CheckRow::ok("pasta", "a build's own network reaches the outside")
            }
            Err(error) => CheckRow::new(
                "pasta",
                CheckState::Limited,
                error.message,
                "--network pasta does not work; host and none do",
                error.hint.unwrap_or_else(|| "install it (package passt)".to_owned()),
            ),
        }
    }

    fn storage(&self) -> Storage {
        Storage::Separate(self.podman.path().to_path_buf())
    }

    /// Directory for the trial of a daemon.
    fn place_of(&self, program: DaemonProgram) -> PathBuf {
        self.dir.path().join(program.command())
    }

    /// Makes a daemon create a container from an image of one empty directory and run our program
    /// in it. Both are removed afterwards. Returns the warnings a build would get.
    async fn container_of(
        &self,
        program: DaemonProgram,
        daemon: Daemon,
    ) -> Result<Vec<String>, EngineError> {
        let place = self.place_of(program);
        let (root, readonly) = (place.join("root"), place.join("readonly"));
        let made = fs::create_dir_all(root.join("tmp")).and_then(|()| fill(&readonly.join("bin")));
        made.map_err(|error| EngineError::fault(format!("{}: {error}", place.display()), None))?;
        let told = TrialNotes::default();
        let engine = DaemonEngine {
            program,
            build: format!("doctor-{}", std::process::id()),
            images: self.getter(),
            record: Arc::new(|_| Ok(())),
            tell: told.teller(),
            place,
            storage: self.storage(),
        };
        let spec = self.spec(Image::Rootfs(root), readonly, NetworkAccess::Host);
        engine.start_on(daemon, spec).await?.stop().await;
        Ok(told.warnings())
    }

    /// The row, and whether builds can run there.
    async fn daemon(&self, program: DaemonProgram) -> (bool, CheckRow) {
        let name = program.command();
        let none = "the engine is not available; builds in namespaces do not need it";
        let place = self.place_of(program);
        if let Err(error) = fs::create_dir_all(&place) {
            let found = format!("{}: {error}", place.display());
            return (
                false,
                CheckRow::new(name, CheckState::Limited, found, none, "is the disk full?"),
            );
        }
        match docker::find(program, &place, &self.storage()).await {
            Ok(found) => {
                let what = format!("{} {} at {}", found.program, found.version, found.address);
                let how = if found.service.is_some() { " (started for this check)" } else { "" };
                let begin = Instant::now();
                match self.container_of(program, found).await {
                    Ok(warnings) => {
                        let time = begin.elapsed().as_millis();
                        let fine = format!("{what}{how}: a container started in {time} ms");
                        let row = match warnings.is_empty() {
                            true => CheckRow::ok(name, fine),
                            false => CheckRow::new(
                                name,
                                CheckState::Limited,
                                fine,
                                &warnings.join("; "),
                                "a daemon on this machine does not need that",
                            ),
                        };
                        (true, row)
                    }
                    Err(error) => {
                        let what = format!(
                            "{what}{how} answers, but makes no container: {}",
                            error.message
                        );
                        let mend =
                            error.hint.unwrap_or_else(|| format!("what does `{name} run` say?"));
                        (false, CheckRow::new(name, CheckState::Limited, what, none, mend))
                    }
                }
            }
            Err(why) => {
                (false, CheckRow::new(name, CheckState::Limited, why.to_string(), none, why.hint()))
            }
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // They may contain files of other users.
        let [_, elsewhere] = self.layers();
        for tree in [elsewhere.as_path(), self.dir.path(), self.podman.path()] {
            let _ = runner_host::private::remove_tree(tree);
        }
    }
}

/// Puts our program where a daemon's container finds it.
fn fill(bin: &Path) -> io::Result<()> {
    fs::create_dir_all(bin)?;
    let program = bin.join(BREAKPOINT_NAME);
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&program)?;
    file.write_all(runner_init::PROGRAM)?;
    fs::hard_link(&program, bin.join(FILES_NAME))
}

/// The output of a program in the container.
async fn output_of(container: &dyn Container, argv: &[&str]) -> Result<String, String> {
    let spec = ExecSpec {
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        path: runner_core::env::DEFAULT_PATH.into(),
        env: Vec::new(),
        cwd: b"/".to_vec(),
        cwd_or_root: true,
        user: Ids::default(),
        stdio: Stdio::Merged,
        toolbox: false,
        of_build: false,
    };
    let process = container.exec(spec).await.map_err(|error| error.to_string())?;
    let ProgramEnds::Merged(pipe) = process.ends else { return Err("it has no output".to_owned()) };
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        File::from(pipe).read_to_string(&mut text).map(|_| text)
    });
    match process.exit.await {
        Ok(Ok(Exit::Code(0))) => {}
        Ok(Ok(exit)) => return Err(format!("it ended with {}", exit.shell_code())),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("the container has ended".to_owned()),
    }
    read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

fn kernel_release() -> String {
    nix::sys::utsname::uname()
        .map(|names| names.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn kernel(release: &str) -> CheckRow {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL {
        return CheckRow::ok("kernel", format!("Linux {release}"));
    }
    let found =
        format!("Linux {release}, and {}.{} is the oldest that was tested", KERNEL.0, KERNEL.1);
    let consequence = "containers may not start";
    CheckRow::new(
        "kernel",
        CheckState::Limited,
        found,
        consequence,
        "update it, or use Docker or Podman",
    )
}

/// Creates a user namespace with this user as its root.
fn user_namespaces() -> CheckRow {
    const NAME: &str = "user namespaces";
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let map = UserMap::single(uid.as_raw(), gid.as_raw());
    let nothing = "/proc/nothing";
    let Err(error) = runner_sandbox::chore(&map, &["remove", nothing]) else {
        return CheckRow::ok(NAME, "this user can create them");
    };
    let (state, consequence) = if uid.is_root() {
        (CheckState::Limited, "none for root, whose containers do not need them")
    } else {
        (CheckState::Missing, "no containers without root, Docker or Podman")
    };
    CheckRow::new(NAME, state, error.to_string(), consequence, closed_by())
}

/// Makes a process apply a build's filter to itself.
fn system_call_filter() -> CheckRow {
    const NAME: &str = "seccomp";
    let filtered = Chore::start(None, &["filter"], None).and_then(Chore::finish);
    match filtered {
        Ok(_) => CheckRow::ok(NAME, "the kernel accepts a build's filter of system calls"),
        Err(error) => CheckRow::new(
            NAME,
            CheckState::Missing,
            format!("the kernel refuses a filter of system calls: {error}"),
            "no container starts, because a build could make forbidden calls",
            "use a kernel with CONFIG_SECCOMP_FILTER, and allow seccomp(2) in a container around this one",
        ),
    }
}

/// The setting that disables user namespaces.
fn closed_by() -> String {
    let value = |name: &str| {
        fs::read_to_string(Path::new("/proc/sys").join(name))
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let switches = [
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "10000"),
    ];
    let closed = switches.iter().find(|(name, closed, _)| value(name).as_deref() == Some(closed));
    match closed {
        Some((name, _, open)) => format!("sudo sysctl {}={open}", name.replace('/', ".")),
        None => "a container around this one, or a security module, does not allow it".to_owned(),
    }
}

fn user_ids(container: &dyn Container) -> CheckRow {
    const NAME: &str = "users";
    if nix::unistd::geteuid().is_root() {
        return CheckRow::ok(NAME, "root: a container has this machine's users");
    }
    if container.has_one_user() {
        let found = "a container has one user only, root";
        let consequence = "apt, chown, sudo and run-as fail in it";
        return CheckRow::new(NAME, CheckState::Limited, found, consequence, users::advice());
    }
    CheckRow::ok(NAME, "newuidmap gives a container this user's subordinate ids")
}

/// Writes to the store, as a pull does.
fn image_store(home: &Home) -> CheckRow {
    const NAME: &str = "image store";
    let probe = home.images().join(format!(".doctor-{}", std::process::id()));
    let written = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
    let listed = ImageStore::new(home.images()).list().map(|images| images.len());
    match written.and(listed) {
        Ok(count) => CheckRow::ok(NAME, format!("{count} images in {}", home.images().display())),
        Err(error) => CheckRow::new(
            NAME,
            CheckState::Limited,
            format!("{}: {error}", home.images().display()),
            "images cannot be stored; host and rootfs:DIR work",
            "set RUNNER_HOME to a folder you can write to",
        ),
    }
}

fn disk(dir: &Path) -> CheckRow {
    const NAME: &str = "disk";
    let free = match statvfs(dir) {
        Ok(facts) => facts.blocks_available() * facts.fragment_size(),
        Err(errno) => {
            let found = format!("{}: {errno}", dir.display());
            return CheckRow::new(
                NAME,
                CheckState::Limited,
                found,
                "its free space is unknown",
                "check that it can be read",
            );
        }
    };
    let found = format!("{} MiB free in {}", free >> 20, dir.display());
    if free >= LITTLE {
        return CheckRow::ok(NAME, found);
    }
    let state = if free < NOTHING { CheckState::Missing } else { CheckState::Limited };
    let consequence = "builds that write a lot end with FAULT";
    let mend = "free some space, or set RUNNER_HOME to a folder on another disk";
    CheckRow::new(NAME, state, found, consequence, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_told_from_new_ones() {
        for release in ["5.19.0", "6.18.44-fc", "10.0"] {
            assert_eq!(kernel(release).state, CheckState::Ok, "{release}");
        }
        for release in ["5.18.19", "4.19.0-27-amd64", ""] {
            assert_eq!(kernel(release).state, CheckState::Limited, "{release}");
        }
    }
}
