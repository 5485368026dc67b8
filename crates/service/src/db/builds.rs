//! Table of builds: queued and live ones, and an index of ended ones.

use super::streams::NOT_ENDED;
use super::{DbError, projects};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A build's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildProgress {
    Queued,
    /// Its process is being started; its folder may exist.
    Starting,
    Live,
    Ended,
    /// Deleted, by the service or together with its folder.
    Gone,
}

impl BuildProgress {
    fn name(self) -> &'static str {
        match self {
            BuildProgress::Queued => "queued",
            BuildProgress::Starting => "starting",
            BuildProgress::Live => "live",
            BuildProgress::Ended => "ended",
            BuildProgress::Gone => "gone",
        }
    }

    /// Whether it may have a process.
    #[must_use]
    pub fn has_process(self) -> bool {
        matches!(self, BuildProgress::Starting | BuildProgress::Live)
    }

    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, BuildProgress::Ended | BuildProgress::Gone)
    }
}

impl ToSql for BuildProgress {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.name().into())
    }
}

impl FromSql for BuildProgress {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let all = [
            BuildProgress::Queued,
            BuildProgress::Starting,
            BuildProgress::Live,
            BuildProgress::Ended,
            BuildProgress::Gone,
        ];
        let name = value.as_str()?;
        all.into_iter().find(|state| state.name() == name).ok_or(FromSqlError::InvalidType)
    }
}

/// A final record, as it is answered: nothing is added to it, so that it need not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalRecord {
    /// JSON.
    pub text: String,
    status: String,
    /// After which nothing of the build was logged.
    last: i64,
}

impl From<&Value> for FinalRecord {
    fn from(record: &Value) -> Self {
        let status = record["buildStatus"].as_str().unwrap_or("FAULT").to_owned();
        FinalRecord { text: record.to_string(), status, last: last_time(record) }
    }
}

/// What is looked up to be shown.
#[derive(Clone, Debug)]
pub enum ShownBuild {
    Ended(ShownRecord),
    Other(Box<StoredBuild>),
}

/// A build of which there is no more to know.
#[derive(Clone, Debug)]
pub struct ShownRecord {
    pub uuid: String,
    pub project: String,
    /// Its final record: JSON.
    pub record: String,
}

impl ShownRecord {
    /// Whether this is its id.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        let rest = id.strip_prefix(&self.project).and_then(|rest| rest.strip_prefix(':'));
        rest == Some(&self.uuid)
    }
}

/// A build.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBuild {
    pub uuid: String,
    pub seq: i64,
    pub project: String,
    pub number: i64,
    pub state: BuildProgress,
    /// AWS's name of the status.
    pub status: String,
    /// Milliseconds since 1970, as all times here.
    pub requested: i64,
    /// When it stops waiting.
    pub deadline: Option<i64>,
    /// The build's settings (`order`); `None` if `runner run` started it.
    pub order: Option<Value>,
    pub record: Option<FinalRecord>,
    /// Group and stream of its log, as in CloudWatch Logs.
    pub log: Option<(String, String)>,
}

impl StoredBuild {
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}:{}", self.project, self.uuid)
    }

    /// The uuid of its batch, and its name in the batch.
    #[must_use]
    pub fn batch(&self) -> Option<(&str, &str)> {
        let member = &self.order.as_ref()?["batch"];
        Some((member["uuid"].as_str()?, member["identifier"].as_str()?))
    }
}

const COLUMNS: &str = "uuid, seq, project, number, state, status, requested, deadline, request, record, log_group, log_stream, log_last";

fn build(row: &Row<'_>) -> rusqlite::Result<StoredBuild> {
    let request: Option<Vec<u8>> = row.get(8)?;
    let order = request.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    let status: String = row.get(5)?;
    let record = match text(row, 9)? {
        Some(text) => Some(FinalRecord { text, status: status.clone(), last: row.get(12)? }),
        None => None,
    };
    Ok(StoredBuild {
        uuid: row.get(0)?,
        seq: row.get(1)?,
        project: row.get(2)?,
        number: row.get(3)?,
        state: row.get(4)?,
        status,
        requested: row.get(6)?,
        deadline: row.get(7)?,
        order: order.map_err(|error| unreadable(8, error))?,
        record,
        log: Option::zip(row.get(10)?, row.get(11)?),
    })
}

