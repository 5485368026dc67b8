//! Batches: starts, stops, retries and deletes them, and reads their definition from the source.

mod found;
pub(crate) mod step;
#[cfg(test)]
mod tests;

use crate::batch::{BatchProgress, DOWNLOAD, PlannedBatch, Rejected, Single, order};
use crate::db::batches::{self, AfterBatch, Batch, BatchFilter};
use crate::db::builds::{self, BuildProgress, StoredBuild};
use crate::db::{Db, DbError, projects, tokens};
use crate::model::{DescribedService, known};
use crate::project;
use crate::record;
use crate::service::queue::{self, Deleted};
use crate::service::{Fault, Service, no_project};
use crate::sources;
use runner_core::batch::{BatchInput, BatchMachine, BatchPlan, RetryType};
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_folder::state::{BatchDir, Home};
use runner_host::clock;
use runner_host::private::remove_tree;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::sync::Arc;
use step::wall;

pub(crate) use found::Records;

/// How long the row of an ended batch is kept: as long as its folder.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// What to do once a change is on disk.
#[derive(Debug, Default)]
pub(crate) struct Follow {
    /// Builds to stop.
    pub(crate) to_stop: Vec<String>,
    /// Batches whose source is no longer needed.
    pub(crate) over: Vec<String>,
    /// Whether a new build is queued.
    pub(crate) has_new: bool,
}

impl Follow {
    pub(crate) fn join(&mut self, other: Follow) {
        self.to_stop.extend(other.to_stop);
        self.over.extend(other.over);
        self.has_new |= other.has_new;
    }
}

impl Service {
    /// Carries it out. Returns whether a new build is queued.
    pub(crate) async fn follow(self: &Arc<Self>, follow: Follow) -> bool {
        let (service, has_new) = (Arc::clone(self), follow.has_new);
        // It waits for the queue, and removes folders.
        let followed = tokio::task::spawn_blocking(move || service.follow_now(follow)).await;
        followed.unwrap_or(has_new)
    }

    /// The same for threads.
    pub(crate) fn follow_now(self: &Arc<Self>, follow: Follow) -> bool {
        self.stop_all(follow.to_stop);
        for uuid in follow.over {
            release(&self.home, &uuid);
        }
        if follow.has_new {
            // `expire` may sleep until the next deadline.
            self.queue.waits();
        }
        follow.has_new
    }

    /// Accepts a batch. `name` is the project's; `caller` is the requester.
    ///
    /// # Errors
    /// No batch was created and nothing has changed.
    pub async fn start_batch(
        self: &Arc<Self>,
        name: &str,
        input: &Value,
        caller: &str,
    ) -> Result<Batch, Fault> {
        let input = &known(DescribedService::CodeBuild, "StartBuildBatch", input);
        let project = self.project(name).await?.ok_or_else(|| no_project(name))?;
        let invalid = |found: Vec<String>| Fault::Invalid(found.join("; "));
        let order = order::of_batch(name, &project.given, input, caller).map_err(invalid)?;
        self.check_privileges(&order["project"], input)?;
        self.check_sources(&order["project"]).await?;
        self.take_batch_in(name, order, input, caller).await
    }

    /// Rejects privileges if no build may have them.
    pub(crate) fn check_privileges(&self, project: &Value, input: &Value) -> Result<(), Fault> {
        match (self.settings.no_privileges, project::overridden_privileges(project, input)) {
            (Some(why), Some(member)) => Err(Fault::Invalid(format!("Invalid {member}: {why}"))),
            _ => Ok(()),
        }
    }

    /// Checks the folders that a project names.
    pub(crate) async fn check_sources(&self, project: &Value) -> Result<(), Fault> {
        let root = self.settings.source_root.clone();
        let project = project.clone();
        let looked =
            tokio::task::spawn_blocking(move || sources::problems(&project, root.as_deref()));
        match looked.await {
            Ok(found) if found.is_empty() => Ok(()),
            Ok(found) => Err(Fault::Invalid(found.join("; "))),
            Err(error) => {
                Err(Fault::Invalid(format!("Invalid source: it cannot be looked at: {error}")))
            }
        }
    }

