//! An index of everything below a layer's directories, stored as lines of a file beside its copies.

use super::now;
use runner_core::select::below;
use runner_host::beneath::{Dir, WalkItem};
use runner_sandbox::{WritableDirectory, overlay_marks};
use rustix::fs::{FileType, Stat};
use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A file changed within this time, in nanoseconds, may keep its times: the kernel's file clock is
/// coarse.
const COARSE: i128 = 20_000_000;

/// Most bytes of all paths in a layer: one deep tree of long names would fill the memory.
const MOST_PATHS: usize = 32 << 20;

/// The runner's own files in the container, which it rewrites before each command.
const OURS: [&[u8]; 3] = [
    b"/codebuild/output/tmp/script.sh",
    b"/codebuild/output/tmp/env.sh",
    b"/codebuild/output/tmp/dir.txt",
];

/// All entries. Those of one directory are adjacent and precede their contents. Each of the layer's
/// directories starts with itself, under an empty path.
#[derive(Debug, Default)]
pub(super) struct LayerIndex {
    entries: Vec<LayerEntry>,
    places: HashMap<(usize, Vec<u8>), usize>,
}

#[derive(Clone, Debug)]
pub(super) struct LayerEntry {
    pub(super) upper: usize,
    pub(super) path: Vec<u8>,
    pub(super) facts: EntryIdentity,
    /// Whether any later change will show in its times.
    pub(super) is_settled: bool,
    pub(super) mark: OverlayMark,
}

/// An overlay's mark on a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum OverlayMark {
    #[default]
    None,
    /// Hides the directory of the same name in the layers below.
    Opaque,
    /// The layers below have the directory under this path, or under this name beside it.
    Redirect(Vec<u8>),
}

/// The facts by which a change of an entry shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryIdentity {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u64,
    device: u64,
    pub(super) inode: u64,
    pub(super) size: i64,
    /// Nanoseconds since 1970, as in `changed`.
    pub(super) modified: i128,
    changed: i128,
}

impl EntryIdentity {
    #[allow(clippy::useless_conversion, reason = "types of other architectures")]
    pub(super) fn of(stat: &Stat) -> Self {
        let nanoseconds =
            |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        EntryIdentity {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink.into(),
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

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether this is an overlay's whiteout: the name is deleted.
    pub(super) fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.device == 0
    }

    /// Whether nothing visible has changed since `before`.
    pub(super) fn is_as(&self, before: &EntryIdentity) -> bool {
        match self.kind() {
            // A directory's size depends on the file system, and its links count its directories.
            FileType::Directory => {
                EntryIdentity { size: before.size, links: before.links, ..*self } == *before
            }
            _ => self == before,
        }
    }
}

/// When a layer is examined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) began: i128,
    /// Whether nothing could write to files then. A process can change a mapped file without a
    /// trace.
    pub(super) is_quiet: bool,
}

impl Moment {
    pub(super) fn now(is_quiet: bool) -> Self {
        Moment { began: now(), is_quiet }
    }

    fn settles(self, facts: &EntryIdentity) -> bool {
        let is_sure = self.is_quiet || facts.kind() != FileType::RegularFile;
        is_sure && facts.changed < self.began - COARSE
    }
}

/// Why a walk ended early.
enum WalkEnd {
    Full,
    Failed(io::Error),
}

impl From<io::Error> for WalkEnd {
    fn from(error: io::Error) -> Self {
        WalkEnd::Failed(error)
    }
}

