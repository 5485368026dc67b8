//! Keeps the table of builds in step with their folders: builds started by `runner run`, and
//! removed ones.
//!
//! The cost depends on what has changed: the folder of all builds is read only if it has changed
//! since the last look, otherwise only builds that were live then are.

use crate::db::builds::{self, BuildProgress, FinalRecord, Indexed, StoredBuild};
use crate::db::{Db, DbError};
use crate::record;
use runner_core::event::EventBody;
use runner_folder::events::LogReader;
use runner_folder::state::{BuildDir, Home, KnownBuild, known};
use runner_host::clock;
use runner_host::private::remove_tree;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long the row of a build that never had a folder is kept: as long as folders are.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// Changes within one tick of the file clock cannot be distinguished.
const TICK: Duration = Duration::from_secs(2);

/// State of the last look.
#[derive(Default)]
pub(crate) struct Looks(Mutex<SeenFolders>);

#[derive(Default)]
struct SeenFolders {
    /// Modification time of the folder of all builds at that time.
    changed: Option<SystemTime>,
    /// Folders that were empty or damaged: they are read again, without causing any other to be
    /// read.
    unread: Vec<String>,
}

/// A change of a row.
enum IndexChange {
    New(Box<StoredBuild>),
    Ended(String, Value),
    Forgotten(String),
}

impl Looks {
    /// Updates the rows from the folders; blocks.
    pub(crate) fn refresh(&self, db: &Db, home: &Home) -> Result<(), DbError> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        let changed = fs::metadata(home.builds()).and_then(|folder| folder.modified());
        let changed = changed.map_err(|error| unread(home, &error))?;
        let changes = if seen.changed == Some(changed) {
            let mut changes = living(home, db.read_now(builds::live_of_others)?);
            let (new, unread) = read_all(home, std::mem::take(&mut seen.unread));
            seen.unread = unread;
            changes.extend(new);
            changes
        } else {
            let (changes, unread) = all(home, db)?;
            seen.unread = unread;
            changes
        };
        if !changes.is_empty()
            && let Err(error) = db.write_now(move |connection| apply(connection, changes))
        {
            // The next look then reads all of them again.
            *seen = SeenFolders::default();
            return Err(error);
        }
        // A folder changed just now may change again without a new modification time.
        let is_still = now.duration_since(changed).is_ok_and(|age| age > TICK);
        seen.changed = is_still.then_some(changed);
        Ok(())
    }
}

fn unread(home: &Home, error: &io::Error) -> DbError {
    DbError::File(format!("{}: {error}", home.builds().display()))
}

fn apply(connection: &Connection, changes: Vec<IndexChange>) -> Result<(), DbError> {
    for change in changes {
        match change {
            IndexChange::New(build) => builds::insert(connection, &build)?,
            IndexChange::Ended(uuid, record) => {
                if let Some(build) = builds::get(connection, &uuid)? {
                    let record = record::joined(record, &build);
                    builds::end(connection, &uuid, &record, true)?;
                }
            }
            IndexChange::Forgotten(uuid) => builds::forget(connection, &uuid)?,
        }
    }
    Ok(())
}

/// Changes of builds that were live at the last look.
fn living(home: &Home, rows: Vec<Indexed>) -> Vec<IndexChange> {
    rows.into_iter().filter_map(|row| ended(home, row.uuid)).collect()
}

/// Changes of all builds. Folders are listed before rows are read: a build of the service has its
/// row first. Second: folders left for the next look.
fn all(home: &Home, db: &Db) -> Result<(Vec<IndexChange>, Vec<String>), DbError> {
    let mut there = HashSet::new();
    for entry in fs::read_dir(home.builds()).map_err(|error| unread(home, &error))? {
        let name = entry.map_err(|error| unread(home, &error))?.file_name();
        if let Ok(name) = name.into_string()
            && is_uuid(&name)
        {
            there.insert(name);
        }
    }
    let now = clock::wall().epoch_millis();
    let mut changes = Vec::new();
    for row in db.read_now(builds::known)? {
        let is_there = there.remove(&row.uuid) || BuildDir::of(home, &row.uuid).path().exists();
        if is_there {
            match row.state {
                BuildProgress::Live if !row.is_own => changes.extend(ended(home, row.uuid)),
                _ => {}
            }
        } else if is_over(&row, now) {
            changes.push(IndexChange::Forgotten(row.uuid));
        }
    }
    let (new, unread) = read_all(home, there.into_iter().collect());
    changes.extend(new);
    Ok((changes, unread))
}

