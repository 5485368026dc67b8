//! Computes a layer's changes between two looks, as the container sees them.
//!
//! A layer holds the differences from the layers below it. An entry new in it may be a new file, a
//! changed one, or just a directory that something was added to; the layers below tell which.

use super::index::{EntryIdentity, LayerEntry, LayerIndex, OverlayMark};
use super::lower::Lower;
use runner_core::changes::{FileChange, FileKind, Op};
use runner_host::beneath::{join, split};
use runner_sandbox::WritableDirectory;
use rustix::fs::FileType;
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;

/// All changes, renames first.
pub(super) fn changes(
    uppers: &[WritableDirectory],
    before: &LayerIndex,
    after: &LayerIndex,
) -> Vec<FileChange> {
    let mut all = Vec::new();
    for (upper, written) in uppers.iter().enumerate() {
        let mut comparing = Comparing::new(before, after, upper, written);
        comparing.compare();
        let place = written.path.as_os_str().as_bytes();
        all.extend(comparing.pair().into_iter().map(|found| found.at(place)));
    }
    // Changes inside a renamed directory are listed under its new path.
    all.sort_by_key(|change| !matches!(change.op, Op::Renamed(_)));
    all
}

/// A change with its path in the layer, and the facts that identify a renamed file.
struct FoundChange {
    change: FileChange,
    facts: EntryIdentity,
    /// Whether a deleted file was in the layer itself.
    is_own: bool,
}

impl FoundChange {
    fn at(self, place: &[u8]) -> FileChange {
        let whole = |path: &[u8]| match place {
            b"/" => [b"/", path].concat(),
            place => [place, b"/", path].concat(),
        };
        let op = match self.change.op {
            Op::Renamed(from) => Op::Renamed(whole(&from)),
            op => op,
        };
        FileChange { op, path: whole(&self.change.path), ..self.change }
    }
}

struct Comparing<'i> {
    before: &'i LayerIndex,
    after: &'i LayerIndex,
    upper: usize,
    lower: Lower<'i>,
    /// Renamed directories, new path to old.
    moved: HashMap<Vec<u8>, Vec<u8>>,
    /// Renamed directories, old path to new.
    moved_to: HashMap<Vec<u8>, Vec<u8>>,
    /// Directories deleted with all their contents.
    gone: HashSet<Vec<u8>>,
    found: Vec<FoundChange>,
}

impl<'i> Comparing<'i> {
    fn new(
        before: &'i LayerIndex,
        after: &'i LayerIndex,
        upper: usize,
        written: &WritableDirectory,
    ) -> Self {
        Comparing {
            before,
            after,
            upper,
            lower: Lower::of(after, upper, written),
            moved: HashMap::new(),
            moved_to: HashMap::new(),
            gone: HashSet::new(),
            found: Vec::new(),
        }
    }

    fn compare(&mut self) {
        self.find_moved();
        let (before, after) = (self.before, self.after);
        for entry in after.below(self.upper).iter().filter(|entry| !entry.path.is_empty()) {
            let old_path = through(&self.moved, &entry.path);
            // The earlier entry at this path may have moved away with its directory.
            let is_left =
                old_path == entry.path && through(&self.moved_to, &entry.path) != entry.path;
            let known = before.find(self.upper, &old_path).filter(|_| !is_left);
            if let Some(from) = self.moved.get(&entry.path).cloned() {
                self.put(Op::Renamed(from), &entry.path, &entry.facts);
                continue;
            }
            let was = known.filter(|known| !known.facts.is_whiteout());
            match (was, entry.facts.is_whiteout()) {
                (None, true) if known.is_none() && !is_left => self.hidden(&entry.path),
                (None, true) => {}
                (Some(was), true) => self.delete(&entry.path, &was.facts, true),
                (Some(was), false) => self.same_name(was, entry),
                (None, false) => self.new_name(entry, known.is_some() || is_left),
            }
        }
        for entry in before.below(self.upper).iter().filter(|entry| !entry.path.is_empty()) {
            let path = through(&self.moved_to, &entry.path);
            if entry.facts.is_whiteout() || after.find(self.upper, &path).is_some() {
                continue;
            }
            if self.gone.contains(split(&path).0) {
                self.gone.extend(entry.facts.is_directory().then_some(path));
            } else {
                self.delete(&path, &entry.facts, true);
            }
        }
    }

