//! The toolbox: programs for sessions in a container whose image has none.
//!
//! Used by `child`. A file system in memory that is mounted nowhere: PID 1 holds it by a descriptor
//! and passes it to sessions' programs, which reach it below /proc/self/fd. No path of the
//! container leads there, so a build cannot come to depend on it.
#![forbid(unsafe_code)]

use crate::handshake::{SandboxSetupError, SetupStep, failing};
use crate::mounts;
use crate::spec::Toolbox;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// Makes the toolbox from a program of the host, before the host's root becomes unreachable.
pub(crate) fn make(toolbox: &Toolbox) -> Result<OwnedFd, SandboxSetupError> {
    let fill = || -> io::Result<OwnedFd> {
        let mut program = File::open(&toolbox.program)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = mounts::kernel("tmpfs", &["mode=0755", "size=16m"], attributes)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&mount, NAME, flags, Mode::from_raw_mode(0o755))?;
        // Some file systems do not create an executable file in one step.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o755))?;
        io::copy(&mut program, &mut File::from(file))?;
        for name in toolbox.names.iter().filter(|name| !name.contains('/') && *name != NAME) {
            rustix::fs::symlinkat(NAME, &mount, name.as_str())?;
        }
        mounts::make_read_only(&mount)?;
        // A descriptor that can be searched and listed but not changed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&mount, ".", flags, Mode::empty())?)
    };
    fill().map_err(failing(SetupStep::Source, "make a toolbox of", &toolbox.program))
}

const NAME: &str = "busybox";
