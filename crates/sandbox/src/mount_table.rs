//! A container's mounts, as the kernel lists them for its first process.
//!
//! Used by `restack`. Paths are current: a build may have renamed the directories above a mount
//! point.
#![forbid(unsafe_code)]

use crate::mounts::unescape;
use std::io;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMount {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    /// The file system's device number.
    device: String,
    /// The directory of the file system that is mounted.
    top: PathBuf,
    /// The mount point in the container's root.
    pub(crate) point: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: String,
}

/// All mounts reachable from the container's root.
#[derive(Debug)]
pub(crate) struct MountTable(Vec<TableMount>);

impl MountTable {
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let text = std::fs::read(format!("/proc/{pid}/mountinfo"))?;
        let mounts = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let mounts = mounts.map(mount).collect::<Option<_>>();
        Ok(MountTable(mounts.ok_or(io::ErrorKind::InvalidData)?))
    }

    /// The container's root.
    pub(crate) fn root(&self) -> Option<&TableMount> {
        let is_top = |mount: &&TableMount| !self.0.iter().any(|other| other.id == mount.parent);
        let mut tops = self.0.iter().filter(is_top);
        // More than one top would mean several roots.
        tops.next().filter(|top| tops.next().is_none() && top.point == Path::new("/"))
    }

    pub(crate) fn below(&self, mount: &TableMount) -> impl Iterator<Item = &TableMount> {
        let (parent, own) = (mount.id, mount.id);
        self.0.iter().filter(move |other| other.parent == parent && other.id != own)
    }

    /// The overlay with this source.
    pub(crate) fn overlay(&self, source: &str) -> Option<&TableMount> {
        self.0.iter().find(|mount| mount.kind == "overlay" && mount.source == source)
    }

    /// Another mount that shows part of the same directory, and would keep showing the old one.
    pub(crate) fn shown_again(&self, id: u64) -> Option<&TableMount> {
        let mount = self.0.iter().find(|mount| mount.id == id)?;
        let shows = |other: &&TableMount| {
            let is_same = other.source == mount.source && mount.kind == "overlay"
                || other.device == mount.device && other.top.starts_with(&mount.top);
            is_same && other.id != id
        };
        self.0.iter().find(shows)
    }
}

/// `ID PARENT DEVICE ROOT POINT OPTIONS [TAG...] - KIND SOURCE OPTIONS`
fn mount(line: &[u8]) -> Option<TableMount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut next = || Some(String::from_utf8_lossy(fields.next()?).into_owned());
    let (id, parent) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let device = next()?;
    // These are paths, so they must not be converted lossily.
    let mut paths = line.split(|&byte| byte == b' ').skip(3).map(unescape);
    let (top, point) = (paths.next()?, paths.next()?);
    // Skip these two fields.
    next()?;
    next()?;
    while next()? != "-" {}
    let (kind, source) = (next()?, next()?);
    Some(TableMount { id, parent, device, top, point, kind, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> MountTable {
        MountTable(text.lines().map(|line| mount(line.as_bytes()).expect("a mount")).collect())
    }

    #[test]
    fn mounts_form_a_tree() {
        let table = table(
            "30 2 0:40 / / rw - overlay runner-0 rw,lowerdir=6\n\
             31 30 0:41 / /proc rw,nosuid - proc proc rw\n\
             32 31 0:41 /sys /proc/sys ro - proc proc rw\n\
             33 30 0:42 / /a\\040b rw master:1 shared:2 - overlay runner-1 rw",
        );
        let root = table.root().expect("a root");
        assert_eq!(root.id, 30);
        let below: Vec<u64> = table.below(root).map(|mount| mount.id).collect();
        assert_eq!(below, [31, 33]);
        assert_eq!(table.overlay("runner-1").map(|it| &*it.point), Some(Path::new("/a b")));
        assert_eq!(table.overlay("runner-2"), None);
    }

    #[test]
    fn what_shows_the_same_once_more_is_found() {
        let table = table(
            "30 2 8:1 /layer/root / rw - ext4 /dev/vda rw\n31 30 0:41 / /a rw - overlay runner-1 rw\n\
             32 30 0:41 /in /b rw - overlay runner-1 rw\n33 30 8:1 /readonly /c rw - ext4 /dev/vda rw\n\
             34 30 0:42 / /d rw - overlay runner-2 rw\n35 30 8:1 /layer/root/tmp /e rw - ext4 /dev/vda rw",
        );
        let again = |id| table.shown_again(id).map(|mount| mount.id);
        assert_eq!((again(31), again(34), again(30)), (Some(32), None, Some(35)));
    }
}