impl LayerIndex {
    /// The index of these directories; `None` if there are more than `most` entries, or the paths
    /// are too long together. Takes the marks of unchanged entries from `before`.
    pub(super) fn of(
        tops: &[Dir],
        uppers: &[WritableDirectory],
        before: Option<&LayerIndex>,
        moment: Moment,
        most: usize,
    ) -> io::Result<Option<Self>> {
        let (mut index, mut bytes) = (LayerIndex::default(), 0);
        let prefix = overlay_marks();
        let marks = (format!("{prefix}opaque"), format!("{prefix}redirect"));
        for (upper, (WritableDirectory { path: place, .. }, top)) in
            uppers.iter().zip(tops).enumerate()
        {
            index.add_top(upper, top, moment)?;
            let place = place.as_os_str().as_bytes();
            let walked = top.walk(|item: WalkItem<'_>| {
                if is_ours(place, item.path) {
                    return Ok(());
                }
                let facts = match item.place.stat(item.name) {
                    // A running process has removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    done => EntryIdentity::of(&done?),
                };
                let known = before.and_then(|before| before.find(upper, item.path));
                let mark = match known.filter(|known| known.facts.is_as(&facts)) {
                    Some(known) => known.mark.clone(),
                    None if facts.is_directory() => mark(&item, &marks)?,
                    None => OverlayMark::None,
                };
                let is_settled = moment.settles(&facts);
                index.add(LayerEntry { upper, path: item.path.to_vec(), facts, is_settled, mark });
                bytes += item.path.len();
                match index.entries.len() > most || bytes > MOST_PATHS {
                    true => Err(WalkEnd::Full),
                    false => Ok(()),
                }
            });
            match walked {
                Ok(()) => {}
                Err(WalkEnd::Full) => return Ok(None),
                Err(WalkEnd::Failed(error)) => return Err(error),
            }
        }
        Ok(Some(index))
    }

    fn add(&mut self, entry: LayerEntry) {
        self.places.insert((entry.upper, entry.path.clone()), self.entries.len());
        self.entries.push(entry);
    }

    pub(super) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The entries of one of the directories.
    pub(super) fn below(&self, upper: usize) -> &[LayerEntry] {
        let begin = self.entries.partition_point(|entry| entry.upper < upper);
        let end = self.entries.partition_point(|entry| entry.upper <= upper);
        &self.entries[begin..end]
    }

    pub(super) fn find(&self, upper: usize, path: &[u8]) -> Option<&LayerEntry> {
        let at = self.places.get(&(upper, path.to_vec()))?;
        self.entries.get(*at)
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.entries.iter().filter(|entry| entry.facts.kind() == FileType::RegularFile);
        files.map(|entry| u64::try_from(entry.facts.size).unwrap_or(0)).sum()
    }

    /// The number of changed entries, deleted ones included, and the bytes of changed files.
    pub(super) fn changed(
        &self,
        same: &super::tree::Same,
        before: Option<&LayerIndex>,
    ) -> (u64, u64) {
        let mut changed = (0, 0);
        for (entry, is_same) in self.entries.iter().zip(same.all()) {
            // A top directory exists from the start.
            let is_new_top = entry.path.is_empty() && before.is_none();
            if !is_same && !is_new_top {
                changed.0 += 1;
                if entry.facts.kind() == FileType::RegularFile {
                    changed.1 += u64::try_from(entry.facts.size).unwrap_or(0);
                }
            }
        }
        let is_gone = |entry: &&LayerEntry| self.find(entry.upper, &entry.path).is_none();
        changed.0 +=
            before.map_or(0, |before| before.entries.iter().filter(is_gone).count() as u64);
        changed
    }

    /// Whether one of the directories has changed. Without `before`, the top directory alone is no
    /// change: it exists from the start.
    pub(super) fn has_changed(
        &self,
        upper: usize,
        same: &super::tree::Same,
        before: Option<&LayerIndex>,
    ) -> bool {
        let entries = self.below(upper);
        let Some(before) = before else { return entries.len() > 1 };
        // A new top directory cannot be settled yet, although it is unchanged.
        let is_top = |entry: &LayerEntry| {
            let was = before.find(upper, b"").filter(|_| entry.path.is_empty());
            was.is_some_and(|was| entry.facts.is_as(&was.facts))
        };
        let mut pairs = entries.iter().zip(same.of(upper));
        pairs.any(|(entry, is_same)| !is_same && !is_top(entry))
            || before.below(upper).iter().any(|was| self.find(upper, &was.path).is_none())
    }

    /// Whether one of the directories is as it was before, its top too, as far as that shows in a
    /// time.
    pub(super) fn is_same(
        &self,
        upper: usize,
        same: &super::tree::Same,
        before: &LayerIndex,
    ) -> bool {
        same.of(upper).iter().all(|is_same| *is_same)
            && before.below(upper).iter().all(|was| self.find(upper, &was.path).is_some())
    }

    /// Whether one of the directories, which the container sees at `place`, has nothing in it but
    /// directories for the runner's files.
    pub(super) fn is_new(&self, upper: usize, place: &Path) -> bool {
        let place = place.as_os_str().as_bytes();
        let place = place.strip_suffix(b"/").unwrap_or(place);
        let is_needed = |entry: &LayerEntry| {
            let whole = [place, b"/", &entry.path].concat();
            entry.facts.is_directory() && OURS.iter().any(|ours| below(ours, &whole).is_some())
        };
        self.below(upper).iter().all(|entry| entry.path.is_empty() || is_needed(entry))
    }

    fn add_top(&mut self, upper: usize, top: &Dir, moment: Moment) -> io::Result<()> {
        let facts = EntryIdentity::of(&top.facts()?);
        let is_settled = moment.settles(&facts);
        let mark = OverlayMark::None;
        self.add(LayerEntry { upper, path: Vec::new(), facts, is_settled, mark });
        Ok(())
    }

    /// How many files of one of the directories have several names.
    pub(super) fn linked(&self, upper: usize) -> u64 {
        // An overlay uses one inode for many whiteouts.
        let is_linked = |it: &&LayerEntry| {
            !it.facts.is_directory() && !it.facts.is_whiteout() && it.facts.links > 1
        };
        let files = self.below(upper).iter().filter(is_linked).map(|it| it.facts.inode);
        files.collect::<HashSet<_>>().len() as u64
    }

    /// Writes the index beside the copies.
    pub(super) fn write(&self, shelf: &Dir, name: &str) -> io::Result<()> {
        let mut text = Vec::with_capacity(self.entries.len() * 128);
        for LayerEntry { upper, path, facts, is_settled, mark } in &self.entries {
            let EntryIdentity { mode, uid, gid, links, device, inode, size, modified, changed } =
                facts;
            let is_settled = u8::from(*is_settled);
            // The length of the redirect, which precedes the path.
            let (mark, redirect): (i64, &[u8]) = match mark {
                OverlayMark::None => (0, b""),
                OverlayMark::Opaque => (-1, b""),
                OverlayMark::Redirect(to) => (i64::try_from(to.len()).unwrap_or(0), to),
            };
            write!(
                text,
                "{upper} {is_settled} {mode} {uid} {gid} {links} {device} {inode} {size} {modified} {changed} {mark} "
            )?;
            text.extend_from_slice(redirect);
            text.extend_from_slice(path);
            text.push(0);
        }
        shelf.write(name, 0o600, |file| file.write_all(&text))
    }

    pub(super) fn read(shelf: &Dir, name: &str) -> io::Result<Self> {
        let mut text = Vec::new();
        shelf.file(name)?.read_to_end(&mut text)?;
        let mut index = LayerIndex::default();
        for line in text.split(|&byte| byte == 0).filter(|line| !line.is_empty()) {
            index.add(entry(line).ok_or(io::ErrorKind::InvalidData)?);
        }
        Ok(index)
    }
}