    fn put(&mut self, op: Op, path: &[u8], facts: &EntryIdentity) {
        let change = FileChange { op, kind: kind(facts), size: size(facts), path: path.to_vec() };
        self.found.push(FoundChange { change, facts: *facts, is_own: false });
    }

    fn delete(&mut self, path: &[u8], facts: &EntryIdentity, is_own: bool) {
        if facts.is_directory() {
            self.gone.insert(path.to_vec());
        }
        let (op, kind, size, path) = (Op::Deleted, kind(facts), size(facts), path.to_vec());
        self.found.push(FoundChange {
            change: FileChange { op, kind, size, path },
            facts: *facts,
            is_own,
        });
    }

    /// Reports a name of the layers below that is now hidden.
    fn hidden(&mut self, path: &[u8]) {
        if let Some(facts) = self.lower.find_hidden(path) {
            self.delete(path, &facts, false);
        }
    }

    /// Reports what a directory hides in the layers below.
    fn hidden_in(&mut self, path: &[u8]) {
        for (name, facts) in self.lower.all_hidden(path) {
            let inner = join(path, &name);
            if self.after.find(self.upper, &inner).is_none() {
                self.delete(&inner, &facts, false);
            }
        }
    }

    fn same_name(&mut self, was: &LayerEntry, is: &LayerEntry) {
        let (old, new) = (&was.facts, &is.facts);
        if old.kind() != new.kind() {
            self.gone.extend(old.is_directory().then(|| is.path.clone()));
            return self.put(Op::Modified, &is.path, new);
        }
        let has_other_rights = (old.mode, old.uid, old.gid) != (new.mode, new.uid, new.gid);
        if new.is_directory() {
            if is.mark == OverlayMark::Opaque && was.mark != OverlayMark::Opaque {
                self.hidden_in(&is.path);
            }
            if has_other_rights {
                self.put(Op::Attributes, &is.path, new);
            }
        } else if !new.is_as(old) {
            let is_same_file =
                (old.inode, old.size, old.modified) == (new.inode, new.size, new.modified);
            if !is_same_file {
                self.put(Op::Modified, &is.path, new);
            } else if has_other_rights || old.links == new.links {
                self.put(Op::Attributes, &is.path, new);
            }
        }
    }

    /// `was_hidden`: the layer had already hidden the name in the layers below.
    fn new_name(&mut self, entry: &LayerEntry, was_hidden: bool) {
        let (path, new) = (&entry.path, &entry.facts);
        let below = match was_hidden {
            true => None,
            false => self.lower.find_hidden(path),
        };
        let Some(old) = below else { return self.put(Op::Added, path, new) };
        if old.kind() != new.kind() {
            return self.put(Op::Modified, path, new);
        }
        let is_same_file = (old.size, old.modified) == (new.size, new.modified);
        match new.is_directory() {
            true if entry.mark == OverlayMark::Opaque => self.hidden_in(path),
            true if old.mode != new.mode => self.put(Op::Attributes, path, new),
            true => {}
            false if is_same_file => self.put(Op::Attributes, path, new),
            false => self.put(Op::Modified, path, new),
        }
    }

    /// Finds renamed directories: those from lower layers by their overlay marks, the layer's own
    /// by inode and contents.
    fn find_moved(&mut self) {
        let (before, after) = (self.before, self.after);
        let is_gone = |entry: &&LayerEntry| {
            let now = after.find(self.upper, &entry.path);
            entry.facts.is_directory() && now.is_none_or(|now| now.facts.inode != entry.facts.inode)
        };
        let gone: HashMap<u64, &LayerEntry> = before
            .below(self.upper)
            .iter()
            .filter(is_gone)
            .map(|it| (it.facts.inode, it))
            .collect();
        for entry in after.below(self.upper).iter().filter(|entry| entry.facts.is_directory()) {
            let old_path = through(&self.moved, &entry.path);
            let known = before.find(self.upper, &old_path);
            if entry.path.is_empty() || known.is_some_and(|it| it.facts.inode == entry.facts.inode)
            {
                continue;
            }
            let from = match gone.get(&entry.facts.inode) {
                Some(old) if self.is_moved(old, entry) => Some(old.path.clone()),
                _ => match &entry.mark {
                    OverlayMark::Redirect(to) => Some(match to.strip_prefix(b"/") {
                        Some(absolute) => absolute.to_vec(),
                        None => join(split(&entry.path).0, to),
                    }),
                    OverlayMark::None | OverlayMark::Opaque => None,
                },
            };
            if let Some(from) = from {
                self.moved.insert(entry.path.clone(), from.clone());
                self.moved_to.insert(from, entry.path.clone());
            }
        }
    }

