//! Runs one build from its request to its record, without a terminal. This file connects all parts.
//!
//! Creates the build's folder, log, sockets, engine and driver, runs the driver to its end, and
//! leaves a record.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod control;
pub mod credentials;
pub mod deliveries;
pub mod driver;
pub mod secrets;
pub mod session;
pub mod source;
pub mod sweep;

mod buildspec;
mod certificates;
mod copies;
mod engines;
mod environment;
mod error;
mod face;
pub mod headless;
mod hints;
mod identity;
mod opened;
mod request;
mod services;
mod stubs;
mod written;

pub use buildspec::{BuildspecFile, Parsed, fingerprint};
pub use copies::LogsWanted;
pub use error::BuildError;
pub use face::{Face, ReadyBuild};
pub use opened::{OpenedBuild, Unusable};
pub use request::{
    Accepted, BatchMembership, BuildRequest, CacheRequest, ContainerRequest, FrozenSource,
    OutputsRequest, ValuesRequest,
};
pub use services::ServiceRequest;
pub use stubs::Stub;
pub use written::WRITTEN;

use crate::control::{ShimServer, host};
use crate::driver::inbox::Inbox;
use crate::driver::{
    Advice, Beside, BuildProgressView, ContainerGuests, Driver, DriverParts, PausedProcesses,
    SIGNALS, SharedSnapshot, SignalRequests, Watchdog, World,
};
use crate::session::{Hub, HubParts, SessionLog};
use environment::{BuildSource, Environment};
use identity::BuildIdentity;
use runner_core::env::EnvLayers;
use runner_core::event::{BuildFacts, Notice};
use runner_core::machine::MachineInput;
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_core::plan::{self, BuildPlan, ContainerPaths, Rejection};
use runner_core::record::record;
use runner_core::spec::Diagnostic;
use runner_engine::home_tools::HomeTools;
use runner_engine::image::{Image, ImageStore};
use runner_engine::leftover::{EngineFolder, Leavings};
use runner_engine::{ContainerSpec, NetworkAccess, UserMount};
use runner_folder::events::LogWriter;
use runner_folder::state::{BuildDir, Home, Meta, Owned, SCHEMA, Spool, pid_namespace, prune_old};
use runner_host::clock;
use runner_host::runtime;
use runner_host::signals::SignalReader;
use runner_outputs::cache::CacheTo;
use runner_outputs::{self as outputs, ArtifactDestinations, BuildOutputs, ReportsWanted, reports};
use runner_sandbox::GroupPlan;
use runner_wire::abi::{
    AGENT_NAME, BREAKPOINT_NAME, COMMANDS, CREDENTIAL_NAME, FILES_NAME, SHARD_NAME,
};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::watch;

/// How long readers of the output get once the build was ended from outside.
const READERS: Duration = Duration::from_secs(5);
/// Time limit for writing the last files of a build.
const FINISHING: Duration = Duration::from_secs(60);

/// A finished build.
#[derive(Debug)]
pub struct BuildOutcome {
    pub status: Status,
    /// Problems that did not affect the build's status.
    pub warnings: Vec<String>,
}

