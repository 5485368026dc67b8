//! The folder of one build.
//!
//! ```text
//! meta.json       facts about the build; written first
//! lock            held by flock while the build's owner lives
//! reserve         space for the last events and the record, in case the disk fills up
//! events.jsonl    all events (`core::event`), one line each
//! output.log      output of its commands
//! reports/        test and coverage reports, one folder each
//! artifacts/      artifacts that a project of `runner serve` would send to AWS
//! changes/        file changes of each run, if checkpoints are kept
//! record.json     the final Build record; nothing changes after it is written
//! control.sock    the owner's socket
//! readonly/       the container's /codebuild/readonly
//! ```
//!
//! `engine` keeps more files here (`engine::leftover`).
//!
//! A folder is made under another name, locked, then renamed: a visible folder is never half made.

use super::changes::{FolderChanges, Waited};
use super::home::{Home, StateError};
use runner_core::record::Build;
use runner_host::private::{make_private, remove_half_written, remove_tree, write_durably};
use runner_host::users;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the final record.
const RECORD: &str = "record.json";
/// Bytes reserved for a build's last events and its record.
const RESERVE: u64 = 64 << 10;

/// Format version of a build's folder; raised if an older program would misread it.
pub const SCHEMA: u32 = 1;
/// How long a newborn child of a killed owner may hold its lock.
pub(super) const BIRTH: Duration = Duration::from_secs(2);

/// Why a build's folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error(
        "another version of runner has made it (folder version {0}, this one knows {SCHEMA}): use that one"
    )]
    Version(u32),
    #[error("{file} cannot be read: {source}")]
    Damaged { file: &'static str, source: io::Error },
}

/// The fields that every version of a file has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordHead {
    #[serde(default = "first")]
    schema_version: u32,
}

/// The version of files that name none: the first.
fn first() -> u32 {
    1
}

/// Reads a file if it has this version.
fn read_versioned<T: DeserializeOwned>(
    dir: &Path,
    file: &'static str,
) -> Result<Option<T>, MetaError> {
    let damaged = |source| MetaError::Damaged { file, source };
    let text = match fs::read(dir.join(file)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error)),
    };
    let head: RecordHead = serde_json::from_slice(&text).map_err(|error| damaged(error.into()))?;
    if head.schema_version != SCHEMA {
        return Err(MetaError::Version(head.schema_version));
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(error.into()))
}

/// A stored record with its version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionedRecord<'a> {
    schema_version: u32,
    #[serde(flatten)]
    record: &'a Build,
}

/// The pid namespace of this process.
pub fn pid_namespace() -> Option<PathBuf> {
    fs::read_link("/proc/self/ns/pid").ok()
}

/// Facts about a build that another process needs to clean up after it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    #[serde(default = "first")]
    pub schema_version: u32,
    pub uuid: String,
    pub project: String,
    pub number: u64,
    /// The build's name in its batch, if it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The owner's pid.
    pub runner_pid: u32,
    /// The namespace of that pid.
    #[serde(default)]
    pub pid_namespace: Option<PathBuf>,
    /// The engine's possible leftovers, in the engine's own format.
    #[serde(flatten)]
    pub engine: Map<String, Value>,
    /// Where results for the user may be half made.
    #[serde(default)]
    pub staging: Vec<PathBuf>,
}

impl Meta {
    pub fn build_id(&self) -> String {
        format!("{}:{}", self.project, self.uuid)
    }
}

/// Paths of a build's folder.
#[derive(Clone, Debug)]
pub struct BuildDir {
    path: PathBuf,
    live: PathBuf,
}

/// The right to write to a build's folder. While it exists the build is live.
#[derive(Debug)]
pub struct Owned {
    _lock: File,
}

/// Lists a build as live. The listing is locked while the build's folder is made: a listing without
/// a lock or folder was left by a kill.
fn list(path: &Path) -> io::Result<File> {
    loop {
        let listing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        listing.lock()?;
        // Before it was locked, a sweep may have removed it as a leftover.
        if listing.metadata()?.nlink() > 0 {
            users::give(path)?;
            return Ok(listing);
        }
    }
}

impl BuildDir {
    pub fn of(home: &Home, uuid: &str) -> Self {
        BuildDir { path: home.builds().join(uuid), live: home.live().join(uuid) }
    }

    /// Creates the folder of a new build.
    pub fn create(home: &Home, meta: &Meta) -> Result<(Self, Owned), StateError> {
        let dir = Self::of(home, &meta.uuid);
        let new = home.builds().join(format!(".new-{}", meta.uuid));
        let make = || -> io::Result<Owned> {
            // First, so that everything else that a kill leaves can be found.
            let _being_made = list(&dir.live)?;
            make_private(&new)?;
            let lock = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(new.join("lock"))?;
            users::give(&new.join("lock"))?;
            lock.lock()?;
            let reserve = File::create(new.join("reserve"))?;
            users::give(&new.join("reserve"))?;
            rustix::fs::fallocate(&reserve, FallocateFlags::empty(), 0, RESERVE)
                .or_else(|errno| if errno == Errno::OPNOTSUPP { Ok(()) } else { Err(errno) })?;
            write_durably(&new.join("meta.json"), &serde_json::to_vec_pretty(meta)?)?;
            fs::rename(&new, &dir.path)?;
            Ok(Owned { _lock: lock })
        };
        match make() {
            Ok(owned) => Ok((dir, owned)),
            Err(error) => {
                // The rest of a failed attempt is useless.
                let _ = remove_tree(&new);
                let _ = fs::remove_file(&dir.live);
                Err(StateError::new("make the build's folder", &dir.path, error))
            }
        }
    }

