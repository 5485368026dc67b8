//! Operations on builds: accept, stop while queued, retry, delete.

use super::settle::{BuildEnd, note};
use crate::batch::{COMBINE, DOWNLOAD};
use crate::db::builds::{self, BuildProgress, ShownBuild, StoredBuild};
use crate::db::projects::{self, Project};
use crate::db::tokens::{self, RequestToken, TokenLookup};
use crate::db::{Db, DbError};
use crate::model::{DescribedService, known};
use crate::project::{self, Merged};
use crate::record;
use crate::service::batches::Follow;
use crate::service::{Fault, Service, no_project};
use runner_folder::state::{BuildDir, Home};
use runner_host::clock;
use runner_host::private::remove_tree;
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The results of deletions, by ARN.
#[derive(Debug, Default)]
pub struct Deleted {
    pub gone: Vec<String>,
    pub alive: Vec<String>,
    /// With the reason.
    pub failed: Vec<(String, String)>,
}

/// Maximum time a build waits, in milliseconds.
pub(crate) fn patience(build: &StoredBuild) -> i64 {
    build.order.as_ref().map_or(0, patience_of)
}

fn patience_of(order: &Value) -> i64 {
    order["project"]["queuedTimeoutInMinutes"].as_i64().unwrap_or(480) * 60_000
}

/// A build queued now, by the wall clock and by the clock of deadlines.
pub(crate) fn queued(
    home: &Home,
    project: &str,
    uuid: String,
    order: Value,
    (now, steady): (i64, i64),
) -> Result<StoredBuild, DbError> {
    let number = home.next_number(project).map_err(|error| DbError::File(error.to_string()))?;
    Ok(StoredBuild {
        log: record::log_names(project, &uuid, &order),
        uuid,
        seq: 0,
        project: project.to_owned(),
        number: i64::try_from(number).unwrap_or(i64::MAX),
        state: BuildProgress::Queued,
        status: "IN_PROGRESS".to_owned(),
        requested: now,
        deadline: Some(steady + patience_of(&order)),
        order: Some(order),
        record: None,
    })
}

/// A new uuid for a build or batch.
pub(crate) fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Whether the build works only for its batch and has no commands.
fn has_no_command(build: &StoredBuild) -> bool {
    matches!(build.batch(), Some((_, DOWNLOAD | COMBINE)))
}

/// A retry does not use a cache that was invalidated since. A deleted project has no future caches.
pub(crate) fn renew_cache(
    connection: &Connection,
    project: &str,
    order: &mut Value,
) -> Result<(), DbError> {
    if let Some(project) = projects::get(connection, project)? {
        order["cacheEpoch"] = json!(project.cache_epoch);
    }
    Ok(())
}

impl Service {
    /// Accepts a build. `name` is the project's; `caller` is the requester.
    ///
    /// # Errors
    /// No build was created and nothing has changed.
    pub async fn start_build(
        self: &Arc<Self>,
        name: &str,
        input: &Value,
        caller: &str,
    ) -> Result<StoredBuild, Fault> {
        let input = &known(DescribedService::CodeBuild, "StartBuild", input);
        let project = self.project(name).await?.ok_or_else(|| no_project(name))?;
        let invalid = |found: Vec<String>| Fault::Invalid(found.join("; "));
        let Merged { project: merged, has_sessions } =
            project::merge(name, &project.given, input).map_err(invalid)?;
        self.check_privileges(&merged, input)?;
        self.check_sources(&merged).await?;
        let order = json!({
            "project": merged,
            "sessions": has_sessions,
            "initiator": caller,
            "cacheEpoch": project.cache_epoch,
            "autoRetryConfig": {
                "autoRetryLimit": merged["autoRetryLimit"].as_i64().unwrap_or(0),
                "autoRetryNumber": 0,
            },
        });
        self.take_in("StartBuild", project, order, input, caller).await
    }

