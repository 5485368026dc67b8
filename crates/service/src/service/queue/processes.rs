//! Processes of builds: starts them, and takes over those left by a killed `serve`.

use super::{AGAIN, Queue, Start};
use crate::db::DbError;
use crate::db::builds::{self, BuildProgress, StoredBuild};
use crate::service::Service;
use crate::service::batches::step;
use runner_folder::state::BuildDir;
use runner_host::users;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

/// What a process writes to its lock file once its build has a folder.
pub const BEGUN: &str = "begun\n";

impl Queue {
    fn lock_file(&self, uuid: &str) -> PathBuf {
        self.starts.join(uuid)
    }

    /// Creates and takes the lock of a start.
    fn lock(&self, uuid: &str) -> io::Result<File> {
        let path = self.lock_file(uuid);
        let lock = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        users::give(&path)?;
        lock.lock()?;
        Ok(lock)
    }

    pub(super) fn forget(&self, uuid: &str) {
        // A lock that nobody holds and no row refers to does no harm.
        let _ = fs::remove_file(self.lock_file(uuid));
        self.remove(uuid);
    }
}

impl Service {
    /// Starts a build on a thread that follows it to its end; `false` if no thread could be
    /// created.
    pub(super) fn run(self: &Arc<Self>, build: StoredBuild) -> bool {
        let service = Arc::clone(self);
        let uuid = build.uuid.clone();
        let run = move || {
            let why = service.started(&build);
            service.settle(&build, why.as_deref());
        };
        if let Err(error) = thread::Builder::new().name("build".to_owned()).spawn(run) {
            tracing::warn!(%error, %uuid, "a build waits on");
            // Before it is queued again: another turn may start it at once.
            self.queue.forget(&uuid);
            self.wait_again(uuid);
            return false;
        }
        true
    }

    /// Puts a build that was about to start back in its place in the queue.
    fn wait_again(&self, uuid: String) {
        let back = self.db.write_now(move |connection| {
            builds::advance(connection, &uuid, BuildProgress::Starting, BuildProgress::Queued)
        });
        if let Err(error) = back {
            tracing::warn!(%error, "a build waits for the next serve");
        }
    }

    /// Starts a build and waits for its end. Returns why it did not start.
    fn started(self: &Arc<Self>, build: &StoredBuild) -> Option<String> {
        let lock = match self.queue.lock(&build.uuid) {
            Ok(lock) => lock,
            Err(error) => return Some(format!("cannot make the lock of its start: {error}")),
        };
        let start = self.start(build);
        if start.is_to_stop.load(Ordering::Acquire) {
            return Some("it was stopped before it began".to_owned());
        }
        match self.queue.launcher.launch(&start, lock) {
            Ok(process) => {
                self.is_live(&build.uuid);
                process();
                None
            }
            Err(why) => Some(why),
        }
    }

    /// The data for starting a build.
    pub(crate) fn start(&self, build: &StoredBuild) -> Start {
        let running = self.queue.running();
        let run = running.get(&build.uuid);
        Start {
            uuid: build.uuid.clone(),
            number: u64::try_from(build.number).unwrap_or_default(),
            order: build.order.clone().unwrap_or_default(),
            is_to_stop: run.map(|run| Arc::clone(&run.is_to_stop)).unwrap_or_default(),
        }
    }

    fn is_live(self: &Arc<Self>, uuid: &str) {
        let of = uuid.to_owned();
        let noted = self.db.write_now(move |connection| {
            builds::advance(connection, &of, BuildProgress::Starting, BuildProgress::Live)
        });
        if let Err(error) = noted {
            // Its folder says so, too.
            tracing::warn!(%error, "a build is not noted as live");
        }
        self.queue.tell();
        if self.queue.is_to_stop(uuid) {
            // A stop was requested while it began.
            self.stop_all(vec![uuid.to_owned()]);
        }
    }

