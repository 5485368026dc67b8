//! The folder of one batch.
//!
//! ```text
//! lock            held by flock while the batch's owner lives
//! record.json     the current BuildBatch record; always complete
//! source/         the trees that its builds see, one folder per source; removed at the end
//! source.json     facts about the trees, once complete; only for a batch of `runner serve`
//! artifacts/      artifacts of its builds that will be combined; only for such a batch
//! ```
//!
//! A batch is listed in `live-batches/` until it has ended, as builds are in `live/`. Its builds
//! have their own folders. A batch of `runner serve` has no owner: it lives in the server's
//! database, has neither lock nor record here, and is not listed.

use super::home::{Home, StateError};
use runner_core::batch::BuildBatch;
use runner_host::private::{make_private, remove_half_written, remove_tree, write_durably};
use runner_host::users;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const RECORD: &str = "record.json";
/// The next record, until it replaces the last one.
const NEXT: &str = "record.new";
/// How long batch records are kept; the same as for builds.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Paths of a batch's folder.
#[derive(Clone, Debug)]
pub struct BatchDir {
    path: PathBuf,
    live: PathBuf,
}

/// The right to write to a batch's folder. While it exists the batch is live.
#[derive(Debug)]
pub struct OwnedBatch {
    _lock: File,
}

impl BatchDir {
    pub fn of(home: &Home, uuid: &str) -> Self {
        BatchDir { path: batches(home).join(uuid), live: listings(home).join(uuid) }
    }

    /// Creates the folder of a new batch.
    pub fn create(home: &Home, uuid: &str) -> Result<(Self, OwnedBatch), StateError> {
        let dir = Self::of(home, uuid);
        let make = || -> io::Result<OwnedBatch> {
            make_private(&batches(home))?;
            make_private(&listings(home))?;
            make_private(&dir.path)?;
            let lock = lock_file(&dir.path.join("lock"))?;
            lock.lock()?;
            // Last, so that a listed batch always has a lock. A kill before this leaves an empty
            // folder, removed by age.
            let options = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
            options.open(&dir.live)?;
            users::give(&dir.live)?;
            Ok(OwnedBatch { _lock: lock })
        };
        match make() {
            Ok(owned) => Ok((dir, owned)),
            Err(error) => {
                let _ = remove_tree(&dir.path);
                Err(StateError::new("make the batch's folder", &dir.path, error))
            }
        }
    }

    /// The folder of a batch in the database; creates it if missing.
    pub fn of_service(home: &Home, uuid: &str) -> io::Result<Self> {
        let dir = Self::of(home, uuid);
        make_private(&batches(home))?;
        make_private(&dir.path)?;
        Ok(dir)
    }

    /// Takes over a batch whose owner is dead; `None` while the owner lives.
    pub fn take_over(&self) -> io::Result<Option<OwnedBatch>> {
        let lock = lock_file(&self.path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(OwnedBatch { _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The trees that its builds see.
    pub fn sources(&self) -> PathBuf {
        self.path.join("source")
    }

    /// Facts about the trees, once they are complete.
    pub fn source_facts(&self) -> PathBuf {
        self.path.join("source.json")
    }

    /// A build's artifacts that will be combined.
    pub fn artifacts(&self, identifier: &str) -> PathBuf {
        self.path.join("artifacts").join(identifier)
    }

    /// The combined artifacts.
    pub fn combined(&self) -> PathBuf {
        self.path.join("combined")
    }

    /// Removes the files that a batch in the database no longer needs once it has succeeded.
    pub fn release(&self) -> io::Result<()> {
        match fs::remove_file(self.source_facts()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        remove_tree(&self.sources())?;
        remove_tree(&self.combined())?;
        remove_tree(&self.path.join("artifacts"))
    }

    /// Writes the record. The final one survives a power loss.
    pub fn write_record(&self, record: &BuildBatch) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        let path = self.path.join(RECORD);
        if record.complete {
            return write_durably(&path, &text);
        }
        let new = self.path.join(NEXT);
        fs::write(&new, text)?;
        users::give(&new)?;
        fs::rename(new, path)
    }

    /// `None` if there is no record, or none that this version can read.
    pub fn record(&self) -> io::Result<Option<BuildBatch>> {
        match fs::read(self.path.join(RECORD)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a batch unless its owner lives. Returns whether it did.
    pub fn remove(&self) -> io::Result<bool> {
        let Some(_owned) = self.take_over()? else { return Ok(false) };
        self.retire()?;
        remove_tree(&self.path).map(|()| true)
    }

    /// Removes the files that only a live batch needs and those that a killed owner left half
    /// written, and takes the batch off the list.
    pub fn retire(&self) -> io::Result<()> {
        remove_tree(&self.sources())?;
        remove_half_written(&self.path, &[NEXT])?;
        match fs::remove_file(&self.live) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

fn lock_file(path: &Path) -> io::Result<File> {
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    users::give(path)?;
    Ok(lock)
}

fn batches(home: &Home) -> PathBuf {
    home.root().join("batches")
}

fn listings(home: &Home) -> PathBuf {
    home.root().join("live-batches")
}

/// Tells versions of a record apart. Each version is a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordVersion(SystemTime, u64);

/// The uuids of batches that have a record.
pub fn batches_with_records(home: &Home) -> Result<Vec<(String, RecordVersion)>, StateError> {
    let folder = batches(home);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        // There has never been a batch.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::new("list", &folder, error)),
    };
    let written = |uuid: String| {
        let record = fs::metadata(folder.join(&uuid).join(RECORD)).ok()?;
        Some((uuid, RecordVersion(record.modified().ok()?, record.ino())))
    };
    Ok(entries.filter_map(|entry| written(entry.ok()?.file_name().into_string().ok()?)).collect())
}

/// Batches listed as live.
pub fn listed_batches(home: &Home) -> Result<Vec<BatchDir>, StateError> {
    let listings = listings(home);
    let entries = match fs::read_dir(&listings) {
        Ok(entries) => entries,
        // There has never been a batch.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::new("list", &listings, error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.map(|uuid| BatchDir::of(home, &uuid)).collect())
}

/// Removes batches that are too old. One that cannot be removed is left for the next time.
pub fn prune_old_batches(home: &Home, now: SystemTime) {
    let Ok(entries) = fs::read_dir(batches(home)) else { return };
    for entry in entries.filter_map(Result::ok) {
        let Ok(uuid) = entry.file_name().into_string() else { continue };
        let dir = BatchDir::of(home, &uuid);
        let changed = entry.metadata().and_then(|metadata| metadata.modified());
        let is_old =
            changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age > MAX_AGE));
        if is_old && !dir.live.exists() {
            let _ = remove_tree(&dir.path);
        }
    }
}
