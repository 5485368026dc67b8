//! All that is below a directory.

use super::{Dir, join};
use rustix::fs::FileType;
use std::io;

/// What a walk finds below a directory.
pub struct WalkItem<'a> {
    /// The directory it is in.
    pub place: &'a Dir,
    pub name: &'a [u8],
    /// From the top on.
    pub path: &'a [u8],
    pub kind: FileType,
}

impl Dir {
    /// Visits all that is below it: a directory before what is in it, the names of each in order. At most two
    /// directories are open at a time.
    ///
    /// # Errors
    /// A directory cannot be read, or `each` has failed.
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
