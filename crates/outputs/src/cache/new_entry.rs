//! A cache being written to a folder.

use super::super::OutputError;
use super::super::folder::{OutputDirectory, times};
use super::super::shared::{Naming, SharedFolder};
use super::entry::{DETAILS, EntryFacts, FACTS, LOCK, MOST_DETAILS, SIGNATURE, TreeDetails};
use super::gather::{Gathered, ROOT, SOURCE};
use super::names::WantedCache;
use super::signature::{Signed, Signer};
use runner_host::beneath::{Dir, DirectoryCursor};
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// Mode of a directory while it is filled.
const DIRECTORY: u32 = 0o755;

/// A cache being written. Removed unless it is finished.
pub(super) struct NewEntry {
    /// Directory of finished caches.
    entries: Dir,
    /// Directory of unfinished caches.
    new: Dir,
    /// Directory of content shared between caches.
    content: Dir,
    /// Name of the cache.
    id: String,
    dir: Dir,
    /// Final path, for messages.
    place: PathBuf,
    lock: Option<File>,
}

/// The subdirectories of a cache folder.
pub(super) struct Folders {
    pub(super) entries: Dir,
    pub(super) new: Dir,
    pub(super) content: Dir,
}

impl NewEntry {
    pub(super) fn begin(folders: Folders, id: &str, place: PathBuf) -> Result<Self, OutputError> {
        let Folders { entries, new, content } = folders;
        let make = || -> io::Result<(Dir, File)> {
            loop {
                let dir = new.make(id, DIRECTORY)?;
                let lock = dir.create(LOCK)?;
                lock.set_permissions(Permissions::from_mode(0o644))?;
                lock.lock()?;
                // Before the lock was taken, a sweep may have removed it as a leftover.
                if is_there(&lock)? {
                    return Ok((dir, lock));
                }
            }
        };
        let (dir, lock) = make().map_err(OutputError::folder("make", &place))?;
        let id = id.to_owned();
        Ok(NewEntry { entries, new, content, id, dir, place, lock: Some(lock) })
    }

    /// The directory its files are written to, by name.
    pub(super) fn place(&self) -> Result<OutputDirectory, OutputError> {
        Ok(OutputDirectory { dir: self.tree()?, path: self.place.join("tree") })
    }

    fn tree(&self) -> Result<Dir, OutputError> {
        self.dir.make_all("tree", DIRECTORY).map_err(self.failed("make", "tree"))
    }

    pub(super) fn shared(&self, naming: Naming) -> Result<SharedFolder, OutputError> {
        let content = self.content.again().map_err(self.failed("open the content of", ""))?;
        Ok(SharedFolder::new(content, naming))
    }

    fn failed(&self, doing: &'static str, name: &str) -> impl FnOnce(io::Error) -> OutputError {
        let path = self.place.join(name);
        move |source| OutputError::Folder { doing, path, source }
    }

    /// Creates directories and links; the files follow.
    pub(super) fn make_others(&self, gathered: &Gathered) -> Result<(), OutputError> {
        let tree = self.tree()?;
        for side in [SOURCE, ROOT] {
            tree.make(side, DIRECTORY).map_err(self.failed("make", "tree"))?;
        }
        let mut cursor = DirectoryCursor::new(tree);
        for (name, item) in &gathered.items {
            let mut make = || -> io::Result<()> {
                let (place, last) = cursor.find(name)?;
                match (&item.target, item.is_directory()) {
                    (_, true) => place.make(last, DIRECTORY).map(drop),
                    (Some(target), _) => {
                        place.symlink(target, last)?;
                        place.set_times(last, &times(&item.facts))
                    }
                    (None, false) => Ok(()),
                }
            };
            self.named(make(), "make", name)?;
        }
        Ok(())
    }

    fn named(
        &self,
        done: io::Result<()>,
        doing: &'static str,
        name: &[u8],
    ) -> Result<(), OutputError> {
        let path = || self.place.join("tree").join(OsStr::from_bytes(name));
        done.map_err(|source| OutputError::Folder { doing, path: path(), source })
    }

    /// Writes the description and moves the cache to its final name.
    pub(super) fn finish(
        mut self,
        wanted: &WantedCache,
        gathered: &Gathered,
        signer: &Signer,
    ) -> Result<EntryFacts, OutputError> {
        let mut details = TreeDetails::default();
        let tree = self.tree()?;
        // Innermost first: a directory's mode may forbid writing.
        for (name, item) in gathered.items.iter().rev() {
            if item.is_directory() {
                let dressed = tree.dress(name, item.facts.mode, &times(&item.facts));
                self.named(dressed, "set the mode of", name)?;
            }
            details.add(name, item);
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let facts = EntryFacts {
            project: wanted.project.clone(),
            paths: wanted.paths.clone(),
            key: wanted.key.clone(),
            created: u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            files: gathered.files(),
            bytes: gathered.bytes(),
            digest: gathered.digest(),
            is_plain: details.are_plain(),
        };
        let json = |json: serde_json::Result<Vec<u8>>| json.map_err(io::Error::from);
        let details = json(serde_json::to_vec(&details)).map_err(self.failed("write", DETAILS))?;
        if details.len() as u64 > MOST_DETAILS {
            let text = "it has too many directories, or files that are not root's";
            return Err(OutputError::Other(text.to_owned()));
        }
        let words = json(serde_json::to_vec_pretty(&facts)).map_err(self.failed("write", FACTS))?;
        let signed = Signed { dir: &self.dir, id: self.id.as_bytes(), words: &words };
        let signature = signer.sign(&signed).map_err(self.failed("sign", FACTS))?;
        let signature = signature.unwrap_or_default().into_bytes();
        for (name, text) in [(DETAILS, details), (FACTS, words), (SIGNATURE, signature)] {
            self.dir.write_durably(name, 0o600, &text).map_err(self.failed("write", name))?;
        }
        let moved = self.new.rename(&self.id, &self.entries, &self.id);
        moved.map_err(self.failed("make", ""))?;
        // From here on any runner may use or remove the cache.
        self.lock = None;
        Ok(facts)
    }
}

impl Drop for NewEntry {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // The next build that saves a cache removes the rest.
            let _ = self.new.remove_tree(&self.id);
        }
    }
}

/// Whether an open file still has a name.
pub(super) fn is_there(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.nlink() > 0)
}
