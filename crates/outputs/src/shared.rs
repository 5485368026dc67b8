//! File content that several caches share, stored once.
//!
//! A cached file is a hard link to a file in this folder. The shared file's name is computed from
//! content, mode and time, in a way that only its creator can compute. Neither is written to after
//! its creation.

use runner_host::beneath::{Dir, kind};
use runner_wire::files::FileFacts;
use rustix::fs::FileType;
use sha2::{Digest, Sha256};
use std::io;

/// A file this small takes no more room than a directory entry.
const WORTH_IT: u64 = 64;
/// Digits of a name.
const DIGITS: usize = 64;
/// Zeros hashed at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Computes a file's name from the digest of its content and its facts: [`DIGITS`] hexadecimal
/// digits. Anyone who can write to the folder must be unable to compute names, or their files would
/// be taken for equal ones.
pub(super) type Naming = Box<dyn Fn(&[u8], &FileFacts) -> String + Send>;

/// The folder, and the digest of the file that is being written.
pub(super) struct SharedFolder {
    folder: Dir,
    name: Naming,
    digest: Sha256,
}

impl SharedFolder {
    pub(super) fn new(folder: Dir, name: Naming) -> Self {
        SharedFolder { folder, name, digest: Sha256::new() }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    pub(super) fn add_zeros(&mut self, mut length: u64) {
        while length > 0 {
            let now = usize::try_from(length).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.digest.update(&ZEROS[..now]);
            length -= now as u64;
        }
    }

    /// Makes a file that was just written share its bytes. If that fails, it keeps its own.
    pub(super) fn share(&mut self, place: &Dir, file: &[u8], facts: &FileFacts, length: u64) {
        let content = std::mem::take(&mut self.digest).finalize();
        if length < WORTH_IT {
            return;
        }
        let name = (self.name)(&content, facts);
        let path = format!("{}/{name}", &name[..2]);
        if place.hard_link(file, &self.folder, &path).is_ok() {
            return;
        }
        let is_equal = match self.folder.look(&path) {
            Ok(Some(there)) => {
                kind(&there) == FileType::RegularFile
                    && u64::try_from(there.st_size).is_ok_and(|size| size == length)
            }
            Ok(None) | Err(_) => {
                // Another runner was faster, or the link count is exhausted: the file keeps its own
                // bytes.
                let made = self.folder.make_all(&name[..2], 0o755);
                let _ = made.and_then(|dir| place.hard_link(file, &dir, &name));
                false
            }
        };
        if is_equal {
            let _ = self.take(&path, place, file);
        }
    }

    /// Replaces the file that was just written by a link to the shared one.
    fn take(&self, path: &str, place: &Dir, file: &[u8]) -> io::Result<()> {
        // Link under another name first, so that the file is never missing.
        let other = format!(".runner-shared-{}", std::process::id());
        self.folder.hard_link(path, place, &other)?;
        place.replace(&other, place, file).or_else(|_| place.remove_file(&other))
    }

    /// Removes shared files that no cache uses any more.
    pub(super) fn sweep(folder: &Dir) {
        for entry in folder.entries().unwrap_or_default() {
            if entry.kind != FileType::Directory {
                continue;
            }
            let Ok(dir) = folder.open(&entry.name) else { continue };
            for file in dir.entries().unwrap_or_default() {
                let is_alone = is_name(&entry.name, &file.name)
                    && dir.stat(&file.name).is_ok_and(|there| {
                        kind(&there) == FileType::RegularFile && there.st_nlink == 1
                    });
                if is_alone {
                    // A file that is gone needs no removal.
                    let _ = dir.remove_file(&file.name);
                }
            }
        }
    }
}

/// Whether a file of that name in a directory of that name can be a shared file. Earlier versions
/// appended mode and time to the digits.
fn is_name(dir: &[u8], name: &[u8]) -> bool {
    let Some((digits, rest)) = name.split_at_checked(DIGITS) else { return false };
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = |part: &[u8]| {
        let part = part.strip_prefix(b"-").unwrap_or(part);
        !part.is_empty() && part.iter().all(u8::is_ascii_digit)
    };
    let mut parts = rest.split(|&byte| byte == b'.');
    let is_old = || {
        parts.next() == Some(b"") && {
            let numbers: Vec<&[u8]> = parts.collect();
            numbers.len() == 3 && numbers.into_iter().all(is_number)
        }
    };
    digits.iter().all(is_digit)
        && digits.starts_with(dir)
        && dir.len() == 2
        && (rest.is_empty() || is_old())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_made_here_are_swept() {
        let digits = "ab".repeat(32);
        let dotted = |rest: &str| format!("{digits}{rest}");
        for (dir, name, is) in [
            ("ab", digits.clone(), true),
            ("ab", dotted(".644.1000000000.5"), true),
            ("ab", dotted(".644.-1.0"), true),
            ("ab", dotted(".644.1"), false),
            ("ab", dotted(".644.1.2.3"), false),
            ("ab", dotted(".x.1.2"), false),
            ("ab", dotted("c"), false),
            ("cd", digits.clone(), false),
            ("abab", digits.clone(), false),
            ("", digits.clone(), false),
            ("ab", digits[..62].to_owned(), false),
            ("ab", digits.to_uppercase(), false),
            ("posts", "first.md".to_owned(), false),
        ] {
            assert_eq!(is_name(dir.as_bytes(), name.as_bytes()), is, "{dir}/{name}");
        }
    }
}
