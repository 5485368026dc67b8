//! The folders of builds, as rows: what `runner run` has begun, and what is gone.

use crate::db::DbError;
use crate::db::builds::{self, Build, State};
use runner_folder::state::{BuildDir, Home, Known, known};
use rusqlite::Connection;
use std::collections::HashSet;
use std::fs;
use std::time::UNIX_EPOCH;

/// Brings the rows up to the folders. Reads only what is new.
pub(crate) fn refresh(connection: &Connection, home: &Home) -> Result<(), DbError> {
    let failed =
        |error: std::io::Error| DbError::Sqlite(format!("{}: {error}", home.builds().display()));
    let mut there = HashSet::new();
    for entry in fs::read_dir(home.builds()).map_err(failed)? {
        if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
            && !name.starts_with('.')
        {
            there.insert(name);
        }
    }
    for (uuid, state, is_own) in builds::known(connection)? {
        let has_folder = there.remove(&uuid);
        match state {
            State::Live if !is_own && has_folder => ended(connection, home, &uuid)?,
            State::Live if !is_own => builds::delete(connection, &uuid)?,
            State::Ended if !has_folder && !is_own => builds::delete(connection, &uuid)?,
            // Those of the service end by the service's word, and some have never had a folder.
            _ => {}
        }
    }
    let mut new: Vec<Build> = there.iter().filter_map(|uuid| found(home, uuid)).collect();
    new.sort_by(|a, b| a.requested.cmp(&b.requested).then_with(|| a.uuid.cmp(&b.uuid)));
    new.iter().try_for_each(|build| builds::insert(connection, build))
}

fn ended(connection: &Connection, home: &Home, uuid: &str) -> Result<(), DbError> {
    if let Ok(Some(record)) = BuildDir::of(home, uuid).record()
        && let Ok(record) = serde_json::to_value(&record)
    {
        builds::end(connection, uuid, &record)?;
    }
    Ok(())
}

/// A build that no row tells of. One that cannot be read is none.
fn found(home: &Home, uuid: &str) -> Option<Build> {
    let Known { dir, .. } = known(home, uuid).ok()??;
    let meta = dir.meta().ok()??;
    let record = dir.record().ok()?;
    let begun = || -> Option<i64> {
        let time = fs::metadata(dir.path().join("meta.json")).ok()?.modified().ok()?;
        i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
    };
    Some(Build {
        uuid: uuid.to_owned(),
        seq: 0,
        project: meta.project,
        number: i64::try_from(meta.number).unwrap_or(i64::MAX),
        state: if record.is_some() { State::Ended } else { State::Live },
        status: record
            .as_ref()
            .map_or("IN_PROGRESS", |record| record.build_status.name())
            .to_owned(),
        requested: record.as_ref().map_or_else(
            || begun().unwrap_or_default(),
            |record| (record.start_time * 1000.0) as i64,
        ),
        deadline: None,
        order: None,
        record: record.and_then(|record| serde_json::to_value(&record).ok()),
    })
}
