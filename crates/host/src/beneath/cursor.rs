//! Many paths below one directory: neighbours share the way to them.

use super::{Dir, check, split};
use std::io;

/// A directory, and the one below it in which something was found last.
#[derive(Debug)]
pub struct DirectoryCursor {
    root: Dir,
    above: Vec<u8>,
    /// None: the root.
    place: Option<Dir>,
}

impl DirectoryCursor {
    pub fn new(root: Dir) -> Self {
        DirectoryCursor { root, above: Vec::new(), place: None }
    }

    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// The directory above a path, which is there, and the path's last name.
    pub fn find<'p>(&mut self, path: &'p [u8]) -> io::Result<(&Dir, &'p [u8])> {
        self.go(path, |root, above| root.open(above))
    }

    /// The same; directories that are missing are made.
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
