//! The places a request names on this machine, found and opened before the build begins.
//!
//! Errors are reported then, and no build is created.

use super::request::{BuildRequest, CacheRequest, ContainerRequest, OutputsRequest, ValuesRequest};
use super::written;
use crate::secrets::{SecretsFile, Vault};
use crate::session::LogDir;
use runner_core::env::is_name;
use runner_core::plan;
use runner_core::spec::{BuildSpec, Diagnostic};
use runner_engine::home_tools::{self, HomeTools};
use runner_engine::image::check_certificates;
use runner_engine::toolbox;
use runner_engine::unseen::Unseen;
use runner_engine::{MountAccess, UserMount};
use runner_folder::state::Home;
use runner_host::beneath::{self, Dir};
use runner_host::named::{FilePlace, NamedFile};
use runner_host::{trust, users};
use runner_outputs::cache::{CacheTo, Signer};
use runner_outputs::{ArtifactDestinations, LeavingPlaces, OutputStore};
use runner_sandbox::Toolbox;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A request that cannot become a build.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unusable {
    pub message: String,
    pub hint: Option<&'static str>,
    /// Whether the request is wrong, rather than the state of this machine.
    pub is_usage: bool,
}

/// What a build has before it begins.
pub struct OpenedBuild {
    /// The buildspec, or its errors.
    pub(super) spec: Result<BuildSpec, Vec<Diagnostic>>,
    pub(super) vault: Arc<Vault>,
    /// Programs for sessions.
    pub(super) toolbox: Option<Toolbox>,
    /// Tools of the caller's home, if they are shown.
    pub(super) home_tools: Option<HomeTools>,
    /// The state folder, which is hidden from builds.
    pub(super) unseen: Unseen,
    pub(super) session_log: Option<LogDir>,
    pub(super) artifacts: Option<ArtifactDestinations>,
    pub(super) cache: Option<CacheTo>,
    pub(super) reports: Option<PathBuf>,
    pub(super) build_json: Option<NamedFile>,
    pub(super) id_file: Option<NamedFile>,
    /// The path of the log file, and the open file.
    pub(super) log_file: Option<(PathBuf, File)>,
    /// Warnings for the build's log.
    pub(super) warnings: Vec<String>,
}

impl Unusable {
    pub(super) fn usage(message: String) -> Self {
        Unusable { message, hint: None, is_usage: true }
    }
}

/// Checks that the build can reach its breakpoints. A rejected buildspec is not checked.
fn check_stops(
    request: &BuildRequest,
    spec: &Result<BuildSpec, Vec<Diagnostic>>,
) -> Result<(), Unusable> {
    let (Ok(spec), [_, ..]) = (spec, &*request.stops.breakpoints) else { return Ok(()) };
    let work = plan::work(spec.clone(), &request.skips);
    request.stops.breakpoints.iter().try_for_each(|breakpoint| {
        let told = |why| Unusable::usage(format!("--break-on {breakpoint}: {why}"));
        if breakpoint.wants_changes() && request.stops.checkpoints == plan::Checkpointing::Off {
            let why = "files that runs have written are known only with checkpoints, not with \
                 --checkpoint off";
            return Err(told(why.to_owned()));
        }
        work.takes(breakpoint).map_err(told)
    })
}

impl OpenedBuild {
    /// Opens everything. `spec` is the request's parsed buildspec.
    pub fn open(
        request: &BuildRequest,
        spec: Result<BuildSpec, Vec<Diagnostic>>,
        home: &Home,
    ) -> Result<Self, Unusable> {
        check_variables(&request.values)?;
        trust_certificates(request)?;
        written::keep_out_of_git(request)?;
        check_stops(request, &spec)?;
        let unseen = unseen(home, request)?;
        check_mounts(&request.container)?;
        check_services(request)?;
        let home_tools = home_tools(request.container.home_tools)?;
        let OutputsRequest { artifacts, cache, reports, build_json, id_file, log_file, .. } =
            &request.outputs;
        let artifacts = artifacts.clone().map(ArtifactDestinations::open);
        if let Some(artifacts) = &artifacts {
            check_folder("--artifacts", &artifacts.primary.store)?;
        }
        let mut warnings = Vec::new();
        let cache =
            cache.clone().map(|cache| open_cache(cache, home, &mut warnings)).transpose()?;
        let vault = match &request.values.secrets {
            Some(path) => Vault::File(
                SecretsFile::read(path)
                    .map_err(|problem| Unusable::usage(format!("--secrets: {problem}")))?,
            ),
            None => Vault::Aws(request.values.identity()),
        };
        let session_log = request.sessions.log.as_deref().map(|dir| {
            LogDir::open(dir).map_err(|error| {
                Unusable::usage(format!("--session-log: {}: {error}", dir.display()))
            })
        });
        let session_log = session_log.transpose()?;
        if let Some(dir) = &request.sessions.log {
            let kept = home.remember_session_log(dir);
            warnings.extend(kept.err().map(|error| error.to_string()));
        }
        let toolbox = toolbox(request.container.toolbox)?;
        let reports = reports.as_deref().map(reports_dir).transpose()?;
        let build_json = build_json.as_ref().map(|path| named("--build-json", path)).transpose()?;
        let id_file = id_file.as_ref().map(|path| named("--id-file", path)).transpose()?;
        // Opened last: the log of an earlier build is replaced only if this build begins.
        let log_file = log_file.as_ref().map(|path| {
            let file = named("--log-file", path)?.begin();
            file.map_err(|error| cannot_write("--log-file", path, &error))
                .map(|file| (path.clone(), file))
        });
        Ok(OpenedBuild {
            toolbox,
            home_tools,
            spec,
            vault: Arc::new(vault),
            unseen,
            session_log,
            artifacts,
            cache,
            reports,
            build_json,
            id_file,
            log_file: log_file.transpose()?,
            warnings,
        })
    }

