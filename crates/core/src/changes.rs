//! File changes made by a build's commands: their text format, and the net result of several runs.
//!
//! `engine::kept` finds them, `folder` stores them with the build, and `src/cli` shows them.

use crate::select::below;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The kind of a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// The file is new.
    Added,
    /// The file's content changed, or another file replaced it.
    Modified,
    /// Only mode, owner or attributes changed.
    Attributes,
    /// The file was removed. For a directory, this includes its content.
    Deleted,
    /// The file was moved from this path. For a directory, this includes its content.
    Renamed(Vec<u8>),
}

impl Op {
    /// The letter for output and for the text format.
    #[must_use]
    pub fn letter(&self) -> char {
        match self {
            Op::Added => 'A',
            Op::Modified => 'M',
            Op::Attributes => 't',
            Op::Deleted => 'D',
            Op::Renamed(_) => 'R',
        }
    }
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, FIFO or device.
    Other,
}

impl FileKind {
    fn letter(self) -> char {
        match self {
            FileKind::File => 'f',
            FileKind::Directory => 'd',
            FileKind::Link => 'l',
            FileKind::Other => 'o',
        }
    }
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    /// The kind of the change.
    pub op: Op,
    /// The type of the file.
    pub kind: FileKind,
    /// Size in bytes; for a removed file, its last size.
    pub size: u64,
    /// Absolute path in the container.
    pub path: Vec<u8>,
}

impl FileChange {
    /// Whether a file or link got new content.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.kind != FileKind::Directory && !matches!(self.op, Op::Deleted | Op::Attributes)
    }

    /// Whether the change affects a path: its own, or one below a removed or renamed directory.
    #[must_use]
    pub fn concerns(&self, path: &[u8]) -> bool {
        let is_all =
            matches!(self.op, Op::Deleted | Op::Renamed(_)) && self.kind == FileKind::Directory;
        let is_at = |own: &[u8]| own == path || is_all && below(path, own).is_some();
        is_at(&self.path) || matches!(&self.op, Op::Renamed(from) if is_at(from))
    }
}

/// Numbers of changes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// New files.
    pub added: u64,
    /// Files with new content, mode, owner or attributes.
    pub modified: u64,
    /// Removed files.
    pub deleted: u64,
    /// Renamed files.
    pub renamed: u64,
    /// Bytes of new files and of files with new content.
    pub bytes: u64,
}

impl Counts {
    /// Counts changes.
    #[must_use]
    pub fn of(changes: &[FileChange]) -> Self {
        let mut counts = Counts::default();
        for change in changes {
            match change.op {
                Op::Added => counts.added += 1,
                Op::Modified | Op::Attributes => counts.modified += 1,
                Op::Deleted => counts.deleted += 1,
                Op::Renamed(_) => counts.renamed += 1,
            }
            if change.kind == FileKind::File && matches!(change.op, Op::Added | Op::Modified) {
                counts.bytes = counts.bytes.saturating_add(change.size);
            }
        }
        counts
    }

    /// Total number of changes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.added + self.modified + self.deleted + self.renamed
    }
}

/// Writes changes as lines of text. Bytes that are not UTF-8 are escaped.
#[must_use]
pub fn to_text(changes: &[FileChange]) -> String {
    let mut text = String::new();
    for FileChange { op, kind, size, path } in changes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{} {size} {}", op.letter(), kind.letter(), escaped(path));
        if let Op::Renamed(from) = op {
            let _ = write!(text, "\t{}", escaped(from));
        }
        text.push('\n');
    }
    text
}

/// Reads the text that [`to_text`] wrote; `None` if it is malformed.
#[must_use]
pub fn from_text(text: &str) -> Option<Vec<FileChange>> {
    text.lines().map(from_line).collect()
}