/// Whether this is one of the runner's own files. `place` is where the container sees the
/// directory.
fn is_ours(place: &[u8], path: &[u8]) -> bool {
    OURS.iter().any(|ours| {
        let rest = ours.strip_suffix(path).and_then(|rest| rest.strip_suffix(b"/"));
        rest.is_some_and(|rest| rest == place.strip_suffix(b"/").unwrap_or(place))
    })
}

fn mark(item: &WalkItem<'_>, (opaque, redirect): &(String, String)) -> io::Result<OverlayMark> {
    let attribute = |name: &str| match item.place.attribute(item.name, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done,
    };
    Ok(match (attribute(redirect)?, attribute(opaque)?) {
        (Some(to), _) => OverlayMark::Redirect(to),
        // `x` is another kind of mark, which hides nothing.
        (None, Some(value)) if value == b"y" => OverlayMark::Opaque,
        _ => OverlayMark::None,
    })
}

fn entry(line: &[u8]) -> Option<LayerEntry> {
    let mut fields = line.splitn(13, |&byte| byte == b' ');
    let mut next = || -> Option<i128> { std::str::from_utf8(fields.next()?).ok()?.parse().ok() };
    let (upper, is_settled) = (next()?.try_into().ok()?, next()? == 1);
    let facts = EntryIdentity {
        mode: next()?.try_into().ok()?,
        uid: next()?.try_into().ok()?,
        gid: next()?.try_into().ok()?,
        links: next()?.try_into().ok()?,
        device: next()?.try_into().ok()?,
        inode: next()?.try_into().ok()?,
        size: next()?.try_into().ok()?,
        modified: next()?,
        changed: next()?,
    };
    let mark = next()?;
    let rest = fields.next()?;
    let (redirect, path) = rest.split_at_checked(usize::try_from(mark.max(0)).ok()?)?;
    let mark = match mark {
        -1 => OverlayMark::Opaque,
        0 => OverlayMark::None,
        _ => OverlayMark::Redirect(redirect.to_vec()),
    };
    Some(LayerEntry { upper, path: path.to_vec(), facts, is_settled, mark })
}

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn files_of_the_runner_are_known_by_their_whole_path() {
        assert!(is_ours(b"/", b"codebuild/output/tmp/env.sh"));
        assert!(is_ours(b"/codebuild/output", b"tmp/script.sh"));
        assert!(!is_ours(b"/codebuild/output/src1/src", b"codebuild/output/tmp/env.sh"));
        assert!(!is_ours(b"/", b"tmp/env.sh") && !is_ours(b"/", b"codebuild/output/tmp/x"));
    }
}
