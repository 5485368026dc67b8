//! The one `runner serve` of a state folder, and how others find it.
//!
//! ```text
//! serve.lock   held by flock while the server lives
//! serve.json   its address and pid
//! ```

use super::build_dir::{BIRTH, is_gone, is_stopped};
use super::changes::{FolderChanges, Waited};
use super::home::{Home, StateError};
use runner_host::private::write_durably;
use runner_host::users;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The server's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// `HOST:PORT`, as clients on this machine reach it.
    pub address: String,
    pub pid: u32,
}

impl Serving {
    /// Whether its process is stopped and so cannot answer.
    pub fn is_stopped(&self) -> bool {
        is_stopped(self.pid)
    }
}

/// The right to be the server.
#[derive(Debug)]
pub struct ServeLock {
    _lock: File,
    facts: PathBuf,
}

fn open_lock(home: &Home) -> io::Result<File> {
    let path = home.root().join("serve.lock");
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    users::give(&path)?;
    Ok(lock)
}

fn facts(home: &Home) -> PathBuf {
    home.root().join("serve.json")
}

/// The running server.
pub fn live_serve(home: &Home) -> Option<Serving> {
    // Only one process can hold the lock. Released at once.
    if open_lock(home).ok()?.try_lock_shared().is_ok() {
        return None;
    }
    announced(home)
}

/// The last server that has announced itself.
fn announced(home: &Home) -> Option<Serving> {
    serde_json::from_slice(&fs::read(facts(home)).ok()?).ok()
}

fn locked(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl ServeLock {
    /// Takes the lock; `None` if another process has it.
    pub fn take(home: &Home) -> Result<Option<Self>, StateError> {
        let path = home.root().join("serve.lock");
        let failed = |error| StateError::new("lock", &path, error);
        let lock = open_lock(home).map_err(failed)?;
        if !locked(&lock).map_err(failed)? && !Self::inherit(home, &lock, &path).map_err(failed)? {
            return Ok(None);
        }
        Ok(Some(ServeLock { _lock: lock, facts: facts(home) }))
    }

    /// Waits for the lock of a killed server: its newborn child holds all open files until it
    /// executes a program.
    fn inherit(home: &Home, lock: &File, path: &Path) -> io::Result<bool> {
        let until = Instant::now() + BIRTH;
        while announced(home).is_some_and(|serving| is_gone(serving.pid)) {
            let changes = FolderChanges::of_build(home.root(), path)?;
            if locked(lock)? {
                return Ok(true);
            }
            if changes.wait(Some(until))? == Waited::TimeIsUp {
                break;
            }
        }
        Ok(false)
    }

    /// Publishes the server's address.
    pub fn announce(&self, serving: &Serving) -> Result<(), StateError> {
        let failed = |error| StateError::new("write", &self.facts, error);
        let text = serde_json::to_vec(serving).map_err(|error| failed(error.into()))?;
        write_durably(&self.facts, &text).map_err(failed)
    }
}

impl Drop for ServeLock {
    fn drop(&mut self) {
        // Without the lock the file means nothing anyway.
        let _ = fs::remove_file(&self.facts);
    }
}