/// Runs a build to its end. `exit_code`: maps a status to the program's exit code, in case this
/// never returns.
pub fn run(
    request: BuildRequest,
    opened: OpenedBuild,
    home: Home,
    exit_code: fn(Status) -> u8,
    face: &mut dyn Face,
) -> Result<BuildOutcome, BuildError> {
    // Before any thread starts.
    let signals = SignalReader::listen(&SIGNALS).map_err(BuildError::io("listen for signals"))?;
    let runtime = runtime::start_for_build(
        // Each command that leaves a process running in the background keeps a pump.
        Builder::new_current_thread().max_blocking_threads(4096),
    )?;
    let (watchdog, asked) =
        Watchdog::start(signals, exit_code).map_err(BuildError::io("start a thread"))?;
    runtime::warm(&runtime)?;
    let identity = BuildIdentity::new(&home, &request)?;
    let uuid = identity.uuid.to_string();
    let dir = BuildDir::of(&home, &uuid);
    let traits = request.container.engine.traits();
    let groups = traits
        .groups(&uuid, request.container.resources, request.container.privileged)
        .map_err(BuildError::io("look for control groups"))?;
    let service_groups = services::groups(&request.services, &uuid, request.container.resources)
        .map_err(BuildError::io("look for control groups"))?;
    let folder = EngineFolder::of(dir.path());
    let leavings = Leavings {
        layers: layers(&request, dir.path(), &uuid),
        groups: [&groups]
            .into_iter()
            .chain(&service_groups)
            .flatten()
            .flat_map(GroupPlan::directories)
            .collect(),
    };
    let meta = Meta {
        schema_version: SCHEMA,
        pid_namespace: pid_namespace(),
        uuid,
        project: request.project.clone(),
        number: identity.number,
        identifier: request.member.as_ref().map(|member| member.batch.identifier.clone()),
        runner_pid: std::process::id(),
        engine: leavings.noted().map_err(BuildError::io("record what the build may leave"))?,
        staging: staging(&opened, &identity),
    };
    let (dir, owned) = BuildDir::create(&home, &meta)?;
    let guard = Guard { watchdog, asked };
    let build = BegunBuild {
        request,
        opened,
        home,
        identity,
        dir: dir.clone(),
        folder: folder.clone(),
        leavings: leavings.clone(),
        groups,
        service_groups,
        _owned: owned,
    };
    let result = runtime.block_on(build.run(guard, face));
    leavings.release();
    if result.is_err() && dir.record().is_ok_and(|record| record.is_none()) {
        // The build never began, or has no place for a record.
        let _ = folder.clear(&leavings);
        let _ = dir.remove_leftovers();
        let _ = dir.discard();
    }
    // Threads that still block (a start no longer wanted) end with this program.
    runtime.shutdown_background();
    result
}

/// Directories for the files written by the build and its services.
fn layers(request: &BuildRequest, dir: &Path, uuid: &str) -> Vec<PathBuf> {
    let own = request.container.engine.traits().layers(&EngineFolder::of(dir), uuid);
    let services = request.services.iter();
    let services = services.flat_map(|service| services::layers(dir, uuid, &service.name));
    own.into_iter().chain(services).collect()
}

/// Where outputs for the user are staged until they are complete.
fn staging(opened: &OpenedBuild, identity: &BuildIdentity) -> Vec<PathBuf> {
    let build = identity.uuid.to_string();
    let folders = opened.artifacts.iter().flat_map(ArtifactDestinations::folders);
    let artifacts = folders.map(|folder| outputs::staging(folder, &build));
    let reports = opened.reports.iter().map(|folder| reports::staging(folder, &build));
    artifacts.chain(reports).collect()
}

/// The parts that handle signals.
struct Guard {
    watchdog: Watchdog,
    asked: watch::Receiver<SignalRequests>,
}

/// A build whose folder exists.
struct BegunBuild {
    request: BuildRequest,
    opened: OpenedBuild,
    home: Home,
    identity: BuildIdentity,
    dir: BuildDir,
    /// The engine's part of the folder.
    folder: EngineFolder,
    leavings: Leavings,
    groups: Option<GroupPlan>,
    /// Resource groups, one entry per service.
    service_groups: Vec<Option<GroupPlan>>,
    /// Held to the end: dropping it signals that the build is over.
    _owned: Owned,
}

