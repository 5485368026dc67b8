//! The two sockets of a live build.
//!
//! [`ShimServer`]: inside the container, open to every process there, knows breakpoint and resume.
//! [`host`]: on this machine, for the build's owner and root, knows everything else; `client` is its
//! other end.

mod forward;
pub(crate) mod host;
mod shim;

pub(crate) use shim::ShimServer;

use crate::state::ShortPath;
use crate::users;
use std::io;
use std::path::Path;

/// Listens at `path`, with these permissions.
fn bind(path: &Path, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let short = ShortPath::new(path)?;
    let listener = tokio::net::UnixListener::bind(short.path())?;
    // Nobody else can get at it in between: the folder is the caller's alone.
    std::fs::set_permissions(short.path(), std::fs::Permissions::from_mode(mode))?;
    users::give(path)?;
    Ok(listener)
}
