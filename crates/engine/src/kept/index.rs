//! What there is below the directories of a layer, as lines of a file beside its copy.

use runner_host::beneath::Dir;
use rustix::fs::{FileType, Stat};
use std::collections::HashMap;
use std::io::{self, Read, Write};

/// Within this time a file can change and show the same times: the kernel's clock of files is coarse.
const COARSE: i128 = 20_000_000;

/// Files of the runner's in the container, which it writes itself before each command.
const OURS: [&[u8]; 3] = [
    b"codebuild/output/tmp/script.sh",
    b"codebuild/output/tmp/env.sh",
    b"codebuild/output/tmp/dir.txt",
];

/// All entries, those of a directory together and before what is in it. The first of each directory of the layer is
/// that itself, without a path.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<Entry>,
    places: HashMap<(usize, Vec<u8>), usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) upper: usize,
    pub(super) path: Vec<u8>,
    pub(super) facts: Facts,
    /// Whether a change shows in its times.
    pub(super) is_settled: bool,
}

/// By what an entry is known to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    device: u64,
    pub(super) inode: u64,
    pub(super) size: i64,
    /// Nanoseconds since 1970, as the next.
    modified: i128,
    changed: i128,
}

impl Facts {
    #[allow(clippy::useless_conversion, reason = "types of other architectures")]
    fn of(stat: &Stat) -> Self {
        let nanoseconds =
            |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Facts {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            device: stat.st_rdev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether nothing of it has changed since, as far as it shows.
    pub(super) fn is_as(&self, before: &Facts) -> bool {
        match self.kind() {
            // A directory's size is the file system's matter.
            FileType::Directory => Facts { size: before.size, ..*self } == *before,
            _ => self == before,
        }
    }
}

impl Index {
    pub(super) fn of(layer: &Dir, uppers: &[String]) -> io::Result<Self> {
        let mut index = Index::default();
        for (upper, name) in uppers.iter().enumerate() {
            let top = layer.open(name)?;
            let facts = Facts::of(&top.facts()?);
            index.add(Entry { upper, path: Vec::new(), facts, is_settled: false });
            top.walk(|item| -> io::Result<()> {
                if !OURS.contains(&item.path) {
                    let facts = Facts::of(&item.place.stat(item.name)?);
                    index.add(Entry { upper, path: item.path.to_vec(), facts, is_settled: false });
                }
                Ok(())
            })?;
        }
        Ok(index)
    }

    fn add(&mut self, entry: Entry) {
        self.places.insert((entry.upper, entry.path.clone()), self.entries.len());
        self.entries.push(entry);
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Those of one of the directories.
    pub(super) fn below(&self, upper: usize) -> &[Entry] {
        let begin = self.entries.partition_point(|entry| entry.upper < upper);
        let end = self.entries.partition_point(|entry| entry.upper <= upper);
        &self.entries[begin..end]
    }

    pub(super) fn find(&self, upper: usize, path: &[u8]) -> Option<&Entry> {
        let at = self.places.get(&(upper, path.to_vec()))?;
        self.entries.get(*at)
    }

    /// How many entries differ from what was before, those that are gone among them, and the bytes of files that
    /// do.
    pub(super) fn changed(&self, same: &super::tree::Same, before: Option<&Index>) -> (u64, u64) {
        let mut changed = (0, 0);
        for (entry, is_same) in self.entries.iter().zip(same.all()) {
            // A top is there from the start.
            let is_new_top = entry.path.is_empty() && before.is_none();
            if !is_same && !is_new_top {
                changed.0 += 1;
                if entry.facts.kind() == FileType::RegularFile {
                    changed.1 += u64::try_from(entry.facts.size).unwrap_or(0);
                }
            }
        }
        let is_gone = |entry: &&Entry| self.find(entry.upper, &entry.path).is_none();
        changed.0 +=
            before.map_or(0, |before| before.entries.iter().filter(is_gone).count() as u64);
        changed
    }

    /// Writes it beside the copy, which was begun at that time. `is_quiet`: nobody could write to files then; a process
    /// that has one mapped changes it without a sign.
    pub(super) fn write(
        &self,
        shelf: &Dir,
        number: u32,
        began: i128,
        is_quiet: bool,
    ) -> io::Result<()> {
        let mut text = Vec::new();
        for Entry { upper, path, facts, .. } in &self.entries {
            let Facts { mode, uid, gid, device, inode, size, modified, changed } = facts;
            let is_sure = is_quiet || facts.kind() != FileType::RegularFile;
            let is_settled = u8::from(is_sure && *changed < began - COARSE);
            write!(
                text,
                "{upper} {is_settled} {mode} {uid} {gid} {device} {inode} {size} {modified} {changed} "
            )?;
            text.extend_from_slice(path);
            text.push(0);
        }
        shelf.write(name(number), 0o600, |file| file.write_all(&text))
    }

    pub(super) fn read(shelf: &Dir, number: u32) -> io::Result<Self> {
        let mut text = Vec::new();
        shelf.file(name(number))?.read_to_end(&mut text)?;
        let mut index = Index::default();
        for line in text.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
            index.add(entry(line).ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(index)
    }
}

fn name(number: u32) -> String {
    format!("{number}.index")
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.splitn(11, |&byte| byte == b' ');
    let mut next = || -> Option<i128> { std::str::from_utf8(fields.next()?).ok()?.parse().ok() };
    let (upper, is_settled) = (next()?.try_into().ok()?, next()? == 1);
    let facts = Facts {
        mode: next()?.try_into().ok()?,
        uid: next()?.try_into().ok()?,
        gid: next()?.try_into().ok()?,
        device: next()?.try_into().ok()?,
        inode: next()?.try_into().ok()?,
        size: next()?.try_into().ok()?,
        modified: next()?,
        changed: next()?,
    };
    Some(Entry { upper, path: fields.next()?.to_vec(), facts, is_settled })
}
