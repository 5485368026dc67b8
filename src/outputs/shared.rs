//! Bytes that several caches have in common, kept once.
//!
//! A file of a cache is a name of a file in here, which is called by what it is: content, mode and
//! time. Nobody writes to either after they are made.

use super::hex;
use crate::beneath::{Dir, kind};
use runner_wire::files::Facts;
use rustix::fs::FileType;
use sha2::{Digest, Sha256};
use std::io;

/// A file of a few bytes takes no more room than a name.
const WORTH_IT: u64 = 64;
/// Zeros that are summed up at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The folder, and the digest of the file that is being written.
pub(super) struct Shared {
    folder: Dir,
    digest: Sha256,
}

impl Shared {
    pub(super) fn new(folder: Dir) -> Self {
        Shared { folder, digest: Sha256::new() }
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

    /// Has a file that was just written share its bytes. Where that cannot be, it keeps its own.
    pub(super) fn share(&mut self, place: &Dir, file: &[u8], facts: &Facts, length: u64) {
        let content = std::mem::take(&mut self.digest).finalize();
        if length < WORTH_IT {
            return;
        }
        let Facts { mode, modified, modified_ns, .. } = facts;
        let rest = format!("{:o}.{modified}.{modified_ns}", mode & 0o777);
        let name = format!("{}.{rest}", hex(&content));
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
                // Somebody else was faster, or a name too many: it keeps its own bytes.
                let made = self.folder.make_all(&name[..2], 0o755);
                let _ = made.and_then(|dir| place.hard_link(file, &dir, &name));
                false
            }
        };
        if is_equal {
            // Where that does not work, it keeps its own.
            let _ = self.take(&path, place, file);
        }
    }

    /// Has the shared file take the place of the one that was just written.
    fn take(&self, path: &str, place: &Dir, file: &[u8]) -> io::Result<()> {
        // Under another name first: the file is never missing.
        let other = format!(".runner-shared-{}", std::process::id());
        self.folder.hard_link(path, place, &other)?;
        place.replace(&other, place, file).or_else(|_| place.remove_file(&other))
    }

    /// Removes what no cache has any more.
    pub(super) fn sweep(folder: &Dir) {
        for entry in folder.entries().unwrap_or_default() {
            let Ok(dir) = folder.open(&entry.name) else { continue };
            for file in dir.entries().unwrap_or_default() {
                let is_alone = dir.stat(&file.name).is_ok_and(|there| {
                    kind(&there) == FileType::RegularFile && there.st_nlink == 1
                });
                if is_alone {
                    // One that is gone needs no removal.
                    let _ = dir.remove_file(&file.name);
                }
            }
        }
    }
}
