//! Decides which files of /etc a build sees, and names the state of /etc.
//!
//! Used by `etc`, which makes a copy of each state.

use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Raise this with every change of these rules: copies made before are then no longer used.
const RULES: u8 = 1;

/// Directories with credentials, shown empty.
const EMPTIED: [&str; 6] =
    ["ssl/private", "sudoers.d", "NetworkManager", "kubernetes", "pki/private", "letsencrypt"];
/// Files that only root may read but programs need.
const NEEDED: [&str; 2] = ["sudoers", "at.deny"];
/// Files that each container gets anew, which hides the host's.
pub(super) const SHADOW: [&str; 2] = ["shadow", "gshadow"];

/// How an entry is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShownAs {
    Not,
    File,
    Link,
    Directory,
    /// A directory without its contents.
    Emptied,
}

/// Calls `visit` for everything in /etc except `unseen`, a directory before its contents, with
/// paths relative to `etc`. Returns a name for the state: any change to a file changes its inode's
/// time.
///
/// After a reboot the names are new as well: writes from just before it may not have reached the
/// disk.
pub(super) fn walk(
    etc: &Path,
    unseen: &Path,
    mut visit: impl FnMut(&Path, &Metadata, ShownAs) -> io::Result<()>,
) -> io::Result<String> {
    let mut print = Sha256::new();
    print.update([RULES]);
    print.update(fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    let mut pending = vec![PathBuf::new()];
    while let Some(dir) = pending.pop() {
        for (name, metadata) in entries(&etc.join(&dir)) {
            let path = dir.join(name);
            if etc.join(&path) == unseen {
                continue;
            }
            take_note(&mut print, &path, &metadata);
            let shown = shown(&path, &metadata);
            if shown == ShownAs::Directory {
                pending.push(path.clone());
            }
            visit(&path, &metadata, shown)?;
        }
    }
    let digest = print.finalize();
    Ok(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A directory's entries, sorted by name. A directory this user may not list counts as empty.
fn entries(dir: &Path) -> Vec<(OsString, Metadata)> {
    let list = fs::read_dir(dir).into_iter().flatten().flatten();
    // An entry may be gone by now.
    let known = list.filter_map(|entry| Some((entry.file_name(), entry.metadata().ok()?)));
    let mut entries: Vec<_> = known.collect();
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

fn take_note(print: &mut Sha256, path: &Path, metadata: &Metadata) {
    print.update(path.as_os_str().as_bytes());
    let numbers: [u64; 9] = [
        metadata.ino(),
        metadata.size(),
        metadata.mode().into(),
        metadata.uid().into(),
        metadata.gid().into(),
        metadata.mtime().cast_unsigned(),
        metadata.mtime_nsec().cast_unsigned(),
        metadata.ctime().cast_unsigned(),
        metadata.ctime_nsec().cast_unsigned(),
    ];
    for number in numbers {
        print.update(number.to_le_bytes());
    }
}

fn shown(path: &Path, metadata: &Metadata) -> ShownAs {
    if metadata.is_dir() {
        let is_emptied = is_one(&EMPTIED, path) || metadata.mode() & 0o005 != 0o005;
        return if is_emptied { ShownAs::Emptied } else { ShownAs::Directory };
    }
    match () {
        () if metadata.is_symlink() => ShownAs::Link,
        () if metadata.is_file() && is_shown(path, metadata.mode()) => ShownAs::File,
        () => ShownAs::Not,
    }
}

fn is_one(list: &[&str], path: &Path) -> bool {
    list.iter().any(|known| Path::new(known) == path)
}

/// Whether to show a regular file: its name is no credential's, and every user of this machine may
/// read it.
pub(super) fn is_shown(path: &Path, mode: u32) -> bool {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let is_key = file.ends_with(".key")
        || file == "krb5.keytab"
        || file.starts_with("ssh_host_") && !file.ends_with(".pub");
    let is_for_all = mode & 0o004 != 0 || is_one(&NEEDED, path);
    !is_key && is_for_all && !is_one(&SHADOW, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_name_and_by_mode() {
        for (name, mode, shown) in [
            ("passwd", 0o100_644, true),
            ("sudoers", 0o100_440, true),
            ("mysql/debian.cnf", 0o100_600, false),
            ("nginx/site.key", 0o100_644, false),
            ("ssh/ssh_host_rsa_key", 0o100_644, false),
            ("ssh/ssh_host_rsa_key.pub", 0o100_644, true),
            ("shadow", 0o100_640, false),
            ("shadow-", 0o100_640, false),
        ] {
            assert_eq!(is_shown(Path::new(name), mode), shown, "{name}");
        }
    }
}