    /// Retries a build with its original settings.
    pub async fn retry_build(
        self: &Arc<Self>,
        old: &StoredBuild,
        input: &Value,
        caller: &str,
    ) -> Result<StoredBuild, Fault> {
        if !old.state.has_ended() {
            return Err(Fault::Invalid(format!("Build {} has not ended", old.id())));
        }
        let Some(mut order) = old.order.clone() else {
            return Err(Fault::Invalid(format!(
                "Build {} was begun by `runner run`, and only that can run it again",
                old.id()
            )));
        };
        if let Some((batch, _)) = old.batch() {
            return Err(Fault::Invalid(format!(
                "Build {} belongs to batch {}:{batch}, and RetryBuildBatch runs it again",
                old.id(),
                old.project
            )));
        }
        if let (Some(why), true) =
            (self.settings.no_privileges, project::is_privileged(&order["project"]))
        {
            return Err(Fault::Invalid(format!("Invalid build {}: {why}", old.id())));
        }
        order["initiator"] = json!(caller);
        let limit = order["autoRetryConfig"]["autoRetryLimit"].clone();
        order["autoRetryConfig"] = json!({"autoRetryLimit": limit, "autoRetryNumber": 0});
        let project = self.project(&old.project).await?.ok_or_else(|| no_project(&old.project))?;
        self.take_in("RetryBuild", project, order, input, caller).await
    }

    async fn take_in(
        self: &Arc<Self>,
        operation: &'static str,
        project: Project,
        mut order: Value,
        input: &Value,
        caller: &str,
    ) -> Result<StoredBuild, Fault> {
        if self.queue.is_draining() {
            return Err(Fault::Stopping);
        }
        let token = token(operation, input, caller);
        let (home, settings) = (self.home.clone(), self.settings.clone());
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let insert = move |connection: &Connection| -> Result<StoredBuild, Fault> {
            if let Some(uuid) = made_before(connection, token.as_ref())? {
                let made = builds::get(connection, &uuid)?;
                return made.ok_or_else(|| Fault::NotFound(format!("Build {uuid} is gone")));
            }
            let project = projects::get(connection, &project.name)?
                .ok_or_else(|| no_project(&project.name))?;
            if let Some(limit) = project.given["concurrentBuildLimit"].as_u64()
                && builds::active(connection, &project.name)? as u64 >= limit
            {
                let name = &project.name;
                return Err(Fault::Limit(format!(
                    "Cannot have more than {limit} builds running for the project {name}"
                )));
            }
            let free = settings.max_builds.saturating_sub(builds::running(connection)?);
            if builds::queued(connection)? >= settings.max_queued + free {
                let most = settings.max_queued;
                return Err(Fault::Limit(format!(
                    "Cannot have more than {most} builds in queue for the account"
                )));
            }
            order["cacheEpoch"] = json!(project.cache_epoch);
            let build = queued(&home, &project.name, new_uuid(), order, now)?;
            builds::insert(connection, &build)?;
            if let Some(token) = &token {
                tokens::keep(connection, token, &build.uuid)?;
            }
            Ok(build)
        };
        let service = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || service.insert_and_turn(insert)).await;
        let build = taken.unwrap_or_else(|_| Err(DbError::Closed.into()))?;
        self.queue.waiting.notify_one();
        Ok(build)
    }

    /// Ends a queued build. Returns whether it was queued.
    pub async fn stop_queued(self: &Arc<Self>, uuid: &str) -> Result<bool, DbError> {
        let (of, home) = (uuid.to_owned(), self.home.clone());
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let stop = move |connection: &Connection| -> Result<Option<Follow>, DbError> {
            match builds::get(connection, &of)? {
                // Its preparations may take long, and it has no command to wait for.
                Some(build) if build.state == BuildProgress::Starting && has_no_command(&build) => {
                    Ok(Some(Follow { to_stop: vec![of], ..Follow::default() }))
                }
                Some(build) if build.state == BuildProgress::Queued => {
                    let record = record::never_begun(&build, now.0, "STOPPED", None);
                    let end = BuildEnd { build: &build, record, has_folder: false, planned: None };
                    note(connection, &home, end, now).map(Some)
                }
                _ => Ok(None),
            }
        };
        let stopped = self.db.write(stop).await;
        self.queue.tell();
        let Some(follow) = stopped? else { return Ok(false) };
        if self.follow(follow).await {
            self.begin().await;
        }
        Ok(true)
    }

    /// The build with this uuid, if the service knows it.
    pub async fn build(&self, uuid: &str) -> Result<Option<StoredBuild>, DbError> {
        let uuid = uuid.to_owned();
        self.db.read(move |connection| builds::get(connection, &uuid)).await
    }

    /// The builds with these uuids, in order.
    pub async fn builds(&self, uuids: Vec<String>) -> Result<Vec<Option<ShownBuild>>, DbError> {
        self.db.read(move |connection| builds::get_all(connection, &uuids)).await
    }

    pub async fn list_builds(
        &self,
        project: Option<String>,
        is_descending: bool,
        after: Option<builds::AfterBuild>,
        most: usize,
    ) -> Result<Vec<(String, builds::AfterBuild)>, DbError> {
        self.refresh().await?;
        let list = move |connection: &Connection| {
            builds::list(connection, project.as_deref(), is_descending, after, most)
        };
        self.db.read(list).await
    }

    /// Deletes those of these builds that have ended.
    pub async fn delete_builds(&self, uuids: Vec<String>) -> Result<Deleted, DbError> {
        self.refresh().await?;
        let (db, home) = (self.db.clone(), self.home.clone());
        let delete = move || {
            let mut deleted = Deleted::default();
            for uuid in uuids {
                delete_one(&db, &home, uuid, &mut deleted)?;
            }
            Ok(deleted)
        };
        let deleted = tokio::task::spawn_blocking(delete).await;
        deleted.unwrap_or(Err(DbError::Closed))
    }
}