    /// Whether the buildspec was rejected.
    pub fn is_rejected(&self) -> bool {
        self.spec.is_err()
    }

    /// Places in the source to which builds with these options write outputs. `sources`: each with
    /// its path in the build.
    pub(super) fn leavings(&self, sources: &[(PathBuf, PathBuf)]) -> LeavingPlaces {
        let cache = self.cache.iter().filter_map(|cache| match &cache.store {
            OutputStore::Folder(folder) => Some(folder.clone()),
            OutputStore::Bucket(_) => None,
        });
        let still = self.artifacts.iter().flat_map(ArtifactDestinations::places).chain(cache);
        let named = [&self.build_json, &self.id_file].into_iter().flatten();
        let named = named.filter_map(NamedFile::place).map(FilePlace::path);
        let still = still.chain(self.reports.clone()).chain(named);
        let live = self.log_file.iter().map(|(path, _)| path.clone());
        let places = still.map(|place| (place, false)).chain(live.map(|place| (place, true)));
        let absolute = |(place, is_live)| Some((std::path::absolute(place).ok()?, is_live));
        LeavingPlaces::new(places.filter_map(absolute), sources)
    }
}

/// Makes this process trust the certificates that the caller trusts.
fn trust_certificates(request: &BuildRequest) -> Result<(), Unusable> {
    let Some(pem) = &request.certificates else { return Ok(()) };
    check_certificates(pem).map_err(|why| Unusable::usage(format!("--ca-file: {why}")))?;
    trust::trust(pem);
    Ok(())
}

/// Checks that each variable can be passed to a program.
fn check_variables(values: &ValuesRequest) -> Result<(), Unusable> {
    let own = values.variables.iter().map(|(name, value)| (name, value));
    let fetched = values.fetched.iter().map(|variable| (&variable.name, &variable.value));
    check_variables_of(own.chain(fetched))
}

fn check_variables_of<'v>(
    variables: impl Iterator<Item = (&'v String, &'v String)>,
) -> Result<(), Unusable> {
    for (name, value) in variables {
        if !is_name(name) {
            return Err(Unusable::usage(format!("`{name}` cannot be the name of a variable")));
        }
        if value.contains('\0') {
            return Err(Unusable::usage(format!("the value of {name} contains a NUL")));
        }
    }
    Ok(())
}

/// Checks that the engine can create the mounts.
fn check_mounts(container: &ContainerRequest) -> Result<(), Unusable> {
    let is_cow = |mount: &UserMount| mount.access == MountAccess::CopyOnWrite;
    let traits = container.engine.traits();
    match container.home_tools || container.mounts.iter().any(is_cow) {
        true if !traits.copies_on_write => Err(Unusable {
            message: format!(
                "--engine {} shows nothing copy-on-write: neither --home-tools nor --mount SRC:DST:cow",
                traits.name
            ),
            hint: Some("--mount SRC:DST shows it read-only; --engine namespaces has layers"),
            is_usage: true,
        }),
        true | false => Ok(()),
    }
}

