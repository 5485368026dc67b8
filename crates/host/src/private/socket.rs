//! Paths of sockets, however deep the state folder lies.
//!
//! Used where a socket is bound and where it is connected to.

use crate::users;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A socket's path by way of its directory's descriptor: addresses take no more than 107 bytes.
pub struct ShortPath {
    path: PathBuf,
    _directory: std::fs::File,
}

impl ShortPath {
    pub fn new(path: &Path) -> io::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = std::fs::File::open(parent)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(ShortPath { path, _directory: directory })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Listens at `path`, with these permissions. Must be called in the runtime.
pub fn listen(path: &Path, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let short = ShortPath::new(path)?;
    let listener = tokio::net::UnixListener::bind(short.path())?;
    // Nobody else can get at it in between: the folder is the caller's alone.
    std::fs::set_permissions(short.path(), std::fs::Permissions::from_mode(mode))?;
    users::give(path)?;
    Ok(listener)
}
