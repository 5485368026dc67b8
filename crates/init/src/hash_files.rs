//! `codebuild-hash-files GLOB...`: one digest over all files of the source that a pattern takes.
//!
//! Called by a command of the build, mostly in the key of a cache. The digest is SHA-256 over the
//! digests of the files, in the order of their paths, so that it depends on what is in them alone.

use crate::glob;
use crate::sha256::{Sha256, hex};
use crate::strings::Strings;
use crate::sys::{self, Errno, Fd, Pages};

const SOURCE: &[u8] = b"CODEBUILD_SRC_DIR=";
/// Directories below each other that are gone into.
const DEEPEST: usize = 128;
const PATH_MAX: usize = 4096;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// The program.
pub(crate) fn run(patterns: Strings, mut environment: Strings) -> i32 {
    if patterns.clone().next().is_none() {
        sys::complain(b"usage: codebuild-hash-files GLOB...\n");
        return USAGE;
    }
    let source = environment.find_map(|variable| variable.strip_prefix(SOURCE));
    let mut path = [0; PATH_MAX];
    let source = source.filter(|source| !source.is_empty() && source.len() < PATH_MAX);
    let source = source.unwrap_or(b".");
    path[..source.len()].copy_from_slice(source);
    match digest(&path[..=source.len()], &patterns) {
        Ok(Some(digest)) => {
            let mut line = [b'\n'; 65];
            line[..64].copy_from_slice(&hex(&digest));
            sys::say(&line);
            OK
        }
        Ok(None) => {
            sys::complain(b"codebuild-hash-files: no file of the source matches\n");
            FAILED
        }
        Err(_) => {
            sys::complain(b"codebuild-hash-files: the source cannot be read\n");
            FAILED
        }
    }
}

/// The digest of all files; none where there is no file.
fn digest(source: &[u8], patterns: &Strings) -> sys::Result<Option<[u8; 32]>> {
    let root = sys::open_directory(source)?;
    let mut found = Found::new()?;
    let mut path = Path { bytes: [0; PATH_MAX], length: 0 };
    walk(&root, &mut path, patterns, &mut found, 0)?;
    let mut total = Sha256::new();
    let mut count = 0_usize;
    found.sort();
    for at in 0..found.count {
        if let Some(digest) = file_digest(&root, found.path(at))? {
            total.update(&digest);
            count += 1;
        }
    }
    Ok((count > 0).then(|| total.finish()))
}

/// Gathers the paths below a directory that a pattern takes.
fn walk(
    directory: &Fd,
    path: &mut Path,
    patterns: &Strings,
    found: &mut Found,
    depth: usize,
) -> sys::Result<()> {
    const DIRECTORY: u8 = 4;
    const UNKNOWN: u8 = 0;
    let mut entries = Pages::new(32 << 10)?;
    loop {
        let length = sys::list(directory, entries.bytes_mut())?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &entries.bytes()[..length];
        while let Some((entry, next)) = entry(rest) {
            rest = next;
            let length = path.length;
            if !path.push(entry.name) {
                continue;
            }
            let is_directory = match entry.kind {
                DIRECTORY => true,
                UNKNOWN => sys::open_directory_below(directory, path.last()).is_ok(),
                _ => false,
            };
            if is_directory {
                // What nobody may read is not hashed.
                if depth < DEEPEST
                    && let Ok(inner) = sys::open_directory_below(directory, path.last())
                {
                    walk(&inner, path, patterns, found, depth + 1)?;
                }
            } else if patterns.clone().any(|pattern| glob::takes(pattern, path.text())) {
                found.push(path.text())?;
            }
            path.length = length;
        }
    }
}

/// A path relative to the source, ended by NUL.
struct Path {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Path {
    /// Adds a name; whether there was room.
    fn push(&mut self, name: &[u8]) -> bool {
        let slash = usize::from(self.length > 0);
        let end = self.length + slash + name.len();
        if end >= PATH_MAX {
            return false;
        }
        self.bytes[self.length] = b'/';
        self.bytes[self.length + slash..end].copy_from_slice(name);
        self.bytes[end] = 0;
        self.length = end;
        true
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The last name, with its NUL.
    fn last(&self) -> &[u8] {
        let start = self.text().iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        &self.bytes[start..=self.length]
    }
}

/// Paths, one after the other, each with its NUL; and where they start.
struct Found {
    bytes: Pages,
    filled: usize,
    starts: Pages,
    count: usize,
}

impl Found {
    fn new() -> sys::Result<Self> {
        Ok(Found {
            bytes: Pages::new(64 << 10)?,
            filled: 0,
            starts: Pages::new(32 << 10)?,
            count: 0,
        })
    }

    fn push(&mut self, path: &[u8]) -> sys::Result<()> {
        let end = self.filled + path.len() + 1;
        if end > self.bytes.bytes().len() {
            grow(&mut self.bytes)?;
            return self.push(path);
        }
        if (self.count + 1) * size_of::<usize>() > self.starts.bytes().len() {
            grow(&mut self.starts)?;
        }
        self.bytes.bytes_mut()[self.filled..end - 1].copy_from_slice(path);
        self.starts.words_mut()[self.count] = self.filled;
        self.filled = end;
        self.count += 1;
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = self.bytes.bytes();
        self.starts.words_mut()[..self.count]
            .sort_unstable_by(|&a, &b| string(bytes, a).cmp(string(bytes, b)));
    }

    /// With its NUL.
    fn path(&mut self, at: usize) -> &[u8] {
        let start = self.starts.words_mut()[at];
        let bytes = self.bytes.bytes();
        &bytes[start..=start + string(bytes, start).len()]
    }
}

fn string(bytes: &[u8], start: usize) -> &[u8] {
    let rest = &bytes[start..];
    &rest[..rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len())]
}

fn grow(pages: &mut Pages) -> sys::Result<()> {
    let mut larger = Pages::new(pages.bytes().len() * 2)?;
    let old = pages.bytes();
    larger.bytes_mut()[..old.len()].copy_from_slice(old);
    *pages = larger;
    Ok(())
}

/// None for what is no regular file, such as a link to a directory.
fn file_digest(root: &Fd, path: &[u8]) -> sys::Result<Option<[u8; 32]>> {
    // Not waiting: it may be a FIFO.
    let Ok(file) = sys::open_file_below(root, path) else { return Ok(None) };
    let mut digest = Sha256::new();
    let mut buffer = Pages::new(64 << 10)?;
    loop {
        match sys::read(&file, buffer.bytes_mut()) {
            Ok(0) => return Ok(Some(digest.finish())),
            Ok(got) => digest.update(&buffer.bytes()[..got]),
            Err(Errno::INTR) => {}
            Err(_) => return Ok(None),
        }
    }
}

struct Entry<'a> {
    name: &'a [u8],
    kind: u8,
}

/// The first of the kernel's directory entries, and the rest; `.` and `..` are passed over.
fn entry(mut entries: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    const KIND_AT: usize = 18;
    const NAME_AT: usize = 19;
    loop {
        let length = usize::from(crate::abi::u16_at(entries, 16)?);
        let entry = entries.get(..length)?;
        entries = &entries[length..];
        let name = string(entry, NAME_AT.min(entry.len()));
        if name != b"." && name != b".." && !name.is_empty() {
            return Some((Entry { name, kind: entry[KIND_AT] }, entries));
        }
    }
}
