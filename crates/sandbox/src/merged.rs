//! What an overlay of these directories shows, for who looks at it from outside of a container.
//!
//! Used by a process that was started for that.
#![forbid(unsafe_code)]

use crate::mounts;
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Moves this process to a new mount namespace, which a user namespace needs before anything can be
/// mounted in it.
///
/// # Errors
/// The kernel refuses.
pub fn with_own_mounts() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNS)?)
}

/// The directories over one another, the topmost first: read-only, and attached nowhere.
///
/// # Errors
/// One of them is not there, or the kernel takes no overlay of them.
pub fn merged(dirs: &[PathBuf]) -> io::Result<OwnedFd> {
    let mut open = dirs.iter().map(|dir| mounts::open_path(dir)).collect::<io::Result<Vec<_>>>()?;
    match open.len() {
        0 => Err(io::ErrorKind::NotFound.into()),
        // The kernel takes no overlay of one, which hides nothing anyway.
        1 => Ok(open.remove(0)),
        _ => mounts::read_only_overlay(&open),
    }
}
