//! The descriptor limit: raised for this process, restored for its children.
//!
//! A runner has many open descriptors: connections, sessions, files. Its children keep the caller's
//! limit, because programs that use `select` break beyond 1024, and others close every number up to
//! their limit. Used by `main` and wherever a process is started.
#![forbid(unsafe_code)]

use crate::sys;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;
use std::sync::OnceLock;

/// This process's original limit, once it is raised.
static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard limit.
pub fn raise_descriptors() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        // A second call changes nothing.
        let _ = BEFORE.set(before);
    }
}

/// The limit that child processes get.
#[must_use]
pub fn inherited_descriptors() -> Rlimit {
    BEFORE.get().cloned().unwrap_or_else(|| getrlimit(Resource::Nofile))
}

/// Gives a command's program this process's original limit.
pub fn with_inherited_descriptors(command: &mut Command) -> &mut Command {
    match before() {
        Some(limits) => sys::limit_descriptors(command, limits),
        None => command,
    }
}

/// The limit to restore, as raw soft and hard values.
pub(crate) fn before() -> Option<[u64; 2]> {
    let limit = BEFORE.get()?;
    Some([limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX)])
}
