//! The image `host`: the tools of this machine, without its secrets and homes.
//!
//! An allow-list (contract, decision 22): one overlay per directory on an empty root. Used by the
//! engine. Everything is read anew at each start, because hosts change. Builds see the host's live
//! files, except for /etc (`etc`).

mod copy;
mod etc;
mod shown;

pub use etc::{EtcCopies, EtcCopy};

use runner_sandbox::{Hidden, RootEntry, unescape};
use shown::SHADOW;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ETC: &str = "/etc";

/// Directories to show if the host has them. A link stays a link.
const SHOWN: [&str; 11] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc",
    "/nix",
    "/var/lib/dpkg",
];

/// Databases and caches of package managers.
const PACKAGES: [&str; 11] = [
    "/var/lib/apt",
    "/var/lib/rpm",
    "/var/lib/dnf",
    "/var/lib/pacman",
    "/var/lib/alternatives",
    "/var/lib/ucf",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/dnf",
    "/var/cache/yum",
    "/var/cache/pacman",
];

/// The build's own directories, empty at the start.
const FRESH: [(&str, u32); 14] = [
    ("/root", 0o700),
    ("/home", 0o755),
    ("/tmp", 0o1777),
    ("/var", 0o755),
    ("/var/tmp", 0o1777),
    ("/var/log", 0o755),
    ("/var/lib", 0o755),
    ("/var/cache", 0o755),
    ("/var/spool", 0o755),
    ("/run", 0o755),
    ("/run/lock", 0o1777),
    ("/mnt", 0o755),
    ("/media", 0o755),
    ("/srv", 0o755),
];

/// debconf's answers to package questions, and its files with passwords.
const DEBCONF: &str = "/var/cache/debconf";
const PASSWORDS: [&str; 3] = ["passwords.dat", "passwords.dat-old", "passwords.dat-new"];

/// The entries that make up the image.
pub fn entries(etc: &EtcCopy) -> io::Result<Vec<RootEntry>> {
    let mut entries: Vec<RootEntry> =
        FRESH.map(|(path, mode)| RootEntry::Directory { path: path.into(), mode }).into();
    for (path, to) in [("/var/run", "/run"), ("/var/lock", "/run/lock")] {
        entries.push(RootEntry::Link { path: path.into(), to: to.into() });
    }
    let mounts = mount_points(&fs::read_to_string("/proc/self/mountinfo")?);
    for dir in SHOWN.iter().chain(&PACKAGES).map(Path::new) {
        match fs::symlink_metadata(dir) {
            Ok(metadata) if metadata.is_symlink() => {
                entries.push(RootEntry::Link { path: dir.into(), to: fs::read_link(dir)? });
            }
            Ok(_) if dir == Path::new(ETC) => entries.push(overlay(dir, &etc.tree, Vec::new())),
            Ok(metadata) if metadata.is_dir() => show(dir, &mounts, &mut entries),
            _ => {}
        }
    }
    entries.extend(accounts()?);
    let localtime = PathBuf::from("/etc/localtime");
    if localtime.exists() {
        // Often a link, whose target may be hidden.
        let from = Some(localtime.clone());
        entries.push(RootEntry::File { path: localtime, mode: 0o644, from, text: String::new() });
    }
    Ok(entries)
}

/// Shows a directory of the host and the file systems mounted below it.
fn show(dir: &Path, mounts: &BTreeMap<PathBuf, String>, entries: &mut Vec<RootEntry>) {
    let hidden = match dir.to_str() {
        Some(DEBCONF) => PASSWORDS.map(|name| Hidden::Gone(name.into())).into(),
        _ => Vec::new(),
    };
    entries.push(overlay(dir, dir, hidden));
    for (point, kind) in mounts.range(dir.to_path_buf()..).take_while(|(p, _)| p.starts_with(dir)) {
        if point == dir {
            continue;
        }
        let Ok(metadata) = fs::metadata(point) else { continue };
        entries.push(if metadata.is_dir() && can_be_lower(kind) {
            overlay(point, point, Vec::new())
        } else {
            RootEntry::Bind {
                path: point.clone(),
                source: point.clone(),
                writable: false,
                hidden: Vec::new(),
            }
        });
    }
}

fn overlay(path: &Path, lower: &Path, hidden: Vec<Hidden>) -> RootEntry {
    let (path, lower) = (path.to_path_buf(), lower.to_path_buf());
    RootEntry::Overlay { path, lower, hidden, over: Vec::new(), owned: false }
}

/// Whether overlayfs accepts this kind of file system as a lower layer.
fn can_be_lower(kind: &str) -> bool {
    matches!(
        kind,
        "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "tmpfs" | "zfs" | "f2fs" | "squashfs"
    )
}

/// Mount points with the kind of file system mounted there; of several, the topmost.
fn mount_points(mountinfo: &str) -> BTreeMap<PathBuf, String> {
    let mut points = BTreeMap::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let point = fields.nth(4);
        let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
        if let (Some(point), Some(kind)) = (point, kind) {
            points.insert(unescape(point), kind.to_owned());
        }
    }
    points
}

/// shadow and gshadow with the host's account names and locked passwords.
fn accounts() -> io::Result<Vec<RootEntry>> {
    let names = |path: &str| -> io::Result<Vec<String>> {
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':').map(|(name, _)| name.to_owned()))
            .filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))
            .collect())
    };
    let file = |name: &str, text: String| RootEntry::File {
        path: Path::new(ETC).join(name),
        mode: 0o640,
        from: None,
        text,
    };
    let shadow = names("/etc/passwd")?;
    let shadow = shadow.iter().map(|name| format!("{name}:*:19000:0:99999:7:::\n")).collect();
    let gshadow = names("/etc/group")?.iter().map(|name| format!("{name}:*::\n")).collect();
    Ok(vec![file(SHADOW[0], shadow), file(SHADOW[1], gshadow)])
}

/// Directories of `path` that this image hides: mostly homes.
pub fn hidden_path_entries(path: &str) -> Vec<PathBuf> {
    let mut hidden: Vec<PathBuf> = Vec::new();
    for dir in path.split(':').filter(|dir| dir.starts_with('/')).map(PathBuf::from) {
        let shown = SHOWN.iter().any(|shown| dir.starts_with(shown));
        if !shown && dir.is_dir() && !hidden.contains(&dir) {
            hidden.push(dir);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let points = mount_points(
            "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
             30 27 8:1 / /opt/my\\040tools rw shared:1 - ext4 /dev/sda1 rw\n",
        );
        assert_eq!(points.get(Path::new("/opt/my tools")).map(String::as_str), Some("ext4"));
        assert_eq!(points.len(), 2);
    }

    #[test]
    fn a_home_in_path_is_hidden() {
        let hidden = hidden_path_entries("/usr/bin:/tmp:relative:/tmp:/nonexistent");
        assert_eq!(hidden, [PathBuf::from("/tmp")]);
    }
}
