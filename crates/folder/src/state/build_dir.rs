//! The folder of one build.
//!
//! ```text
//! meta.json       what the build is; written first
//! lock            held by flock as long as the build's owner lives
//! reserve         room for the last words and the record, should the disk be full by then
//! events.jsonl    everything that happened (`core::event`), one line each
//! output.log      the bytes its commands wrote
//! reports/        reports of tests and coverage, a folder each
//! artifacts/      artifacts that a project of `runner serve` would send to AWS
//! changes/        what each run has changed in the files, where checkpoints are kept
//! record.json     the final Build record; once it is there nothing changes any more
//! control.sock    the owner's socket
//! readonly/       what the container sees at /codebuild/readonly
//! ```
//!
//! Beside these, `engine` keeps files in it (`engine::leftover`).
//!
//! Made under another name, locked, then renamed: a folder that can be seen is never half made.

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
/// Bytes set aside for a build's last events and its record.
const RESERVE: u64 = 64 << 10;

/// Version of what stands in a build's folder; raised when an older program would misunderstand it.
pub const SCHEMA: u32 = 1;
/// How long a process that a killed owner has just made may keep its lock.
const BIRTH: Duration = Duration::from_secs(2);

/// Why a build's folder tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error(
        "another version of runner has made it (folder version {0}, this one knows {SCHEMA}): use that one"
    )]
    Version(u32),
    #[error("{file} cannot be read: {source}")]
    Damaged { file: &'static str, source: io::Error },
}

/// What every version of a file in it has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordHead {
    #[serde(default = "first")]
    schema_version: u32,
}

/// Files without a version are of the first.
fn first() -> u32 {
    1
}

/// A file's contents, if they are of this version.
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

/// A record with its version, as it is kept.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionedRecord<'a> {
    schema_version: u32,
    #[serde(flatten)]
    record: &'a Build,
}

/// The namespace that pids of this process are of.
pub fn pid_namespace() -> Option<PathBuf> {
    fs::read_link("/proc/self/ns/pid").ok()
}

/// What a build is, as far as its end may have to be put right by somebody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    #[serde(default = "first")]
    pub schema_version: u32,
    pub uuid: String,
    pub project: String,
    pub number: u64,
    /// The owner.
    pub runner_pid: u32,
    /// Where that number means it.
    #[serde(default)]
    pub pid_namespace: Option<PathBuf>,
    /// What its engine may leave, in the engine's own words.
    #[serde(flatten)]
    pub engine: Map<String, Value>,
    /// Where what it leaves for the user may be half made.
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

/// The right to write to a build's folder; the build counts as live while it exists.
#[derive(Debug)]
pub struct Owned {
    _lock: File,
}

/// Lists a build as live. Locked while its folder is being made: a listing without lock and folder
/// is what a kill has left.
fn list(path: &Path) -> io::Result<File> {
    loop {
        let listing = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        listing.lock()?;
        // A sweep may have taken it for such a one before it was locked.
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

    /// Makes the folder of a new build.
    pub fn create(home: &Home, meta: &Meta) -> Result<(Self, Owned), StateError> {
        let dir = Self::of(home, &meta.uuid);
        let new = home.builds().join(format!(".new-{}", meta.uuid));
        let make = || -> io::Result<Owned> {
            // First of all, so that whatever a kill leaves of the rest is found.
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
                // What is left of the attempt is of no use to anybody.
                let _ = remove_tree(&new);
                let _ = fs::remove_file(&dir.live);
                Err(StateError::new("make the build's folder", &dir.path, error))
            }
        }
    }

    /// Whether the folder of this build, which is listed and not there, is no longer being made. While
    /// the answer lives, nobody makes it.
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

    /// Takes a build over whose owner is dead; `None` while it lives.
    pub fn take_over(&self) -> io::Result<Option<Owned>> {
        let lock = OpenOptions::new().write(true).open(self.path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => return Ok(Some(Owned { _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        // A process that the owner has just made holds all that was open there until it closes it, which it
        // does first of all: it does not live for the owner.
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

    /// Whether the process is gone that has begun the build.
    fn has_dead_owner(&self) -> bool {
        let Ok(Some(meta)) = self.meta() else { return false };
        let is_of_here = meta.pid_namespace.is_some() && meta.pid_namespace == pid_namespace();
        is_of_here && matches!(state_of(meta.runner_pid), None | Some('Z' | 'X'))
    }

    /// Whether somebody holds on to the build: its owner, or the process that ends it for a dead owner.
    pub fn is_owned(&self) -> bool {
        let lock = File::open(self.path.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Whether the build's owner lives and has left no record yet.
    pub fn is_under_way(&self) -> bool {
        self.is_owned() && !self.has_record()
    }

    /// Whether it has come to its end.
    pub fn has_record(&self) -> bool {
        self.record_file().exists()
    }

    pub fn record_file(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// The owner's pid, if it is stopped: by a signal, or by a debugger.
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

    /// `None` where there is no such build.
    pub fn meta(&self) -> Result<Option<Meta>, MetaError> {
        read_versioned(&self.path, "meta.json")
    }

    /// Gives the reserved room back, to be used for what must be written now.
    pub fn use_reserve(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path.join("reserve")))
    }

    /// Writes the final record. Nothing in the folder changes afterwards.
    pub fn write_record(&self, record: &Build) -> io::Result<()> {
        let kept = VersionedRecord { schema_version: SCHEMA, record };
        write_durably(&self.record_file(), &serde_json::to_vec_pretty(&kept)?)
    }

    /// `None` while the build has not ended.
    pub fn record(&self) -> io::Result<Option<Build>> {
        read_versioned(&self.path, RECORD).map_err(io::Error::other)
    }

    /// Its place on the list of those that may still run.
    pub fn listing(&self) -> &Path {
        &self.live
    }

    /// Whether it is on the list of those that may still run.
    pub fn is_listed(&self) -> bool {
        self.live.exists()
    }

    /// Removes what only a live build needs, but for its engine's part. Goes on after a failure; the first one is returned.
    pub fn remove_leftovers(&self) -> io::Result<()> {
        let removed = [
            self.use_reserve(),
            remove_tree(&self.readonly()),
            ignore_missing(fs::remove_file(self.control_socket())),
            remove_half_written(&self.path, &[]),
        ];
        removed.into_iter().collect()
    }

    /// Removes a build that came to nothing.
    pub fn discard(&self) -> io::Result<()> {
        remove_tree(&self.path)?;
        self.retire()
    }

    /// Takes the build off the list of those that may still run.
    pub fn retire(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(&self.live))
    }
}

/// Whether a process is stopped, by a signal or by a debugger.
pub(super) fn is_stopped(pid: u32) -> bool {
    matches!(state_of(pid), Some('T' | 't'))
}

/// What the kernel says of a process's state; nothing where there is none.
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
