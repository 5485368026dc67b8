//! Table of batches: live ones and ended ones.

use super::DbError;
use super::builds::BuildProgress;
use runner_core::batch::{BatchMachine, BuildSummary};
use runner_core::phase::Status;
use runner_core::time::WallTime;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A batch.
#[derive(Clone, Debug)]
pub struct Batch {
    pub uuid: String,
    pub seq: i64,
    pub project: String,
    pub number: i64,
    /// Live, ended or deleted.
    pub state: BuildProgress,
    /// AWS's name of the status.
    pub status: String,
    /// Milliseconds since 1970, as all times here.
    pub requested: i64,
    /// When its time is up.
    pub deadline: Option<i64>,
    /// The batch's settings (`batch::order`).
    pub order: Value,
    pub progress: BatchProgress,
}

/// A batch's progress.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchProgress {
    pub machine: BatchMachine,
    pub download: Single,
    pub combine: Option<Single>,
    /// The commit that all its builds use.
    pub commit: Option<String>,
    /// When a person stopped it.
    pub stopped: Option<WallTime>,
    pub reports: BTreeSet<String>,
    /// Where builds have left artifacts, by build ARN.
    pub places: BTreeMap<String, String>,
    /// The location of the combined artifacts.
    pub artifacts: Option<Value>,
}

/// A build that no buildspec lists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Single {
    pub arn: String,
    pub requested: WallTime,
    pub status: Status,
    pub prior: Vec<BuildSummary>,
}

impl Single {
    #[must_use]
    pub fn new(arn: String, requested: WallTime) -> Self {
        Single { arn, requested, status: Status::InProgress, prior: Vec::new() }
    }

    /// A summary of its run for the record.
    #[must_use]
    pub fn summary(&self, identifier: &str) -> BuildSummary {
        BuildSummary::new(&self.arn, self.requested, self.status.name(), identifier)
    }

    /// A copy for a new run.
    #[must_use]
    pub fn again(&self, arn: String, requested: WallTime, identifier: &str) -> Self {
        let mut prior = self.prior.clone();
        prior.push(self.summary(identifier));
        Single { arn, requested, status: Status::InProgress, prior }
    }
}

impl Batch {
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.project, self.uuid)
    }
}

const COLUMNS: &str =
    "uuid, seq, project, number, state, status, requested, deadline, request, progress";

fn json<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    let bytes: Vec<u8> = row.get(at)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        let kind = rusqlite::types::Type::Blob;
        rusqlite::Error::FromSqlConversionFailure(at, kind, Box::new(error))
    })
}

fn batch(row: &Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        uuid: row.get(0)?,
        seq: row.get(1)?,
        project: row.get(2)?,
        number: row.get(3)?,
        state: row.get(4)?,
        status: row.get(5)?,
        requested: row.get(6)?,
        deadline: row.get(7)?,
        order: json(row, 8)?,
        progress: json(row, 9)?,
    })
}

/// The batch with this uuid, deleted or not.
pub fn get(connection: &Connection, uuid: &str) -> Result<Option<Batch>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM batch WHERE uuid = ?1");
    Ok(connection.prepare_cached(&text)?.query_row([uuid], batch).optional()?)
}

/// The batches with these uuids, in their order.
pub fn get_all(connection: &Connection, uuids: &[String]) -> Result<Vec<Option<Batch>>, DbError> {
    uuids.iter().map(|uuid| get(connection, uuid)).collect()
}

