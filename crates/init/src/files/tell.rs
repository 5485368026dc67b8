//! Reports paths, with the files below them and their content.
//!
//! `files` passes one selection at a time.

use super::output::OutputBuffer;
use super::places::{PlaceCache, Traversal};
use crate::abi::files::{DIRECTORY, KIND_MASK, REGULAR, SYMLINK, end, is_path, select, stage};
use crate::listing::NameList;
use crate::path::{PATH_MAX, Path};
use crate::sys::nodes::{self, Stat};
use crate::sys::{self, Errno, Fd, Pages};

/// Bytes read at once of a directory or of one of the kernel's files.
const CHUNK: usize = 32 << 10;

pub(super) struct TreeLister {
    path: Path,
    /// Names in the directories being walked, one below the other.
    names: NameList,
    chunk: Pages,
}

/// The parent directories, to detect a loop.
struct Ancestors<'a> {
    stat: &'a Stat,
    next: Option<&'a Ancestors<'a>>,
}

impl TreeLister {
    pub(super) fn new() -> sys::SysResult<Self> {
        Ok(TreeLister { path: Path::new(), names: NameList::new()?, chunk: Pages::new(CHUNK)? })
    }

    pub(super) fn select(
        &mut self,
        places: &mut PlaceCache,
        output: &mut OutputBuffer,
        flags: u32,
        path: &[u8],
    ) {
        if path.is_empty() {
            self.path.truncate(0);
            if let Some(root) = places.root() {
                let opened = nodes::open_to_list(root, b".\0", false);
                let all = opened.and_then(|dir| Ok((nodes::stat_open(&dir)?, dir)));
                match all {
                    Ok((stat, dir)) => {
                        self.inside(output, &dir, flags, &Ancestors { stat: &stat, next: None });
                    }
                    Err(errno) => output.failed(stage::LIST, errno, b""),
                }
            }
            return;
        }
        if !is_path(path) || !self.path.set(path) {
            output.failed(stage::REQUEST, Errno::INVAL, path);
            return;
        }
        let way =
            if flags & select::FOLLOW != 0 { Traversal::Following } else { Traversal::Strict };
        match places.find(&self.path, way) {
            Ok(()) => {
                if let Some(place) = places.place() {
                    self.entry(output, place, flags, None);
                }
            }
            Err(errno) => output.failed(stage::FIND, errno, path),
        }
    }

    /// Reports the entry with the path's last name in the directory `place`.
    fn entry(
        &mut self,
        output: &mut OutputBuffer,
        place: &Fd,
        flags: u32,
        above: Option<&Ancestors<'_>>,
    ) {
        let follows = flags & select::FOLLOW != 0;
        let stat = match nodes::stat(place, self.path.last(), follows) {
            // A dangling link, or a loop.
            Err(_) if follows => nodes::stat(place, self.path.last(), false),
            done => done,
        };
        let stat = match stat {
            Ok(stat) => stat,
            Err(errno) => return output.failed(stage::FIND, errno, self.path.text()),
        };
        match stat.mode & KIND_MASK {
            REGULAR if flags & select::CONTENT != 0 => self.file(output, place, follows),
            DIRECTORY => {
                output.entry(&stat, self.path.text(), b"");
                if flags & select::RECURSIVE != 0 {
                    self.directory(output, place, flags, &stat, above);
                }
            }
            SYMLINK => {
                let target = &mut self.chunk.bytes_mut()[..PATH_MAX];
                match nodes::read_link(place, self.path.last(), target) {
                    Ok(length) => output.entry(&stat, self.path.text(), &target[..length]),
                    Err(errno) => output.failed(stage::FIND, errno, self.path.text()),
                }
            }
            _ => output.entry(&stat, self.path.text(), b""),
        }
    }

