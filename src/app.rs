//! The composition root of a build: the one file that knows all parts.
//!
//! Fed by `cli::run`. Makes the build's folder, log, sockets, engine and driver, runs the driver to
//! its end, and leaves a record.

mod buildspec;
mod door;
mod engines;
mod environment;
mod error;
mod identity;
mod request;
mod serve;
mod shown;
mod ways;

pub(crate) use buildspec::BuildspecFile;
pub(crate) use error::AppError;
pub(crate) use request::{LogFormat, RunRequest};
pub(crate) use serve::{ServeError, ServeRequest, serve};
pub(crate) use shown::LogsWanted;
use shown::Untold;

use crate::amazon;
use crate::client::Menu;
use crate::control::{ShimServer, host};
use crate::deliveries::Couriers;
use crate::driver::inbox::Inbox;
use crate::driver::{
    Asked, Breakpoints, Driver, Ended, Parts, Progress, ReportsWanted, SIGNALS, SharedSnapshot,
    Watchdog, World,
};
use crate::engine::leftover::{Folder, Leavings};
use crate::engine::{ContainerSpec, host_image};
use crate::events::LogWriter;
use crate::image::{Image, Store};
use crate::outputs::cache::CacheTo;
use crate::outputs::{self, Destinations, reports};
use crate::session::{Hub, HubParts, LogDir, SessionLog};
use crate::signals::Signals;
use crate::sinks::{AwsWay, Gate};
use crate::state::{BuildDir, Home, Meta, Owned, SCHEMA, pid_namespace, prune_old};
use crate::stdio::say;
use crate::{clock, runtime};
use door::Door;
use environment::{BuildSource, Environment};
use identity::Identity;
use nix::sys::signal::Signal;
use runner_core::env::Layers;
use runner_core::event::{BuildFacts, Notice};
use runner_core::machine::Input;
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_core::plan::{self, BuildPlan, Places, Rejection};
use runner_core::record::record;
use runner_core::spec::Diagnostic;
use runner_sandbox::GroupPlan;
use runner_wire::abi::{AGENT_NAME, BREAKPOINT_NAME, COMMANDS, CREDENTIAL_NAME, FILES_NAME};
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;

/// How long readers of a build's output have once it was ended from outside.
const READERS: Duration = Duration::from_secs(5);
/// How long the last files of a build may take to be written.
const FINISHING: Duration = Duration::from_secs(60);

