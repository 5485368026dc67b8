//! The queue: decides when each build starts, and follows it to its end, across kills of this
//! program.
//!
//! A build goes through `queued`, `starting`, `live`, `ended`. Its process holds the lock of
//! `starts/UUID` from before it is created to its end, so that after a kill the lock shows whether
//! it exists. A free lock without a folder means that nothing has run, unless the process noted in
//! that file that its folder existed.

mod calls;
mod paused;
mod processes;
pub(crate) mod settle;
#[cfg(test)]
mod tests;

pub use calls::Deleted;
pub(crate) use calls::{delete_one, made_before, new_uuid, patience, queued, renew_cache, token};
pub use processes::BEGUN;
pub(crate) use settle::{BuildEnd, note};

use crate::batch::{PlannedBatch, Rejected};
use crate::db::DbError;
use crate::db::batches;
use crate::db::builds::{self, BuildProgress, StoredBuild};
use crate::record;
use crate::service::batches::{Follow, step};
use crate::service::{Fault, Service};
use paused::PauseProbe;
use runner_core::batch::BatchInput;
use runner_folder::state::Home;
use runner_host::clock;
use runner_host::private::make_private;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Delay before a failed operation is retried.
const AGAIN: Duration = Duration::from_secs(1);
/// How often running builds are checked for pauses while others wait.
const LOOK: Duration = Duration::from_secs(1);

/// A build to start.
#[derive(Debug)]
pub struct Start {
    pub uuid: String,
    pub number: u64,
    /// `project`, in CodeBuild's form with the overrides applied, `sessions`, `initiator`, `batch`.
    pub order: Value,
    /// Set when the build must no longer begin.
    pub is_to_stop: Arc<AtomicBool>,
}

/// Waits for a process to end.
pub type ProcessWait = Box<dyn FnOnce() + Send>;

/// Starts builds.
pub trait Launcher: Send + Sync {
    /// Starts a build in a process that holds `lock` to its end.
    ///
    /// # Errors
    /// No build has begun; the reason.
    fn launch(&self, start: &Start, lock: File) -> Result<ProcessWait, String>;

    /// Asks a live build to stop; blocks until it has received the request.
    ///
    /// # Errors
    /// It has not received it yet, and may receive it later.
    fn stop(&self, uuid: &str) -> Result<(), String>;

    /// Reads a batch's list of builds from the source that the build `start` has got.
    ///
    /// # Errors
    /// The batch has no builds; the reason.
    fn plan(&self, start: &Start) -> Result<PlannedBatch, Rejected>;

    /// Repairs the folders that killed runners left behind.
    fn sweep(&self);
}

/// A build that has a process, or is about to.
struct RunningBuild {
    /// Checks for pauses, if the build can pause.
    pauses: Option<PauseProbe>,
    is_to_stop: Arc<AtomicBool>,
}

