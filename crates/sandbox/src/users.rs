//! User namespaces of containers whose runner is not root: sets their maps and runs chores inside.
//!
//! Used by `parent` for a container, and by the engine for files of a container's users: only
//! inside can they be created, chowned or removed.
#![forbid(unsafe_code)]

use crate::descriptors;
use crate::handshake::CHORE_ARG;
use crate::process::Child;
use crate::spec::{IdRange, UserMap};
use crate::sys::{self, NewProcess, ProcessImage};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// Why a user namespace did not get its maps.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel refused.
    #[error("cannot map this user to root in a user namespace: {0}")]
    Kernel(#[source] io::Error),
    /// The set-uid helper cannot be started.
    #[error("cannot run {0}: {1}")]
    Helper(&'static str, #[source] io::Error),
    /// The set-uid helper refused.
    #[error("{0} refuses: {1}")]
    Refused(&'static str, String),
}

/// Writes the maps of the user namespace of process `pid`.
pub(crate) fn write(pid: u32, map: &UserMap) -> Result<(), MapError> {
    let write = |name: &str, text: &str| {
        fs::write(format!("/proc/{pid}/{name}"), text).map_err(MapError::Kernel)
    };
    let lines = |ranges: &[IdRange]| ranges.iter().map(|range| line(*range)).collect::<String>();
    if nix::unistd::geteuid().is_root() {
        // Root needs no helper.
        write("uid_map", &lines(&map.uids))?;
        return write("gid_map", &lines(&map.gids));
    }
    if map.is_single() {
        // Otherwise a process could drop a group whose membership denies access.
        write("setgroups", "deny")?;
        write("uid_map", &lines(&map.uids))?;
        return write("gid_map", &lines(&map.gids));
    }
    helper("newuidmap", pid, &map.uids)?;
    helper("newgidmap", pid, &map.gids)
}

fn line(range: IdRange) -> String {
    format!("{} {} {}\n", range.inside, range.outside, range.count)
}

fn helper(program: &'static str, pid: u32, ranges: &[IdRange]) -> Result<(), MapError> {
    let numbers = ranges
        .iter()
        .flat_map(|range| [range.inside, range.outside, range.count])
        .map(|number| number.to_string());
    let output = Command::new(program)
        .arg(pid.to_string())
        .args(numbers)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| MapError::Helper(program, error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(MapError::Refused(program, if said.is_empty() { output.status.to_string() } else { said }))
}

/// This program, running again as `__chore ARGUMENTS`. Dropping the value ends it.
#[derive(Debug)]
pub struct Chore {
    said: UnixStream,
    child: Child,
}

impl Chore {
    /// Starts a chore: with `map` as root of a user namespace with these maps, otherwise as this
    /// user. `input` is its standard input, empty by default.
    ///
    /// # Errors
    /// The namespace or the process cannot be created.
    pub fn start(
        map: Option<&UserMap>,
        arguments: &[&str],
        input: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let (said, theirs) = UnixStream::pair()?;
        let (mut gate, gated) = UnixStream::pair()?;
        let null = OwnedFd::from(OpenOptions::new().read(true).write(true).open("/dev/null")?);
        // Above their target numbers.
        let lift = |fd: OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 16);
        let (null, theirs, gated) = (lift(null)?, lift(theirs.into())?, lift(gated.into())?);
        let input = input.map(lift).transpose()?;
        let words = ["runner", CHORE_ARG]
            .iter()
            .chain(arguments)
            .map(|word| CString::new(*word).map_err(io::Error::other))
            .collect::<io::Result<Vec<_>>>()?;
        let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
        let (pid, pidfd) = sys::spawn(&NewProcess {
            namespaces: if map.is_some() { libc::CLONE_NEWUSER as u64 } else { 0 },
            gate: map.is_some().then_some(gated.as_fd()),
            fds: &[input.as_ref().unwrap_or(&null).as_fd(), theirs.as_fd(), null.as_fd()],
            program: ProcessImage::Path(c"/proc/self/exe"),
            arguments: &words,
            descriptors: descriptors::before(),
            groups: None,
        })?;
        let child = Child::new(pidfd);
        drop((theirs, gated, input));
        if let Some(map) = map {
            gate.read_exact(&mut [0])?;
            write(pid, map).map_err(io::Error::other)?;
            gate.write_all(&[0])?;
        }
        Ok(Chore { said, child })
    }

    /// Waits for its end and returns its standard output.
    ///
    /// # Errors
    /// The chore failed; the error is its output.
    pub fn finish(mut self) -> io::Result<String> {
        let mut text = String::new();
        self.said.read_to_string(&mut text)?;
        match self.child.wait_for_code() {
            Some(0) => Ok(text),
            _ => Err(io::Error::other(text.trim_end().to_owned())),
        }
    }
}

/// Does a chore as root of a user namespace with these maps and waits. Returns its output.
///
/// # Errors
/// Those of [`Chore::start`] and [`Chore::finish`].
pub fn chore(map: &UserMap, arguments: &[&str]) -> io::Result<String> {
    Chore::start(Some(map), arguments, None)?.finish()
}