    fn directory(
        &mut self,
        output: &mut OutputBuffer,
        place: &Fd,
        flags: u32,
        stat: &Stat,
        above: Option<&Ancestors<'_>>,
    ) {
        let follows = flags & select::FOLLOW != 0;
        let is_same = |other: &Stat| (other.device, other.inode) == (stat.device, stat.inode);
        let mut higher = above;
        while let Some(directory) = higher {
            if is_same(directory.stat) {
                return output.failed(stage::LIST, Errno::LOOP, self.path.text());
            }
            higher = directory.next;
        }
        let dir = match nodes::open_to_list(place, self.path.last(), follows) {
            Ok(dir) => dir,
            Err(errno) => return output.failed(stage::LIST, errno, self.path.text()),
        };
        let is_mount = above.is_none_or(|above| above.stat.device != stat.device);
        if is_mount && nodes::is_of_the_kernel(&dir) {
            return;
        }
        self.inside(output, &dir, flags, &Ancestors { stat, next: above });
    }

    /// Reports a directory's contents, sorted by name.
    fn inside(&mut self, output: &mut OutputBuffer, dir: &Fd, flags: u32, above: &Ancestors<'_>) {
        let first = match self.names.read(dir, self.chunk.bytes_mut()) {
            Ok(first) => first,
            Err(errno) => return output.failed(stage::LIST, errno, self.path.text()),
        };
        for at in first..self.names.len() {
            let length = self.path.len();
            let name = self.names.get(at);
            if self.path.push(&name[..name.len() - 1]) {
                self.entry(output, dir, flags, Some(above));
                self.path.truncate(length);
            } else {
                // This skips everything below it as well; only the directory's path is reported.
                output.failed(stage::FIND, Errno::NAMETOOLONG, self.path.text());
            }
        }
        self.names.truncate(first);
    }

    /// Reports a file that was regular a moment ago.
    fn file(&mut self, output: &mut OutputBuffer, place: &Fd, follows: bool) {
        let opened = nodes::open_to_read(place, self.path.last(), follows)
            .and_then(|file| Ok((nodes::stat_open(&file)?, file)));
        let (mut stat, file) = match opened {
            Ok((stat, file)) if stat.mode & KIND_MASK == REGULAR => (stat, file),
            Ok(_) => return output.failed(stage::OPEN, Errno::STALE, self.path.text()),
            Err(errno) => return output.failed(stage::OPEN, errno, self.path.text()),
        };
        if stat.size == 0 {
            // The kernel's files report size zero but may have content.
            let got = read_small(&file, self.chunk.bytes_mut());
            stat.size = got as u64;
            output.entry(&stat, self.path.text(), b"");
            if got > 0 {
                output.data(&self.chunk.bytes()[..got]);
            }
            return output.whole();
        }
        output.entry(&stat, self.path.text(), b"");
        match content(output, &file, &stat) {
            Ok(()) => {
                let is_same = nodes::stat_open(&file).is_ok_and(|now| now.is_as_before(&stat));
                output.end(if is_same { end::WHOLE } else { end::CHANGED }, None);
            }
            Err(Errno::STALE) => output.end(end::CHANGED, None),
            Err(errno) => output.end(end::UNREADABLE, Some(errno)),
        }
    }
}

/// Sends exactly as many bytes as the file had when it was opened.
fn content(output: &mut OutputBuffer, file: &Fd, stat: &Stat) -> sys::SysResult<()> {
    let size = stat.size;
    let may_have_holes = stat.blocks < size.div_ceil(512);
    let mut at = 0;
    while at < size {
        let mut data_end = size;
        if may_have_holes {
            let data = match nodes::next_data(file, at) {
                Ok(data) => data.unwrap_or(size).min(size),
                // This file system does not report holes.
                Err(_) => at,
            };
            if data > at {
                output.hole(data - at);
                at = data;
            }
            if at < size {
                data_end = nodes::next_hole(file, at).map_or(size, |end| end.clamp(at + 1, size));
            }
        }
        while at < data_end {
            let wanted = usize::try_from(data_end - at).unwrap_or(usize::MAX);
            match output.read_data(wanted, |into| nodes::read_at(file, into, at)) {
                Err(Errno::INTR) => {}
                Ok(got @ 1..) => at += got as u64,
                // Truncated meanwhile, or unreadable: fill the rest with zeros.
                done => {
                    output.hole(size - at);
                    return Err(done.err().unwrap_or(Errno::STALE));
                }
            }
        }
    }
    Ok(())
}

fn read_small(file: &Fd, into: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < into.len() {
        match sys::read(file, &mut into[filled..]) {
            Ok(got @ 1..) => filled += got,
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    filled
}