impl BegunBuild {
    async fn run(mut self, guard: Guard, face: &mut dyn Face) -> Result<BuildOutcome, BuildError> {
        let failed = BuildError::io;
        let folder = self.dir.path().to_path_buf();
        let failed_in = |doing| BuildError::folder(doing, &folder);
        let Guard { watchdog, asked } = guard;
        let session_log = self.opened.session_log.take();
        let log = LogWriter::create(&self.dir, self.identity.id.clone())
            .map_err(failed_in("make the build's log"))?;
        let (inbox, commands) = Inbox::new();
        let progress = watch::Sender::new(BuildProgressView::default());

        let traits = self.request.container.engine.traits();
        let (root, readonly) = traits
            .claim(&self.leavings.layers, self.dir.readonly())
            .map_err(failed_in("make the build's directories"))?;
        self.make_readonly(&readonly).map_err(failed_in("prepare what the container is given"))?;
        let breakpoints = Arc::new(PausedProcesses::default());
        if self.request.sessions.is_enabled {
            let server = ShimServer::bind(&readonly.join("shim.sock"))
                .map_err(failed_in("listen on the shim socket"))?;
            tokio::spawn(server.serve(Arc::clone(&breakpoints), inbox.clone()));
        }
        let snapshot = SharedSnapshot::default();
        let hub = Arc::new(Hub::new(HubParts {
            inbox: inbox.clone(),
            breakpoints: Arc::clone(&breakpoints),
            snapshot: Arc::clone(&snapshot),
            options: self.request.sessions.clone(),
            build: self.identity.uuid.to_string(),
            log: session_log.map(|log| Arc::new(log) as Arc<dyn SessionLog>),
            spool: Spool::of_build(self.dir.path()),
            shares_network: self.request.container.network == NetworkAccess::Host,
        }));
        let listener = host::bind(&self.dir.control_socket())
            .map_err(failed_in("listen on the control socket"))?;
        let served = host::Host {
            inbox: inbox.clone(),
            hub: Arc::clone(&hub),
            progress: progress.subscribe(),
            heads: log.watch(),
        };
        tokio::spawn(host::serve(listener, served));
        let log_file = self.log_file(&log).map_err(failed("write the log into a file"))?;

        let places = self.identity.places(&root, &self.request.buildspec, &self.request.source);
        let environment = self.environment(&places, &inbox, asked.clone()).await?;
        hub.mask(environment.secrets.clone());
        let plan = Arc::new(self.plan(&environment.sources, places, environment.layers.clone()));
        for text in self.opened.warnings.drain(..) {
            inbox.send(MachineInput::Notice(Notice::warning(text))).await;
        }
        self.tell_left_out(&inbox).await;
        let couriers = self.couriers(&log).map_err(failed_in("start copies of the log"))?;
        let Environment { sources, loopback_port, secrets, .. } = environment;
        let services = self.services(&inbox, &face.pulls(), &secrets);
        let hosts = services.as_ref().map(|services| services.hosts()).unwrap_or_default();
        let outputs = self.outputs(&sources);
        let container_spec =
            ContainerSpec { hosts, ..self.container_spec(sources, readonly, loopback_port) };
        let world = World {
            engine: self.engine(&inbox, face.pulls()),
            services: services.clone().map(|services| services as Arc<dyn Beside>),
            outputs,
            certificates: self.certificates(),
            container_spec,
            plan,
            secrets,
            vault: Arc::clone(&self.opened.vault),
            guests: ContainerGuests { snapshot, sessions: hub, breakpoints },
            deliveries: Arc::new(couriers),
            gives_credentials: self.request.values.aws.is_some(),
            advises: self.request.hints,
            advised: Mutex::default(),
            is_told_uncounted: Arc::default(),
            missing_program_hint: self.missing_program_hint(),
        };
        let uuid = self.identity.uuid.to_string();
        let begun =
            ReadyBuild { id: &self.identity.id, uuid: &uuid, dir: &self.dir, growth: log.growth() };
        if let Some(file) = &self.opened.id_file {
            let line = format!("{}\n", self.identity.id);
            file.write(line.as_bytes()).map_err(failed("write the build's id"))?;
        }
        face.begin(&begun).map_err(failed("show the build"))?;
        let heard = asked.clone();
        let guard = watchdog.clone();
        let parts = DriverParts { world, log, inbox, commands, asked: heard, watchdog, progress };
        let ended = Driver::new(parts).run().await;
        if let Some(services) = services {
            services.stop().await;
        }
        let finished = self.finish(ended, &guard);
        // Clients still connected are told how the build ended.
        let reason = finished.as_ref().map_or_else(ToString::to_string, ToString::to_string);
        face.close(format!("the build has ended: {reason}")).await;
        let status = finished.as_ref().ok().copied();
        // A slow reader still gets everything.
        let all = async { tokio::join!(face.shown(), joined(log_file)).1 };
        let written = tokio::select! {
            written = all => Some(written),
            () = impatience(status, asked) => None,
        };
        let warning = match written {
            Some(written) => written.err().map(|error| self.not_in_file(&error)),
            None => {
                face.unread();
                let is_wanted = self.opened.log_file.is_some();
                let late = || io::Error::new(io::ErrorKind::TimedOut, "it is written too slowly");
                is_wanted.then(|| self.not_in_file(&late()))
            }
        };
        let status = finished?;
        self.tidy();
        Ok(BuildOutcome { status, warnings: warning.into_iter().collect() })
    }

    /// Starts the thread that writes the log to a file.
    fn log_file(&self, log: &LogWriter) -> io::Result<Option<JoinHandle<io::Result<()>>>> {
        let Some((_, file)) = &self.opened.log_file else { return Ok(None) };
        copies::write_to(file.try_clone()?, &self.dir, log.growth()).map(Some)
    }

