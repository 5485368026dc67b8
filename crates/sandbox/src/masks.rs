//! The parts of the kernel's directories that a build cannot see, or can see but not change.
//!
//! Used by `kernel_dirs` after mounting them, and by engines whose daemon takes such lists. The
//! lists are Docker's of 2026, plus files that only a machine's root may read or that reveal more
//! than the container (adr/0075).
#![forbid(unsafe_code)]

use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::in_root::{InRoot, attach_at};
use crate::mounts::{self, NO_SUID_DEV_EXEC};
use rustix::fs::FileType;
use rustix::mount::MountAttrFlags;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Paths that are empty in a container.
const MASKED: [&str; 18] = [
    "/proc/acpi",
    "/proc/asound",
    // Reveals when keys are pressed.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    // Reveal which memory belongs to whom.
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    // Kernel addresses.
    "/proc/vmallocinfo",
    // Reveals how much power others use, and so what they compute.
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that may be read but not written.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Each CPU has a directory here with throttling data, which reveals the load of others.
const PROCESSORS: &str = "/sys/devices/system/cpu";
const THROTTLE: &str = "thermal_throttle";

/// The paths on this machine that a build sees as empty, as far as they exist.
pub fn masked_paths() -> Vec<PathBuf> {
    let processors = fs::read_dir(PROCESSORS).into_iter().flatten().flatten();
    let throttles = processors
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"cpu"))
        .map(|entry| entry.path().join(THROTTLE))
        .filter(|path| path.is_dir());
    MASKED.iter().map(PathBuf::from).chain(throttles).collect()
}

/// The paths that a build cannot change.
pub fn read_only_paths() -> impl Iterator<Item = &'static Path> {
    READ_ONLY.iter().map(Path::new)
}

/// Hides the masked paths and makes the others read-only.
pub(crate) fn put_on(root: &InRoot) -> Result<(), SandboxSetupError> {
    let mut covers = Covers::default();
    for path in masked_paths() {
        covers.put(root, &path).map_err(failing(SetupStep::Root, "hide", &path))?;
    }
    for path in read_only_paths() {
        freeze(root, path).map_err(failing(SetupStep::Root, "make read-only", path))?;
    }
    Ok(())
}

/// Hides the host's file systems mounted below `top`, except those at or below `spared`.
pub(crate) fn cover_mounts(
    root: &InRoot,
    top: &Path,
    spared: &Path,
) -> Result<(), SandboxSetupError> {
    let table = fs::read_to_string("/proc/self/mountinfo").map_err(|error| {
        SandboxSetupError::new(SetupStep::Source, "read the list of mounts", &error)
    })?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(mounts::unescape);
    let is_foreign =
        |point: &PathBuf| point != top && point.starts_with(top) && !point.starts_with(spared);
    // Sorted, so that mounts below a covered one are skipped.
    let mut covered: Option<PathBuf> = None;
    let mut covers = Covers::default();
    for point in points.filter(is_foreign).collect::<BTreeSet<_>>() {
        if covered.as_ref().is_none_or(|covered| !point.starts_with(covered)) {
            covers.put(root, &point).map_err(failing(SetupStep::Root, "hide", &point))?;
            covered = Some(point);
        }
    }
    Ok(())
}

/// Covers a directory of the container with an empty one, if it exists.
pub(crate) fn cover(root: &InRoot, path: &Path) -> io::Result<()> {
    Covers::default().put(root, path)
}

/// The empty directory used as a cover. Made once; each use is a copy of its mount.
#[derive(Default)]
struct Covers {
    directory: Option<OwnedFd>,
}

impl Covers {
    fn put(&mut self, root: &InRoot, path: &Path) -> io::Result<()> {
        let Some(target) = existing(root.resolve(path))? else { return Ok(()) };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
        let cover = if kind == FileType::Directory {
            self.directory()?
        } else {
            // The container's own node, so that the build's changes to it affect nobody else.
            mounts::copy_open(root.resolve(Path::new("/dev/null"))?, false)?
        };
        attach_at(cover, target)
    }

    fn directory(&mut self) -> io::Result<OwnedFd> {
        if let Some(first) = &self.directory {
            return mounts::copy_open(first, false);
        }
        let read_only = NO_SUID_DEV_EXEC | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let first = mounts::kernel("tmpfs", &["mode=0555", "size=0"], read_only)?;
        self.directory = Some(first.try_clone()?);
        Ok(first)
    }
}

fn freeze(root: &InRoot, path: &Path) -> io::Result<()> {
    let Some(target) = existing(root.resolve(path))? else { return Ok(()) };
    let frozen = mounts::copy_open(&target, true)?;
    mounts::make_read_only(&frozen)?;
    attach_at(frozen, target)
}

fn existing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
