//! The queue: which build starts when, and what becomes of each, over kills of this program.
//!
//! A build goes `queued`, `starting`, `live`, `ended`. Its process holds the lock of `starts/UUID` from before it is
//! made to its end, so that after a kill the lock tells whether there is one. A lock that is free without a folder means
//! that nothing has run, unless the process has noted in that file that its folder was there.

mod calls;
mod paused;
mod processes;
mod settle;
#[cfg(test)]
mod tests;

pub use calls::Deleted;
pub(crate) use calls::patience;
pub use processes::BEGUN;

use crate::db::DbError;
use crate::db::builds::{self, Build, State};
use crate::record;
use crate::service::Service;
use paused::Pauses;
use runner_folder::state::Home;
use runner_host::private::make_private;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// When something that has failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often running builds are looked at for pauses while others wait.
const LOOK: Duration = Duration::from_secs(1);

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
    /// The service's builds that have a process, or are about to, by uuid; with those among them that can pause.
    running: Mutex<HashMap<String, Option<Pauses>>>,
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

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, Option<Pauses>>> {
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
            if self.queue.is_draining() || !paused::has_room(&mut running, self.settings.max_builds)
            {
                return;
            }
            let next = self.db.write_now(|connection| -> Result<_, DbError> {
                let Some(build) = builds::first_queued(connection)? else { return Ok(None) };
                builds::advance(connection, &build.uuid, State::Queued, State::Starting)?;
                Ok(Some(build))
            });
            match next {
                Ok(Some(build)) => {
                    let pauses = self.pauses(&build);
                    let may_pause = pauses.is_some();
                    running.insert(build.uuid.clone(), pauses);
                    drop(running);
                    if may_pause {
                        // `expire` may sleep until the next deadline.
                        self.queue.waiting.notify_one();
                    }
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

    /// Ends builds that have waited too long, and has those that wait take the places of paused ones, as long as the
    /// service lives.
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
                let late = self.db.write(move |connection| late(connection, now)).await;
                if let Err(error) = late {
                    tracing::warn!(%error, "builds are past their deadline and cannot be ended now");
                    tokio::time::sleep(AGAIN).await;
                }
                self.queue.tell();
                continue;
            }
            let left = Duration::from_millis(u64::try_from(deadline - now).unwrap_or(0));
            // While something waits: a pause is no event of the service's.
            let left = if self.may_pause() { left.min(LOOK) } else { left };
            if tokio::time::timeout(left, again).await.is_err() && self.may_pause() {
                self.begin().await;
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

fn late(connection: &Connection, now: i64) -> Result<(), DbError> {
    for build in builds::in_state(connection, State::Queued)? {
        if build.deadline.is_some_and(|deadline| deadline <= now) {
            let record = record::never_begun(&build, now, "TIMED_OUT", None);
            builds::end(connection, &build.uuid, &record, false)?;
        }
    }
    Ok(())
}
