//! `codebuild-hash-files GLOB...`: one digest over all files of the source that match a pattern.
//!
//! Called by a command of the build, usually for a cache key. The digest is SHA-256 over the
//! digests of the files in the order of their paths, so it depends on their contents alone.

use crate::glob;
use crate::listing::{NameList, entry};
use crate::path::{PATH_MAX, Path};
use crate::sha256::{Sha256, hex};
use crate::strings::Strings;
use crate::sys::{self, Errno, Fd, Pages};

const SOURCE: &[u8] = b"CODEBUILD_SRC_DIR=";
/// Deepest nesting of directories searched.
const DEEPEST: usize = 128;

const OK: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// Runs the program and returns its exit code.
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

/// The digest of all files; `None` if there are none.
fn digest(source: &[u8], patterns: &Strings) -> sys::SysResult<Option<[u8; 32]>> {
    let root = sys::open_directory(source)?;
    let mut found = NameList::new()?;
    let mut path = Path::new();
    walk(&root, &mut path, patterns, &mut found, 0)?;
    let mut total = Sha256::new();
    let mut count = 0_usize;
    found.sort(0);
    for at in 0..found.len() {
        if let Some(digest) = file_digest(&root, found.get(at))? {
            total.update(&digest);
            count += 1;
        }
    }
    Ok((count > 0).then(|| total.finish()))
}

/// Collects matching paths below a directory.
fn walk(
    directory: &Fd,
    path: &mut Path,
    patterns: &Strings,
    found: &mut NameList,
    depth: usize,
) -> sys::SysResult<()> {
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
            let length = path.len();
            if !path.push(entry.name) {
                continue;
            }
            let is_directory = match entry.kind {
                DIRECTORY => true,
                UNKNOWN => sys::open_directory_below(directory, path.last()).is_ok(),
                _ => false,
            };
            if is_directory {
                // Unreadable directories are not hashed.
                if depth < DEEPEST
                    && let Ok(inner) = sys::open_directory_below(directory, path.last())
                {
                    walk(&inner, path, patterns, found, depth + 1)?;
                }
            } else if patterns.clone().any(|pattern| glob::takes(pattern, path.text())) {
                found.push(path.text())?;
            }
            path.truncate(length);
        }
    }
}

/// `None` for anything but a regular file, such as a link to a directory.
fn file_digest(root: &Fd, path: &[u8]) -> sys::SysResult<Option<[u8; 32]>> {
    // Non-blocking: it may be a FIFO.
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
