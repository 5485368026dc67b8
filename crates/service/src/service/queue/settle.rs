//! The ends of builds: read from their folders, recorded once.

use super::{AGAIN, StoredBuild, calls};
use crate::batch::{PlannedBatch, Rejected};
use crate::db::DbError;
use crate::db::builds;
use crate::record;
use crate::service::Service;
use crate::service::batches::{Follow, step};
use runner_folder::state::{BuildDir, Home, MetaError};
use runner_host::clock;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::thread;

/// How often a missing or unreadable record is looked for.
const TRIES: u32 = 30;

impl Service {
    /// Records a build's end, whatever exists of it, and continues with the queue.
    pub(super) fn settle(self: &Arc<Self>, build: &StoredBuild, why: Option<&str>) {
        let Some((record, has_folder)) = self.final_record(build, why) else {
            // The next `serve` finds it live and does this again.
            return;
        };
        let now = (clock::wall().epoch_millis(), self.clock.now());
        let planned = Arc::new(self.planned(build, &record));
        let follow = loop {
            let (ended, home, record) = (build.clone(), self.home.clone(), record.clone());
            let planned = Arc::clone(&planned);
            let noted = self.db.write_now(move |connection| {
                let planned = (*planned).as_ref();
                let end = BuildEnd { build: &ended, record, has_folder, planned };
                note(connection, &home, end, now)
            });
            let error = match noted {
                Ok(follow) => break follow,
                Err(error) => error,
            };
            if self.queue.is_draining() {
                // The next `serve` finds it live and does this again.
                tracing::warn!(%error, "the end of a build is not noted");
                return;
            }
            tracing::warn!(%error, build = build.id(), "the end of a build is noted later");
            thread::sleep(AGAIN);
        };
        self.queue.forget(&build.uuid);
        self.follow_now(follow);
        self.turn();
        self.queue.tell();
    }

    /// The record of a build whose process is gone, and whether it had a folder; `None` to leave
    /// that to the next `serve`.
    fn final_record(&self, build: &StoredBuild, why: Option<&str>) -> Option<(Value, bool)> {
        let dir = BuildDir::of(&self.home, &build.uuid);
        let mut unread = None;
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(AGAIN);
            }
            if dir.path().exists() && !dir.has_record() {
                self.queue.launcher.sweep();
            }
            match read(&dir) {
                Ok(Some(record)) => return Some((record::joined(record, build), true)),
                Ok(None) if !dir.path().exists() => {
                    unread = None;
                    break;
                }
                // The sweep could not end it now.
                Ok(None) => {}
                Err(error) => {
                    let is_passing = is_passing(&error);
                    unread = Some(format!("the build's record cannot be read: {error}"));
                    if !is_passing {
                        break;
                    }
                }
            }
            if self.queue.is_draining() {
                return None;
            }
        }
        let now = clock::wall().epoch_millis();
        if self.queue.is_to_stop(&build.uuid) && !dir.path().exists() {
            return Some((record::never_begun(build, now, "STOPPED", None), false));
        }
        let why = unread.as_deref().or(why);
        let why = why.unwrap_or("the process of the build ended before the build began");
        Some((record::never_begun(build, now, "FAULT", Some(why)), dir.path().exists()))
    }
}

fn read(dir: &BuildDir) -> io::Result<Option<Value>> {
    let record = dir.record()?.map(serde_json::to_value);
    Ok(record.transpose()?)
}

/// Whether another attempt may succeed: damage is permanent.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.get_ref().and_then(|why| why.downcast_ref::<MetaError>()) {
        Some(MetaError::Damaged { source, .. }) => {
            !matches!(source.kind(), InvalidData | UnexpectedEof)
        }
        Some(MetaError::Version(_)) | None => false,
    }
}

/// An end to record.
pub(crate) struct BuildEnd<'a> {
    pub(crate) build: &'a StoredBuild,
    pub(crate) record: Value,
    pub(crate) has_folder: bool,
    /// The definition of its batch, if this build read it from the source.
    pub(crate) planned: Option<&'a Result<PlannedBatch, Rejected>>,
}

/// Records an end and, in the same transaction, what follows from it: a retry, or the next builds
/// of its batch.
pub(crate) fn note(
    connection: &Connection,
    home: &Home,
    end: BuildEnd<'_>,
    now: (i64, i64),
) -> Result<Follow, DbError> {
    let BuildEnd { build, mut record, has_folder, planned } = end;
    let status = record["buildStatus"].as_str().unwrap_or_default();
    // If it is recorded already, do not assign a number again.
    let is_news = builds::get(connection, &build.uuid)?.is_some_and(|row| !row.state.has_ended());
    if !is_news {
        return Ok(Follow::default());
    }
    let retry = retry_of(connection, home, build, status, now)?;
    if let Some(next) = &retry {
        record["autoRetryConfig"]["nextAutoRetry"] = json!(record::build_arn(&next.id()));
    }
    builds::end(connection, &build.uuid, &record, has_folder)?;
    if let Some(next) = retry {
        builds::insert(connection, &next)?;
    }
    step::ended(connection, home, build, &record, planned, now)
}

/// The automatic retry of a build.
fn retry_of(
    connection: &Connection,
    home: &Home,
    build: &StoredBuild,
    status: &str,
    now: (i64, i64),
) -> Result<Option<StoredBuild>, DbError> {
    let Some(mut order) = build.order.clone() else { return Ok(None) };
    let config = &order["autoRetryConfig"];
    let limit = config["autoRetryLimit"].as_i64().unwrap_or(0);
    let number = config["autoRetryNumber"].as_i64().unwrap_or(0);
    if number >= limit || !matches!(status, "FAILED" | "FAULT" | "TIMED_OUT") {
        return Ok(None);
    }
    order["autoRetryConfig"] = json!({
        "autoRetryLimit": limit,
        "autoRetryNumber": number + 1,
        "previousAutoRetry": record::build_arn(&build.id()),
    });
    calls::renew_cache(connection, &build.project, &mut order)?;
    calls::queued(home, &build.project, calls::new_uuid(), order, now).map(Some)
}