/// Batches in a state, in order of their requests.
pub fn in_state(connection: &Connection, state: BuildProgress) -> Result<Vec<Batch>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM batch WHERE state = ?1 ORDER BY seq");
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map([state], batch)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Live batches past their deadline, in order of their requests.
pub fn late(connection: &Connection, now: i64) -> Result<Vec<Batch>, DbError> {
    let text = format!(
        "SELECT {COLUMNS} FROM batch WHERE state = 'live' AND deadline <= ?1 ORDER BY deadline, seq"
    );
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map([now], batch)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Uuids of batches that have succeeded.
pub fn succeeded(connection: &Connection) -> Result<Vec<String>, DbError> {
    let text = "SELECT uuid FROM batch WHERE state = 'ended' AND status = 'SUCCEEDED'";
    let mut query = connection.prepare_cached(text)?;
    let rows = query.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Inserts a batch and assigns its `seq`.
pub fn insert(connection: &Connection, batch: &Batch) -> Result<(), DbError> {
    let Batch { uuid, project, number, state, status, requested, deadline, .. } = batch;
    let text = "INSERT INTO batch
        (uuid, seq, project, number, state, status, requested, deadline, request, progress)
        VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM batch), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(text)?.execute(params![
        uuid,
        project,
        number,
        state,
        status,
        requested,
        deadline,
        batch.order.to_string().into_bytes(),
        written(&batch.progress)?,
    ])?;
    Ok(())
}

fn written(progress: &BatchProgress) -> Result<Vec<u8>, DbError> {
    serde_json::to_vec(progress).map_err(|error| DbError::Sqlite(error.to_string()))
}

/// Updates a batch's progress and settings.
pub fn put(connection: &Connection, batch: &Batch) -> Result<(), DbError> {
    let text =
        "UPDATE batch SET state = ?2, status = ?3, deadline = ?4, request = ?5, progress = ?6, ended = ?7
        WHERE uuid = ?1";
    connection.prepare_cached(text)?.execute(params![
        batch.uuid,
        batch.state,
        batch.status,
        batch.deadline,
        batch.order.to_string().into_bytes(),
        written(&batch.progress)?,
        ended(batch),
    ])?;
    Ok(())
}

/// When a batch has ended, the last time that it was run.
fn ended(batch: &Batch) -> Option<i64> {
    let end = batch.progress.machine.phases().last().filter(|_| batch.state.has_ended())?;
    Some(((end.start_time * 1000.0) as i64).max(batch.requested))
}

/// Deletes the row of a batch whose folder is gone.
pub fn forget(connection: &Connection, uuid: &str) -> Result<(), DbError> {
    connection.prepare_cached("DELETE FROM batch WHERE uuid = ?1")?.execute([uuid])?;
    Ok(())
}

/// Takes those out that have ended before this time.
pub fn forget_old(connection: &Connection, before: i64) -> Result<(), DbError> {
    let text = "DELETE FROM batch WHERE state = 'ended' AND ended < ?1";
    connection.prepare_cached(text)?.execute([before])?;
    Ok(())
}

/// Uuids of the builds that a batch has or has had.
pub fn builds(connection: &Connection, uuid: &str) -> Result<Vec<String>, DbError> {
    let text = "SELECT uuid FROM build WHERE batch = ?1 ORDER BY seq";
    let mut query = connection.prepare_cached(text)?;
    let rows = query.query_map([uuid], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Which batches a list shows.
#[derive(Clone, Debug, Default)]
pub struct BatchFilter {
    pub project: Option<String>,
    /// AWS's name of the status.
    pub status: Option<String>,
}

/// The position after which a list continues.
pub type AfterBatch = (i64, i64);

/// Ids in order of their requests, with the position after which the list continues.
pub fn list(
    connection: &Connection,
    filter: &BatchFilter,
    is_descending: bool,
    after: Option<AfterBatch>,
    most: usize,
) -> Result<Vec<(String, AfterBatch)>, DbError> {
    let (than, way) = if is_descending { ("<", "DESC") } else { (">", "ASC") };
    let whose = if filter.project.is_some() { "project = ?1" } else { "?1 IS NULL" };
    let text = format!(
        "SELECT project, uuid, requested, seq FROM batch
         WHERE {whose} AND state != 'gone' AND (?5 IS NULL OR status = ?5)
           AND (?2 IS NULL OR (requested, seq) {than} (?2, ?3))
         ORDER BY requested {way}, seq {way} LIMIT ?4"
    );
    let (requested, seq) = after.unzip();
    let mut query = connection.prepare_cached(&text)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let values = params![filter.project, requested, seq, most, filter.status];
    let rows = query.query_map(values, |row| {
        let (project, uuid): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((format!("{project}:{uuid}"), (row.get(2)?, row.get(3)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
