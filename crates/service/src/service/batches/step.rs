//! The next steps of a batch after an event of one of its builds, in the same transaction.

use super::Follow;
use crate::batch::{COMBINE, DOWNLOAD, PlannedBatch, Rejected, Single, order, uuid_of};
use crate::db::DbError;
use crate::db::batches::{self, Batch};
use crate::db::builds::{self, BuildProgress, StoredBuild};
use crate::record;
use crate::service::queue;
use runner_core::batch::{BatchEffect, BatchInput, Stand};
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_core::time::WallTime;
use runner_folder::state::Home;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// A batch during a change.
struct BatchTurn<'a> {
    connection: &'a Connection,
    home: &'a Home,
    batch: Batch,
    /// By the wall clock, and by the clock of deadlines.
    now: (i64, i64),
    follow: Follow,
}

pub(super) fn wall(now: (i64, i64)) -> WallTime {
    WallTime(now.0.saturating_mul(1000))
}

/// Continues the batch of a build that has ended.
pub(crate) fn ended(
    connection: &Connection,
    home: &Home,
    build: &StoredBuild,
    record: &Value,
    planned: Option<&Result<PlannedBatch, Rejected>>,
    now: (i64, i64),
) -> Result<Follow, DbError> {
    let Some((uuid, identifier)) = build.batch() else { return Ok(Follow::default()) };
    let batch = batches::get(connection, uuid)?;
    let Some(batch) = batch.filter(|batch| batch.state == BuildProgress::Live) else {
        return Ok(Follow::default());
    };
    let mut turn = BatchTurn { connection, home, batch, now, follow: Follow::default() };
    let arn = record::build_arn(&build.id());
    let status = record["buildStatus"].as_str().map(|status| json!(status));
    let status = status.and_then(|status| serde_json::from_value(status).ok());
    let status = status.unwrap_or(Status::Fault);
    turn.note_results(&arn, record);
    let effects = match identifier {
        DOWNLOAD if turn.batch.progress.download.arn == arn => turn.has_source(status, planned),
        COMBINE if turn.batch.progress.combine.as_ref().is_some_and(|it| it.arn == arn) => {
            turn.has_combined(status, record)
        }
        _ => {
            let machine = &mut turn.batch.progress.machine;
            let at = machine.place_of(&arn);
            at.map_or_else(Vec::new, |at| machine.apply(BatchInput::Ended(at, status), wall(now)))
        }
    };
    turn.perform(effects)?;
    turn.done()
}

/// Ends a batch before all of its builds have ended.
pub(crate) fn stopped(
    connection: &Connection,
    home: &Home,
    batch: Batch,
    input: BatchInput,
    now: (i64, i64),
) -> Result<Follow, DbError> {
    let mut turn = BatchTurn { connection, home, batch, now, follow: Follow::default() };
    let progress = &mut turn.batch.progress;
    if input == BatchInput::Stop {
        progress.stopped.get_or_insert(wall(now));
    }
    // Do not fire again.
    turn.batch.deadline = None;
    let effects = turn.batch.progress.machine.apply(input, wall(now));
    turn.perform(effects)?;
    let progress = &turn.batch.progress;
    let singles = [Some(&progress.download), progress.combine.as_ref()].into_iter().flatten();
    let working: Vec<String> = singles
        .filter(|single| single.status == Status::InProgress)
        .map(|single| uuid_of(&single.arn).to_owned())
        .collect();
    for uuid in working {
        if let Some(build) = turn.take_out(&uuid)? {
            let record = record::never_begun(&build, now.0, "STOPPED", None);
            let effects = match build.batch() {
                Some((_, DOWNLOAD)) => turn.has_source(Status::Stopped, None),
                _ => turn.has_combined(Status::Stopped, &record),
            };
            turn.perform(effects)?;
        }
    }
    turn.done()
}

/// Begins a batch or a retry: with the build that gets its source, or with an existing source.
pub(super) fn begun(
    connection: &Connection,
    home: &Home,
    batch: Batch,
    has_source: bool,
    now: (i64, i64),
) -> Result<Follow, DbError> {
    let mut turn = BatchTurn { connection, home, batch, now, follow: Follow::default() };
    if has_source {
        let effects = turn.batch.progress.machine.begin(wall(now));
        turn.perform(effects)?;
    } else {
        let arn = turn.batch.progress.download.arn.clone();
        let order = order::download(&turn.batch);
        turn.take_in(&arn, order)?;
    }
    turn.done()
}

/// Builds to stop together with their batches.
pub(crate) fn to_stop(connection: &Connection) -> Result<Vec<String>, DbError> {
    let mut found = Vec::new();
    for batch in batches::in_state(connection, BuildProgress::Live)? {
        if batch.progress.machine.is_ending() {
            let builds = batches::builds(connection, &batch.uuid)?;
            for uuid in builds {
                let build = builds::get(connection, &uuid)?;
                if build.is_some_and(|build| build.state.has_process()) {
                    found.push(uuid);
                }
            }
        }
    }
    Ok(found)
}