    /// Stops builds, including those about to begin. Does not wait.
    pub(crate) fn stop_all(self: &Arc<Self>, uuids: Vec<String>) {
        if uuids.is_empty() {
            return;
        }
        for uuid in &uuids {
            if let Some(run) = self.queue.running().get(uuid) {
                run.is_to_stop.store(true, Ordering::Release);
            }
        }
        let service = Arc::clone(self);
        let stop = move || {
            let mut left = uuids;
            loop {
                left.retain(|uuid| !service.stop_one(uuid));
                if left.is_empty() || service.queue.is_draining() {
                    return;
                }
                thread::sleep(AGAIN);
            }
        };
        if let Err(error) = thread::Builder::new().name("stop".to_owned()).spawn(stop) {
            tracing::warn!(%error, "builds are not stopped");
        }
    }

    /// Asks a build to stop. Returns whether that is settled.
    fn stop_one(&self, uuid: &str) -> bool {
        match self.db.read_now(|connection| builds::get(connection, uuid)) {
            Ok(Some(build)) if build.state == BuildProgress::Live => {}
            // It is about to begin, perhaps in a process of another `serve`.
            Ok(Some(build)) if build.state == BuildProgress::Starting => {
                if !BuildDir::of(&self.home, uuid).path().exists() {
                    return false;
                }
            }
            Ok(_) => return true,
            Err(_) => return false,
        }
        match self.queue.launcher.stop(uuid) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, %uuid, "a build is asked to stop again");
                !self.queue.running().contains_key(uuid)
            }
        }
    }

    /// Takes over what another `serve` left: waits for live builds, ends the others or queues them
    /// again.
    pub fn take_up_all(self: &Arc<Self>) -> Result<(), DbError> {
        let own = self.db.read_now(|connection| -> Result<Vec<StoredBuild>, DbError> {
            let mut own = builds::in_state(connection, BuildProgress::Starting)?;
            own.extend(builds::in_state(connection, BuildProgress::Live)?);
            own.retain(|build| build.order.is_some());
            Ok(own)
        })?;
        // Builds that the other service was about to stop.
        let to_stop = self.db.read_now(step::to_stop)?;
        for build in own {
            let run = self.running(&build);
            if to_stop.contains(&build.uuid) {
                run.is_to_stop.store(true, Ordering::Release);
            }
            self.queue.insert(&mut self.queue.running(), build.uuid.clone(), run);
            let service = Arc::clone(self);
            let take_up = move || service.take_up(&build);
            thread::Builder::new()
                .name("build".to_owned())
                .spawn(take_up)
                .map_err(|error| DbError::File(format!("no thread for a build: {error}")))?;
        }
        self.stop_all(to_stop);
        Ok(())
    }

    fn take_up(self: &Arc<Self>, build: &StoredBuild) {
        let path = self.queue.lock_file(&build.uuid);
        // Only a missing or free lock shows that there is no process.
        while let Err(error) = self.wait_for(&path, build) {
            if self.queue.is_draining() {
                return;
            }
            tracing::warn!(%error, build = build.id(), "whether a build lives is looked at again");
            thread::sleep(AGAIN);
        }
        let dir = BuildDir::of(&self.home, &build.uuid);
        let has_begun = build.state == BuildProgress::Live
            || fs::read_to_string(&path).map_or_else(
                // An unreadable file may say that the build has begun.
                |error| error.kind() != io::ErrorKind::NotFound,
                |text| text.contains(BEGUN),
            );
        if dir.path().exists() || has_begun || self.queue.is_to_stop(&build.uuid) {
            self.settle(build, Some("the build's folder is gone"));
            return;
        }
        // Nothing has run.
        self.queue.forget(&build.uuid);
        self.wait_again(build.uuid.clone());
        self.turn();
        self.queue.tell();
    }

    /// Waits for the end of a build's process, if there is one.
    fn wait_for(self: &Arc<Self>, path: &Path, build: &StoredBuild) -> io::Result<()> {
        let lock = match OpenOptions::new().read(true).append(true).open(path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        match lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                // It is live: it has ended when it releases the lock.
                if BuildDir::of(&self.home, &build.uuid).path().exists() {
                    self.is_live(&build.uuid);
                }
                lock.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Starts builds queued by the last `serve`.
    pub async fn begin(self: &Arc<Self>) {
        let service = Arc::clone(self);
        let _ = tokio::task::spawn_blocking(move || service.turn()).await;
    }
}
