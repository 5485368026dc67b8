//! The queue: which build starts when, and what becomes of each, over kills of this program.
//!
//! A build goes `queued`, `starting`, `live`, `ended`. Its process holds the lock of `starts/UUID` from before it is
//! made to its end, so that after a kill the lock tells whether there is one. A lock that is free without a folder means
//! that nothing has run, unless the process has noted in that file that its folder was there.

mod calls;
mod processes;
#[cfg(test)]
mod tests;

pub use calls::Deleted;
pub use processes::BEGUN;

use crate::db::DbError;
use crate::db::builds::{self, Build, State};
use crate::record;
use crate::service::Service;
use runner_folder::state::{BuildDir, Home};
use runner_host::clock;
use runner_host::private::make_private;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What is to be started.
#[derive(Debug)]
pub struct Start {
    pub uuid: String,
    pub number: u64,
    /// `project`, as a project of CodeBuild's with the overrides in it, `sessions`, `initiator`.
    pub order: Value,
}

/// Waits for a process to end.
pub type Process = Box<dyn FnOnce() + Send>;

/// Who starts builds.
pub trait Launcher: Send + Sync {
    /// Starts one, in a process that holds `lock` to its end.
    ///
    /// # Errors
    /// None has begun; why.
    fn launch(&self, start: &Start, lock: File) -> Result<Process, String>;

    /// Ends in their folders what killed runners have left.
    fn sweep(&self);
}

/// What runs, and who hears of changes.
pub(crate) struct Queue {
    launcher: Arc<dyn Launcher>,
    starts: PathBuf,
    running: Mutex<HashSet<String>>,
    is_draining: Mutex<bool>,
    changed: watch::Sender<u64>,
    /// Another deadline may be the next.
    waiting: Notify,
}

impl Queue {
    pub(crate) fn new(home: &Home, launcher: Arc<dyn Launcher>) -> io::Result<Self> {
        let starts = home.root().join("starts");
        make_private(&starts)?;
        Ok(Queue {
            launcher,
            starts,
            running: Mutex::default(),
            is_draining: Mutex::new(false),
            changed: watch::Sender::new(0),
            waiting: Notify::new(),
        })
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn is_draining(&self) -> bool {
        *self.is_draining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Starts nothing any more.
    pub fn drain(&self) {
        *self.queue.is_draining.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Starts what there is room for; blocks for as long as that takes to note.
    pub(crate) fn turn(self: &Arc<Self>) {
        loop {
            let mut running = self.queue.running();
            if self.queue.is_draining() || running.len() >= self.settings.max_builds {
                return;
            }
            let next = self.db.write_now(|connection| -> Result<_, DbError> {
                let Some(build) = builds::first_queued(connection)? else { return Ok(None) };
                builds::advance(connection, &build.uuid, State::Queued, State::Starting)?;
                Ok(Some(build))
            });
            match next {
                Ok(Some(build)) => {
                    running.insert(build.uuid.clone());
                    drop(running);
                    if !self.run(build) {
                        // The next end or the next call tries again.
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    // The next end or the next call tries again.
                    tracing::warn!(%error, "the queue stands still");
                    return;
                }
            }
        }
    }

    /// Notes a build's end, whatever was there of it, and goes on with the queue.
    pub(crate) fn settle(self: &Arc<Self>, build: &Build, why: Option<&str>) {
        let dir = BuildDir::of(&self.home, &build.uuid);
        if dir.path().exists() && !dir.has_record() {
            self.queue.launcher.sweep();
        }
        let record = match dir.record() {
            Ok(Some(record)) => serde_json::to_value(&record).ok(),
            Ok(None) | Err(_) => None,
        };
        let now = clock::wall().epoch_millis();
        let record = match record {
            Some(record) => record::joined(record, build),
            None => {
                let why = why.unwrap_or("the process of the build ended before the build began");
                record::never_begun(build, now, "FAULT", Some(why))
            }
        };
        let ended = build.clone();
        let home = self.home.clone();
        let noted =
            self.db.write_now(move |connection| end(connection, &home, &ended, &record, now));
        if let Err(error) = noted {
            // It is live for the next `serve`, which does this again.
            tracing::warn!(%error, "the end of a build is not noted");
        }
        self.queue.forget(&build.uuid);
        self.turn();
        self.queue.tell();
    }

    /// Ends builds that have waited too long, as long as the service lives.
    pub async fn expire(self: &Arc<Self>) {
        loop {
            let next = self.db.read(builds::next_deadline).await.unwrap_or_default();
            let now = clock::wall().epoch_millis();
            let left = next.map(|at| Duration::from_millis(u64::try_from(at - now).unwrap_or(0)));
            let again = self.queue.waiting.notified();
            match left {
                Some(Duration::ZERO) => {
                    let late = self.db.write(move |connection| late(connection, now)).await;
                    if late.is_err() {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    self.queue.tell();
                }
                // A clock that is set meanwhile is seen within a minute.
                Some(left) => {
                    let left = left.min(Duration::from_secs(60));
                    let _ = tokio::time::timeout(left, again).await;
                }
                None => again.await,
            }
        }
    }

    /// Resolves when something of the queue has changed after `seen`; what is current then.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut changes = self.queue.changed.subscribe();
        let _ = changes.wait_for(|now| *now != seen).await;
        *changes.borrow()
    }

    #[must_use]
    pub fn changes(&self) -> u64 {
        *self.queue.changed.borrow()
    }
}

/// Notes an end, and, in the same transaction, the retry that follows from it.
fn end(
    connection: &Connection,
    home: &Home,
    build: &Build,
    record: &Value,
    now: i64,
) -> Result<(), DbError> {
    let mut record = record.clone();
    let retry = retry_of(home, build, record["buildStatus"].as_str().unwrap_or_default(), now);
    if let Some(next) = &retry {
        record["autoRetryConfig"]["nextAutoRetry"] = json!(record::build_arn(&next.id()));
    }
    if builds::end(connection, &build.uuid, &record)?
        && let Some(next) = retry
    {
        builds::insert(connection, &next)?;
    }
    Ok(())
}

/// The build that is tried next by itself.
fn retry_of(home: &Home, build: &Build, status: &str, now: i64) -> Option<Build> {
    let mut order = build.order.clone()?;
    let config = &order["autoRetryConfig"];
    let (limit, number) =
        (config["autoRetryLimit"].as_i64()?, config["autoRetryNumber"].as_i64().unwrap_or(0));
    if number >= limit || !matches!(status, "FAILED" | "FAULT" | "TIMED_OUT") {
        return None;
    }
    order["autoRetryConfig"] = json!({
        "autoRetryLimit": limit,
        "autoRetryNumber": number + 1,
        "previousAutoRetry": record::build_arn(&build.id()),
    });
    calls::queued(home, &build.project, order, now).ok()
}

fn late(connection: &Connection, now: i64) -> Result<(), DbError> {
    for build in builds::in_state(connection, State::Queued)? {
        if build.deadline.is_some_and(|deadline| deadline <= now) {
            let record = record::never_begun(&build, now, "TIMED_OUT", None);
            builds::end(connection, &build.uuid, &record)?;
        }
    }
    Ok(())
}