/// Deletes a build: first its visible state, then its folder, then its row. If it is killed in
/// between, the next `serve` continues.
pub(crate) fn delete_one(
    db: &Db,
    home: &Home,
    uuid: String,
    deleted: &mut Deleted,
) -> Result<(), DbError> {
    let of = uuid.clone();
    let build = db.write_now(move |connection| -> Result<_, DbError> {
        let build = builds::get(connection, &of)?;
        builds::advance(connection, &of, BuildProgress::Ended, BuildProgress::Gone)?;
        Ok(build)
    })?;
    let Some(build) = build else { return Ok(()) };
    let arn = record::build_arn(&build.id());
    match build.state {
        BuildProgress::Gone => {}
        BuildProgress::Queued | BuildProgress::Starting | BuildProgress::Live => {
            deleted.alive.push(arn);
        }
        BuildProgress::Ended => match remove_tree(BuildDir::of(home, &uuid).path()) {
            Ok(()) => {
                db.write_now(move |connection| builds::forget(connection, &uuid))?;
                deleted.gone.push(arn);
            }
            Err(error) => {
                tracing::warn!(%error, "the folder of a build that is to be deleted stays");
                db.write_now(move |connection| {
                    builds::advance(connection, &uuid, BuildProgress::Gone, BuildProgress::Ended)
                })?;
                deleted.failed.push((arn, error.to_string()));
            }
        },
    }
    Ok(())
}

/// What the same call created before.
pub(crate) fn made_before(
    connection: &Connection,
    token: Option<&RequestToken>,
) -> Result<Option<String>, Fault> {
    let Some(token) = token else { return Ok(None) };
    match tokens::find(connection, token)? {
        TokenLookup::Nothing => Ok(None),
        TokenLookup::Same(uuid) => Ok(Some(uuid)),
        TokenLookup::Other => Err(Fault::Invalid(format!(
            "Idempotency token {} was used with other parameters",
            token.token
        ))),
    }
}

/// A call's token, with a digest of the rest of its input.
pub(crate) fn token(operation: &'static str, input: &Value, caller: &str) -> Option<RequestToken> {
    let token = input["idempotencyToken"].as_str()?.to_owned();
    let mut rest = input.clone();
    rest.as_object_mut()?.remove("idempotencyToken");
    // Members are sorted by name.
    let digest = Sha256::digest(rest.to_string().as_bytes()).to_vec();
    Some(RequestToken { operation, caller: caller.to_owned(), token, digest })
}
