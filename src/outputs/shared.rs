//! Bytes that several caches have in common, kept once.
//!
//! A file of a cache is a name of a file in here, which is called by what it is: content, mode and
//! time. Nobody writes to either after they are made.

use super::hex;
use runner_wire::files::Facts;
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file of a few bytes takes no more room than a name.
const WORTH_IT: u64 = 64;
/// Zeros that are summed up at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The folder, and the digest of the file that is being written.
pub(super) struct Shared {
    folder: PathBuf,
    digest: Sha256,
}

impl Shared {
    pub(super) fn new(folder: PathBuf) -> Self {
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
    pub(super) fn share(&mut self, path: &Path, facts: &Facts, length: u64) {
        let content = std::mem::take(&mut self.digest).finalize();
        if length < WORTH_IT {
            return;
        }
        let Facts { mode, modified, modified_ns, .. } = facts;
        let rest = format!("{:o}.{modified}.{modified_ns}", mode & 0o777);
        let name = format!("{}.{rest}", hex(&content));
        let place = self.folder.join(&name[..2]).join(&name);
        if fs::hard_link(path, &place).is_ok() {
            return;
        }
        match fs::symlink_metadata(&place) {
            Ok(there) if there.is_file() && there.len() == length => {
                // Under another name first: the file is never missing.
                let other = path.with_extension(format!("shared-{}", std::process::id()));
                let linked = fs::hard_link(&place, &other).and_then(|()| fs::rename(&other, path));
                if linked.is_err() {
                    let _ = fs::remove_file(&other);
                }
            }
            Ok(_) => {}
            Err(_) => {
                let made = place.parent().is_some_and(|dir| {
                    fs::create_dir_all(dir).and_then(|()| crate::users::give(dir)).is_ok()
                });
                if made {
                    // Somebody else was faster, or a name too many: it keeps its own bytes.
                    let _ = fs::hard_link(path, &place);
                }
            }
        }
    }

    /// Removes what no cache has any more.
    pub(super) fn sweep(folder: &Path) {
        for dir in fs::read_dir(folder).into_iter().flatten().flatten() {
            for file in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
                let is_alone = file.metadata().is_ok_and(|metadata| metadata.nlink() == 1);
                if is_alone {
                    // One that is gone needs no removal.
                    let _ = fs::remove_file(file.path());
                }
            }
        }
    }
}
