//! How many descriptors this process may have open, and how many what it starts may.
//!
//! A runner has many: connections, sessions, files on their way. What it starts has what its caller has, as if
//! nothing had been raised: programs that use `select` cannot have more than 1024, others close all they could
//! have. Used by `main`, and wherever a process is made.
#![forbid(unsafe_code)]

use crate::sys;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;
use std::sync::OnceLock;

/// The limit this process was started with, once it has another.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit to the most this process may have.
pub fn raise_descriptors() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        // Twice is once.
        let _ = BEFORE.set(before);
    }
}

/// The limit of what this process starts.
#[must_use]
pub fn inherited_descriptors() -> Rlimit {
    BEFORE.get().cloned().unwrap_or_else(|| getrlimit(Resource::Nofile))
}

/// Has the program of a command find the limit that this process was started with.
pub fn with_inherited_descriptors(command: &mut Command) -> &mut Command {
    match before() {
        Some(limits) => sys::limit_descriptors(command, limits),
        None => command,
    }
}

/// The limit to be restored, as the kernel takes it.
pub(crate) fn before() -> Option<[u64; 2]> {
    let limit = BEFORE.get()?;
    Some([limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX)])
}
