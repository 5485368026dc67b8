//! Access to many paths below one directory; paths in the same directory share one lookup.

use super::{Dir, check, split};
use std::io;

/// A directory, and the one below it that was used last.
#[derive(Debug)]
pub struct DirectoryCursor {
    root: Dir,
    above: Vec<u8>,
    /// `None` is the root.
    place: Option<Dir>,
}

impl DirectoryCursor {
    pub fn new(root: Dir) -> Self {
        DirectoryCursor { root, above: Vec::new(), place: None }
    }

    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The parent directory of a path, which must exist, and the path's last name.
    pub fn find<'p>(&mut self, path: &'p [u8]) -> io::Result<(&Dir, &'p [u8])> {
        self.go(path, |root, above| root.open(above))
    }

    /// The same; creates missing directories.
    pub fn find_or_make<'p>(&mut self, path: &'p [u8], mode: u32) -> io::Result<(&Dir, &'p [u8])> {
        self.go(path, |root, above| root.make_all(above, mode))
    }

    fn go<'p>(
        &mut self,
        path: &'p [u8],
        open: impl FnOnce(&Dir, &[u8]) -> io::Result<Dir>,
    ) -> io::Result<(&Dir, &'p [u8])> {
        check(path)?;
        let (above, name) = split(path);
        if self.above != above {
            self.place = None;
            self.above.clear();
            if !above.is_empty() {
                self.place = Some(open(&self.root, above)?);
                self.above.extend_from_slice(above);
            }
        }
        Ok((self.place.as_ref().unwrap_or(&self.root), name))
    }
}