    /// Whether this listed build without a folder is no longer being made. While the returned file
    /// lives, nobody makes it.
    pub fn take_listing(&self) -> io::Result<Option<File>> {
        let listing = match File::open(&self.live) {
            Ok(listing) => listing,
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match listing.try_lock() {
            Ok(()) => Ok(Some(listing).filter(|_| !self.path.exists())),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Takes over a build whose owner is dead; `None` while the owner lives.
    pub fn take_over(&self) -> io::Result<Option<Owned>> {
        let lock = OpenOptions::new().write(true).open(self.path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => return Ok(Some(Owned { _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // A newborn child of the owner holds all open files until it closes them, which it does
        // first; it does not keep the build alive.
        let until = Instant::now() + BIRTH;
        while self.has_dead_owner() {
            let changes = FolderChanges::of_build(&self.path, &self.live)?;
            if lock.try_lock().is_ok() {
                return Ok(Some(Owned { _lock: lock }));
            }
            if changes.wait(Some(until))? == Waited::TimeIsUp {
                break;
            }
        }
        Ok(None)
    }

    /// Whether the process that began the build is gone.
    fn has_dead_owner(&self) -> bool {
        let Ok(Some(meta)) = self.meta() else { return false };
        let is_of_here = meta.pid_namespace.is_some() && meta.pid_namespace == pid_namespace();
        is_of_here && is_gone(meta.runner_pid)
    }

    /// Whether someone holds the build's lock: its owner, or the process that ends it for a dead
    /// owner.
    pub fn is_owned(&self) -> bool {
        let lock = File::open(self.path.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Whether the build's owner lives and there is no record yet.
    pub fn is_under_way(&self) -> bool {
        self.is_owned() && !self.has_record()
    }

    /// Whether the build has ended.
    pub fn has_record(&self) -> bool {
        self.record_file().exists()
    }

    pub fn record_file(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// The owner's pid if it is stopped by a signal or a debugger.
    pub fn stopped_owner(&self) -> Option<u32> {
        let pid = self.meta().ok()??.runner_pid;
        is_stopped(pid).then_some(pid)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    pub fn output(&self) -> PathBuf {
        self.path.join("output.log")
    }

    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    pub fn changes(&self) -> PathBuf {
        self.path.join("changes")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub fn readonly(&self) -> PathBuf {
        self.path.join("readonly")
    }

    /// `None` if there is no such build.
    pub fn meta(&self) -> Result<Option<Meta>, MetaError> {
        read_versioned(&self.path, "meta.json")
    }

    /// Frees the reserved space for writes that must succeed now.
    pub fn use_reserve(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path.join("reserve")))
    }

    /// Writes the final record. Nothing in the folder changes afterwards.
    pub fn write_record(&self, record: &Build) -> io::Result<()> {
        let kept = VersionedRecord { schema_version: SCHEMA, record };
        write_durably(&self.record_file(), &serde_json::to_vec_pretty(&kept)?)
    }

    /// `None` until the build has ended.
    pub fn record(&self) -> io::Result<Option<Build>> {
        read_versioned(&self.path, RECORD).map_err(io::Error::other)
    }

    /// Its entry in the list of builds that may still run.
    pub fn listing(&self) -> &Path {
        &self.live
    }

    /// Whether it is listed among builds that may still run.
    pub fn is_listed(&self) -> bool {
        self.live.exists()
    }

    /// Removes the files that only a live build needs, except the engine's. Goes on after a failure
    /// and returns the first one.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        let removed = [
            self.use_reserve(),
            remove_tree(&self.readonly()),
            ignore_missing(fs::remove_file(self.control_socket())),
            remove_half_written(&self.path, &[]),
        ];
        removed.into_iter().collect()
    }

    /// Removes a build that left no record.
    pub fn discard(&self) -> io::Result<()> {
        remove_tree(&self.path)?;
        self.retire()
    }

    /// Takes the build off the list of those that may still run.
    pub fn retire(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(&self.live))
    }
}

/// Whether a process has ended.
pub(super) fn is_gone(pid: u32) -> bool {
    matches!(state_of(pid), None | Some('Z' | 'X'))
}

/// Whether a process is stopped by a signal or a debugger.
pub(super) fn is_stopped(pid: u32) -> bool {
    matches!(state_of(pid), Some('T' | 't'))
}

/// A process's state letter in /proc; `None` if there is no such process.
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The letter follows the name, which may contain anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
