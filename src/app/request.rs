//! What a build is asked for with, options and files resolved to their ends.
//!
//! Made by `cli::run`, carried out by `app`.

use super::buildspec::BuildspecFile;
use super::shown::LogsWanted;
use crate::amazon;
use crate::engine::unseen::Unseen;
use crate::engine::{Kind, Network, SourceMount, UserMount};
use crate::image::{Asker, Image};
use crate::named::{Named, Place};
use crate::outputs::cache::CacheTo;
use crate::outputs::{Destinations, LeavingPlaces, Store};
use crate::secrets::Vault;
use crate::session::LogDir;
use runner_core::env::Variables;
use runner_core::plan::{Limits, Stops};
use runner_core::spec::{BuildSpec, Diagnostic};
use runner_sandbox::Toolbox;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One build, as asked for.
pub(crate) struct RunRequest {
    pub(crate) project: String,
    /// Resolved to its end.
    pub(crate) source: PathBuf,
    /// Further ones, by their identifiers.
    pub(crate) secondary_sources: Vec<(String, PathBuf)>,
    pub(crate) buildspec: BuildspecFile,
    /// What the buildspec says, or what is wrong with it.
    pub(crate) spec: Result<BuildSpec, Vec<Diagnostic>>,
    pub(crate) engine: Kind,
    pub(crate) image: Image,
    /// Who asks a registry for it.
    pub(crate) asker: Asker,
    pub(crate) mounts: Vec<UserMount>,
    /// The state folder, which no build sees.
    pub(crate) unseen: Unseen,
    pub(crate) sessions: bool,
    pub(crate) limits: Limits,
    /// Where it stops.
    pub(crate) stops: Stops,
    /// What the container may use of the machine.
    pub(crate) resources: runner_sandbox::Limits,
    pub(crate) network: Network,
    pub(crate) privileged: bool,
    /// Programs for sessions.
    pub(crate) toolbox: Option<Toolbox>,
    pub(crate) session_idle_timeout: Duration,
    pub(crate) session_max_duration: Option<Duration>,
    /// Where transcripts of sessions go.
    pub(crate) session_log: Option<LogDir>,
    pub(crate) variables: Variables,
    pub(crate) masked: Vec<String>,
    /// Where reports go, if they are to be written.
    pub(crate) reports: Option<PathBuf>,
    /// Where artifacts go.
    pub(crate) artifacts: Option<Destinations>,
    /// Where the cache is.
    pub(crate) cache: Option<CacheTo>,
    /// Whose AWS credentials the build gets.
    pub(crate) aws: Option<amazon::Identity>,
    /// Where values come from that the buildspec does not hold.
    pub(crate) vault: Arc<Vault>,
    pub(crate) format: LogFormat,
    pub(crate) build_json: Option<Named>,
    /// Where on AWS the log goes as well.
    pub(crate) logs: LogsWanted,
    /// A file that gets the log as well, and its name.
    pub(crate) log_file: Option<(PathBuf, fs::File)>,
    /// Whether GitHub is told of failures at their places.
    pub(crate) annotate: bool,
    pub(crate) quiet: bool,
}

/// How a build is shown on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    CodeBuild,
    Json,
}

impl RunRequest {
    /// Where builds with these options leave things in the source, if it is there.
    pub(super) fn leavings(&self, sources: &[SourceMount]) -> LeavingPlaces {
        let cache = self.cache.iter().filter_map(|cache| match &cache.store {
            Store::Folder(folder) => Some(folder.clone()),
            Store::Bucket(_) => None,
        });
        let still = self.artifacts.iter().flat_map(Destinations::places).chain(cache);
        let record = self.build_json.as_ref().and_then(Named::place).map(Place::path);
        let still = still.chain(self.reports.clone()).chain(record);
        let live = self.log_file.iter().map(|(path, _)| path.clone());
        let places = still.map(|place| (place, false)).chain(live.map(|place| (place, true)));
        let absolute = |(place, is_live)| Some((std::path::absolute(place).ok()?, is_live));
        let sources: Vec<_> =
            sources.iter().map(|source| (source.dir.clone(), source.target.clone())).collect();
        LeavingPlaces::new(places.filter_map(absolute), &sources)
    }
}
