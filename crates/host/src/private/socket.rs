//! Socket paths that are short enough however deep the state folder lies.
//!
//! Used both to bind and to connect.

use crate::users;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// A socket's path through its directory's descriptor: socket addresses hold at most 107 bytes.
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

/// Listens at `path` with these permissions. Call it in the runtime.
pub fn listen(path: &Path, mode: u32) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let short = ShortPath::new(path)?;
    let listener = tokio::net::UnixListener::bind(short.path())?;
    // Nobody else can reach it before this call: the folder is private to the caller.
    std::fs::set_permissions(short.path(), std::fs::Permissions::from_mode(mode))?;
    users::give(path)?;
    Ok(listener)
}
