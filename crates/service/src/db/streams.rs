//! Finds logs of builds by the names of their groups and streams.

use super::DbError;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

/// End time of a build that has not ended.
pub const NOT_ENDED: i64 = i64::MAX;
/// Prefix of a group's name, before the project's name.
pub const PREFIX: &str = "/aws/codebuild/";
/// States of builds that may have a log.
const BEGUN: &str = "state IN ('starting', 'live', 'ended')";

/// A stream: the log of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredStream {
    pub uuid: String,
    pub project: String,
    pub name: String,
    /// No line is earlier.
    pub begun: i64,
    /// No line is later.
    pub ended: i64,
}

/// Which groups to list.
#[derive(Clone, Debug, Default)]
pub struct GroupSelection {
    pub prefix: Option<String>,
    /// A part of their names.
    pub part: Option<String>,
    pub names: Option<Vec<String>>,
}

/// Which streams to list, in which order.
#[derive(Clone, Debug)]
pub struct StreamQuery {
    pub group: String,
    pub prefix: Option<String>,
    pub order: StreamOrder,
    pub is_descending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamOrder {
    Name,
    LastEvent,
}

/// The position after which a list of streams continues.
pub type AfterStream = (i64, String);

/// Selects streams by name.
#[derive(Clone, Debug)]
pub enum Names {
    All,
    Prefix(String),
    These(Vec<String>),
}

impl StoredStream {
    #[must_use]
    pub fn after(&self, order: StreamOrder) -> AfterStream {
        let ended = if order == StreamOrder::LastEvent { self.ended } else { 0 };
        (ended, self.name.clone())
    }
}

const COLUMNS: &str = "uuid, project, log_stream, requested, log_last";

fn stream(row: &Row<'_>) -> rusqlite::Result<StoredStream> {
    Ok(StoredStream {
        uuid: row.get(0)?,
        project: row.get(1)?,
        name: row.get(2)?,
        begun: row.get(3)?,
        ended: row.get(4)?,
    })
}

/// Groups of existing builds, and one for each project.
pub fn groups(
    connection: &Connection,
    wanted: &GroupSelection,
    after: Option<&str>,
    most: usize,
) -> Result<Vec<(String, i64)>, DbError> {
    let text = format!(
        "SELECT name, min(begun) FROM (
           SELECT log_group AS name, min(requested) AS begun FROM build
             WHERE log_group IS NOT NULL AND {BEGUN} GROUP BY log_group
           UNION ALL SELECT '{PREFIX}' || name, created FROM project)
         WHERE (?1 IS NULL OR name > ?1) AND (?2 IS NULL OR substr(name, 1, length(?2)) = ?2)
           AND (?3 IS NULL OR instr(name, ?3) > 0)
           AND (?4 IS NULL OR name IN (SELECT value FROM json_each(?4)))
         GROUP BY name ORDER BY name LIMIT ?5"
    );
    let names = wanted.names.as_ref().map(|names| serde_json::json!(names).to_string());
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map(params![after, wanted.prefix, wanted.part, names, most], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub fn has_group(connection: &Connection, group: &str) -> Result<bool, DbError> {
    let text = format!(
        "SELECT EXISTS (SELECT 1 FROM build WHERE log_group = ?1 AND {BEGUN})
        OR EXISTS (SELECT 1 FROM project WHERE '{PREFIX}' || ?2 = ?1 AND name = ?2)"
    );
    let project = group.strip_prefix(PREFIX).unwrap_or_default();
    Ok(connection.prepare_cached(&text)?.query_row(params![group, project], |row| row.get(0))?)
}

/// The projects of a group's builds.
pub fn projects(connection: &Connection, group: &str) -> Result<Vec<String>, DbError> {
    let text = "SELECT DISTINCT project FROM build WHERE log_group = ?1 ORDER BY project";
    let mut query = connection.prepare_cached(text)?;
    let rows = query.query_map([group], |row| row.get(0))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub fn get(
    connection: &Connection,
    group: &str,
    name: &str,
) -> Result<Option<StoredStream>, DbError> {
    let text = format!(
        "SELECT {COLUMNS} FROM build WHERE log_group = ?1 AND log_stream = ?2 AND {BEGUN} LIMIT 1"
    );
    Ok(connection.prepare_cached(&text)?.query_row([group, name], stream).optional()?)
}

pub fn list(
    connection: &Connection,
    wanted: &StreamQuery,
    after: Option<&AfterStream>,
    most: usize,
) -> Result<Vec<StoredStream>, DbError> {
    let (than, way) = if wanted.is_descending { ("<", "DESC") } else { (">", "ASC") };
    let (behind, order) = match wanted.order {
        StreamOrder::Name => {
            (format!("(?2 IS NULL OR log_stream {than} ?3)"), format!("log_stream {way}"))
        }
        StreamOrder::LastEvent => (
            format!("(?2 IS NULL OR (log_last, log_stream) {than} (?2, ?3))"),
            format!("log_last {way}, log_stream {way}"),
        ),
    };
    let text = format!(
        "SELECT {COLUMNS} FROM build WHERE log_group = ?1 AND {BEGUN} AND {behind}
           AND (?4 IS NULL OR substr(log_stream, 1, length(?4)) = ?4) ORDER BY {order} LIMIT ?5"
    );
    let (ended, name) = after.map(|(ended, name)| (*ended, name.as_str())).unzip();
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map(params![wanted.group, ended, name, wanted.prefix, most], stream)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Streams that may have lines in this range of times, in order of their start.
pub fn between(
    connection: &Connection,
    group: &str,
    names: &Names,
    start: Option<i64>,
    end: Option<i64>,
) -> Result<Vec<StoredStream>, DbError> {
    let mut values: Vec<Value> = vec![
        group.to_owned().into(),
        start.unwrap_or(i64::MIN).into(),
        end.unwrap_or(i64::MAX).into(),
    ];
    let which = match names {
        Names::All => "",
        Names::Prefix(prefix) => {
            values.push(prefix.clone().into());
            "AND substr(log_stream, 1, length(?4)) = ?4"
        }
        Names::These(names) => {
            values.push(serde_json::json!(names).to_string().into());
            "AND log_stream IN (SELECT value FROM json_each(?4))"
        }
    };
    let text = format!(
        "SELECT {COLUMNS} FROM build WHERE log_group = ?1 AND log_last >= ?2 AND requested <= ?3 AND {BEGUN}
         {which} ORDER BY requested, seq"
    );
    let mut query = connection.prepare_cached(&text)?;
    let rows = query.query_map(params_from_iter(values), stream)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
