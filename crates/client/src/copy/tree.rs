//! Builds a tree on this machine from what a hostile container sends.
//!
//! Fed by `fetch`. Everything is made below one directory, name by name, and never through a link.
//! An existing file keeps its content until the new one is whole. New files belong to the caller
//! and never get set-user-id, set-group-id or sticky bits.

use runner_host::beneath::{Dir, DirectoryCursor, FILLABLE, PERMISSIONS, described, kind};
use runner_wire::files::FileFacts;
use rustix::fs::{FileType, Mode, Timespec, Timestamps, fchmod, futimens, seek};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};

/// The file now being written, removed if this program ends before it is whole.
#[derive(Debug, Default)]
pub struct Unfinished(Mutex<Option<(Dir, Vec<u8>)>>);

impl Unfinished {
    /// Removes the file. While the returned guard lives, no other file can begin: the program is
    /// exiting.
    pub fn remove(&self) -> impl Drop + use<'_> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((place, name)) = current.take() {
            let _ = place.remove_file(name);
        }
        current
    }

    fn set(&self, current: Option<(Dir, Vec<u8>)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

pub(super) struct LocalTree<'a> {
    at: DirectoryCursor,
    file: Option<PartialFile>,
    /// Directories whose mode and time are set after their contents.
    directories: Vec<(Vec<u8>, FileFacts)>,
    /// Files with several names, by device and inode in the container.
    names: HashMap<(u64, u64), Vec<u8>>,
    /// A device or similar, to which the single file is written.
    stream: Option<File>,
    unfinished: &'a Unfinished,
}

/// A file whose content is still incomplete.
struct PartialFile {
    file: File,
    is_stream: bool,
    /// Its temporary name, if another file has the final one.
    part: Option<Vec<u8>>,
    path: Vec<u8>,
    facts: FileFacts,
}

impl<'a> LocalTree<'a> {
    /// Works below `root`, or writes a single file's content to the open `stream`.
    pub(super) fn new(root: Dir, stream: Option<File>, unfinished: &'a Unfinished) -> Self {
        LocalTree {
            at: DirectoryCursor::new(root),
            file: None,
            directories: Vec::new(),
            names: HashMap::new(),
            stream,
            unfinished,
        }
    }