    /// Whether a directory is the same under another path. The inode alone does not tell: its
    /// number is soon reused.
    fn is_moved(&self, old: &LayerEntry, new: &LayerEntry) -> bool {
        old.facts.modified == new.facts.modified
            || children(self.before, self.upper, &old.path).any(|child| {
                let now = self.after.find(self.upper, &join(&new.path, split(&child.path).1));
                now.is_some_and(|now| now.facts.inode == child.facts.inode)
            })
    }

    /// Pairs deletions with new files into renames.
    fn pair(mut self) -> Vec<FoundChange> {
        let key = |facts: &EntryIdentity| (kind(facts), facts.size, facts.modified);
        let mut gone: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, found) in self.found.iter().enumerate() {
            if found.change.op == Op::Deleted && !found.facts.is_directory() {
                let inode = found.is_own.then_some(found.facts.inode);
                gone.entry((inode, key(&found.facts))).or_default().push(at);
            }
        }
        let mut is_paired = vec![false; self.found.len()];
        // Drop the whiteouts of directories that an overlay marks as renamed.
        for (at, found) in self.found.iter().enumerate() {
            let is_from =
                found.change.kind == FileKind::Directory && found.change.op == Op::Deleted;
            is_paired[at] = is_from && self.moved_to.contains_key(&found.change.path);
        }
        for at in 0..self.found.len() {
            let facts = self.found[at].facts;
            if self.found[at].change.op != Op::Added {
                continue;
            }
            let mut take = |inode: Option<u64>| {
                let all = gone.get_mut(&(inode, key(&facts)))?;
                // Many files share size and time: with several candidates it is unknown which one
                // moved.
                if inode.is_some() || all.len() == 1 { all.pop() } else { None }
            };
            if let Some(from) = take(Some(facts.inode)).or_else(|| take(None)) {
                is_paired[from] = true;
                let path = self.found[from].change.path.clone();
                self.found[at].change.op = Op::Renamed(path);
            }
        }
        let mut is_paired = is_paired.into_iter();
        self.found.retain(|_| !is_paired.next().unwrap_or_default());
        self.found
    }
}

/// The entries directly in a directory.
fn children<'i>(
    index: &'i LayerIndex,
    upper: usize,
    path: &[u8],
) -> impl Iterator<Item = &'i LayerEntry> {
    let entries = index.below(upper);
    // They are adjacent.
    let begin =
        entries.iter().position(|entry| !entry.path.is_empty() && split(&entry.path).0 == path);
    let inner = begin.map_or(&entries[..0], |begin| &entries[begin..]);
    let path = path.to_vec();
    inner.iter().take_while(move |entry| split(&entry.path).0 == path)
}

/// Translates a path through renamed directories.
fn through(moved: &HashMap<Vec<u8>, Vec<u8>>, path: &[u8]) -> Vec<u8> {
    if moved.is_empty() {
        return path.to_vec();
    }
    let mut above = path;
    while !above.is_empty() {
        if let Some(other) = moved.get(above) {
            return [other, &path[above.len()..]].concat();
        }
        above = split(above).0;
    }
    path.to_vec()
}

fn kind(facts: &EntryIdentity) -> FileKind {
    match facts.kind() {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    }
}

fn size(facts: &EntryIdentity) -> u64 {
    match facts.kind() {
        FileType::RegularFile | FileType::Symlink => u64::try_from(facts.size).unwrap_or(0),
        _ => 0,
    }
}