    fn not_in_file(&self, error: &io::Error) -> String {
        let path = self.opened.log_file.iter().map(|(path, _)| path.display().to_string());
        format!("the log in {} is not complete: {error}", path.collect::<String>())
    }

    /// Removes caches that are too old.
    fn tidy(&self) {
        let now = std::time::SystemTime::now();
        prune_old(&self.home, now);
        if let Some(cache) = &self.opened.cache
            && let Err(error) = cache.tidy()
        {
            // If it had affected the build, it would have been reported already.
            tracing::warn!(%error, "old caches stay");
        }
        ImageStore::new(self.home.images()).prune_old_trees(now);
    }

    /// Writes the files the container sees in /codebuild/readonly.
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
        if let Some(pem) = &self.request.certificates {
            certificates::make(pem, readonly)?;
        }
        if let Some(shard) = self.request.member.as_ref().and_then(|member| member.shard) {
            let text = format!("{} {}\n", shard.index, shard.count);
            fs::write(readonly.join(SHARD_NAME), text)?;
        }
        stubs::make(&self.request.stubs, &self.request.source, readonly)?;
        if self.request.buildspec.path_in(&self.request.source).is_none()
            && let Some(text) = self.request.buildspec.text()
        {
            fs::write(readonly.join("buildspec.yml"), text)?;
        }
        Ok(())
    }

    fn plan(
        &self,
        sources: &[BuildSource],
        places: ContainerPaths,
        layers: EnvLayers,
    ) -> BuildPlan {
        let request = &self.request;
        let facts = &sources[0].facts;
        let ContainerRequest { image, engine, privileged, .. } = &request.container;
        let work = match &self.opened.spec {
            Ok(spec) => Ok(plan::work(spec.clone(), &request.skips)),
            Err(problems) => Err(Rejection { context: rejection(problems) }),
        };
        BuildPlan {
            facts: BuildFacts {
                project: request.project.clone(),
                uuid: self.identity.uuid.to_string(),
                number: self.identity.number,
                arn: self.identity.arn.clone(),
                initiator: self.identity.initiator.clone(),
                image: image.to_string(),
                engine: engine.traits().name.to_owned(),
                resolved_image: None,
                buildspec: request.buildspec.shown(),
                buildspec_file: request.buildspec.facts(request.sessions.is_enabled),
                source_in_build: Some(places.source.clone()),
                source: request.source.display().to_string(),
                resolved_source_version: facts.commit.clone(),
                secondary_sources: sources.iter().filter_map(BuildSource::secondary).collect(),
                logs: self.logs_facts(),
                cache: self.opened.cache.as_ref().map(CacheTo::facts),
                session_enabled: request.sessions.is_enabled,
                privileged: *privileged,
                batch: request.member.as_ref().map(|member| member.batch.clone()),
                stubs: request.stubs.iter().map(|stub| stub.name.clone()).collect(),
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

    fn container_spec(
        &self,
        sources: Vec<BuildSource>,
        readonly: PathBuf,
        loopback_port: Option<u16>,
    ) -> ContainerSpec {
        let request = &self.request.container;
        ContainerSpec {
            hostname: self.identity.hostname.clone(),
            image: request.image.clone(),
            sources: sources.into_iter().map(BuildSource::mount).collect(),
            readonly,
            mounts: self.mounts(),
            cached: None,
            layers: request.engine.traits().layers(&self.folder, &self.identity.uuid.to_string()),
            kept: None,
            unseen: self.opened.unseen.clone(),
            limits: request.resources,
            groups: self.groups.clone(),
            network: request.network,
            hosts: Vec::new(),
            loopback_port,
            privileged: request.privileged,
            toolbox: self.opened.toolbox.clone(),
        }
    }

    /// Certificates for the container's own trust store. Without a container the store is this
    /// machine's, which is never changed.
    fn certificates(&self) -> Option<String> {
        let isolates = self.request.container.engine.traits().isolates;
        self.request.certificates.clone().filter(|_| isolates)
    }

    /// Mounts of the caller's home come first, so that named mounts may cover them.
    fn mounts(&self) -> Vec<UserMount> {
        let home = self.opened.home_tools.iter().flat_map(HomeTools::mounts);
        home.chain(self.request.container.mounts.iter().cloned()).collect()
    }

    fn outputs(&self, sources: &[BuildSource]) -> BuildOutputs {
        let sources: Vec<(PathBuf, PathBuf)> =
            sources.iter().map(|source| (source.dir.clone(), source.target.clone())).collect();
        let OpenedBuild { artifacts, cache, reports, .. } = &self.opened;
        BuildOutputs {
            artifacts: artifacts.clone(),
            reports: ReportsWanted {
                dir: reports.clone(),
                discovers: reports.is_some() || self.request.outputs.discovers,
                project: self.request.project.clone(),
            },
            cache: cache.clone(),
            cache_state: Mutex::default(),
            leavings: self.opened.leavings(&sources),
            identity: self.request.values.identity(),
            scratch: self.dir.path().to_path_buf(),
        }
    }

    /// Hints for programs that are not found.
    fn missing_program_hint(&self) -> Advice {
        if !self.request.container.engine.traits().chooses_tools
            || self.request.container.image != Image::Host
        {
            return Box::new(|_| None);
        }
        let shown = self.mounts().into_iter().map(|mount| mount.target).collect();
        let has_home_tools = self.opened.home_tools.is_some();
        let search = hints::Search::new(shown, has_home_tools);
        Box::new(move |text| search.missing_program(text))
    }

    /// Reports an image or programs that may differ from what is expected, and patterns without a
    /// command.
    async fn tell_left_out(&self, inbox: &Inbox) {
        let ContainerRequest { image, replaces, .. } = &self.request.container;
        if let Some(named) = replaces {
            let text = format!("image {named}: {image} is in its place (--image-map)");
            inbox.send(MachineInput::Notice(Notice::note(text))).await;
        }
        for note in self.request.accepted.iter().flat_map(|accepted| &accepted.notes) {
            inbox.send(MachineInput::Notice(Notice::note(note.clone()))).await;
        }
        if let Some(tools) = &self.opened.home_tools {
            let notices = hints::home_tools(tools);
            for notice in notices {
                inbox.send(MachineInput::Notice(notice)).await;
            }
        }
        let idle = self.opened.spec.as_ref().map(|spec| self.request.skips.idle(spec));
        for glob in idle.unwrap_or_default() {
            let text = format!("--skip: no command is like {glob}");
            inbox.send(MachineInput::Notice(Notice::warning(text))).await;
        }
        let names: Vec<&str> = self.request.stubs.iter().map(|stub| stub.name.as_str()).collect();
        if !names.is_empty() {
            let text = format!("replaced by stubs: {}", names.join(", "));
            inbox.send(MachineInput::Notice(Notice::note(text))).await;
        }
    }

    /// Writes the record and removes everything that only a live build needs.
    fn finish(&self, ended: driver::EndedBuild, watchdog: &Watchdog) -> Result<Status, BuildError> {
        let driver::EndedBuild { view, logged, is_clear } = ended;
        let view = view.ok_or(BuildError::NotBegun)?;
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
            // What is left tells the next command to clean up.
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
        if let Some(file) = &self.opened.build_json
            && let Err(error) = serde_json::to_vec_pretty(&build)
                .map_err(io::Error::from)
                .and_then(|text| file.write(&text))
        {
            problems.push(format!("cannot write {}: {error}", file.path().display()));
        }
        // From here on the build waits only for readers of its output.
        watchdog.step(None, verdict, Status::Fault);
        match problems.len() {
            0 => Ok(build.build_status),
            _ => Err(BuildError::Unfinished(problems)),
        }
    }
}

/// Resolves when the log is written to its file, or cannot be.
async fn joined(writer: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let Some(writer) = writer else { return Ok(()) };
    let broke_off = || io::Error::other("it broke off");
    let joined = tokio::task::spawn_blocking(move || writer.join());
    joined.await.map_err(io::Error::other)?.map_err(|_| broke_off())?
}

/// Resolves when readers of the build's output have had enough time: the build was ended from
/// outside a while ago, has no record (then its log may be incomplete, too), or is to end now.
async fn impatience(status: Option<Status>, mut asked: watch::Receiver<SignalRequests>) {
    asked.mark_unchanged();
    let a_while = async {
        match status {
            Some(Status::TimedOut | Status::Stopped) | None => tokio::time::sleep(READERS).await,
            Some(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = a_while => {}
        Ok(()) = asked.changed() => {}
    }
}

/// The context of a rejected buildspec: in CodeBuild's words if they are known.
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
