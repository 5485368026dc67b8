//! A container's network, kept by a name.
//!
//! Used by the engine for programs that enter it.
#![forbid(unsafe_code)]

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::io;
use std::path::Path;

/// Gives the network namespace of a process the name `place`, an existing file, in a mount namespace of
/// this process's own: the name is gone when this process and those it has started are.
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
