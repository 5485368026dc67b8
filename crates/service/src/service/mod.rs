//! The service: its database, its settings, and operations on projects.

mod batches;
#[cfg(test)]
mod kills;
mod logs;
pub mod queue;
mod steady;

use crate::db::builds::{self, BuildProgress};
use crate::db::projects::{self, Project, ProjectOrder};
use crate::db::{DatabaseOpenError, Db, DbError, OpenedDatabase, unmark};
use crate::index::{self, Looks};
use crate::logs::StreamIndexes;
use crate::model::{DescribedService, known};
use crate::pages::Sealer;
use crate::{project, record};
use queue::{Launcher, Queue};
use runner_folder::state::{BuildDir, Home, random};
use runner_host::clock;
use rusqlite::{Connection, OptionalExtension};
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use steady::Steady;

/// Maximum number of projects.
const MOST: i64 = 5000;

/// Settings of the service.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Maximum number of running builds.
    pub max_builds: usize,
    /// Maximum number of queued builds.
    pub max_queued: usize,
    /// Folders below this one are accepted as sources.
    pub source_root: Option<PathBuf>,
    /// Why builds may not be privileged, if so.
    pub no_privileges: Option<&'static str>,
}

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Exists(String),
    #[error("{0}")]
    Limit(String),
    #[error("the service is being stopped; nothing was done")]
    Stopping,
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The local CodeBuild.
pub struct Service {
    pub(crate) db: Db,
    pub(crate) home: Home,
    pub(crate) settings: ServiceSettings,
    pub(crate) queue: Queue,
    pub(crate) clock: Steady,
    pub(crate) places: Arc<Mutex<StreamIndexes>>,
    looks: Arc<Looks>,
    records: Arc<batches::Records>,
    sealer: Sealer,
}

impl Service {
    /// Opens the service of a state folder, whose `serve.lock` the caller holds. Returns messages,
    /// too. `rebuilds`: creates the index of builds again. Nothing starts before
    /// [`Self::take_up_all`].
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn open(
        home: &Home,
        settings: ServiceSettings,
        launcher: Arc<dyn Launcher>,
        rebuilds: bool,
    ) -> Result<(Arc<Self>, Vec<String>), DatabaseOpenError> {
        let OpenedDatabase { db, told, is_restored } = Db::open(home.root())?;
        let fresh = random::<32>()?;
        let key = db.write_now(move |connection| -> Result<Vec<u8>, DbError> {
            connection.execute("INSERT OR IGNORE INTO kv VALUES ('page-key', ?1)", [&fresh[..]])?;
            let text = "SELECT v FROM kv WHERE k = 'page-key'";
            Ok(connection.query_row(text, [], |row| row.get(0)).optional()?.unwrap_or_default())
        })?;
        let service = Arc::new(Service {
            db,
            home: home.clone(),
            settings,
            queue: Queue::new(home, launcher)?,
            clock: Steady::start(),
            places: Arc::default(),
            looks: Arc::default(),
            records: Arc::default(),
            sealer: Sealer::new(key),
        });
        if rebuilds {
            service.db.write_now(builds::forget_found)?;
        }
        index::finish_deletions(&service.db, home)?;
        batches::finish_deletions(&service.db, home)?;
        service.looks.refresh(&service.db, home)?;
        service.mend_queue(is_restored)?;
        Ok((service, told))
    }

    /// Corrects queued builds of a database opened later: no deadline may be further away than when
    /// it was set, whatever the clock has done since. If the database is an older copy, builds
    /// queued in it may have run since and do not run again.
    fn mend_queue(&self, is_restored: bool) -> Result<(), DbError> {
        let now = self.clock.now();
        let wall = clock::wall().epoch_millis();
        let home = self.home.clone();
        self.db.write_now(move |connection| {
            batches::mend(connection, is_restored, (wall, now))?;
            let mut waiting = builds::in_state(connection, BuildProgress::Queued)?;
            if is_restored {
                waiting.extend(builds::in_state(connection, BuildProgress::Starting)?);
            }
            for build in waiting {
                let has_folder = BuildDir::of(&home, &build.uuid).path().exists();
                if is_restored && has_folder {
                    builds::advance(
                        connection,
                        &build.uuid,
                        BuildProgress::Queued,
                        BuildProgress::Starting,
                    )?;
                } else if is_restored {
                    let why = "the database was broken: its last copy does not say whether this \
                               build has run";
                    let record = record::never_begun(&build, now, "FAULT", Some(why));
                    builds::end(connection, &build.uuid, &record, false)?;
                } else if build.deadline.is_some_and(|at| at > now + queue::patience(&build)) {
                    builds::set_deadline(connection, &build.uuid, now + queue::patience(&build))?;
                }
            }
            if is_restored {
                for state in [BuildProgress::Starting, BuildProgress::Live] {
                    for build in builds::in_state(connection, state)? {
                        // Its retry may have run already.
                        builds::without_retries(connection, &build)?;
                    }
                }
                unmark(connection)?;
            }
            Ok(())
        })
    }