    async fn take_batch_in(
        self: &Arc<Self>,
        name: &str,
        mut order: Value,
        input: &Value,
        caller: &str,
    ) -> Result<Batch, Fault> {
        if self.queue.is_draining() {
            return Err(Fault::Stopping);
        }
        let token = queue::token("StartBuildBatch", input, caller);
        let (home, name) = (self.home.clone(), name.to_owned());
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let insert = move |connection: &Connection| -> Result<(Batch, Follow), Fault> {
            if let Some(uuid) = queue::made_before(connection, token.as_ref())? {
                let made = batches::get(connection, &uuid)?;
                let gone = || Fault::NotFound(format!("Build batch {uuid} is gone"));
                return made.map(|batch| (batch, Follow::default())).ok_or_else(gone);
            }
            let project = projects::get(connection, &name)?.ok_or_else(|| no_project(&name))?;
            order["cacheEpoch"] = json!(project.cache_epoch);
            batches::forget_old(connection, now.0 - KEPT_MS)?;
            let batch = new_batch(&home, &name, order, now)?;
            batches::insert(connection, &batch)?;
            if let Some(token) = &token {
                tokens::keep(connection, token, &batch.uuid)?;
            }
            let follow = step::begun(connection, &home, batch.clone(), false, now)?;
            Ok((batch, follow))
        };
        let (batch, follow) = self.db.write(insert).await?;
        self.follow(follow).await;
        self.begin().await;
        Ok(batch)
    }

    /// Stops a batch. It ends at once, even while its last builds are still ending.
    pub async fn stop_batch(self: &Arc<Self>, uuid: &str) -> Result<Option<Batch>, DbError> {
        let (of, home) = (uuid.to_owned(), self.home.clone());
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let stop = move |connection: &Connection| -> Result<Follow, DbError> {
            match batches::get(connection, &of)? {
                // Ignore a second stop: it would wait for nothing.
                Some(batch) if batch.progress.machine.is_being_stopped() => Ok(Follow::default()),
                Some(batch) if batch.state == BuildProgress::Live => {
                    step::stopped(connection, &home, batch, BatchInput::Stop, now)
                }
                _ => Ok(Follow::default()),
            }
        };
        let follow = self.db.write(stop).await?;
        self.follow(follow).await;
        self.queue.tell();
        self.batch(uuid).await
    }

    /// Retries a batch, which keeps its id and number.
    pub async fn retry_batch(
        self: &Arc<Self>,
        old: &Batch,
        input: &Value,
        caller: &str,
    ) -> Result<Batch, Fault> {
        if self.queue.is_draining() {
            return Err(Fault::Stopping);
        }
        let what = match input["retryType"].as_str() {
            Some("RETRY_FAILED_BUILDS") => RetryType::Failed,
            _ => RetryType::All,
        };
        self.check_privileges(&old.order["project"], &json!({}))?;
        self.check_sources(&old.order["project"]).await?;
        let token = queue::token("RetryBuildBatch", input, caller);
        let (uuid, home) = (old.uuid.clone(), self.home.clone());
        let has_source = BatchDir::of(&self.home, &uuid).sources().exists();
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let retry = move |connection: &Connection| -> Result<Follow, Fault> {
            if queue::made_before(connection, token.as_ref())?.is_some() {
                return Ok(Follow::default());
            }
            let gone = || Fault::NotFound(format!("Build batch {uuid} is gone"));
            let found = batches::get(connection, &uuid)?;
            let mut batch =
                found.filter(|batch| batch.state != BuildProgress::Gone).ok_or_else(gone)?;
            for of in batches::builds(connection, &uuid)? {
                // The batch of a damaged database: its source is in use.
                let build = builds::get(connection, &of)?;
                if build.is_some_and(|build| build.state.has_process()) {
                    let text = "Invalid build batch: not all of its builds have ended";
                    return Err(Fault::Invalid(text.to_owned()));
                }
            }
            let keeps_source = retried(&mut batch, what, has_source, now)?;
            queue::renew_cache(connection, &batch.project.clone(), &mut batch.order)?;
            batches::put(connection, &batch)?;
            if let Some(token) = &token {
                tokens::keep(connection, token, &batch.uuid)?;
            }
            Ok(step::begun(connection, &home, batch, keeps_source, now)?)
        };
        let follow = self.db.write(retry).await?;
        self.follow(follow).await;
        self.begin().await;
        let gone = || Fault::NotFound(format!("Build batch {} is gone", old.id()));
        self.batch(&old.uuid).await?.ok_or_else(gone)
    }

    /// The batch with this uuid.
    pub async fn batch(&self, uuid: &str) -> Result<Option<Batch>, DbError> {
        let uuid = uuid.to_owned();
        self.db.read(move |connection| batches::get(connection, &uuid)).await
    }