/// A directory for transcripts of sessions, made where it is missing.
pub(crate) fn open_session_log(dir: &Path) -> io::Result<LogDir> {
    LogDir::open(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
}

/// Runs a build to its end. `exit_code`: what the program exits with where this never returns.
pub(crate) fn run(
    request: RunRequest,
    home: Home,
    exit_code: fn(Status) -> u8,
) -> Result<Status, AppError> {
    // Before any thread starts.
    let listen =
        |signals: &[Signal]| Signals::listen(signals).map_err(AppError::io("listen for signals"));
    let (signals, resizes) = (listen(&SIGNALS)?, listen(&[Signal::SIGWINCH])?);
    let runtime = runtime::start_for_build(
        // Each command that leaves something running in the background keeps a pump.
        Builder::new_current_thread().max_blocking_threads(4096),
    )?;
    let (watchdog, asked) =
        Watchdog::start(signals, exit_code).map_err(AppError::io("start a thread"))?;
    runtime::warm(&runtime)?;
    let identity = Identity::new(&home, &request.project)?;
    let uuid = identity.uuid.to_string();
    let dir = BuildDir::of(&home, &uuid);
    let traits = request.engine.traits();
    let groups = traits
        .groups(&uuid, request.resources, request.privileged)
        .map_err(AppError::io("look for control groups"))?;
    let folder = Folder::of(dir.path());
    let leavings = Leavings {
        layers: traits.layers(&folder, &uuid),
        groups: groups.as_ref().map(GroupPlan::directories).unwrap_or_default(),
    };
    let meta = Meta {
        schema_version: SCHEMA,
        pid_namespace: pid_namespace(),
        uuid,
        project: request.project.clone(),
        number: identity.number,
        runner_pid: std::process::id(),
        engine: leavings.noted().map_err(AppError::io("note what the build may leave"))?,
        staging: staging(&request, &identity),
    };
    let (dir, owned) = BuildDir::create(&home, &meta)?;
    let guard = Guard { watchdog, asked, resizes };
    let build = Build {
        request,
        home,
        identity,
        dir: dir.clone(),
        folder: folder.clone(),
        leavings: leavings.clone(),
        groups,
        _owned: owned,
    };
    let result = runtime.block_on(build.run(guard));
    leavings.release();
    if result.is_err() && dir.record().is_ok_and(|record| record.is_none()) {
        // It never began, or has nowhere to leave a record.
        let _ = folder.clear(&leavings);
        let _ = dir.remove_leftovers();
        let _ = dir.discard();
    }
    // What still blocks there (a start that is wanted no more) ends with this program.
    runtime.shutdown_background();
    result
}

/// Where what the build leaves for the user is made before it is whole.
fn staging(request: &RunRequest, identity: &Identity) -> Vec<PathBuf> {
    let build = identity.uuid.to_string();
    let folders = request.artifacts.iter().flat_map(Destinations::folders);
    let artifacts = folders.map(|folder| outputs::staging(folder, &build));
    let reports = request.reports.iter().map(|folder| reports::staging(folder, &build));
    artifacts.chain(reports).collect()
}

/// What hears signals.
struct Guard {
    watchdog: Watchdog,
    asked: watch::Receiver<Asked>,
    /// Of the terminal's window.
    resizes: Signals,
}

/// What sessions and the driver share.
struct Guests {
    snapshot: SharedSnapshot,
    breakpoints: Arc<Breakpoints>,
    hub: Arc<Hub>,
    couriers: Arc<Couriers>,
}

/// A build whose folder exists.
struct Build {
    request: RunRequest,
    home: Home,
    identity: Identity,
    dir: BuildDir,
    /// What of it is the engine's.
    folder: Folder,
    leavings: Leavings,
    groups: Option<GroupPlan>,
    /// Held to the end: letting go says that the build is over.
    _owned: Owned,
}

impl Build {
    async fn run(mut self, guard: Guard) -> Result<Status, AppError> {
        let failed = AppError::io;
        let Guard { watchdog, asked, resizes } = guard;
        let session_log = self.request.session_log.take();
        let log = LogWriter::create(&self.dir, self.identity.id.clone())
            .map_err(failed("make the build's log"))?;
        let (inbox, commands) = Inbox::new();
        let progress = watch::Sender::new(Progress::default());
        let gate = Arc::new(Gate::default());
        let has_menu = self.has_menu();
        let untold = Untold::default();
        let door = Door::new(&self.home, &self.identity.uuid);
        let way = match self.request.sessions {
            true => door.way(),
            false => AwsWay(Arc::new(|| None)),
        };
        let ways = ways::ways_in(&self.identity.uuid, has_menu, way);
        let sinks = self.start_sinks(&log, &gate, ways, &untold).map_err(failed("start a sink"))?;

        let traits = self.request.engine.traits();
        let (root, readonly) = traits
            .claim(&self.leavings.layers, self.dir.readonly())
            .map_err(failed("make the build's directories"))?;
        self.make_readonly(&readonly).map_err(failed("prepare what the container is given"))?;
        let breakpoints = Arc::new(Breakpoints::default());
        if self.request.sessions {
            let server = ShimServer::bind(&readonly.join("shim.sock"))
                .map_err(failed("listen on the shim socket"))?;
            tokio::spawn(server.serve(Arc::clone(&breakpoints), inbox.clone()));
        }
        let snapshot = SharedSnapshot::default();
        let hub = Arc::new(Hub::new(HubParts {
            inbox: inbox.clone(),
            breakpoints: Arc::clone(&breakpoints),
            snapshot: Arc::clone(&snapshot),
            idle_timeout: self.request.session_idle_timeout,
            longest: self.request.session_max_duration,
            is_enabled: self.request.sessions,
            build: self.identity.uuid.to_string(),
            log: session_log.map(|log| Arc::new(log) as Arc<dyn SessionLog>),
        }));
        let listener = host::bind(&self.dir.control_socket())
            .map_err(failed("listen on the control socket"))?;
        let served = host::Host {
            inbox: inbox.clone(),
            hub: Arc::clone(&hub),
            progress: progress.subscribe(),
            heads: log.watch(),
        };
        tokio::spawn(host::serve(listener, served));
        let keys = if has_menu {
            let menu = Menu {
                dir: self.dir.clone(),
                inbox: inbox.clone(),
                progress: progress.subscribe(),
                gate: Arc::clone(&gate),
                signals: resizes,
            };
            Some(menu.spawn().map_err(failed("start the key menu"))?)
        } else {
            None
        };

        let places = self.identity.places(&root, &self.request.buildspec, &self.request.source);
        let environment = self.environment(&places, &inbox, asked.clone()).await?;
        hub.mask(environment.secrets.clone());
        let plan = Arc::new(self.plan(&environment.sources, places, environment.layers.clone()));
        self.tell_hidden_path(&inbox).await;
        let couriers = Arc::new(self.couriers(&log).map_err(failed("start copies of the log"))?);
        let guests = Guests { snapshot, breakpoints, hub, couriers };
        let world = self.world(plan, environment, &inbox, readonly, guests, &gate);
        let heard = asked.clone();
        let guard = watchdog.clone();
        let parts = Parts { world, log, inbox, commands, asked: heard, watchdog, progress };
        let ended = Driver::new(parts).run().await;
        let finished = self.finish(ended, &guard);
        // Clients that are still there hear how it ended.
        let reason = finished.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        door.close(format!("the build has ended: {reason}")).await;
        let status = finished?;
        // A reader that takes its time gets all of it. Not waited for on this thread: clients at the
        // socket are to hear of the end meanwhile.
        let threads = sinks.into_iter().chain(keys);
        let shown = tokio::task::spawn_blocking(move || threads.map(JoinHandle::join).count());
        tokio::select! {
            _ = shown => {}
            () = impatience(status, asked) => {
                say(&format!(
                    "what the build has written is not read; all of it: runner logs {}",
                    self.identity.uuid
                ));
            }
        }
        for text in untold.warnings.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            say(&text);
        }
        prune_old(&self.home, std::time::SystemTime::now());
        if let Some(cache) = &self.request.cache
            && let Err(error) = cache.tidy()
        {
            // It was told already, if it kept the build from anything.
            tracing::warn!(%error, "old caches stay");
        }
        Store::new(self.home.images()).prune_old_trees(std::time::SystemTime::now());
        match untold.broken_output.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(status),
            Some(error) => Err(AppError::Output { error, status }),
        }
    }

    fn has_menu(&self) -> bool {
        self.request.format == LogFormat::Pretty
            && self.request.sessions
            && io::stdin().is_terminal()
            && io::stderr().is_terminal()
    }

    /// What the container sees at /codebuild/readonly.
    fn make_readonly(&self, readonly: &Path) -> io::Result<()> {
        let bin = readonly.join("bin");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&bin)?;
        let program = bin.join(BREAKPOINT_NAME);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&program)?;
        io::Write::write_all(&mut file, runner_init::PROGRAM)?;
        for name in COMMANDS
            .into_iter()
            .chain([AGENT_NAME, CREDENTIAL_NAME, FILES_NAME])
            .filter(|name| *name != BREAKPOINT_NAME)
        {
            fs::hard_link(&program, bin.join(name))?;
        }
        if self.request.buildspec.path_in(&self.request.source).is_none()
            && let Some(text) = self.request.buildspec.text()
        {
            fs::write(readonly.join("buildspec.yml"), text)?;
        }
        Ok(())
    }

    fn plan(&self, sources: &[BuildSource], places: Places, layers: Layers) -> BuildPlan {
        let request = &self.request;
        let facts = &sources[0].facts;
        let work = match &request.spec {
            Ok(spec) => Ok(plan::work(spec.clone())),
            Err(problems) => Err(Rejection { context: rejection(problems) }),
        };
        BuildPlan {
            facts: BuildFacts {
                project: request.project.clone(),
                uuid: self.identity.uuid.to_string(),
                number: self.identity.number,
                arn: self.identity.arn.clone(),
                initiator: self.identity.initiator.clone(),
                image: request.image.to_string(),
                engine: request.engine.traits().name.to_owned(),
                resolved_image: None,
                buildspec: request.buildspec.shown(),
                source: request.source.display().to_string(),
                resolved_source_version: facts.commit.clone(),
                secondary_sources: sources.iter().filter_map(BuildSource::secondary).collect(),
                logs: self.logs_facts(),
                cache: self.request.cache.as_ref().map(CacheTo::facts),
                session_enabled: request.sessions,
                privileged: request.privileged,
                timeout_s: request.limits.timeout.as_secs(),
                runner_version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            places,
            layers,
            work,
            limits: request.limits,
            stops: request.stops.clone(),
        }
    }

    fn world(
        &self,
        plan: Arc<BuildPlan>,
        environment: Environment,
        inbox: &Inbox,
        readonly: PathBuf,
        guests: Guests,
        gate: &Arc<Gate>,
    ) -> World {
        let container_spec = ContainerSpec {
            hostname: self.identity.hostname.clone(),
            image: self.request.image.clone(),
            sources: environment.sources.into_iter().map(BuildSource::mount).collect(),
            readonly,
            mounts: self.request.mounts.clone(),
            cached: None,
            layers: self.leavings.layers.clone(),
            unseen: self.request.unseen.clone(),
            limits: self.request.resources,
            groups: self.groups.clone(),
            network: self.request.network,
            loopback_port: environment.loopback_port,
            privileged: self.request.privileged,
            toolbox: self.request.toolbox.clone(),
        };
        let leavings = self.request.leavings(&container_spec.sources);
        let engine = self.engine(inbox, gate);
        let image = self.request.image.clone();
        World {
            engine,
            container_spec,
            plan,
            secrets: environment.secrets,
            vault: Arc::clone(&self.request.vault),
            snapshot: guests.snapshot,
            sessions: guests.hub,
            breakpoints: guests.breakpoints,
            deliveries: guests.couriers,
            reports: ReportsWanted {
                dir: self.request.reports.clone(),
                discovers: self.request.reports.is_some() || self.request.annotate,
                project: self.request.project.clone(),
            },
            artifacts: self.request.artifacts.clone(),
            cache: self.request.cache.clone(),
            cache_state: Mutex::default(),
            leavings,
            identity: self.request.aws.clone().unwrap_or(amazon::Identity::Default),
            scratch: self.dir.path().to_path_buf(),
            missing_program_hint: Box::new(move |text| match image {
                Image::Host => ways::missing_program_hint(text),
                _ => None,
            }),
        }
    }

    /// Programs a person has on their PATH and a build in `host` has not.
    async fn tell_hidden_path(&self, inbox: &Inbox) {
        if !self.request.engine.traits().chooses_tools
            || self.request.image != Image::Host
            || self.request.spec.is_err()
        {
            return;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let hidden = host_image::hidden_path_entries(&path);
        if let Some(first) = hidden.first() {
            let list: Vec<String> = hidden.iter().map(|dir| ways::short(dir)).collect();
            let text = format!(
                "not in the image `host`, but on your PATH: {} (show one with --mount {first}:{first})",
                list.join(" "),
                first = first.display()
            );
            inbox.send(Input::Notice(Notice::note(text))).await;
        }
    }

    /// Leaves the record and nothing else that only a live build needs.
    fn finish(&self, ended: Ended, watchdog: &Watchdog) -> Result<Status, AppError> {
        let Ended { view, logged, is_clear } = ended;
        let view = view.ok_or(AppError::NotBegun)?;
        let build = record(&view);
        let patience = match build.build_status {
            Status::TimedOut | Status::Stopped => Duration::ZERO,
            _ => FINISHING,
        };
        let verdict = Some(build.build_status);
        watchdog.step(Some(clock::boot() + patience), verdict, Status::Fault);
        let mut problems = Vec::new();
        if let Err(error) = logged {
            problems.push(format!("the build's log could not be completed: {error}"));
        }
        // First, so that a full disk has room for the record.
        let removed = if is_clear {
            self.folder.clear(&self.leavings).and(self.dir.remove_leftovers())
        } else {
            // Whoever clears up finds it by what is left.
            self.dir.use_reserve()
        };
        if let Err(error) = removed {
            problems.push(format!("cannot remove what only a live build needs: {error}"));
        }
        if let Err(error) = self.dir.write_record(&build) {
            problems.push(format!("cannot write the build's record: {error}"));
        } else if is_clear && let Err(error) = self.dir.retire() {
            problems.push(format!("cannot take the build off the list of live ones: {error}"));
        }
        if let Some(file) = &self.request.build_json
            && let Err(error) = serde_json::to_vec_pretty(&build)
                .map_err(io::Error::from)
                .and_then(|text| file.write(&text))
        {
            problems.push(format!("cannot write {}: {error}", file.path().display()));
        }
        // From here on only those are waited for who read what the build has written.
        watchdog.step(None, verdict, Status::Fault);
        match problems.len() {
            0 => Ok(build.build_status),
            _ => Err(AppError::Unfinished(problems)),
        }
    }
}

/// Resolves when nobody waits any more for whoever reads what the build has written: it was ended from
/// outside a while ago, or is to end now.
async fn impatience(status: Status, mut asked: watch::Receiver<Asked>) {
    asked.mark_unchanged();
    let a_while = async {
        match status {
            Status::TimedOut | Status::Stopped => tokio::time::sleep(READERS).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = a_while => {}
        Ok(()) = asked.changed() => {}
    }
}

/// A rejected buildspec's context: CodeBuild's own words where they are known.
fn rejection(problems: &[Diagnostic]) -> PhaseContext {
    let message =
        problems.iter().find(|problem| problem.is_error()).map_or_else(String::new, |problem| {
            match &problem.aws {
                Some(aws) => aws.clone(),
                None if problem.span.line > 0 => {
                    format!("{} at line {}", problem.message, problem.span.line)
                }
                None => problem.message.clone(),
            }
        });
    PhaseContext::new(StatusCode::YamlFileError, message)
}