/// The running builds, and notifications of changes.
pub(crate) struct Queue {
    pub(crate) launcher: Arc<dyn Launcher>,
    starts: PathBuf,
    /// The service's builds that have a process or are about to, by uuid.
    running: Mutex<HashMap<String, RunningBuild>>,
    /// How many of them can pause. Separate, because the lock is held during writes to the
    /// database, and some readers must not wait.
    can_pause: AtomicUsize,
    is_draining: Mutex<bool>,
    changed: watch::Sender<u64>,
    /// Signals that the next deadline may have changed.
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
            can_pause: AtomicUsize::new(0),
            is_draining: Mutex::new(false),
            changed: watch::Sender::new(0),
            waiting: Notify::new(),
        })
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, RunningBuild>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, running: &mut HashMap<String, RunningBuild>, uuid: String, run: RunningBuild) {
        self.can_pause.fetch_add(usize::from(run.pauses.is_some()), Ordering::AcqRel);
        running.insert(uuid, run);
    }

    fn remove(&self, uuid: &str) {
        let gone = self.running().remove(uuid);
        let could_pause = gone.is_some_and(|run| run.pauses.is_some());
        self.can_pause.fetch_sub(usize::from(could_pause), Ordering::AcqRel);
    }

    /// Whether someone wants the build to stop.
    fn is_to_stop(&self, uuid: &str) -> bool {
        self.running().get(uuid).is_some_and(|run| run.is_to_stop.load(Ordering::Acquire))
    }

    pub(crate) fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Signals that the next deadline may have changed.
    pub(crate) fn waits(&self) {
        self.waiting.notify_one();
    }

    pub(crate) fn plan(&self, start: &Start) -> Result<PlannedBatch, Rejected> {
        self.launcher.plan(start)
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.is_draining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Stops starting builds.
    pub fn drain(&self) {
        *self.queue.is_draining.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Starts as many builds as there is room for; blocks until that is recorded.
    pub(crate) fn turn(self: &Arc<Self>) {
        loop {
            let mut running = self.queue.running();
            if !self.has_room(&mut running) {
                return;
            }
            match self.db.write_now(next_to_start) {
                Ok(Some(build)) => {
                    if !self.run_next(running, build) {
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

    /// Takes a build in, and starts what there is room for; blocks. Where there is room, its row
    /// and its start are one write to the disk.
    fn insert_and_turn(
        self: &Arc<Self>,
        insert: impl FnOnce(&Connection) -> Result<StoredBuild, Fault> + Send + 'static,
    ) -> Result<StoredBuild, Fault> {
        let mut running = self.queue.running();
        if !self.has_room(&mut running) {
            drop(running);
            let build = self.db.write_now(insert)?;
            // There may be room since.
            self.turn();
            return Ok(build);
        }
        let both = move |connection: &Connection| -> Result<_, Fault> {
            let build = insert(connection)?;
            Ok((build, next_to_start(connection)?))
        };
        let (build, next) = self.db.write_now(both)?;
        if let Some(next) = next {
            // Others wait only where one that has waited longer was the next.
            let may_be_more = next.uuid != build.uuid;
            if self.run_next(running, next) && may_be_more {
                self.turn();
            }
        }
        Ok(build)
    }

    fn has_room(&self, running: &mut HashMap<String, RunningBuild>) -> bool {
        !self.queue.is_draining() && paused::has_room(running, self.settings.max_builds)
    }

    /// Runs a build that is noted as starting; `false` where it waits again.
    fn run_next(
        self: &Arc<Self>,
        mut running: MutexGuard<'_, HashMap<String, RunningBuild>>,
        build: StoredBuild,
    ) -> bool {
        let run = self.running(&build);
        let may_pause = run.pauses.is_some();
        self.queue.insert(&mut running, build.uuid.clone(), run);
        drop(running);
        if may_pause {
            // `expire` may sleep until the next deadline.
            self.queue.waiting.notify_one();
        }
        self.run(build)
    }

    /// Ends builds that have waited too long, and starts queued builds in place of paused ones.
    /// Runs as long as the service.
    pub async fn expire(self: &Arc<Self>) {
        loop {
            let again = self.queue.waiting.notified();
            let next = match self.db.read(builds::next_deadline).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "the queue is looked at again");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let Some(deadline) = next else {
                again.await;
                continue;
            };
            let now = self.clock.now();
            if deadline <= now {
                let home = self.home.clone();
                let times = (clock::wall().epoch_millis(), now);
                let late = self.db.write(move |connection| late(connection, &home, times)).await;
                match late {
                    Ok(follow) => {
                        if self.follow(follow).await {
                            self.begin().await;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "builds are past their deadline and cannot be ended now");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                self.queue.tell();
                continue;
            }
            let left = Duration::from_millis(u64::try_from(deadline - now).unwrap_or(0));
            // While builds wait, poll: the service gets no event for a pause.
            let left = if self.may_pause() { left.min(LOOK) } else { left };
            if tokio::time::timeout(left, again).await.is_err() && self.may_pause() {
                self.begin().await;
            }
        }
    }

    /// Resolves when the queue has changed after `seen`. Returns the current count.
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

/// The build that has waited longest, now starting.
fn next_to_start(connection: &Connection) -> Result<Option<StoredBuild>, DbError> {
    let Some(build) = builds::first_queued(connection)? else { return Ok(None) };
    builds::advance(connection, &build.uuid, BuildProgress::Queued, BuildProgress::Starting)?;
    Ok(Some(build))
}

/// Ends builds that have waited too long, and batches that take too long.
fn late(connection: &Connection, home: &Home, now: (i64, i64)) -> Result<Follow, DbError> {
    let mut follow = Follow::default();
    for build in builds::late(connection, now.1)? {
        let record = record::never_begun(&build, now.0, "TIMED_OUT", None);
        let end = BuildEnd { build: &build, record, has_folder: false, planned: None };
        follow.join(note(connection, home, end, now)?);
    }
    for batch in batches::late(connection, now.1)? {
        follow.join(step::stopped(connection, home, batch, BatchInput::TimeIsUp, now)?);
    }
    Ok(follow)
}
