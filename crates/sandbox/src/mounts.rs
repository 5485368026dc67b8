//! Makes the kinds of mounts of a container, each detached: invisible until `in_root` attaches it.
//!
//! Used by `child`. Paths here are the host's. They reach the kernel as `/proc/self/fd/N`, because
//! the mount calls take at most 255 bytes and interpret `:` and `,` in a path.
#![forbid(unsafe_code)]

use crate::sys::{MountAttributes, set_mount_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Attributes of a mount without programs or devices.
pub(crate) const NO_SUID_DEV_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// A mount that is not attached yet.
pub(crate) type Detached = OwnedFd;

/// One of the kernel's file systems, with options as `key` or `key=value`.
pub(crate) fn kernel(
    kind: &str,
    options: &[&str],
    attributes: MountAttrFlags,
) -> io::Result<Detached> {
    let context = configure(kind, kind, options)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Configures a file system that is not created yet, named `source` in the mount list.
fn configure(kind: &str, source: &str, options: &[&str]) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, *option)?,
        }
    }
    Ok(context)
}

/// A copy of the mount at `path`; with `recursive`, including those below.
pub(crate) fn copy(path: &Path, recursive: bool) -> io::Result<Detached> {
    copy_at(CWD, path, recursive)
}

/// The same for an open place.
pub(crate) fn copy_open(place: impl AsFd, recursive: bool) -> io::Result<Detached> {
    copy_at(place.as_fd(), Path::new(""), recursive)
}

fn copy_at(from: BorrowedFd<'_>, path: &Path, recursive: bool) -> io::Result<Detached> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(from, path, flags)?)
}

/// Makes a mount and those below it read-only.
pub(crate) fn make_read_only(mount: &Detached) -> io::Result<()> {
    set_mount_attributes(
        mount.as_fd(),
        &MountAttributes {
            set: libc::MOUNT_ATTR_RDONLY,
            recursive: true,
            ..MountAttributes::default()
        },
    )
}

/// Disables device nodes on the mount.
pub(crate) fn forbid_devices(mount: &Detached) -> io::Result<()> {
    set_mount_attributes(
        mount.as_fd(),
        &MountAttributes {
            set: libc::MOUNT_ATTR_NODEV,
            recursive: true,
            ..MountAttributes::default()
        },
    )
}

/// How device nodes on a mount behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// As plain files.
    Files,
    /// As devices, if the user namespace has any.
    Devices,
}

impl Nodes {
    fn attributes(self) -> MountAttrFlags {
        match self {
            Nodes::Files => MountAttrFlags::MOUNT_ATTR_NODEV,
            Nodes::Devices => MountAttrFlags::empty(),
        }
    }
}

/// Allows programs on a copied mount, including set-uid ones, whatever the mount options of the
/// original.
pub(crate) fn make_root_like(mount: &Detached, nodes: Nodes) -> io::Result<()> {
    let set = u64::from(nodes.attributes().bits());
    let change = |clear| {
        set_mount_attributes(
            mount.as_fd(),
            &MountAttributes { set, clear, ..MountAttributes::default() },
        )
    };
    let loose = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let loose = if nodes == Nodes::Devices { loose | libc::MOUNT_ATTR_NODEV } else { loose };
    match change(loose) {
        // A user namespace may not loosen the host's restrictions.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => change(0),
        done => done,
    }
}

/// Shows the mount's files with other owners, by the maps of a user namespace.
pub(crate) fn map_owners(mount: &Detached, namespace: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(
        mount.as_fd(),
        &MountAttributes { id_map: Some(namespace), ..MountAttributes::default() },
    )
}

/// Directories for an overlay's writes.
pub(crate) struct Upper {
    /// Receives the files.
    pub(crate) upper: PathBuf,
    /// The kernel's own, on the same file system.
    pub(crate) work: PathBuf,
}