    /// The batches with these uuids, in order.
    pub async fn batches(&self, uuids: Vec<String>) -> Result<Vec<Option<Batch>>, DbError> {
        self.db.read(move |connection| batches::get_all(connection, &uuids)).await
    }

    /// A page of the list of batches that have a row.
    async fn list_own_batches(
        &self,
        filter: BatchFilter,
        is_descending: bool,
        after: Option<AfterBatch>,
        most: usize,
    ) -> Result<Vec<(String, AfterBatch)>, DbError> {
        let list = move |connection: &Connection| {
            batches::list(connection, &filter, is_descending, after, most)
        };
        self.db.read(list).await
    }

    /// Deletes a batch with its builds if all have ended. Returns which are deleted and which still
    /// live.
    pub async fn delete_batch(&self, uuid: &str) -> Result<Deleted, DbError> {
        let (db, home, uuid) = (self.db.clone(), self.home.clone(), uuid.to_owned());
        let deleted = tokio::task::spawn_blocking(move || delete(&db, &home, &uuid)).await;
        deleted.unwrap_or(Err(DbError::Closed))
    }

    /// Reads a batch's definition from the source that this build has got.
    pub(crate) fn planned(
        self: &Arc<Self>,
        build: &StoredBuild,
        record: &Value,
    ) -> Option<Result<PlannedBatch, Rejected>> {
        let (uuid, identifier) = build.batch()?;
        if identifier != DOWNLOAD || record["buildStatus"] != "SUCCEEDED" {
            return None;
        }
        let batch = match self.db.read_now(|connection| batches::get(connection, uuid)) {
            Ok(batch) => batch?,
            Err(error) => return Some(Err(unread(&error.to_string()))),
        };
        let planned = self.queue.plan(&self.start(build));
        Some(planned.and_then(|planned| self.check_plan(batch, planned)))
    }

    /// Checks the settings of every build of a plan before the first one begins.
    fn check_plan(
        &self,
        mut batch: Batch,
        planned: PlannedBatch,
    ) -> Result<PlannedBatch, Rejected> {
        batch.progress.commit.clone_from(&planned.commit);
        let mut found: Vec<String> = Vec::new();
        for build in &planned.plan.builds {
            match order::child(&batch, build) {
                Err(problems) => found.extend(problems),
                Ok(order) => {
                    let root = self.settings.source_root.as_deref();
                    found.extend(sources::problems(&order["project"], root));
                }
            }
        }
        found.dedup();
        if found.is_empty() {
            return Ok(planned);
        }
        let context = PhaseContext::new(StatusCode::ClientError, found.join("; "));
        Err(Rejected { status: Status::Failed, context })
    }
}

fn unread(why: &str) -> Rejected {
    let context = PhaseContext::new(StatusCode::InternalServiceError, why);
    Rejected { status: Status::Fault, context }
}

fn new_batch(home: &Home, project: &str, order: Value, now: (i64, i64)) -> Result<Batch, DbError> {
    let failed = |error: std::io::Error| DbError::File(error.to_string());
    let number =
        home.next_batch_number(project).map_err(|error| DbError::File(error.to_string()))?;
    let number =
        i64::try_from(number).map_err(|_| failed(std::io::ErrorKind::InvalidData.into()))?;
    let asked = wall(now);
    let machine = BatchMachine::new(BatchPlan::default(), Vec::new(), usize::MAX, asked);
    let arn = record::build_arn(&format!("{project}:{}", queue::new_uuid()));
    Ok(Batch {
        uuid: queue::new_uuid(),
        seq: 0,
        project: project.to_owned(),
        number,
        state: BuildProgress::Live,
        status: Status::InProgress.name().to_owned(),
        requested: now.0,
        deadline: Some(now.1 + order::patience(&order)),
        progress: BatchProgress {
            machine: machine.combining(order::combines(&order)),
            download: Single::new(arn, asked),
            combine: None,
            commit: None,
            stopped: None,
            reports: std::collections::BTreeSet::new(),
            places: std::collections::BTreeMap::new(),
            artifacts: None,
        },
        order,
    })
}

