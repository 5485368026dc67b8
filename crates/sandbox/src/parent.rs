//! The half of a start that runs in the runner's own process.
//!
//! Used by the engine on a thread that may block. It makes the process for `child`, sends it the
//! spec, and waits until PID 1 says hello or the set-up reports a failure.
#![forbid(unsafe_code)]

use crate::child;
use crate::descendants;
use crate::descriptors;
use crate::fdpass;
use crate::handed;
use crate::handshake::{REEXEC_ARG, SandboxSetupError, SetupChannel};
use crate::process::{Child, PATIENCE_MS, ends_within};
use crate::spec::{ContainerNetwork, IdSwap, SandboxSpec};
use crate::sys::{self, GroupDoors, NewProcess, ProcessImage};
use crate::users::{self, MapError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_init::abi::{ABI_VERSION, Pid1Reply, REAPER_NAME, REPLY_LEN, reply};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A container whose PID 1 is ready for requests.
#[derive(Debug)]
pub struct Sandbox {
    /// The host's pid of PID 1.
    pub pid: u32,
    /// Its start time in clock ticks since boot. A pid with its start time is never reused.
    pub start_time: u64,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) process: Child,
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No process in new namespaces could be created.
    #[error("cannot make new namespaces: {0}")]
    Namespaces(#[source] io::Error),
    /// The requested users are not possible.
    #[error(transparent)]
    Users(#[from] MapError),
    /// A step inside the namespaces failed.
    #[error(transparent)]
    Setup(SandboxSetupError),
    /// The set-up process died silently.
    #[error("the process that sets the container up died at once ({0})")]
    Lost(String),
    /// PID 1 speaks another version of the protocol.
    #[error("PID 1 speaks version {0} of the protocol, this runner {ABI_VERSION}")]
    Version(u32),
    /// The caller could not record the process.
    #[error("cannot record the container's process: {0}")]
    Record(#[source] io::Error),
    /// Any other failure on the runner's side.
    #[error("cannot {0}: {1}")]
    Host(&'static str, #[source] io::Error),
}

impl Sandbox {
    /// The socket for requests to PID 1 and its replies (`runner_init::abi`), hello already read;
    /// `None` the second time. Closing it ends the container.
    #[must_use]
    pub fn take_control(&mut self) -> Option<OwnedFd> {
        self.control.take()
    }

    /// Kills PID 1 through its pidfd, and so everything in the container, without asking. A
    /// reaper's descendants are found and killed first.
    pub fn kill(&self) {
        if self.process.has_patience() {
            descendants::kill(self.pid);
        }
        self.process.kill();
    }

    /// A descriptor that becomes readable when PID 1, and so the container, has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }
}

/// The namespaces that a container always has. `child` adds the cgroup namespace once it is in its
/// groups.
const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// Starts a container. `record` is called with PID 1's pid and start time before anything happens
/// in it that would need cleaning up; it sees to it that the process is in its control groups.
///
/// `handed` are open directories that the spec names by [`crate::handed()`]; `groups`, ways into
/// the control groups.
///
/// Blocks until PID 1 is ready. This program must hand over to
/// [`crate::set_up_and_become_init`] when its first argument is [`REEXEC_ARG`].
///
/// # Errors
/// The first step that failed; nothing of the container is left then.
pub fn start(
    spec: &SandboxSpec,
    handed: &[BorrowedFd<'_>],
    groups: &GroupDoors,
    record: impl FnOnce(u32, u64) -> io::Result<()>,
) -> Result<Sandbox, StartError> {
    let handed_paths = handed::paths(handed)
        .map_err(|error| StartError::Host("name a directory that is open", error))?;
    let (control, theirs) = UnixStream::pair()
        .map(|(ours, theirs)| (OwnedFd::from(ours), OwnedFd::from(theirs)))
        .map_err(|error| StartError::Host("make a socket", error))?;
    let (mut channel, their_channel) =
        SetupChannel::pair().map_err(|error| StartError::Host("make a socket", error))?;
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| StartError::Host("open /dev/null", error))?;
    let owners = match spec.owner {
        Some(swap) => owner_namespace(swap)
            .map_err(|error| StartError::Host("map the source's owner to root", error))?,
        None => {
            null.try_clone().map_err(|error| StartError::Host("copy a descriptor", error))?.into()
        }
    };
    let (pid, pidfd) =
        spawn_child(spec, [&theirs, &their_channel, &owners], &null, handed, groups)?;
    let process = Child::new(pidfd);
    drop((theirs, their_channel, owners, null));

    let start_time = process_start_time(pid)
        .map_err(|error| StartError::Host("read the container's start time", error))?;
    record(pid, start_time).map_err(StartError::Record)?;
    if let Some(map) = &spec.users {
        if channel.wait_for_gate().is_err() {
            return Err(StartError::Lost(process.wait()));
        }
        users::write(pid, map)?;
        if channel.open_gate().is_err() {
            return Err(StartError::Lost(process.wait()));
        }
    }
    // The child has waited for the spec; from here on it works.
    match channel.send_spec(spec, &handed_paths) {
        Ok(()) => {}
        // Nothing was sent, so the child and anyone waiting for its end would wait forever.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(StartError::Host("describe the container", error));
        }
        Err(_) => return Err(StartError::Lost(process.wait())),
    }
    wait_for_hello(&control, Some(&mut channel), &process)?;
    Ok(Sandbox { pid, start_time, control: Some(control), process })
}

fn spawn_child(
    spec: &SandboxSpec,
    [control, channel, owners]: [&OwnedFd; 3],
    null: &File,
    handed: &[BorrowedFd<'_>],
    groups: &GroupDoors,
) -> Result<(u32, OwnedFd), StartError> {
    // Above their target numbers.
    let lift = |fd: BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, LIFTED)
            .map_err(|errno| StartError::Host("copy a descriptor", errno.into()))
    };
    let null = lift(null.as_fd())?;
    let control = lift(control.as_fd())?;
    let channel = lift(channel.as_fd())?;
    let owners = lift(owners.as_fd())?;
    let handed = handed.iter().map(|fd| lift(*fd)).collect::<Result<Vec<_>, _>>()?;
    // In the order of `child::CONTROL`, `child::HANDSHAKE`, `child::OWNERS` and `handed::FIRST`.
    let mut fds = [&null, &null, &null, &control, &channel, &owners].map(AsFd::as_fd).to_vec();
    fds.extend(handed.iter().map(AsFd::as_fd));
    let argument = CString::new(REEXEC_ARG).map_err(|error| {
        StartError::Host("name the set-up", io::Error::new(io::ErrorKind::InvalidInput, error))
    })?;
    let users = spec.users.as_ref().map_or(0, |_| libc::CLONE_NEWUSER);
    let network = match spec.network {
        ContainerNetwork::Host => 0,
        ContainerNetwork::Own => libc::CLONE_NEWNET,
    };
    sys::spawn(&NewProcess {
        namespaces: (NAMESPACES | users | network) as u64,
        gate: spec.users.as_ref().map(|_| channel.as_fd()),
        fds: &fds,
        // Not by its path: the file may have been replaced since this program started.
        program: ProcessImage::Path(c"/proc/self/exe"),
        arguments: &[c"runner", &argument],
        descriptors: descriptors::before(),
        groups: Some(groups),
    })
    .map_err(StartError::Namespaces)
}

/// Above the target numbers of a child's descriptors.
pub(crate) const LIFTED: i32 = 16;

const _: () = assert!(
    child::CONTROL == 3
        && child::HANDSHAKE == 4
        && child::OWNERS == 5
        && handed::FIRST == 6
        && handed::FIRST as usize + handed::MOST < LIFTED as usize
);

/// Waits for whichever comes first: PID 1's hello, the set-up's failure, or the end of both.
pub(crate) fn wait_for_hello(
    control: &OwnedFd,
    mut channel: Option<&mut SetupChannel>,
    process: &Child,
) -> Result<(), StartError> {
    let mut hello = [0; REPLY_LEN];
    let mut got = 0;
    while got < hello.len() {
        let mut ready = [PollFd::new(control.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done.map_err(|errno| StartError::Host("wait for PID 1", errno.into()))?,
        };
        match fdpass::receive(control, &mut hello[got..]) {
            // Both sockets close together when the child dies; a failure is sent before that.
            Ok(received) if received.bytes == 0 => {
                return Err(match channel.as_mut().map(|channel| channel.receive_failure()) {
                    Some(Ok(Some(failure))) => StartError::Setup(failure),
                    _ => StartError::Lost(process.kill_and_wait()),
                });
            }
            Ok(received) => got += received.bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(StartError::Host("hear from PID 1", error)),
        }
    }
    let hello = Pid1Reply::from_bytes(&hello);
    if hello.kind != reply::HELLO || hello.a != ABI_VERSION {
        return Err(StartError::Version(hello.a));
    }
    Ok(())
}

/// A user namespace whose maps swap a user with root, and its group likewise.
pub(crate) fn owner_namespace(swap: IdSwap) -> io::Result<OwnedFd> {
    let (pid, pidfd, _key) = sys::spawn_idle(libc::CLONE_NEWUSER as u64)?;
    let idle = Child::new(pidfd);
    fs::write(format!("/proc/{pid}/uid_map"), swapped(swap.uid))?;
    fs::write(format!("/proc/{pid}/gid_map"), swapped(swap.gid))?;
    let namespace = File::open(format!("/proc/{pid}/ns/user"))?;
    drop(idle);
    Ok(namespace.into())
}

/// An id map, one range per line (inside, outside, count), that swaps 0 and `id` and keeps the
/// rest.
fn swapped(id: u32) -> String {
    match id {
        0 => format!("0 0 {}\n", u32::MAX),
        1 => format!("0 1 1\n1 0 1\n2 2 {}\n", u32::MAX - 2),
        id => format!(
            "0 {id} 1\n{id} 0 1\n1 1 {}\n{} {} {}\n",
            id - 1,
            id + 1,
            id + 1,
            u32::MAX - id - 1
        ),
    }
}

/// Kills PID 1 of a container that lost its runner, and waits until everything in the container is
/// gone. Returns whether there was such a process.
///
/// # Errors
/// This user may not kill it.
pub fn end(pid: u32, start_time: u64) -> io::Result<bool> {
    let Some(number) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else {
        return Ok(false);
    };
    let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(false),
        done => done?,
    };
    // The descriptor refers to one process; check afterwards that it is the right one.
    if process_start_time(pid).ok() != Some(start_time) {
        return Ok(false);
    }
    // It ends by itself, a reaper with its descendants, which it could not do if killed.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let grace = if name.trim_end() == REAPER_NAME { PATIENCE_MS } else { GRACE_MS };
    if ends_within(&pidfd, grace.into())? {
        return Ok(true);
    }
    match pidfd_send_signal(&pidfd, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(true),
        done => done?,
    }
    ends_within(&pidfd, PollTimeout::NONE)
}

/// How long a container's PID 1 may take to notice that its runner is gone, in milliseconds.
const GRACE_MS: u16 = 1000;

/// When a process started, in clock ticks since boot.
///
/// # Errors
/// There is no such process, or /proc cannot be read.
pub(crate) fn process_start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name that may contain spaces and parentheses; the 22nd is the time.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected /proc/PID/stat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_covers_every_id_once() {
        for id in [0, 1, 2, 1000, u32::MAX - 2] {
            let text = swapped(id);
            let count: u64 = text
                .lines()
                .map(|line| line.split(' ').nth(2).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0))
                .sum();
            assert_eq!(count, u64::from(u32::MAX), "{text}");
        }
    }
}
