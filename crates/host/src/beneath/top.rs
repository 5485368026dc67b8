//! Tops: the directories from which everything below is reached.

use super::{Dir, PLACE};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Where a path leads, links followed as far as it exists, as an absolute path: for [`Dir::real`], which
/// follows none. A link that is made on the way later leads nobody elsewhere.
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
    /// The directory that a path leads to, through links: of a path that a person typed, or one of our own.
    pub fn top(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Dir(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// The same, but what the path's last name stands for is the directory itself and no link.
    pub fn top_itself(path: &Path) -> io::Result<Self> {
        Ok(Dir(rustix::fs::open(path, PLACE, Mode::empty())?))
    }

    /// The same as [`Self::top`]; what is missing of it is made, for the caller.
    pub fn make_top(path: &Path, mode: u32) -> io::Result<Self> {
        Self::make_real(&real(path)?, mode)
    }

    /// The directory of a path that [`real`] has found, through no link on the whole way.
    pub fn real(path: &Path) -> io::Result<Self> {
        Self::root()?.open(below_root(path)?).map_err(absolute)
    }

    /// The same; what is missing of it is made, for the caller.
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

/// An error names what is in the way with its whole path.
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
