//! Tops: directories through which everything below them is reached.

use super::{Dir, PLACE};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Resolves a path to an absolute one, following links as far as it exists. Meant for
/// [`Dir::real`], which follows none: a link created later on the way cannot redirect it.
pub fn real(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let found = absolute.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, mut real)) = found else { return Ok(absolute) };
    for part in absolute.strip_prefix(above).unwrap_or(Path::new("")).components() {
        match part {
            Component::Normal(name) => real.push(name),
            Component::ParentDir => drop(real.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(real)
}

impl Dir {
    /// Opens a directory and follows links: for a path that the user typed, or one of our own.
    pub fn top(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// The same, but the path's last name must be the directory itself rather than a link.
    pub fn top_itself(path: &Path) -> io::Result<Self> {
        Ok(Dir(rustix::fs::open(path, PLACE, Mode::empty())?))
    }

    /// Like [`Self::top`]; creates missing directories for the caller.
    pub fn make_top(path: &Path, mode: u32) -> io::Result<Self> {
        Self::make_real(&real(path)?, mode)
    }

    /// Opens a directory at a path from [`real`], without following any link.
    pub fn real(path: &Path) -> io::Result<Self> {
        Self::root()?.open(below_root(path)?).map_err(absolute)
    }

    /// The same; creates missing directories for the caller.
    pub fn make_real(path: &Path, mode: u32) -> io::Result<Self> {
        let root = Self::root()?;
        match below_root(path)? {
            b"" => Ok(root),
            below => root.make_all(below, mode).map_err(absolute),
        }
    }

    fn root() -> io::Result<Self> {
        Self::top_itself(Path::new("/"))
    }
}

/// Makes an error name the obstacle by its absolute path.
fn absolute(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotADirectory if error.get_ref().is_some() => {
            io::Error::new(error.kind(), format!("/{error}"))
        }
        _ => error,
    }
}

fn below_root(path: &Path) -> io::Result<&[u8]> {
    let below = path.strip_prefix("/").map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(below.as_os_str().as_bytes())
}