fn from_line(line: &str) -> Option<FileChange> {
    let mut fields = line.splitn(3, ' ');
    let (what, size, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (path, from) = match path.split_once('\t') {
        Some((path, from)) => (path, Some(unescaped(from)?)),
        None => (path, None),
    };
    let mut what = what.chars();
    let op = match (what.next()?, from) {
        ('A', None) => Op::Added,
        ('M', None) => Op::Modified,
        ('t', None) => Op::Attributes,
        ('D', None) => Op::Deleted,
        ('R', Some(from)) => Op::Renamed(from),
        _ => return None,
    };
    let kind = match what.next()? {
        'f' => FileKind::File,
        'd' => FileKind::Directory,
        'l' => FileKind::Link,
        'o' => FileKind::Other,
        _ => return None,
    };
    Some(FileChange { op, kind, size: size.parse().ok()?, path: unescaped(path)? })
}

fn escaped(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' | '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escape(&mut text, byte));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|byte| escape(&mut text, *byte));
    }
    text
}

fn escape(text: &mut String, byte: u8) {
    let _ = write!(text, "%{byte:02x}");
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        bytes.push(u8::from_str_radix(rest.get(at + 1..at + 3)?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Combines consecutive changes. A file that was added and removed again leaves no change.
#[must_use]
pub fn net(all: impl IntoIterator<Item = Vec<FileChange>>) -> Vec<FileChange> {
    let mut net: BTreeMap<Vec<u8>, FileChange> = BTreeMap::new();
    for change in all.into_iter().flatten() {
        match change.op.clone() {
            Op::Added => add(&mut net, change),
            Op::Modified | Op::Attributes => modify(&mut net, change),
            Op::Deleted => delete(&mut net, change),
            Op::Renamed(from) => rename(&mut net, &from, change),
        }
    }
    net.into_values().collect()
}

fn add(net: &mut BTreeMap<Vec<u8>, FileChange>, change: FileChange) {
    // A file that was removed before now counts as modified.
    let op = match net.get(&change.path) {
        Some(FileChange { op: Op::Deleted, kind, .. }) if *kind == change.kind => Op::Modified,
        _ => Op::Added,
    };
    net.insert(change.path.clone(), FileChange { op, ..change });
}

fn modify(net: &mut BTreeMap<Vec<u8>, FileChange>, change: FileChange) {
    let op = match (net.get(&change.path).map(|before| &before.op), &change.op) {
        (Some(op @ (Op::Added | Op::Renamed(_))), _) => op.clone(),
        (Some(Op::Modified), Op::Attributes) => Op::Modified,
        (_, op) => op.clone(),
    };
    net.insert(change.path.clone(), FileChange { op, ..change });
}

fn delete(net: &mut BTreeMap<Vec<u8>, FileChange>, change: FileChange) {
    // Removing a directory removes its content too.
    let inner = keys_below(net, &change.path);
    let mut moved: Vec<FileChange> = Vec::new();
    for path in inner.into_iter().chain([change.path.clone()]) {
        let gone = net.remove(&path);
        let is_own = path == change.path;
        match gone.map(|gone| gone.op) {
            Some(Op::Added) if is_own => return moved.into_iter().for_each(|it| put(net, it)),
            Some(Op::Renamed(from)) => {
                moved.push(FileChange { op: Op::Deleted, path: from, ..change.clone() });
                if is_own {
                    return moved.into_iter().for_each(|it| put(net, it));
                }
            }
            _ => {}
        }
    }
    moved.push(change);
    moved.into_iter().for_each(|it| put(net, it));
}

fn put(net: &mut BTreeMap<Vec<u8>, FileChange>, change: FileChange) {
    net.insert(change.path.clone(), change);
}

fn rename(net: &mut BTreeMap<Vec<u8>, FileChange>, from: &[u8], change: FileChange) {
    for path in keys_below(net, from) {
        let Some(inner) = net.remove(&path) else { continue };
        let path = [&change.path, &path[from.len()..]].concat();
        put(net, FileChange { path, ..inner });
    }
    let op = match net.remove(from).map(|before| before.op) {
        Some(Op::Added) => Op::Added,
        Some(Op::Renamed(first)) if first == change.path => return,
        Some(Op::Renamed(first)) => Op::Renamed(first),
        _ => Op::Renamed(from.to_vec()),
    };
    put(net, FileChange { op, ..change });
}

/// Changed paths below a directory.
fn keys_below(net: &BTreeMap<Vec<u8>, FileChange>, directory: &[u8]) -> Vec<Vec<u8>> {
    let first = [directory, b"/"].concat();
    let paths = net.range(first.clone()..).map(|(path, _)| path);
    paths.take_while(|path| path.starts_with(&first)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Vec<FileChange> {
        from_text(&text.replace(", ", "\n")).expect("changes")
    }

    #[test]
    fn any_name_can_be_written_down() {
        let change =
            |op, path: &[u8]| FileChange { op, kind: FileKind::File, size: 7, path: path.to_vec() };
        let all = [
            change(Op::Added, b"/a b%\t\n\xff\xc3\xa4"),
            change(Op::Renamed(b"/old\tname".to_vec()), "/\u{85}\u{2028}".as_bytes()),
            FileChange { kind: FileKind::Link, ..change(Op::Attributes, b"/l") },
            FileChange { kind: FileKind::Directory, ..change(Op::Deleted, b"/d") },
        ];
        let text = to_text(&all);
        assert_eq!(text.lines().next(), Some("Af 7 /a b%25%09%0a%ff\u{e4}"));
        assert_eq!(from_text(&text).as_deref(), Some(&all[..]));
        for text in
            ["", "A", "Af x /a", "Xf 1 /a", "Rf 1 /a", "Af 1 /%f", "Af 1 /%zz", "Af 1 /%\u{e4}"]
        {
            assert_eq!(from_text(&format!("{text}\n")), None, "{text}");
        }
    }

    #[test]
    fn changes_that_follow_each_other_become_one() {
        for (first, then, come_to) in [
            ("Af 1 /a", "Mf 2 /a", "Af 2 /a"),
            ("Af 1 /a", "Df 1 /a", ""),
            ("Mf 1 /a", "Df 1 /a", "Df 1 /a"),
            ("Df 1 /a", "Af 2 /a", "Mf 2 /a"),
            ("Df 1 /a", "Ad 0 /a", "Ad 0 /a"),
            ("Mf 1 /a", "tf 1 /a", "Mf 1 /a"),
            ("tf 1 /a", "Mf 1 /a", "Mf 1 /a"),
            ("Ad 0 /d, Af 1 /d/a, Mf 1 /d.x", "Dd 0 /d", "Mf 1 /d.x"),
            ("Af 1 /d/a, Mf 1 /d/b", "Dd 0 /d", "Dd 0 /d"),
            ("Af 1 /a", "Rf 1 /b\t/a", "Af 1 /b"),
            ("Mf 1 /a", "Rf 1 /b\t/a", "Rf 1 /b\t/a"),
            ("Rf 1 /b\t/a", "Rf 1 /c\t/b", "Rf 1 /c\t/a"),
            ("Rf 1 /b\t/a", "Rf 1 /a\t/b", ""),
            ("Rf 1 /b\t/a", "Df 1 /b", "Df 1 /a"),
            ("Rf 1 /b\t/a", "Mf 2 /b", "Rf 2 /b\t/a"),
            ("Ad 0 /d, Af 1 /d/a", "Rd 0 /e\t/d", "Ad 0 /e, Af 1 /e/a"),
            ("Mf 1 /d/a", "Rd 0 /e\t/d", "Rd 0 /e\t/d, Mf 1 /e/a"),
        ] {
            let come_to = if come_to.is_empty() { Vec::new() } else { changes(come_to) };
            assert_eq!(net([changes(first), changes(then)]), come_to, "{first}; {then}");
        }
    }

    #[test]
    fn a_directory_that_goes_concerns_what_is_in_it() {
        let is_of = |line: &str, path: &str| changes(line)[0].concerns(path.as_bytes());
        assert!(is_of("Af 1 /d/a", "/d/a") && !is_of("Ad 1 /d", "/d/a"));
        assert!(is_of("Dd 0 /d", "/d/a") && !is_of("Dd 0 /d", "/da"));
        assert!(is_of("Rd 0 /e\t/d", "/d/a") && is_of("Rd 0 /e\t/d", "/e/a"));
        assert!(!is_of("Df 0 /d", "/d/a"));
    }
}
