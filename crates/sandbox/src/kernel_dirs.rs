//! The kernel's own directories in a container: /proc, /sys and /dev.
//!
//! Used by `child` once the rest of the root is complete.
#![forbid(unsafe_code)]

use crate::cgroup;
use crate::devices;
use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::in_root::InRoot;
use crate::masks;
use crate::mounts::{self, NO_SUID_DEV_EXEC};
use crate::spec::{Confinement, ContainerNetwork, SandboxSpec};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

const SYS: &str = "/sys";

/// Device nodes that every program expects: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Mounts the directories. Returns the root of the container's devpts.
pub(crate) fn mount(root: &InRoot, spec: &SandboxSpec) -> Result<OwnedFd, SandboxSetupError> {
    mount_proc(root)?;
    let is_bare = mount_sys(root, spec)?;
    let devpts = mount_dev(root)?;
    match spec.confinement {
        Confinement::Build if is_bare => masks::put_on(root)?,
        Confinement::Build => {
            masks::put_on(root)?;
            masks::cover_mounts(root, Path::new(SYS), Path::new(cgroup::PLACE))?;
        }
        Confinement::Privileged => devices::show(root, spec.users.is_none())?,
    }
    Ok(devpts)
}

fn mount_proc(root: &InRoot) -> Result<(), SandboxSetupError> {
    mounts::kernel("proc", &[], NO_SUID_DEV_EXEC)
        .and_then(|proc| root.attach_kernel(proc, "proc"))
        .map_err(failing(SetupStep::Root, "mount", Path::new("/proc")))
}

/// Mounts a /sys that shows the container's own network, or else the host's. Unless the container
/// is privileged, it is read-only and has nothing mounted below it but control groups. Returns
/// whether those other mounts could be left out.
fn mount_sys(root: &InRoot, spec: &SandboxSpec) -> Result<bool, SandboxSetupError> {
    let host = Path::new(SYS);
    let is_confined = spec.confinement == Confinement::Build;
    let own = match spec.network {
        ContainerNetwork::Host => None,
        // If the kernel hides parts of the host's /sys, it refuses a new one.
        ContainerNetwork::Own => mounts::kernel("sysfs", &[], NO_SUID_DEV_EXEC).ok(),
    };
    // Without root, mounts below cannot be left out.
    let bare = || is_confined.then(|| mounts::copy(host, false).ok()).flatten();
    let alone = own.or_else(bare);
    let is_bare = alone.is_some();
    let attach = |sys: OwnedFd| {
        if is_confined {
            mounts::make_read_only(&sys)?;
        }
        root.attach_kernel(sys, "sys")
    };
    alone.map_or_else(|| mounts::copy(host, true), Ok).and_then(attach).map_err(failing(
        SetupStep::Root,
        "mount",
        host,
    ))?;
    cgroup::show(root, spec.groups.as_ref(), is_bare).map_err(failing(
        SetupStep::Root,
        "mount",
        Path::new(cgroup::PLACE),
    ))?;
    Ok(is_bare)
}

/// Mounts the container's own /dev. Returns the root of its devpts.
fn mount_dev(root: &InRoot) -> Result<OwnedFd, SandboxSetupError> {
    let build = || -> io::Result<OwnedFd> {
        let dev = mounts::kernel(
            "tmpfs",
            &["mode=0755", "size=65536k"],
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
        )?;
        root.attach_kernel(&dev, "dev")?;
        for (name, major, minor) in DEVICES {
            make_device(root, &dev, name, rustix::fs::makedev(major, minor))?;
        }
        for (name, to) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            rustix::fs::symlinkat(to, &dev, name)?;
        }
        let no_suid_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let pts = ["ptmxmode=0666", "mode=0620"];
        // Group 5 is usually tty; a user namespace may lack it.
        let pts = mounts::kernel("devpts", &[pts[0], pts[1], "gid=5"], no_suid_exec)
            .or_else(|_| mounts::kernel("devpts", &pts, no_suid_exec))?;
        root.attach(&pts, Path::new("/dev/pts"))?;
        let nodev = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let shm = mounts::kernel("tmpfs", &["mode=1777"], nodev)?;
        root.attach(shm, Path::new("/dev/shm"))?;
        // On a kernel without message queues, programs do without.
        if let Ok(mqueue) = mounts::kernel("mqueue", &[], NO_SUID_DEV_EXEC) {
            root.attach(mqueue, Path::new("/dev/mqueue"))?;
        }
        root.open_directory(Path::new("/dev/pts"))
    };
    build().map_err(failing(SetupStep::Root, "build", Path::new("/dev")))
}

fn make_device(root: &InRoot, dev: &OwnedFd, name: &str, number: u64) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, number) {
        // Without permission to make nodes, bind the host's own: it is the same device.
        Err(Errno::PERM) => {
            let node = mounts::copy(&Path::new("/dev").join(name), false)?;
            root.attach_file(node, &Path::new("/dev").join(name))
        }
        // Undo the umask.
        done => {
            Ok(done.and_then(|()| {
                rustix::fs::chmodat(dev, name, mode, rustix::fs::AtFlags::empty())
            })?)
        }
    }
}
