//! The folder of one build.
//!
//! ```text
//! meta.json       what the build is; written first
//! lock            held by flock as long as the build's owner lives
//! reserve         room for the last words and the record, should the disk be full by then
//! container.json  PID 1 and its start time, or the daemon; written before anything runs in it
//! events.jsonl    everything that happened (`core::event`), one line each
//! output.log      the bytes its commands wrote
//! reports/        reports of tests and coverage, a folder each
//! record.json     the final Build record; once it is there nothing changes any more
//! control.sock    the owner's socket
//! endpoint.json  where AWS's clients find it, once it has an endpoint of its own
//! readonly/       what the container sees at /codebuild/readonly
//! network/        what the program needs that carries its network
//! layer/          what the build wrote; removed with its end
//! ```
//!
//! Made under another name, locked, then renamed: a folder that can be seen is never half made.

use super::home::{Home, StateError, make_private, write_durably};
use super::remove::remove_tree;
use super::serving::Serving;
use crate::users;
use runner_core::record::Build;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the file that says where its own endpoint is.
const ENDPOINT: &str = "endpoint.json";
/// Bytes set aside for a build's last events and its record.
const RESERVE: u64 = 64 << 10;

/// What a build is, as far as its end may have to be put right by somebody else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Meta {
    pub(crate) uuid: String,
    pub(crate) project: String,
    pub(crate) number: u64,
    /// The owner.
    pub(crate) runner_pid: u32,
    /// Where the layer may be; not always below the build's own folder.
    pub(crate) layers: Vec<PathBuf>,
    /// Control groups that may have been made.
    #[serde(default)]
    pub(crate) groups: Vec<PathBuf>,
    /// Where what it leaves for the user may be half made.
    #[serde(default)]
    pub(crate) staging: Vec<PathBuf>,
}

impl Meta {
    pub(crate) fn build_id(&self) -> String {
        format!("{}:{}", self.project, self.uuid)
    }
}

/// The container of a build, for whoever must see to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum ContainerFile {
    /// Its PID 1, on this machine.
    Process { pid: u32, start_time: u64 },
    /// What a daemon holds. The address is not there where the daemon was started for the build.
    Daemon { program: String, address: Option<String>, image: Option<String> },
}

/// Paths of a build's folder.
#[derive(Clone, Debug)]
pub(crate) struct BuildDir {
    path: PathBuf,
    live: PathBuf,
}

/// The right to write to a build's folder; the build counts as live while it exists.
#[derive(Debug)]
pub(crate) struct Owned {
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
    pub(crate) fn of(home: &Home, uuid: &str) -> Self {
        BuildDir { path: home.builds().join(uuid), live: home.live().join(uuid) }
    }

    /// Makes the folder of a new build.
    pub(crate) fn create(home: &Home, meta: &Meta) -> Result<(Self, Owned), StateError> {
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
    pub(crate) fn take_listing(&self) -> io::Result<Option<File>> {
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
    pub(crate) fn take_over(&self) -> io::Result<Option<Owned>> {
        let lock = OpenOptions::new().write(true).open(self.path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Owned { _lock: lock })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether the build's owner lives and has left no record yet.
    pub(crate) fn is_under_way(&self) -> bool {
        let lock = File::open(self.path.join("lock"));
        let is_held = lock
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock)));
        is_held && self.record().is_ok_and(|record| record.is_none())
    }

    /// The owner's pid, if it is stopped: by a signal, or by a debugger.
    pub(crate) fn stopped_owner(&self) -> Option<u32> {
        let pid = self.meta().ok()?.runner_pid;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything.
        let (_, rest) = stat.rsplit_once(')')?;
        matches!(rest.trim_start().chars().next()?, 'T' | 't').then_some(pid)
    }

    /// Blocks until the build's owner has let go of it.
    pub(crate) fn wait_for_owner(&self) -> io::Result<()> {
        File::open(self.path.join("lock"))?.lock_shared()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.path.join("output.log")
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub(crate) fn readonly(&self) -> PathBuf {
        self.path.join("readonly")
    }

    pub(crate) fn network(&self) -> PathBuf {
        self.path.join("network")
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.path.join("layer")
    }

    pub(crate) fn meta(&self) -> io::Result<Meta> {
        Ok(serde_json::from_slice(&fs::read(self.path.join("meta.json"))?)?)
    }

    pub(crate) fn write_container(&self, container: &ContainerFile) -> io::Result<()> {
        let path = self.path.join("container.json");
        fs::write(&path, serde_json::to_vec(container)?)?;
        users::give(&path)
    }

    /// Lets others find the endpoint that the build's owner has opened.
    pub(crate) fn write_endpoint(&self, serving: &Serving) -> io::Result<()> {
        let path = self.path.join(ENDPOINT);
        fs::write(&path, serde_json::to_vec(serving)?)?;
        users::give(&path)
    }

    /// Where the owner's endpoint listens, if it has one.
    pub(crate) fn endpoint(&self) -> Option<Serving> {
        serde_json::from_slice(&fs::read(self.path.join(ENDPOINT)).ok()?).ok()
    }

    /// Gives the reserved room back, to be used for what must be written now.
    pub(crate) fn use_reserve(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path.join("reserve")))
    }

    /// `None` where no container was ever made.
    pub(crate) fn container(&self) -> io::Result<Option<ContainerFile>> {
        match fs::read(self.path.join("container.json")) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the final record. Nothing in the folder changes afterwards.
    pub(crate) fn write_record(&self, record: &Build) -> io::Result<()> {
        write_durably(&self.path.join("record.json"), &serde_json::to_vec_pretty(record)?)
    }

    /// `None` while the build has not ended.
    pub(crate) fn record(&self) -> io::Result<Option<Build>> {
        match fs::read(self.path.join("record.json")) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is on the list of those that may still run.
    pub(crate) fn is_listed(&self) -> bool {
        self.live.exists()
    }

    /// Removes what only a live build needs. Goes on after a failure; the first one is returned.
    pub(crate) fn remove_leftovers(&self, layers: &[PathBuf]) -> io::Result<()> {
        let layers: Vec<io::Result<()>> = layers.iter().map(|layer| remove_tree(layer)).collect();
        let others = [
            self.use_reserve(),
            remove_tree(&self.readonly()),
            remove_tree(&self.network()),
            ignore_missing(fs::remove_file(self.control_socket())),
            ignore_missing(fs::remove_file(self.path.join(ENDPOINT))),
            ignore_missing(fs::remove_file(self.path.join("container.json"))),
        ];
        layers.into_iter().chain(others).collect()
    }

    /// Removes a build that came to nothing.
    pub(crate) fn discard(&self) -> io::Result<()> {
        remove_tree(&self.path)?;
        self.retire()
    }

    /// Takes the build off the list of those that may still run.
    pub(crate) fn retire(&self) -> io::Result<()> {
        ignore_missing(fs::remove_file(&self.live))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