/// Builds without a row, oldest first, and folders that show nothing yet.
fn read_all(home: &Home, uuids: Vec<String>) -> (Vec<IndexChange>, Vec<String>) {
    let (mut new, mut unread) = (Vec::new(), Vec::new());
    for uuid in uuids {
        match found(home, &uuid) {
            Some(build) => new.push(build),
            None => unread.push(uuid),
        }
    }
    new.sort_by(|a, b| a.requested.cmp(&b.requested).then_with(|| a.uuid.cmp(&b.uuid)));
    (new.into_iter().map(|build| IndexChange::New(Box::new(build))).collect(), unread)
}

/// Whether a folder can be a build's; others are ignored.
fn is_uuid(name: &str) -> bool {
    name.len() == 36 && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether to delete the row of a build without a folder.
fn is_over(row: &Indexed, now: i64) -> bool {
    match row.state {
        BuildProgress::Gone => true,
        // Their folder or their end is still to come.
        BuildProgress::Queued | BuildProgress::Starting => false,
        BuildProgress::Live => !row.is_own,
        BuildProgress::Ended => row.has_folder || row.requested < now - KEPT_MS,
    }
}

/// The change after the end of a build of `runner run`.
fn ended(home: &Home, uuid: String) -> Option<IndexChange> {
    let dir = BuildDir::of(home, &uuid);
    match dir.record() {
        Ok(Some(record)) => Some(IndexChange::Ended(uuid, serde_json::to_value(&record).ok()?)),
        Ok(None) if !dir.path().exists() => Some(IndexChange::Forgotten(uuid)),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%error, %uuid, "the record of a build cannot be read");
            None
        }
    }
}

/// A build without a row; `None` if its folder cannot be read.
fn found(home: &Home, uuid: &str) -> Option<StoredBuild> {
    let KnownBuild { dir, .. } = known(home, uuid).ok()??;
    let meta = dir.meta().ok()??;
    let record = dir.record().ok()?;
    let (begun, log) = match &record {
        Some(record) => {
            let log = (record.logs.group_name.clone(), record.logs.stream_name.clone());
            ((record.start_time * 1000.0) as i64, Some(log))
        }
        // Before its first event it is about to begin.
        None => begun(&dir)?,
    };
    let log = log.unwrap_or_else(|| record::usual_log_names(&meta.project, uuid));
    let mut build = StoredBuild {
        uuid: uuid.to_owned(),
        seq: 0,
        project: meta.project,
        number: i64::try_from(meta.number).unwrap_or(i64::MAX),
        state: if record.is_some() { BuildProgress::Ended } else { BuildProgress::Live },
        status: record
            .as_ref()
            .map_or("IN_PROGRESS", |record| record.build_status.name())
            .to_owned(),
        requested: begun,
        deadline: None,
        order: None,
        record: None,
        log: Some(log),
    };
    if let Some(record) = record.and_then(|record| serde_json::to_value(&record).ok()) {
        build.record = Some(FinalRecord::from(&record::joined(record, &build)));
    }
    Some(build)
}

/// When a build began, and where its log goes, from its first event.
fn begun(dir: &BuildDir) -> Option<(i64, Option<(String, String)>)> {
    let event = LogReader::open(dir).ok()?.next_event().ok()??;
    let log = match event.body {
        EventBody::BuildStarted(facts) => facts.logs.cloudwatch,
        _ => None,
    };
    Some((event.time.epoch_millis(), log))
}

/// Completes deletions of builds that a killed `serve` had begun.
pub(crate) fn finish_deletions(db: &Db, home: &Home) -> Result<(), DbError> {
    for build in db.read_now(|connection| builds::in_state(connection, BuildProgress::Gone))? {
        let dir = BuildDir::of(home, &build.uuid);
        if dir.path().exists()
            && let Err(error) = remove_tree(dir.path())
        {
            tracing::warn!(%error, "the folder of a deleted build stays");
        }
    }
    Ok(())
}
