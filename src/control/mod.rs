//! The two sockets of a live build, and the client of one of them.
//!
//! [`shim`](Shims): inside the container, open to every process there, knows breakpoint and resume.
//! [`host`]: on this machine, for the build's owner and root, knows everything else. [`Client`] is
//! how the program's other commands reach the latter.

mod client;
pub(crate) mod host;
mod shim;

pub(crate) use client::{Client, ClientError, Sender};
pub(crate) use shim::{ShimServer, Shims};

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A socket's path by way of its directory's descriptor: addresses take no more than 107 bytes.
struct ShortPath {
    path: PathBuf,
    _directory: std::fs::File,
}

impl ShortPath {
    fn new(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = std::fs::File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(ShortPath { path, _directory: directory })
    }
}

/// Listens at `path`, with these permissions.
fn bind(path: &Path, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let short = ShortPath::new(path)?;
    let listener = tokio::net::UnixListener::bind(&short.path)?;
    // Nobody else can get at it in between: the folder is the caller's alone.
    std::fs::set_permissions(&short.path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