    /// Updates the index with builds that others have started or removed.
    pub async fn refresh(&self) -> Result<(), DbError> {
        let (looks, db, home) = (Arc::clone(&self.looks), self.db.clone(), self.home.clone());
        let looked = tokio::task::spawn_blocking(move || looks.refresh(&db, &home));
        looked.await.unwrap_or(Err(DbError::Closed))
    }

    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    pub async fn project(&self, name: &str) -> Result<Option<Project>, DbError> {
        let name = name.to_owned();
        self.db.read(move |connection| projects::get(connection, &name)).await
    }

    pub async fn projects(&self, names: Vec<String>) -> Result<Vec<Option<Project>>, DbError> {
        let get = move |connection: &Connection| {
            names.iter().map(|name| projects::get(connection, name)).collect()
        };
        self.db.read(get).await
    }

    pub async fn create_project(&self, name: &str, input: &Value) -> Result<Project, Fault> {
        let input = known(DescribedService::CodeBuild, "CreateProject", input);
        let given = self.checked(project::given(&input)).await?;
        let now = clock::wall().epoch_millis();
        let name = name.to_owned();
        let new = Project { name, given, created: now, modified: now, cache_epoch: 0 };
        let make = move |connection: &Connection| {
            if projects::get(connection, &new.name)?.is_some() {
                let arn = project::project_arn(&new.name);
                return Err(Fault::Exists(format!("Project already exists: {arn}")));
            }
            if projects::count(connection)? >= MOST {
                return Err(Fault::Limit(format!("Cannot have more than {MOST} projects")));
            }
            projects::put(connection, &new)?;
            Ok(new)
        };
        self.db.write(make).await
    }

    pub async fn update_project(
        self: &Arc<Self>,
        name: &str,
        input: &Value,
    ) -> Result<Project, Fault> {
        let input = known(DescribedService::CodeBuild, "UpdateProject", input);
        loop {
            let old = self.project(name).await?.ok_or_else(|| no_project(name))?;
            let given = self.checked(project::updated(&old.given, &input)).await?;
            let now = clock::wall().epoch_millis();
            let change = move |connection: &Connection| {
                let current =
                    projects::get(connection, &old.name)?.ok_or_else(|| no_project(&old.name))?;
                // Keep only what was checked: if the project has changed meanwhile, start again.
                if current.given != old.given {
                    return Ok(None);
                }
                let new = Project { given, modified: now.max(current.modified), ..current };
                projects::put(connection, &new)?;
                Ok::<_, Fault>(Some(new))
            };
            if let Some(new) = self.db.write(change).await? {
                // A higher limit may make room for a queued build of a batch.
                self.begin().await;
                return Ok(new);
            }
        }
    }

    /// A project that passed all checks, including its folders.
    async fn checked(&self, given: Value) -> Result<Value, Fault> {
        let mut found = project::problems(&given);
        let root = self.settings.source_root.clone();
        let sources = given.clone();
        let folders = tokio::task::spawn_blocking(move || {
            crate::sources::problems(&sources, root.as_deref())
        });
        match folders.await {
            Ok(problems) => found.extend(problems),
            Err(error) => found.push(format!("Invalid source: it cannot be looked at: {error}")),
        }
        if found.is_empty() { Ok(given) } else { Err(Fault::Invalid(found.join("; "))) }
    }

    /// Deletes a project; a missing one is no error.
    pub async fn delete_project(&self, name: &str) -> Result<(), DbError> {
        let name = name.to_owned();
        self.db.write(move |connection| projects::delete(connection, &name)).await
    }

    /// Invalidates a project's caches for future builds.
    pub async fn invalidate_cache(&self, name: &str) -> Result<(), Fault> {
        let name = name.to_owned();
        let change = move |connection: &Connection| {
            let old = projects::get(connection, &name)?.ok_or_else(|| no_project(&name))?;
            let new = Project { cache_epoch: old.cache_epoch + 1, ..old };
            Ok(projects::put(connection, &new)?)
        };
        self.db.write(change).await
    }

    pub async fn list_projects(
        &self,
        order: ProjectOrder,
        is_descending: bool,
        after: Option<projects::AfterProject>,
        most: usize,
    ) -> Result<Vec<(String, projects::AfterProject)>, DbError> {
        let list = move |connection: &Connection| {
            projects::list(connection, order, is_descending, after.as_ref(), most)
        };
        self.db.read(list).await
    }

    /// Writes a copy of the database before closing.
    pub fn close(&self) -> Result<(), DbError> {
        self.db.back_up()
    }
}

pub(crate) fn no_project(name: &str) -> Fault {
    Fault::NotFound(format!("Project cannot be found: {}", project::project_arn(name)))
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Db(DbError::File(error.to_string()))
    }
}