/// Prepares a batch for a retry. Returns whether its existing source is used.
fn retried(
    batch: &mut Batch,
    what: RetryType,
    has_source: bool,
    now: (i64, i64),
) -> Result<bool, Fault> {
    let project = batch.project.clone();
    let new = || record::build_arn(&format!("{project}:{}", queue::new_uuid()));
    let progress = &mut batch.progress;
    let keeps_source = what == RetryType::Failed && progress.download.status == Status::Succeeded;
    if keeps_source && !has_source {
        return Err(Fault::Invalid(
            "Invalid retryType: the source of this batch is no longer stored: RETRY_ALL_BUILDS"
                .to_owned(),
        ));
    }
    let again = progress.machine.retry(what, |_| new(), wall(now));
    again.map_err(|error| Fault::Invalid(format!("Invalid build batch: {error}")))?;
    if !keeps_source {
        progress.download = progress.download.again(new(), wall(now), DOWNLOAD);
    }
    (progress.combine, progress.artifacts, progress.stopped) = (None, None, None);
    batch.state = BuildProgress::Live;
    batch.deadline = Some(now.1 + order::patience(&batch.order));
    Ok(keeps_source)
}

/// Deletes a batch: first its visible state, then its builds, then its folder, then its row. If it
/// is killed in between, the next `serve` continues.
fn delete(db: &Db, home: &Home, uuid: &str) -> Result<Deleted, DbError> {
    let mut deleted = Deleted::default();
    let of = uuid.to_owned();
    let found = db.write_now(move |connection| -> Result<_, DbError> {
        let Some(mut batch) = batches::get(connection, &of)? else { return Ok(None) };
        if batch.state == BuildProgress::Ended {
            batch.state = BuildProgress::Gone;
            batches::put(connection, &batch)?;
        }
        Ok(Some((batch, batches::builds(connection, &of)?)))
    })?;
    let Some((batch, builds)) = found else { return Ok(deleted) };
    if batch.state != BuildProgress::Gone {
        deleted.alive.push(crate::batch::record::arn_of(&batch));
        return Ok(deleted);
    }
    for build in builds {
        queue::delete_one(db, home, build, &mut deleted)?;
    }
    if deleted.failed.is_empty() && deleted.alive.is_empty() {
        remove(db, home, uuid)?;
    } else {
        let of = uuid.to_owned();
        db.write_now(move |connection| -> Result<(), DbError> {
            let Some(mut batch) = batches::get(connection, &of)? else { return Ok(()) };
            if batch.state == BuildProgress::Gone {
                batch.state = BuildProgress::Ended;
                batches::put(connection, &batch)?;
            }
            Ok(())
        })?;
    }
    Ok(deleted)
}

fn remove(db: &Db, home: &Home, uuid: &str) -> Result<(), DbError> {
    let dir = BatchDir::of(home, uuid);
    if let Err(error) = remove_tree(dir.path()) {
        tracing::warn!(%error, "the folder of a deleted batch stays");
    }
    let of = uuid.to_owned();
    db.write_now(move |connection| batches::forget(connection, &of))
}

/// Completes deletions of batches that a killed `serve` had begun, and removes sources that are no
/// longer needed.
pub(super) fn finish_deletions(db: &Db, home: &Home) -> Result<(), DbError> {
    for batch in db.read_now(|connection| batches::in_state(connection, BuildProgress::Gone))? {
        delete(db, home, &batch.uuid)?;
    }
    for uuid in db.read_now(batches::succeeded)? {
        release(home, &uuid);
    }
    Ok(())
}

/// Removes what a successful batch no longer needs.
fn release(home: &Home, uuid: &str) {
    if let Err(error) = BatchDir::of(home, uuid).release() {
        tracing::warn!(%error, "the source of a batch stays");
    }
}

/// Corrects batches of a database opened later: no deadline may be further away than when it was
/// set. In an older copy the state of its batches is unknown.
pub(super) fn mend(
    connection: &Connection,
    is_restored: bool,
    now: (i64, i64),
) -> Result<(), DbError> {
    for mut batch in batches::in_state(connection, BuildProgress::Live)? {
        if is_restored {
            let why =
                "the database was broken: its last copy does not contain the state of this batch";
            let context = PhaseContext::new(StatusCode::InternalServiceError, why);
            batch.progress.machine.fault(context, wall(now));
            batch.state = BuildProgress::Ended;
            batch.deadline = None;
            Status::Fault.name().clone_into(&mut batch.status);
        } else if let Some(deadline) = batch.deadline {
            batch.deadline = Some(deadline.min(now.1 + order::patience(&batch.order)));
        }
        batches::put(connection, &batch)?;
    }
    Ok(())
}