/// Checks that services can run beside the build and be reached from it.
fn check_services(request: &BuildRequest) -> Result<(), Unusable> {
    let services = &request.services;
    if services.is_empty() {
        return Ok(());
    }
    let traits = request.container.engine.traits();
    if !traits.services {
        return Err(Unusable {
            message: format!("--engine {} starts no services beside a build", traits.name),
            hint: Some("leave out --service, or take --engine namespaces"),
            is_usage: true,
        });
    }
    let twice = services
        .iter()
        .enumerate()
        .find(|(at, service)| services[..*at].iter().any(|other| other.name == service.name));
    match twice {
        Some((_, service)) => {
            Err(Unusable::usage(format!("--service: `{}` is named twice", service.name)))
        }
        None => check_variables_of(
            services
                .iter()
                .flat_map(|service| service.variables.iter().map(|(name, value)| (name, value))),
        ),
    }
}

/// The tools of the caller's home.
fn home_tools(is_wanted: bool) -> Result<Option<HomeTools>, Unusable> {
    if !is_wanted {
        return Ok(None);
    }
    let home = users::home().ok_or_else(|| {
        Unusable::usage("--home-tools: where your home is, HOME does not say".to_owned())
    })?;
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(Some(home_tools::find(&home, &path)))
}

/// The state folder. A build may be given a parent of it, but not the folder itself.
fn unseen(home: &Home, request: &BuildRequest) -> Result<Unseen, Unusable> {
    let unseen = Unseen::of(home.root());
    let secondary = request.secondary_sources.iter().map(|(_, dir)| dir.as_path());
    let sources = [request.source.as_path()].into_iter().chain(secondary);
    let mounts = request.container.mounts.iter().map(|mount| &*mount.source);
    match sources.chain(mounts).find(|dir| unseen.is(dir)) {
        None => Ok(unseen),
        Some(dir) => Err(Unusable {
            message: format!(
                "{} is the runner's state folder: it has keys and other builds in it",
                dir.display()
            ),
            hint: Some("set RUNNER_HOME to another directory, or name another one here"),
            is_usage: true,
        }),
    }
}

/// Checks that a path is a folder or can become one: after the build it would be too late.
fn check_folder(option: &str, store: &OutputStore) -> Result<(), Unusable> {
    let OutputStore::Folder(folder) = store else { return Ok(()) };
    match Dir::real(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(Unusable::usage(format!("{option}: {} is not a directory", folder.display())))
        }
        _ => Ok(()),
    }
}

/// Where caches are stored, and who signs them.
fn open_cache(
    cache: CacheRequest,
    home: &Home,
    warnings: &mut Vec<String>,
) -> Result<CacheTo, Unusable> {
    let CacheRequest { store, project } = cache;
    let OutputStore::Folder(folder) = store else {
        return Ok(CacheTo { store, project, signer: Signer::default() });
    };
    let folder = beneath::real(&folder).map_err(|error| {
        let folder = folder.display();
        Unusable::usage(format!("--cache: cannot find out where {folder} leads: {error}"))
    })?;
    let store = OutputStore::Folder(folder.clone());
    check_folder("--cache", &store)?;
    let signer = match home.signing_key() {
        Ok(key) => Signer::new(key),
        Err(error) => {
            warnings.push(format!("caches are copied, and their keys contain no secrets: {error}"));
            Signer::default()
        }
    };
    if let Err(error) = home.note_cache_folder(&folder) {
        // The only effect is that the folder is missing from a list.
        warnings.push(format!("runner cache ls will not know this folder: {error}"));
    }
    Ok(CacheTo { store, project, signer })
}

fn toolbox(is_wanted: bool) -> Result<Option<Toolbox>, Unusable> {
    is_wanted.then(toolbox::find).transpose().map_err(|error| Unusable {
        message: format!("--toolbox: {error}"),
        hint: Some("install a static one; on Debian: apt-get install busybox-static"),
        is_usage: false,
    })
}

/// The directory of `--reports`: it must exist and be writable before the build begins.
fn reports_dir(path: &Path) -> Result<PathBuf, Unusable> {
    let failed = |error: io::Error| cannot_write_to("--reports", path, &error);
    let path = beneath::real(path).map_err(failed)?;
    let dir = Dir::make_real(&path, 0o755).map_err(failed)?;
    dir.takes_names().map_err(failed)?;
    Ok(path)
}

fn named(option: &str, path: &Path) -> Result<NamedFile, Unusable> {
    NamedFile::open(path).map_err(|error| cannot_write(option, path, &error))
}

fn cannot_write(option: &str, path: &Path, error: &io::Error) -> Unusable {
    Unusable::usage(format!("{option}: cannot write {}: {error}", path.display()))
}

fn cannot_write_to(option: &str, path: &Path, error: &io::Error) -> Unusable {
    Unusable::usage(format!("{option}: cannot write to {}: {error}", path.display()))
}
