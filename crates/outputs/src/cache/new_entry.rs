//! A cache of a folder that is being made.

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

/// A cache that is being made. Removed unless it is finished.
pub(super) struct NewEntry {
    /// Where finished ones go.
    entries: Dir,
    /// Where those are that are being made.
    new: Dir,
    /// Bytes that caches share.
    content: Dir,
    /// Its name.
    id: String,
    dir: Dir,
    /// Where it will be, for messages.
    place: PathBuf,
    lock: Option<File>,
}

/// The folders of a cache's folder.
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
                // Before it was locked, a sweep may have taken it for a leftover and removed it.
                if is_there(&lock)? {
                    return Ok((dir, lock));
                }
            }
        };
        let (dir, lock) = make().map_err(OutputError::folder("make", &place))?;
        let id = id.to_owned();
        Ok(NewEntry { entries, new, content, id, dir, place, lock: Some(lock) })
    }

    /// Where its files go, by their names.
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

    /// Makes directories and links; files follow.
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

    /// Writes its description, and gives it its name.
    pub(super) fn finish(
        mut self,
        wanted: &WantedCache,
        gathered: &Gathered,
        signer: &Signer,
    ) -> Result<EntryFacts, OutputError> {
        let mut details = TreeDetails::default();
        let tree = self.tree()?;
        // From the inside out: a directory may be closed to writing.
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
        // From here on it is anybody's to use and to remove.
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
