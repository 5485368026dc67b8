//! The builds of this machine as AWS's calls see them, live ones included.
//!
//! A live build's record comes from its log, which is read on from the last position.

use super::call::RefusedCall;
use runner_client::{ClientError, SharedClient};
use runner_core::agent::PropertyLayer;
use runner_core::record::{Build, record};
use runner_core::view::BuildView;
use runner_folder::events::Follower;
use runner_folder::state::{
    self, BuildDir, BuildNeed, ClusterTable, Clusters, DEFAULT_CLUSTER, Home, StateError, Task,
    all_builds, live_builds,
};
use runner_host::clock;
use runner_wire::control::{ControlRequest, ControlResponse, ControlStatus};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Open logs above which those of ended builds are closed.
const FOLLOWED: usize = 64;

/// A build with its record.
#[derive(Clone, Debug)]
pub(crate) struct VisibleBuild {
    pub(crate) record: Build,
    pub(crate) dir: BuildDir,
    pub(crate) uuid: String,
    /// Whether it has not ended.
    pub(crate) is_live: bool,
    /// The build as a task of ECS.
    pub(super) task: Task,
}

/// The builds of one state folder.
#[derive(Clone)]
pub(super) struct Builds {
    home: Home,
    logs: Arc<Mutex<HashMap<String, Follower>>>,
    pub(super) clusters: Arc<Clusters>,
}

/// What builds are as tasks.
pub(super) struct BuildTasks(Option<Arc<ClusterTable>>);

impl BuildTasks {
    pub(super) fn of(&self, uuid: &str) -> Option<Task> {
        let table = self.0.as_ref()?;
        let new = || Task::new(DEFAULT_CLUSTER, clock::wall());
        Some(table.tasks.get(uuid).cloned().unwrap_or_else(new))
    }
}

impl Builds {
    pub(super) fn of(home: &Home) -> Self {
        let clusters = Arc::new(Clusters::of(home));
        Builds { home: home.clone(), logs: Arc::default(), clusters }
    }

    /// The state folder of the builds.
    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// What a build is as a task.
    pub(super) fn task(&self, uuid: &str) -> Option<Task> {
        self.tasks().of(uuid)
    }

    /// What builds are as tasks, by one look. Where that cannot be read there is no such build:
    /// rules about its cluster and its tags would not hold.
    pub(super) fn tasks(&self) -> BuildTasks {
        let table = self.clusters.current().inspect_err(|error| {
            tracing::error!(%error, "the clusters cannot be read, so no build can be shown");
        });
        BuildTasks(table.ok())
    }

    /// The build with this uuid.
    pub(super) async fn get(&self, uuid: &str) -> Option<VisibleBuild> {
        // Only a uuid names a folder.
        let uuid = uuid::Uuid::try_parse(uuid).ok()?.hyphenated().to_string();
        self.read(move |builds| builds.one(&uuid)).await.flatten()
    }

    /// The live build that the user means, found as every verb finds one. The error lists the
    /// candidates.
    pub(super) async fn find(&self, wanted: &str) -> Result<VisibleBuild, String> {
        let wanted = wanted.to_owned();
        let found = self.read(move |builds| {
            let found = state::find(&builds.home, Some(&wanted), BuildNeed::Live);
            let found = found.map_err(|error| error.in_full())?;
            builds.one(&found.uuid).ok_or_else(|| format!("build {} is gone", found.id))
        });
        found.await.unwrap_or_else(|| Err("the builds could not be looked through".to_owned()))
    }

    /// All builds, the newest first.
    pub(super) async fn all(&self) -> Result<Vec<VisibleBuild>, RefusedCall> {
        self.list(|home| Ok(all_builds(home)?.0)).await
    }

    /// Builds that have not ended, the newest first.
    pub(super) async fn live(&self) -> Result<Vec<VisibleBuild>, RefusedCall> {
        let mut live = self.list(live_builds).await?;
        live.retain(|known| known.is_live);
        Ok(live)
    }

    /// Fails if the state folder cannot be read: an empty list would be wrong.
    async fn list(
        &self,
        look: fn(&Home) -> Result<Vec<state::KnownBuild>, StateError>,
    ) -> Result<Vec<VisibleBuild>, RefusedCall> {
        let listed = self.read(move |builds| {
            let known = look(&builds.home)?;
            Ok(builds.sorted(known.into_iter().map(|known| known.uuid)))
        });
        let failed = |error: String| RefusedCall::new("InternalFailure", error).with_status(500);
        match listed.await {
            Some(listed) => listed.map_err(|error: StateError| failed(error.to_string())),
            None => Err(failed("the builds could not be looked through".to_owned())),
        }
    }

    fn sorted(&self, uuids: impl Iterator<Item = String>) -> Vec<VisibleBuild> {
        let mut known: Vec<VisibleBuild> = uuids.filter_map(|uuid| self.one(&uuid)).collect();
        known.sort_by(|a, b| {
            b.record.start_time.total_cmp(&a.record.start_time).then_with(|| b.uuid.cmp(&a.uuid))
        });
        known
    }

    /// Reads files on a blocking thread.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Builds) -> T + Send + 'static,
    ) -> Option<T> {
        let builds = self.clone();
        tokio::task::spawn_blocking(move || read(&builds)).await.ok()
    }

    fn one(&self, uuid: &str) -> Option<VisibleBuild> {
        let dir = BuildDir::of(&self.home, uuid);
        let task = self.task(uuid)?;
        let known = |record, is_live| {
            let (dir, uuid) = (dir.clone(), uuid.to_owned());
            Some(VisibleBuild { record, dir, uuid, is_live, task: task.clone() })
        };
        if let Some(ended) = dir.record().ok()? {
            self.logs.lock().unwrap_or_else(PoisonError::into_inner).remove(uuid);
            return known(ended, false);
        }
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if !dir.path().exists() {
            // The build was deleted, but its open log would still show it.
            logs.remove(uuid);
            return None;
        }
        if logs.len() >= FOLLOWED && !logs.contains_key(uuid) {
            logs.retain(|uuid, _| is_live(&self.home, uuid));
        }
        let made = record(follow(&mut logs, uuid, &dir).ok()??);
        let is_live = !made.build_complete;
        known(made, is_live)
    }
}

fn is_live(home: &Home, uuid: &str) -> bool {
    let dir = BuildDir::of(home, uuid);
    dir.path().exists() && !dir.has_record()
}

fn follow<'a>(
    logs: &'a mut HashMap<String, Follower>,
    uuid: &str,
    dir: &BuildDir,
) -> io::Result<Option<&'a BuildView>> {
    let log = match logs.entry(uuid.to_owned()) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(place) => place.insert(Follower::open(dir)?),
    };
    log.catch_up()
}

impl VisibleBuild {
    /// Asks the owner for the build's status.
    pub(crate) async fn status(&self) -> Result<ControlStatus, ClientError> {
        match SharedClient::connect(&self.dir).await?.ask(&ControlRequest::Status).await? {
            ControlResponse::Status(status) => Ok(status),
            other => Err(other.into()),
        }
    }

    /// Asks for the agent's settings in the build's image.
    pub(super) async fn image_agent(&self) -> Result<Option<PropertyLayer>, ClientError> {
        match SharedClient::connect(&self.dir).await?.ask(&ControlRequest::Agent).await? {
            ControlResponse::Agent { image, .. } => Ok(image),
            other => Err(other.into()),
        }
    }
}