impl BatchTurn<'_> {
    /// Keeps a build's results that belong to its batch.
    fn note_results(&mut self, arn: &str, record: &Value) {
        let progress = &mut self.batch.progress;
        let reports = record["reportArns"].as_array().into_iter().flatten();
        progress.reports.extend(reports.filter_map(|arn| arn.as_str().map(str::to_owned)));
        if let Some(place) = record["artifacts"]["location"].as_str().filter(|it| !it.is_empty()) {
            progress.places.insert(arn.to_owned(), place.to_owned());
        }
    }

    /// The build that gets the source has ended.
    fn has_source(
        &mut self,
        status: Status,
        planned: Option<&Result<PlannedBatch, Rejected>>,
    ) -> Vec<BatchEffect> {
        let now = wall(self.now);
        let project = self.batch.project.clone();
        let progress = &mut self.batch.progress;
        progress.download.status = status;
        match (status, planned) {
            (Status::Succeeded, Some(Ok(PlannedBatch { plan, commit }))) => {
                progress.commit.clone_from(commit);
                let new = |_| record::build_arn(&format!("{project}:{}", queue::new_uuid()));
                progress.machine.expand(plan.clone(), new, now);
                progress.machine.begin(now)
            }
            (Status::Succeeded, Some(Err(Rejected { status, context }))) => {
                progress.machine.reject(*status, Some(context.clone()), now)
            }
            _ => {
                let why = format!("the build {DOWNLOAD} has ended: {status}");
                let context = PhaseContext::new(StatusCode::ClientError, why);
                progress.machine.reject(status, Some(context), now)
            }
        }
    }

    /// The build that combines artifacts has ended.
    fn has_combined(&mut self, status: Status, record: &Value) -> Vec<BatchEffect> {
        let now = wall(self.now);
        let progress = &mut self.batch.progress;
        if let Some(combine) = &mut progress.combine {
            combine.status = status;
        }
        if status == Status::Succeeded {
            progress.artifacts = Some(record["artifacts"].clone());
        }
        progress.machine.apply(BatchInput::Combined(status), now)
    }

    fn perform(&mut self, effects: Vec<BatchEffect>) -> Result<(), DbError> {
        let mut left = VecDeque::from(effects);
        while let Some(effect) = left.pop_front() {
            match effect {
                BatchEffect::Start(at) => left.extend(self.start(at)?),
                BatchEffect::Stop(at) => left.extend(self.stop(at)?),
                BatchEffect::Combine => self.combine()?,
                BatchEffect::Finish(status) => self.finish(status),
            }
        }
        Ok(())
    }

    /// Queues a build.
    fn start(&mut self, at: usize) -> Result<Vec<BatchEffect>, DbError> {
        let machine = &mut self.batch.progress.machine;
        let arn = machine.arn(at).unwrap_or_default().to_owned();
        let planned = machine.plan().builds[at].clone();
        match order::child(&self.batch, &planned) {
            Ok(order) => {
                self.take_in(&arn, order)?;
                Ok(Vec::new())
            }
            // It was checked before the batch began.
            Err(problems) => {
                tracing::warn!(?problems, batch = self.batch.id(), "a build of a batch cannot be");
                let machine = &mut self.batch.progress.machine;
                Ok(machine.apply(BatchInput::Ended(at, Status::Fault), wall(self.now)))
            }
        }
    }

    fn take_in(&mut self, arn: &str, order: Value) -> Result<(), DbError> {
        let uuid = uuid_of(arn).to_owned();
        let build = queue::queued(self.home, &self.batch.project, uuid, order, self.now)?;
        builds::insert(self.connection, &build)?;
        self.follow.has_new = true;
        Ok(())
    }

    /// Stops a build: a queued one ends at once, a live one is to be asked.
    fn stop(&mut self, at: usize) -> Result<Vec<BatchEffect>, DbError> {
        let arn = self.batch.progress.machine.arn(at).unwrap_or_default().to_owned();
        let machine = &self.batch.progress.machine;
        if !matches!(machine.stand(at), Some(Stand::Running { .. })) {
            return Ok(Vec::new());
        }
        Ok(match self.take_out(uuid_of(&arn))? {
            None => Vec::new(),
            Some(_) => {
                let machine = &mut self.batch.progress.machine;
                machine.apply(BatchInput::Ended(at, Status::Stopped), wall(self.now))
            }
        })
    }

    /// Takes a build out of the queue and returns it if it was queued; a live one is to be asked.
    fn take_out(&mut self, uuid: &str) -> Result<Option<StoredBuild>, DbError> {
        let Some(build) = builds::get(self.connection, uuid)? else { return Ok(None) };
        match build.state {
            BuildProgress::Queued => {
                let record = record::never_begun(&build, self.now.0, "STOPPED", None);
                builds::end(self.connection, uuid, &record, false)?;
                Ok(Some(build))
            }
            BuildProgress::Starting | BuildProgress::Live => {
                self.follow.to_stop.push(uuid.to_owned());
                Ok(None)
            }
            BuildProgress::Ended | BuildProgress::Gone => Ok(None),
        }
    }

    fn combine(&mut self) -> Result<(), DbError> {
        let id = format!("{}:{}", self.batch.project, queue::new_uuid());
        let arn = record::build_arn(&id);
        self.batch.progress.combine = Some(Single::new(arn.clone(), wall(self.now)));
        let order = order::combine(&self.batch);
        self.take_in(&arn, order)
    }

    fn finish(&mut self, status: Status) {
        self.batch.state = BuildProgress::Ended;
        self.batch.deadline = None;
        let progress = &mut self.batch.progress;
        if let Some(stopped) = progress.stopped {
            progress.machine.end_when_stopped(stopped);
        }
        if status == Status::Succeeded {
            self.follow.over.push(self.batch.uuid.clone());
        }
    }

    fn done(self) -> Result<Follow, DbError> {
        let BatchTurn { connection, mut batch, follow, .. } = self;
        let shown = crate::batch::record::status(&batch);
        shown.name().clone_into(&mut batch.status);
        batches::put(connection, &batch)?;
        Ok(follow)
    }
}
