//! Walks everything below a directory.

use super::{Dir, join};
use rustix::fs::FileType;
use std::io;

/// An entry found by a walk.
pub struct WalkItem<'a> {
    /// Its parent directory.
    pub place: &'a Dir,
    pub name: &'a [u8],
    /// Relative to the top.
    pub path: &'a [u8],
    pub kind: FileType,
}

impl Dir {
    /// Visits everything below this directory: a directory before its contents, names in order. At
    /// most two directories are open at a time.
    ///
    /// # Errors
    /// A directory cannot be read, or `each` fails.
    pub fn walk<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(WalkItem<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut ahead = vec![Vec::new()];
        while let Some(path) = ahead.pop() {
            let here = self.open(&path)?;
            let mut entries = here.entries()?;
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            let mut inner = Vec::new();
            for entry in entries {
                let whole = join(&path, &entry.name);
                let (place, name, kind) = (&here, &*entry.name, entry.kind);
                each(WalkItem { place, name, path: &whole, kind })?;
                if kind == FileType::Directory {
                    inner.push(whole);
                }
            }
            ahead.extend(inner.into_iter().rev());
        }
        Ok(())
    }
}