    /// Makes a directory, unless it exists.
    pub(super) fn directory(&mut self, path: &[u8], facts: &FileFacts) -> io::Result<()> {
        let (place, name) = self.at.find(path)?;
        match place.make(name, facts.mode | FILLABLE) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let there = place.stat(name)?;
                if kind(&there) != FileType::Directory {
                    return Err(error);
                }
                if there.st_mode & FILLABLE != FILLABLE {
                    // Its owner could not enter it; the final mode is set at the end. If this
                    // fails, making something in it reports the error.
                    let opened = place.open(name);
                    let _ = opened.and_then(|dir| dir.set_own_mode(there.st_mode | FILLABLE));
                }
            }
            done => drop(done?),
        }
        self.directories.push((path.to_vec(), *facts));
        Ok(())
    }

    pub(super) fn link(&mut self, path: &[u8], target: &[u8], facts: &FileFacts) -> io::Result<()> {
        let (place, name) = self.at.find(path)?;
        match place.symlink(target, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                make_way(place, name)?;
                place.symlink(target, name)?;
            }
            done => done?,
        }
        place.set_times(name, &times(facts))
    }

    /// Begins a file. Its content and [`Self::end`] follow.
    pub(super) fn begin(&mut self, path: &[u8], facts: &FileFacts) -> io::Result<()> {
        if let Some(file) = self.stream.take() {
            let (part, path, facts) = (None, path.to_vec(), *facts);
            self.file = Some(PartialFile { file, is_stream: true, part, path, facts });
            return Ok(());
        }
        let (place, name) = self.at.find(path)?;
        let (file, part) = create(place, name)?;
        let now = part.clone().unwrap_or_else(|| name.to_vec());
        self.unfinished.set(Some((place.again()?, now)));
        self.file =
            Some(PartialFile { file, is_stream: false, part, path: path.to_vec(), facts: *facts });
        Ok(())
    }

    pub(super) fn is_writing(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some(writing) => writing.file.write_all(bytes),
            None => Ok(()),
        }
    }

    pub(super) fn hole(&mut self, length: u64) -> io::Result<()> {
        if let Some(writing) = &mut self.file {
            if writing.is_stream {
                return io::copy(&mut io::repeat(0).take(length), &mut writing.file).map(drop);
            }
            let length = i64::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
            seek(&writing.file, rustix::fs::SeekFrom::Current(length))?;
        }
        Ok(())
    }

    /// Completes the file.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let Some(writing) = self.file.take() else { return Ok(()) };
        let done = self.finish(&writing);
        if done.is_err() {
            self.remove(&writing);
        }
        self.unfinished.set(None);
        done
    }

    fn finish(&mut self, writing: &PartialFile) -> io::Result<()> {
        let PartialFile { file, is_stream, part, path, facts } = writing;
        if *is_stream {
            return Ok(());
        }
        if facts.size > 0 && file.metadata()?.len() != facts.size {
            // The file ends with a hole.
            file.set_len(facts.size)?;
        }
        fchmod(file, Mode::from_raw_mode(facts.mode & PERMISSIONS))?;
        futimens(file, &times(facts))?;
        if let Some(part) = part {
            let (place, name) = self.at.find(path)?;
            place.replace(part, place, name)?;
        }
        if facts.names > 1 {
            self.names.entry((facts.device, facts.inode)).or_insert_with(|| path.clone());
        }
        Ok(())
    }

    /// Discards an incomplete file.
    pub(super) fn abandon(&mut self) {
        if let Some(writing) = self.file.take() {
            self.remove(&writing);
            self.unfinished.set(None);
        }
    }

    fn remove(&mut self, writing: &PartialFile) {
        if writing.is_stream {
            return;
        }
        if let Ok((place, name)) = self.at.find(&writing.path) {
            let _ = place.remove_file(writing.part.as_deref().unwrap_or(name));
        }
    }

    /// If the file already exists here under another name, adds this one. Returns whether it did.
    pub(super) fn is_another_name(&mut self, path: &[u8], facts: &FileFacts) -> bool {
        let Some(first) = self.names.get(&(facts.device, facts.inode)).cloned() else {
            return false;
        };
        let is_named = facts.names > 1 && first != path;
        is_named && self.name_again(path, &first).is_ok()
    }

    fn name_again(&mut self, path: &[u8], first: &[u8]) -> io::Result<()> {
        let from = self.at.root().again()?;
        let (place, new) = self.at.find(path)?;
        match from.hard_link(first, place, new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                make_way(place, new)?;
                from.hard_link(first, place, new)
            }
            done => done,
        }
    }

    /// Sets modes and times of directories, deepest first. Returns what failed.
    pub(super) fn close(mut self) -> Vec<(Vec<u8>, io::Error)> {
        self.abandon();
        let mut problems = Vec::new();
        for (path, facts) in std::mem::take(&mut self.directories).into_iter().rev() {
            if let Err(error) = self.at.root().dress(&path, facts.mode, &times(&facts)) {
                problems.push((path, error));
            }
        }
        problems
    }
}

fn times(facts: &FileFacts) -> Timestamps {
    let time = Timespec { tv_sec: facts.modified, tv_nsec: i64::from(facts.modified_ns) };
    Timestamps { last_access: time, last_modification: time }
}

/// Creates a file, under a temporary name if its own is taken.
fn create(place: &Dir, name: &[u8]) -> io::Result<(File, Option<Vec<u8>>)> {
    match place.create(name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return Ok((done?, None)),
    }
    may_go(place, name)?;
    let (file, part) = place.part()?;
    Ok((file, Some(part)))
}

/// Removes what the copy replaces.
fn make_way(place: &Dir, name: &[u8]) -> io::Result<()> {
    may_go(place, name)?;
    place.remove_file(name)
}

/// Whether a copy may replace an entry: files and links only.
fn may_go(place: &Dir, name: &[u8]) -> io::Result<()> {
    match kind(&place.stat(name)?) {
        FileType::RegularFile | FileType::Symlink => Ok(()),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        kind => Err(io::Error::other(format!("it is {}, which no copy replaces", described(kind)))),
    }
}