/// The text of a column of bytes.
fn text(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    let bytes: Option<Vec<u8>> = row.get(at)?;
    bytes.map(String::from_utf8).transpose().map_err(|error| unreadable(at, error))
}

fn unreadable(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    let kind = rusqlite::types::Type::Blob;
    rusqlite::Error::FromSqlConversionFailure(at, kind, Box::new(error))
}

fn shown(row: &Row<'_>) -> rusqlite::Result<ShownBuild> {
    if row.get::<_, BuildProgress>(4)? == BuildProgress::Ended
        && let Some(record) = text(row, 9)?
    {
        let (uuid, project) = (row.get(0)?, row.get(2)?);
        return Ok(ShownBuild::Ended(ShownRecord { uuid, project, record }));
    }
    build(row).map(|build| ShownBuild::Other(Box::new(build)))
}

/// The build with this uuid, deleted or not.
pub fn get(connection: &Connection, uuid: &str) -> Result<Option<StoredBuild>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM build WHERE uuid = ?1");
    Ok(connection.prepare_cached(&text)?.query_row([uuid], build).optional()?)
}

/// The builds with these uuids, in their order.
pub fn get_all(
    connection: &Connection,
    uuids: &[String],
) -> Result<Vec<Option<ShownBuild>>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM build WHERE uuid = ?1");
    let mut query = connection.prepare_cached(&text)?;
    uuids.iter().map(|uuid| Ok(query.query_row([uuid], shown).optional()?)).collect()
}

