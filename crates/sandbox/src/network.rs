//! Gives a container's network namespace a name.
//!
//! The engine uses it for programs that enter the namespace.
#![forbid(unsafe_code)]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::Path;

/// Mounts a process's network namespace on `place`, an existing file, in a private mount namespace.
/// The name disappears with this process and its children.
///
/// # Errors
/// This process is not root, or the other one is gone.
pub fn pin_network(pid: &str, place: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    let namespace = format!("/proc/{pid}/ns/net");
    Ok(mount(Some(namespace.as_str()), place, none, MsFlags::MS_BIND, none)?)
}
