//! Table of projects, as they were given.

use super::DbError;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

/// A stored project.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    pub name: String,
    /// The settings given by the client.
    pub given: Value,
    /// Milliseconds since 1970, as all times here.
    pub created: i64,
    pub modified: i64,
    /// Incremented to invalidate caches.
    pub cache_epoch: i64,
}

/// Sort order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectOrder {
    Name,
    Created,
    Modified,
}

const COLUMNS: &str = "name, json, created, modified, cache_epoch";

fn project(row: &Row<'_>) -> rusqlite::Result<Project> {
    let json: Vec<u8> = row.get(1)?;
    let given = serde_json::from_slice(&json).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Blob, Box::new(error))
    })?;
    Ok(Project {
        name: row.get(0)?,
        given,
        created: row.get(2)?,
        modified: row.get(3)?,
        cache_epoch: row.get(4)?,
    })
}

pub fn get(connection: &Connection, name: &str) -> Result<Option<Project>, DbError> {
    let text = format!("SELECT {COLUMNS} FROM project WHERE name = ?1");
    Ok(connection.prepare_cached(&text)?.query_row([name], project).optional()?)
}

/// Inserts or replaces a project.
pub fn put(connection: &Connection, project: &Project) -> Result<(), DbError> {
    let text = "INSERT INTO project (name, json, created, modified, cache_epoch) VALUES (?1, ?2, ?3, ?4, ?5)
        ON CONFLICT (name) DO UPDATE SET json = ?2, modified = ?4, cache_epoch = ?5";
    let Project { name, given, created, modified, cache_epoch } = project;
    let json = given.to_string().into_bytes();
    connection.prepare_cached(text)?.execute(params![
        name,
        json,
        created,
        modified,
        cache_epoch
    ])?;
    Ok(())
}

pub fn delete(connection: &Connection, name: &str) -> Result<(), DbError> {
    connection.execute("DELETE FROM project WHERE name = ?1", [name])?;
    Ok(())
}

/// The position after which a list continues: the sorted value, and the name.
pub type AfterProject = (i64, String);

/// Sorted names, with the position after which the list continues.
pub fn list(
    connection: &Connection,
    order: ProjectOrder,
    is_descending: bool,
    after: Option<&AfterProject>,
    most: usize,
) -> Result<Vec<(String, AfterProject)>, DbError> {
    let key = match order {
        // A constant would be taken for a column number.
        ProjectOrder::Name => "created * 0",
        ProjectOrder::Created => "created",
        ProjectOrder::Modified => "modified",
    };
    let (than, way) = if is_descending { ("<", "DESC") } else { (">", "ASC") };
    let text = format!(
        "SELECT name, {key} FROM project WHERE ?1 IS NULL OR ({key}, name) {than} (?1, ?2)
         ORDER BY {key} {way}, name {way} LIMIT ?3"
    );
    let (key, name) = after.map(|(key, name)| (*key, name.as_str())).unzip();
    let mut query = connection.prepare_cached(&text)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = query.query_map(params![key, name, most], |row| {
        let name: String = row.get(0)?;
        Ok((name.clone(), (row.get(1)?, name)))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Number of projects.
pub fn count(connection: &Connection) -> Result<i64, DbError> {
    Ok(connection.query_row("SELECT count(*) FROM project", [], |row| row.get(0))?)
}