/// Builds in a state, in order of their requests.
pub fn in_state(
    connection: &Connection,
    state: BuildProgress,
) -> Result<Vec<StoredBuild>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM build WHERE state = ?1 ORDER BY seq");
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map([state], build)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Queued builds past their deadline, in order of their requests.
pub fn late(connection: &Connection, now: i64) -> Result<Vec<StoredBuild>, DbError> {
    let text = format!(
        "SELECT {COLUMNS} FROM build WHERE state = 'queued' AND deadline <= ?1 ORDER BY deadline, seq"
    );
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map([now], build)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A build that is queued or about to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedBuild {
    /// `<project>:<uuid>`.
    pub id: String,
    pub uuid: String,
    pub project: String,
    /// Milliseconds since 1970.
    pub requested: i64,
}

/// Queued builds, first one first.
pub fn waiting(connection: &Connection) -> Result<Vec<QueuedBuild>, DbError> {
    let text = "SELECT uuid, project, requested FROM build WHERE state IN ('queued', 'starting')
        ORDER BY seq";
    let mut query = connection.prepare_cached(text)?;
    let rows = query.query_map([], |row| {
        let (uuid, project): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(QueuedBuild { id: format!("{project}:{uuid}"), uuid, project, requested: row.get(2)? })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

const QUEUED: &str =
    "SELECT uuid, project, batch IS NOT NULL FROM build WHERE state = 'queued' ORDER BY seq";
const QUEUED_SINGLE: &str = "SELECT count(*) FROM build WHERE state = 'queued' AND batch IS NULL";
const RUNNING_OF_PROJECT: &str = "SELECT count(*) FROM build
    WHERE state IN ('queued', 'starting', 'live') AND project = ?1 AND origin = 'serve' AND state != 'queued'";
const ACTIVE_OF_PROJECT: &str = "SELECT count(*) FROM build
    WHERE state IN ('queued', 'starting', 'live') AND project = ?1 AND origin = 'serve'
    AND (batch IS NULL OR state != 'queued')";
const NEXT_DEADLINE: &str = "SELECT min(deadline) FROM
    (SELECT min(deadline) AS deadline FROM build WHERE state = 'queued'
    UNION ALL SELECT min(deadline) FROM batch WHERE state = 'live')";
const NEXT_SEQ: &str = "SELECT coalesce(max(seq), 0) + 1 FROM build";
const LIVE_OF_OTHERS: &str = "SELECT uuid, state, origin = 'serve', requested, has_folder FROM build WHERE state = 'live' AND origin = 'run'";
/// Frequent queries, none of which may scan all builds.
#[cfg(test)]
pub(crate) const OFTEN: [&str; 7] = [
    QUEUED,
    QUEUED_SINGLE,
    RUNNING_OF_PROJECT,
    ACTIVE_OF_PROJECT,
    NEXT_DEADLINE,
    NEXT_SEQ,
    LIVE_OF_OTHERS,
];

/// The queued build that has waited longest. Builds of batches also wait for their project's limit,
/// and let others pass.
pub fn first_queued(connection: &Connection) -> Result<Option<StoredBuild>, DbError> {
    let mut full: HashMap<String, bool> = HashMap::new();
    let mut query = connection.prepare_cached(QUEUED)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (uuid, project, is_of_batch): (String, String, bool) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let is_full = match full.get(&project) {
            _ if !is_of_batch => false,
            Some(known) => *known,
            None => {
                let is_full = is_full(connection, &project)?;
                full.insert(project, is_full);
                is_full
            }
        };
        if !is_full {
            return get(connection, &uuid);
        }
    }
    Ok(None)
}

/// Whether a project's limit of running builds is reached.
fn is_full(connection: &Connection, project: &str) -> Result<bool, DbError> {
    let Some(project) = projects::get(connection, project)? else { return Ok(false) };
    let Some(limit) = project.given["concurrentBuildLimit"].as_i64() else { return Ok(false) };
    let running: i64 = connection
        .prepare_cached(RUNNING_OF_PROJECT)?
        .query_row([project.name], |row| row.get(0))?;
    Ok(running >= limit)
}

/// Number of queued builds without those of batches: no limit rejects a batch.
pub fn queued(connection: &Connection) -> Result<usize, DbError> {
    let count: i64 = connection.prepare_cached(QUEUED_SINGLE)?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Number of a project's queued or live builds, without those of `runner run` and queued ones of
/// batches.
pub fn active(connection: &Connection, project: &str) -> Result<usize, DbError> {
    let count: i64 =
        connection.prepare_cached(ACTIVE_OF_PROJECT)?.query_row([project], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// The earliest time at which a build stops waiting or a batch's time is up.
pub fn next_deadline(connection: &Connection) -> Result<Option<i64>, DbError> {
    Ok(connection.prepare_cached(NEXT_DEADLINE)?.query_row([], |row| row.get(0))?)
}

/// The next place in the queue.
fn next_seq(connection: &Connection) -> Result<i64, DbError> {
    Ok(connection.prepare_cached(NEXT_SEQ)?.query_row([], |row| row.get(0))?)
}

/// Inserts a build behind all others and assigns its `seq`.
pub fn insert(connection: &Connection, build: &StoredBuild) -> Result<(), DbError> {
    let StoredBuild {
        uuid,
        project,
        number,
        state,
        status,
        requested,
        deadline,
        order,
        record,
        ..
    } = build;
    let origin = if order.is_some() { "serve" } else { "run" };
    let (group, stream) = build.log.clone().unzip();
    let text = "INSERT INTO build
        (uuid, seq, project, number, state, origin, status, requested, deadline, request, record,
         log_group, log_stream, log_last, has_folder, batch)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";
    connection.prepare_cached(text)?.execute(params![
        uuid,
        next_seq(connection)?,
        project,
        number,
        state,
        origin,
        status,
        requested,
        deadline,
        order.as_ref().map(|order| order.to_string().into_bytes()),
        record.as_ref().map(|record| record.text.as_bytes()),
        group,
        stream,
        record.as_ref().map_or(NOT_ENDED, |record| record.last),
        order.is_none(),
        build.batch().map(|(uuid, _)| uuid),
    ])?;
    Ok(())
}

/// The time after which nothing of a build was logged, from its final record. The clock may have
/// been set back meanwhile.
fn last_time(record: &Value) -> i64 {
    let phases = record["phases"].as_array().map_or(&[][..], Vec::as_slice);
    let times = phases.iter().flat_map(|phase| [&phase["startTime"], &phase["endTime"]]);
    let times = times.chain([&record["startTime"], &record["endTime"]]).filter_map(Value::as_f64);
    // Times in records are truncated.
    times.fold(0.0, f64::max) as i64 * 1000 + 1000
}

/// Changes a build's state, if it is in the expected one.
pub fn advance(
    connection: &Connection,
    uuid: &str,
    from: BuildProgress,
    to: BuildProgress,
) -> Result<bool, DbError> {
    let text = "UPDATE build SET state = ?3 WHERE uuid = ?1 AND state = ?2";
    Ok(connection.prepare_cached(text)?.execute(params![uuid, from, to])? == 1)
}

/// Records the end of a build, once. Returns whether it was new.
pub fn end(
    connection: &Connection,
    uuid: &str,
    record: &Value,
    has_folder: bool,
) -> Result<bool, DbError> {
    let FinalRecord { text: json, status, last } = record.into();
    let text = "UPDATE build SET state = 'ended', status = ?2, record = ?3, log_last = ?4,
          has_folder = max(has_folder, ?5)
        WHERE uuid = ?1 AND state IN ('queued', 'starting', 'live')";
    let values = params![uuid, status, json.as_bytes(), last, has_folder];
    Ok(connection.prepare_cached(text)?.execute(values)? == 1)
}

/// Sets when a build stops waiting.
pub fn set_deadline(connection: &Connection, uuid: &str, deadline: i64) -> Result<(), DbError> {
    let text = "UPDATE build SET deadline = ?2 WHERE uuid = ?1";
    connection.prepare_cached(text)?.execute(params![uuid, deadline])?;
    Ok(())
}

/// Sets a build's automatic retries to zero.
pub fn without_retries(connection: &Connection, build: &StoredBuild) -> Result<(), DbError> {
    let Some(mut order) = build.order.clone() else { return Ok(()) };
    order["autoRetryConfig"]["autoRetryLimit"] = json!(0);
    let text = "UPDATE build SET request = ?2 WHERE uuid = ?1";
    connection
        .prepare_cached(text)?
        .execute(params![build.uuid, order.to_string().into_bytes()])?;
    Ok(())
}

/// Deletes the row of a build whose folder is gone, whatever its state.
pub fn forget(connection: &Connection, uuid: &str) -> Result<(), DbError> {
    connection.prepare_cached("DELETE FROM build WHERE uuid = ?1")?.execute([uuid])?;
    Ok(())
}

/// The columns of a row that the index needs.
pub struct Indexed {
    pub uuid: String,
    pub state: BuildProgress,
    /// Whether the service started it.
    pub is_own: bool,
    pub requested: i64,
    pub has_folder: bool,
}

fn indexed(row: &Row<'_>) -> rusqlite::Result<Indexed> {
    Ok(Indexed {
        uuid: row.get(0)?,
        state: row.get(1)?,
        is_own: row.get(2)?,
        requested: row.get(3)?,
        has_folder: row.get(4)?,
    })
}

/// All rows.
pub fn known(connection: &Connection) -> Result<Vec<Indexed>, DbError> {
    let mut query = connection
        .prepare_cached("SELECT uuid, state, origin = 'serve', requested, has_folder FROM build")?;
    let rows = query.query_map([], indexed)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Live builds of `runner run`.
pub fn live_of_others(connection: &Connection) -> Result<Vec<Indexed>, DbError> {
    let mut query = connection.prepare_cached(LIVE_OF_OTHERS)?;
    let rows = query.query_map([], indexed)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The position after which a list continues.
pub type AfterBuild = (i64, i64);

/// Ids in order of their requests, with the position after which the list continues.
pub fn list(
    connection: &Connection,
    project: Option<&str>,
    is_descending: bool,
    after: Option<AfterBuild>,
    most: usize,
) -> Result<Vec<(String, AfterBuild)>, DbError> {
    let (than, way) = if is_descending { ("<", "DESC") } else { (">", "ASC") };
    let whose = if project.is_some() { "project = ?1" } else { "?1 IS NULL" };
    let text = format!(
        "SELECT project, uuid, requested, seq FROM build
         WHERE {whose} AND state != 'gone' AND (?2 IS NULL OR (requested, seq) {than} (?2, ?3))
         ORDER BY requested {way}, seq {way} LIMIT ?4"
    );
    let (requested, seq) = after.unzip();
    let mut query = connection.prepare_cached(&text)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = query.query_map(params![project, requested, seq, most], |row| {
        let (project, uuid): (String, String) = (row.get(0)?, row.get(1)?);
        Ok((format!("{project}:{uuid}"), (row.get(2)?, row.get(3)?)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Number of the service's own builds that have a process.
pub fn running(connection: &Connection) -> Result<usize, DbError> {
    let text =
        "SELECT count(*) FROM build WHERE state IN ('starting', 'live') AND origin = 'serve'";
    let count: i64 = connection.prepare_cached(text)?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Deletes the rows that can be read from the folders again.
pub fn forget_found(connection: &Connection) -> Result<(), DbError> {
    connection.execute("DELETE FROM build WHERE origin = 'run' AND state != 'gone'", [])?;
    Ok(())
}
