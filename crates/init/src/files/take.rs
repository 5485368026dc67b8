//! Creates the files that the runner sends.
//!
//! Called by `files`. An existing file keeps its content until the new one is complete; an existing
//! directory stays; a link is replaced and never followed.

use super::NodeRequest;
use super::output::OutputBuffer;
use super::places::{PlaceCache, Traversal, enter};
use crate::abi::files::{
    DIRECTORY, FileFacts, KIND_MASK, REGULAR, SYMLINK, is_path, make, request, stage,
};
use crate::digits;
use crate::path::Path;
use crate::sys::nodes;
use crate::sys::{self, Errno, Fd, SysResult};

/// Name prefix of a file that will replace another.
const PART: &[u8] = b".runner-part-";
/// How many such names to try.
const PARTS: i32 = 1000;
/// Mode of an incomplete file.
const UNFINISHED: u32 = 0o600;
/// Mode bits that a directory's owner needs to fill it.
const FILLABLE: u32 = 0o700;

pub(super) struct Taker {
    path: Path,
    file: Option<File>,
}

/// A file being received.
struct File {
    fd: Fd,
    /// Its temporary name, if another file has the final one.
    part: Option<Path>,
    flags: u32,
    facts: FileFacts,
}

/// The stage that failed, and the errno.
struct TakeFailure(u32, Errno);

impl Taker {
    pub(super) fn new() -> Self {
        Taker { path: Path::new(), file: None }
    }

    pub(super) fn take(
        &mut self,
        places: &mut PlaceCache,
        output: &mut OutputBuffer,
        kind: u32,
        node: &NodeRequest<'_>,
    ) {
        self.abandon(places);
        let done = self.make(places, kind, node);
        if let Err(TakeFailure(stage, errno)) = done {
            output.failed(stage, errno, node.path);
        }
    }

    fn make(
        &mut self,
        places: &mut PlaceCache,
        kind: u32,
        node: &NodeRequest<'_>,
    ) -> core::result::Result<(), TakeFailure> {
        let at = |stage| move |errno| TakeFailure(stage, errno);
        if !self.path.set(node.path) {
            return Err(TakeFailure(stage::REQUEST, Errno::NAMETOOLONG));
        }
        if node.path.is_empty() {
            let (request::SET, Some(root)) = (kind, places.root()) else {
                return Err(TakeFailure(stage::REQUEST, Errno::INVAL));
            };
            return dress(root, node.flags, &node.facts).map_err(at(stage::SET));
        }
        places.find(&self.path, Traversal::Making).map_err(at(stage::FIND))?;
        let (Some(place), Some(root)) = (places.place(), places.root()) else {
            return Err(TakeFailure(stage::REQUEST, Errno::INVAL));
        };
        let name = self.path.last();
        match (kind, node.facts.kind()) {
            (request::SET, _) => {
                let directory = nodes::open_to_list(place, name, false).map_err(at(stage::FIND))?;
                dress(&directory, node.flags, &node.facts).map_err(at(stage::SET))
            }
            (request::LINK, _) => {
                let mut target = Path::new();
                if !is_path(node.target) || !target.set(node.target) {
                    return Err(TakeFailure(stage::REQUEST, Errno::INVAL));
                }
                link(root, &target, place, name).map_err(at(stage::MAKE))
            }
            (_, DIRECTORY) => {
                let mode = node.facts.mode & 0o7777 | FILLABLE;
                make_directory(place, name, mode).map_err(at(stage::MAKE))
            }
            (_, SYMLINK) => {
                let mut target = Path::new();
                if node.target.contains(&0) || !target.set(node.target) {
                    return Err(TakeFailure(stage::REQUEST, Errno::INVAL));
                }
                replacing(place, name, || nodes::make_link(target.c_string(), place, name))
                    .map_err(at(stage::MAKE))?;
                dress_link(place, name, node.flags, &node.facts).map_err(at(stage::SET))
            }
            (_, REGULAR) => {
                let (fd, part) = create(place, name).map_err(at(stage::MAKE))?;
                self.file = Some(File { fd, part, flags: node.flags, facts: node.facts });
                Ok(())
            }
            _ => Err(TakeFailure(stage::REQUEST, Errno::INVAL)),
        }
    }

    pub(super) fn data(
        &mut self,
        places: &mut PlaceCache,
        output: &mut OutputBuffer,
        mut bytes: &[u8],
    ) {
        // The failure was reported; the rest of the entry is skipped.
        let Some(file) = &self.file else { return };
        while !bytes.is_empty() {
            match sys::write(&file.fd, bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return self.give_up(places, output, errno),
            }
        }
    }

    pub(super) fn hole(&mut self, places: &mut PlaceCache, output: &mut OutputBuffer, length: u64) {
        let Some(file) = &self.file else { return };
        if let Err(errno) = nodes::skip(&file.fd, length) {
            self.give_up(places, output, errno);
        }
    }

    fn give_up(&mut self, places: &mut PlaceCache, output: &mut OutputBuffer, errno: Errno) {
        output.failed(stage::WRITE, errno, self.path.text());
        self.abandon(places);
    }

