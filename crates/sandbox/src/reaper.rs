//! Starts our program without a container, as a reaper that tracks a build's processes only by
//! descent.
//!
//! Used by the engine `process`. Speaks the protocol of PID 1.
#![forbid(unsafe_code)]

use crate::descriptors;
use crate::parent::{Sandbox, StartError, process_start_time, wait_for_hello};
use crate::process::{Child, PATIENCE_MS};
use crate::sealed;
use crate::sys::{self, GroupDoors, NewProcess, ProcessImage};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Starts a reaper. `groups` are ways into its control groups; `record` is called with its pid and
/// start time.
///
/// # Errors
/// It cannot be started.
pub fn start_reaper(
    groups: &GroupDoors,
    record: impl FnOnce(u32, u64) -> io::Result<()>,
) -> Result<Sandbox, StartError> {
    let host = |doing| move |error: io::Error| StartError::Host(doing, error);
    let (control, theirs) = UnixStream::pair().map_err(host("make a socket"))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(host("open /dev/null"))?;
    // Terminals are made with /dev/ptmx, which every user may open, unlike the one in devpts.
    let dev = File::open("/dev").map_err(host("open /dev"))?;
    let program = sealed::program().map_err(host("put the reaper into memory"))?;
    // Above their target numbers.
    let lift = |fd: OwnedFd| {
        rustix::io::fcntl_dupfd_cloexec(fd, 16)
            .map_err(|errno| StartError::Host("copy a descriptor", errno.into()))
    };
    let (null, theirs, dev) = (lift(null.into())?, lift(theirs.into())?, lift(dev.into())?);
    let program = lift(program)?;
    let (pid, pidfd) = sys::spawn(&NewProcess {
        namespaces: 0,
        gate: None,
        // In the order of `runner_init::abi`.
        fds: &[null.as_fd(), null.as_fd(), null.as_fd(), theirs.as_fd(), dev.as_fd()],
        program: ProcessImage::File(program.as_fd()),
        arguments: &[c"runner-reaper"],
        descriptors: descriptors::before(),
        groups: Some(groups),
    })
    .map_err(host("start the reaper"))?;
    // It ends its descendants when the socket closes, which it could not do if killed.
    let process = Child::with_patience(pidfd, PATIENCE_MS.into());
    drop((theirs, null, dev, program));
    let start_time = process_start_time(pid).map_err(host("read the reaper's start time"))?;
    record(pid, start_time).map_err(StartError::Record)?;
    let control = OwnedFd::from(control);
    wait_for_hello(&control, None, &process)?;
    Ok(Sandbox { pid, start_time, control: Some(control), process })
}

const _: () = assert!(runner_init::abi::CONTROL_FD == 3 && runner_init::abi::DEVPTS_FD == 4);
