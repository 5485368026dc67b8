//! Finds the place of a path: the root and the path's parent directory.
//!
//! Used by `tell` and `take`. The last directory is cached, because the next path is usually in it
//! as well.

use crate::path::Path;
use crate::sys::nodes::{self, Stat};
use crate::sys::{self, Errno, Fd, SysResult};

/// Mode of a directory created only for its contents.
const IMPLIED_MODE: u32 = 0o755;

pub(super) struct PlaceCache {
    root: Option<Fd>,
    /// Path of the cached directory, relative to the root; empty for the root itself.
    above: Path,
    place: Option<Fd>,
    followed: bool,
}

/// How links and missing directories along a path are treated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Traversal {
    /// Follow links.
    Following,
    /// A link is an error.
    Strict,
    /// A link is an error; missing directories are created.
    Making,
}

impl PlaceCache {
    pub(super) fn new() -> Self {
        PlaceCache { root: None, above: Path::new(), place: None, followed: false }
    }

    pub(super) fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// Opens another root. With `makes`, creates it if missing.
    pub(super) fn open_root(&mut self, path: &[u8], makes: bool) -> SysResult<Stat> {
        self.forget();
        self.root = None;
        let mut whole = Path::new();
        if path.is_empty() || path.contains(&0) {
            return Err(Errno::INVAL);
        }
        if !whole.set(path) {
            return Err(Errno::NAMETOOLONG);
        }
        let root = match sys::open_directory(whole.c_string()) {
            Err(Errno::NOENT) if makes => {
                make_way(path)?;
                sys::open_directory(whole.c_string())?
            }
            done => done?,
        };
        let stat = nodes::stat_open(&root)?;
        self.root = Some(root);
        Ok(stat)
    }

    /// Finds a path's parent directory, which [`Self::place`] then returns.
    pub(super) fn find(&mut self, path: &Path, way: Traversal) -> SysResult<()> {
        let follows = way == Traversal::Following;
        if self.above.text() == path.parent() && self.followed == follows {
            return Ok(());
        }
        self.forget();
        let Some(root) = &self.root else { return Err(Errno::NOENT) };
        self.followed = follows;
        let place = if path.parent().is_empty() {
            None
        } else if follows {
            if !self.above.set(path.parent()) {
                return Err(Errno::NAMETOOLONG);
            }
            Some(nodes::open_place_below(root, self.above.c_string(), true))
        } else {
            Some(enter(root, &mut self.above, path.parent(), way == Traversal::Making))
        };
        match place.transpose() {
            Ok(place) => {
                self.place = place;
                Ok(())
            }
            Err(errno) => {
                self.forget();
                Err(errno)
            }
        }
    }

    /// The last directory found.
    pub(super) fn place(&self) -> Option<&Fd> {
        self.place.as_ref().or(self.root.as_ref())
    }

    pub(super) fn root(&self) -> Option<&Fd> {
        self.root.as_ref()
    }

    /// Forgets the last directory found.
    pub(super) fn forget(&mut self) {
        self.above.truncate(0);
        self.place = None;
    }
}

/// Descends from a directory name by name without following links. `path` is the part done so far.
pub(super) fn enter(root: &Fd, path: &mut Path, below: &[u8], makes: bool) -> SysResult<Fd> {
    path.truncate(0);
    let mut here: Option<Fd> = None;
    for name in below.split(|&byte| byte == b'/') {
        if !path.push(name) {
            return Err(Errno::NAMETOOLONG);
        }
        let at = here.as_ref().unwrap_or(root);
        let next = match nodes::open_place_below(at, path.last(), false) {
            Err(Errno::NOENT) if makes => {
                match nodes::make_directory(at, path.last(), IMPLIED_MODE) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                nodes::open_place_below(at, path.last(), false)?
            }
            done => done?,
        };
        here = Some(next);
    }
    here.ok_or(Errno::INVAL)
}

/// Creates a directory and its parents like `mkdir -p`, following links.
fn make_way(path: &[u8]) -> SysResult<()> {
    let mut so_far = Path::new();
    let mut here = sys::open_directory(if path[0] == b'/' { b"/\0" } else { b".\0" })?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        if !so_far.push(name) {
            return Err(Errno::NAMETOOLONG);
        }
        match nodes::make_directory(&here, so_far.last(), IMPLIED_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            // Not writable for us, but the directory may exist.
            Err(errno) => {
                if nodes::open_place_below(&here, so_far.last(), true).is_err() {
                    return Err(errno);
                }
            }
        }
        here = nodes::open_place_below(&here, so_far.last(), true)?;
    }
    Ok(())
}