    pub(super) fn end(&mut self, places: &mut PlaceCache, output: &mut OutputBuffer) {
        let Some(file) = &self.file else { return };
        // For a hole at the end, or announced data that does not come.
        if let Err(errno) = nodes::set_length(&file.fd, file.facts.size) {
            return self.give_up(places, output, errno);
        }
        if let Err(errno) = dress(&file.fd, file.flags, &file.facts) {
            // Keep the content, which is worth more than nothing.
            output.failed(stage::SET, errno, self.path.text());
        }
        if let (Some(part), Some(place)) = (&file.part, places.place())
            && let Err(errno) = nodes::rename(place, part.last(), self.path.last())
        {
            output.failed(stage::MAKE, errno, self.path.text());
            return self.abandon(places);
        }
        self.file = None;
    }

    /// Removes a name. A directory must be empty.
    pub(super) fn remove(
        &mut self,
        places: &mut PlaceCache,
        output: &mut OutputBuffer,
        path: &[u8],
    ) {
        self.abandon(places);
        if !is_path(path) || !self.path.set(path) {
            return output.failed(stage::REQUEST, Errno::INVAL, b"");
        }
        let removed = match places.find(&self.path, Traversal::Strict) {
            Ok(()) => places.place().ok_or(Errno::NOENT).and_then(|place| {
                nodes::remove(place, self.path.last())
                    .or_else(|_| nodes::remove_directory(place, self.path.last()))
            }),
            Err(errno) => Err(errno),
        };
        // It may have been the cached directory.
        places.forget();
        if let Err(errno) = removed {
            output.failed(stage::REMOVE, errno, path);
        }
    }

    /// Removes an incomplete file.
    pub(super) fn abandon(&mut self, places: &mut PlaceCache) {
        if let (Some(file), Some(place)) = (self.file.take(), places.place()) {
            let name = file.part.as_ref().map_or(self.path.last(), Path::last);
            let _ = nodes::remove(place, name);
        }
    }
}

/// Sets the owner before the mode, because chown clears mode bits.
fn dress(fd: &Fd, flags: u32, facts: &FileFacts) -> SysResult<()> {
    let owned =
        if flags & make::OWNER != 0 { nodes::set_owner(fd, facts.uid, facts.gid) } else { Ok(()) };
    nodes::set_mode(fd, facts.mode)?;
    if flags & make::TIMES != 0 {
        nodes::set_time(fd, facts.modified, facts.modified_ns)?;
    }
    owned
}

fn dress_link(place: &Fd, name: &[u8], flags: u32, facts: &FileFacts) -> SysResult<()> {
    if flags & make::TIMES != 0 {
        nodes::set_link_time(place, name, facts.modified, facts.modified_ns)?;
    }
    if flags & make::OWNER != 0 {
        nodes::set_link_owner(place, name, facts.uid, facts.gid)?;
    }
    Ok(())
}

/// Creates an entry. Replaces anything in the way except a directory.
fn replacing(place: &Fd, name: &[u8], make: impl Fn() -> SysResult<()>) -> SysResult<()> {
    match make() {
        Err(Errno::EXIST) => {
            nodes::remove(place, name)?;
            make()
        }
        done => done,
    }
}

fn make_directory(place: &Fd, name: &[u8], mode: u32) -> SysResult<()> {
    match nodes::make_directory(place, name, mode) {
        Err(Errno::EXIST) => {
            let there = nodes::stat(place, name, false)?.mode;
            if there & KIND_MASK != DIRECTORY {
                return Err(Errno::EXIST);
            }
            if there & FILLABLE != FILLABLE {
                // It was closed to its owner; its mode comes at the end. A user who may not open it
                // gets an error on creating something in it.
                let opened = nodes::open_to_list(place, name, false);
                let _ = opened.and_then(|dir| nodes::set_mode(&dir, there & 0o7777 | FILLABLE));
            }
            Ok(())
        }
        done => done,
    }
}

fn link(root: &Fd, target: &Path, place: &Fd, name: &[u8]) -> SysResult<()> {
    let mut way = Path::new();
    let inner = match target.parent() {
        b"" => None,
        parent => Some(enter(root, &mut way, parent, false)?),
    };
    let from = inner.as_ref().unwrap_or(root);
    replacing(place, name, || nodes::add_name((from, target.last()), (place, name)))
}

/// Creates a file, under a temporary name if its own is taken.
fn create(place: &Fd, name: &[u8]) -> SysResult<(Fd, Option<Path>)> {
    match nodes::create(place, name, UNFINISHED) {
        Err(Errno::EXIST) => {}
        done => return done.map(|fd| (fd, None)),
    }
    if nodes::stat(place, name, false)?.mode & KIND_MASK == DIRECTORY {
        return Err(Errno::ISDIR);
    }
    for number in 0..PARTS {
        let mut part = [0; 32];
        part[..PART.len()].copy_from_slice(PART);
        let length = digits::write(number, &mut part[PART.len()..]).ok_or(Errno::INVAL)?;
        let mut path = Path::new();
        path.push(&part[..PART.len() + length]);
        match nodes::create(place, path.c_string(), UNFINISHED) {
            Err(Errno::EXIST) => {}
            done => return done.map(|fd| (fd, Some(path))),
        }
    }
    Err(Errno::EXIST)
}
