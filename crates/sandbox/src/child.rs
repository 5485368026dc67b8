//! The half of a start that runs inside the new namespaces: has the root built, drops rights,
//! becomes PID 1.
//!
//! Entered through the program's own start (`main.rs`, before anything else is set up) in the
//! process that `parent` made. Gets its spec through `handshake`; uses `root` and `kernel_dirs`.
//! Nothing is ever unmounted or cleaned up here: everything ends with the namespaces, that is, with
//! PID 1.
#![forbid(unsafe_code)]

use crate::handed;
use crate::handshake::{SandboxSetupError, SetupChannel, SetupStep, failing};
use crate::in_root::InRoot;
use crate::spec::{Confinement, ContainerNetwork, GroupsSpec, SandboxSpec};
use crate::{caps, kernel_dirs, root, sealed, seccomp, sys, toolbox};
use runner_init::abi;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// Descriptors this half starts with, in addition to empty 0, 1 and 2.
pub(crate) const CONTROL: i32 = abi::CONTROL_FD;
pub(crate) const HANDSHAKE: i32 = 4;
pub(crate) const OWNERS: i32 = 5;

/// Builds the container this process was made for and becomes its PID 1. Returns only on failure,
/// with the exit code; the parent has been told the reason by then.
#[must_use]
pub fn set_up_and_become_init() -> u8 {
    let Some([control, handshake, owners]) = sys::inherited([CONTROL, HANDSHAKE, OWNERS]) else {
        // Started by hand: only the terminal can be told.
        let _ = writeln!(io::stderr(), "runner: this argument is for the runner's own use");
        return 2;
    };
    // PID 1 expects something else at that number, which it gets last (`confine`). Until then the
    // number stays taken, so that no new descriptor gets it.
    let Ok(copy) = handshake.try_clone() else { return 3 };
    let mut parent = SetupChannel::new(copy);
    let (spec, handed) = match parent.receive_spec() {
        Ok(Some(received)) => received,
        // The parent died before it sent anything.
        Ok(None) => return 3,
        Err(error) => {
            let failure =
                SandboxSetupError::new(SetupStep::Namespaces, "read the container's spec", &error);
            let _ = parent.send_failure(&failure);
            return 3;
        }
    };
    let failure = match set_up(&spec, &owners, &handed) {
        Ok((devpts, toolbox)) => confine(&devpts, toolbox.as_ref(), &spec),
        Err(failure) => failure,
    };
    let _ = parent.send_failure(&failure);
    // Only now: closing it makes the parent look for the failure.
    drop((control, handshake));
    3
}

/// Everything before rights are dropped. Returns the devpts root and the toolbox.
fn set_up(
    spec: &SandboxSpec,
    owners: &OwnedFd,
    handed: &[PathBuf],
) -> Result<(OwnedFd, Option<OwnedFd>), SandboxSetupError> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // Before the first mount: on most hosts mounts propagate, and ours would appear there.
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| {
        SandboxSetupError::new(SetupStep::Namespaces, "make the mounts private", &errno.into())
    })?;
    separate(spec)?;
    let toolbox = spec.toolbox.as_ref().map(toolbox::make).transpose()?;
    // Kept open while the root is built.
    let _handed = handed::take(handed)?;
    let root = root::build(spec, owners)?;
    let devpts = kernel_dirs::mount(&root, spec)?;
    enter(&root)?;
    nix::unistd::sethostname(&spec.hostname).map_err(|errno| {
        SandboxSetupError::new(SetupStep::Namespaces, "set the host name", &errno.into())
    })?;
    Ok((devpts, toolbox))
}

/// Makes a cgroup namespace whose roots are the groups that the parent has put this process into,
/// joins the child group if there is one, and brings up loopback in the container's own network.
fn separate(spec: &SandboxSpec) -> Result<(), SandboxSetupError> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).map_err(|errno| {
        SandboxSetupError::new(
            SetupStep::Namespaces,
            "make a namespace of control groups",
            &errno.into(),
        )
    })?;
    if let Some(GroupsSpec { leaf: Some(leaf), .. }) = &spec.groups {
        let file = leaf.join("cgroup.procs");
        std::fs::write(&file, "0").map_err(failing(SetupStep::Namespaces, "join", &file))?;
    }
    match spec.network {
        ContainerNetwork::Host => Ok(()),
        ContainerNetwork::Own => sys::bring_up_loopback().map_err(|error| {
            SandboxSetupError::new(SetupStep::Namespaces, "bring up the loopback interface", &error)
        }),
    }
}

/// Makes the new root the root, and the old one unreachable.
fn enter(root: &InRoot) -> Result<(), SandboxSetupError> {
    let enter = || -> io::Result<()> {
        rustix::process::fchdir(root)?;
        // The old root ends up on top of the new one and is unmounted there. It never has a name.
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(rustix::process::chdir("/")?)
    };
    enter().map_err(|error| SandboxSetupError::new(SetupStep::Root, "enter the new root", &error))
}

/// Installs the filter of a build's processes on this process, permanently, to test whether that
/// works here.
///
/// # Errors
/// The kernel or an outer filter does not allow it.
pub fn filter_this_process() -> io::Result<()> {
    // Without privileges, only a process that can gain none may install a filter.
    rustix::thread::set_no_new_privs(true)?;
    sys::install_filter(&seccomp::PROGRAM, false).map(drop)
}

/// Drops rights permanently and becomes PID 1. Returns only if that fails.
fn confine(devpts: &OwnedFd, toolbox: Option<&OwnedFd>, spec: &SandboxSpec) -> SandboxSetupError {
    let become_init = || -> io::Result<std::convert::Infallible> {
        // Clear of the numbers used below.
        let aside = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 16);
        let init = aside(&sealed::program()?)?;
        // The container's own node, so that changes to it affect nobody else.
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        for number in 0..3 {
            sys::copy_to(null.as_fd(), number)?;
        }
        let mut listener = None;
        if spec.confinement == Confinement::Build {
            // While still privileged, which makes "no new privileges" unnecessary.
            sys::scope_abstract_sockets()?;
            caps::limit(spec.network)?;
            // Installed while CAP_SYS_ADMIN is still held, so "no new privileges" stays off: build
            // images need sudo.
            listener = sys::install_filter(&seccomp::PROGRAM, true)?;
        }
        sys::close_on_exec_from(CONTROL as u32 + 1)?;
        let toolbox = toolbox.map(aside).transpose()?;
        let listener = listener.as_ref().map(aside).transpose()?;
        sys::copy_to(devpts.as_fd(), abi::DEVPTS_FD)?;
        for (fd, number) in [(toolbox, abi::TOOLBOX_FD), (listener, abi::LISTENER_FD)] {
            if let Some(fd) = fd {
                sys::copy_to(fd.as_fd(), number)?;
            }
        }
        Err(sys::execute(init.as_fd(), c"runner-init"))
    };
    let Err(error) = become_init();
    SandboxSetupError::new(SetupStep::Confine, "start PID 1 from memory", &error)
}