/// An overlay: reads fall through to `lower`, topmost first; writes stay in `upper`.
///
/// `source` is its name in the mount list; `marks` tells which attributes it may keep its marks in.
pub(crate) fn overlay(
    lower: &[OwnedFd],
    upper: &Upper,
    source: &str,
    marks: OverlayXattrs,
    nodes: Nodes,
) -> io::Result<Detached> {
    // A build's layer does not outlive the build, so it need not reach the disk. The next two
    // options make chmod, chown and rename cheap. An older kernel without one of them gets none.
    let (fast, plain): (&[&str], &[&str]) = match marks {
        OverlayXattrs::Trusted => {
            (&["volatile", "metacopy=on", "redirect_dir=on", "index=off"], &[])
        }
        // Without those two: anyone who may write a file could forge its marks.
        OverlayXattrs::User => (&["volatile", "userxattr"], &["userxattr"]),
    };
    match overlay_with(lower, upper, source, fast, nodes) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            overlay_with(lower, upper, source, plain, nodes)
        }
        done => done,
    }
}

/// The same of directories that nobody writes to, to be looked at only.
pub(crate) fn read_only_overlay(dirs: &[OwnedFd]) -> io::Result<Detached> {
    let options: &[&str] = match OverlayXattrs::ours() {
        OverlayXattrs::Trusted => &["metacopy=on", "redirect_dir=follow"],
        OverlayXattrs::User => &["userxattr"],
    };
    let context = configure("overlay", "runner-look", options)?;
    from_descriptors(|| {
        set_lower(&context, dirs)?;
        Ok(fsconfig_create(&context)?)
    })?;
    let attributes = NO_SUID_DEV_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The extended attributes in which an overlay keeps its marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlayXattrs {
    /// `trusted.overlay.*`, only for the host's root.
    Trusted,
    /// `user.overlay.*`, in a user namespace.
    User,
}

impl OverlayXattrs {
    /// The ones this process may set: in any user namespace only [`Self::User`].
    pub(crate) fn ours() -> Self {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let is_whole = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        if is_whole { OverlayXattrs::Trusted } else { OverlayXattrs::User }
    }

    /// The prefix of all mark names.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.",
            OverlayXattrs::User => "user.overlay.",
        }
    }

    /// The mark of a directory that hides its namesakes in the layers below.
    pub(crate) fn opaque(self) -> &'static str {
        match self {
            OverlayXattrs::Trusted => "trusted.overlay.opaque",
            OverlayXattrs::User => "user.overlay.opaque",
        }
    }
}

/// The prefix of the attributes in which overlays made by this process keep their marks.
#[must_use]
pub fn overlay_marks() -> &'static str {
    OverlayXattrs::ours().prefix()
}

fn overlay_with(
    lower: &[OwnedFd],
    upper: &Upper,
    source: &str,
    options: &[&str],
    nodes: Nodes,
) -> io::Result<Detached> {
    let upper_dir = open_path(&upper.upper)?;
    let work_dir = open_path(&upper.work)?;
    let context = configure("overlay", source, options)?;
    let make = || {
        set_lower(&context, lower)?;
        fsconfig_set_string(&context, "upperdir", handle(&upper_dir))?;
        fsconfig_set_string(&context, "workdir", handle(&work_dir))?;
        Ok(fsconfig_create(&context)?)
    };
    from_descriptors(make)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, nodes.attributes())?)
}

/// Sets the lower layers, relative to the directory of descriptors. Before Linux 6.5 one option
/// held all of them; such a kernel accepts the newer option silently and then fails to mount.
fn set_lower(context: &OwnedFd, lower: &[OwnedFd]) -> io::Result<()> {
    const MOST_BYTES: usize = 255;
    let names: Vec<String> = lower.iter().map(|layer| layer.as_raw_fd().to_string()).collect();
    let all = names.join(":");
    if all.len() <= MOST_BYTES {
        return Ok(fsconfig_set_string(context, "lowerdir", all)?);
    }
    names.iter().try_for_each(|name| Ok(fsconfig_set_string(context, "lowerdir+", name)?))
}

/// Runs a function with this process's descriptors as its working directory.
fn from_descriptors<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = open_path(Path::new("."))?;
    rustix::process::chdir("/proc/self/fd")?;
    let done = run();
    rustix::process::fchdir(&before)?;
    done
}

/// Whether anything is mounted below `path`.
pub(crate) fn has_mounts_below(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let prefix = format!("{}/", path.display());
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| point.starts_with(prefix.as_str()))
}

/// A handle on a path of the host.
pub(crate) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn handle(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Decodes a path from `/proc/self/mountinfo`, which writes spaces and the like as a backslash and
/// three octal digits.
#[must_use]
pub fn unescape(field: impl AsRef<[u8]>) -> PathBuf {
    let mut rest = field.as_ref();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}
