//! The messages between the runner and PID 1 of a container: only numbers and layouts.
//!
//! Used by `pid1` in this crate and, through `runner-wire`, by the engine. Both ends run on one
//! machine and come from one build, so integers are little-endian and unpadded, and [`ABI_VERSION`]
//! in the first reply catches the one case where they do not match (a container that outlived an
//! upgrade).
//!
//! Requests travel over a `SOCK_STREAM` socket as a [`Header`] and a body. Descriptors are attached
//! to the header's bytes: the receiver reads exactly one header at a time, so it never gets those
//! of two requests at once. Replies are [`REPLY_LEN`] bytes each, with at most one descriptor.

pub mod files;
pub mod relay;
pub mod sockets;

/// Version of everything in this file. Raise it with any change.
pub const ABI_VERSION: u32 = 11;

/// Descriptor of PID 1's end of the request socket.
pub const CONTROL_FD: i32 = 3;
/// Descriptor of the root directory of the container's devpts, in PID 1.
pub const DEVPTS_FD: i32 = 4;

/// Descriptor of the toolbox in PID 1: a directory of programs that is mounted nowhere.
pub const TOOLBOX_FD: i32 = 5;
/// Descriptor of the system call filter's listener in PID 1, if there is one: PID 1 makes the
/// sockets that the filter cannot check.
pub const LISTENER_FD: i32 = 6;
/// Descriptor of the toolbox in a program that gets it, and in its children: high enough not to
/// collide with their own.
pub const TOOLBOX_IN_PROGRAM: i32 = 200;
/// The toolbox's path in such a program.
pub const TOOLBOX_PATH: &str = "/proc/self/fd/200";

/// Name of the shim socket, in the parent directory of the shims. Every process may connect.
pub const SHIM_SOCKET: &str = "shim.sock";
/// File name (`argv[0]`) that makes the program a reaper of its descendants instead of PID 1.
pub const REAPER_NAME: &str = "runner-reaper";
/// File name (`argv[0]`) that makes the program PID 1 of a container made by a daemon. Its argument
/// is the socket on which the runner waits for it, or with [`relay::WAITS`] where it waits for the
/// relay.
pub const CONTAINER_NAME: &str = "runner-container";
/// Its exit code if nobody answers.
pub const NOT_REACHED: i32 = 73;
/// File name (`argv[0]`) that makes the program the relay to PID 1, if the runner has no other
/// connection (see [`relay`]).
pub const RELAY_NAME: &str = "runner-relay";
/// File name (`argv[0]`) that makes the program the blocking shim.
pub const BREAKPOINT_NAME: &str = "codebuild-breakpoint";
/// File name (`argv[0]`) that makes the program the releasing shim.
pub const RESUME_NAME: &str = "codebuild-resume";

/// File name (`argv[0]`) that makes the program hash files.
pub const HASH_FILES_NAME: &str = "codebuild-hash-files";
/// File name (`argv[0]`) that makes the program run a build's part of the tests.
pub const TESTS_RUN_NAME: &str = "codebuild-tests-run";
/// The file in `/codebuild/readonly` with the build's part of the tests: its index and the number
/// of parts.
pub const SHARD_NAME: &str = "shard";
/// File name (`argv[0]`) that makes the program answer git.
pub const CREDENTIAL_NAME: &str = "git-credential-helper";
/// File name (`argv[0]`) that makes the program read and write files for the runner (see
/// [`files`]).
pub const FILES_NAME: &str = "runner-files";
/// File name (`argv[0]`) of the program that an image's entrypoint runs.
pub const AGENT_NAME: &str = "runner-agent";
/// The commands of a build, in the last directory on its PATH.
pub const COMMANDS: [&str; 4] = [BREAKPOINT_NAME, RESUME_NAME, HASH_FILES_NAME, TESTS_RUN_NAME];
/// Variable with the program's credentials for git: lines of `https://USER:PASSWORD@HOST`.
pub const GIT_CREDENTIALS: &str = "CODEBUILD_GIT_CREDENTIALS";

/// Length of a [`Header`] on the wire, in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of a [`Pid1Reply`] on the wire, in bytes.
pub const REPLY_LEN: usize = 24;
/// Longest request body, in bytes. Linux refuses an environment beyond 6 MiB whatever the limits.
pub const MAX_BODY: usize = 8 << 20;
/// Most descriptors one request carries: standard input, output and error.
pub const MAX_FDS: usize = 3;
/// Most commands and opens in progress. One more fails with `EAGAIN`.
pub const MAX_JOBS: usize = 1024;

/// Request kinds, runner to PID 1.
pub mod request {
    /// Start a program. Body: [`super::ExecHead`], groups, strings. Descriptors: 3; 2 with
    /// [`super::flags::NULL_INPUT`]; 0 with [`super::flags::PTY`].
    pub const EXEC: u32 = 1;
    /// Send a signal to one job. Body: signal `u32`, scope `u32` (see [`super::scope`]).
    pub const SIGNAL: u32 = 2;
    /// Send a signal to every process but PID 1. Body: signal `u32`. `ALL_GONE` follows.
    pub const KILL_ALL: u32 = 3;
    /// Open a path inside the container. Body: flags `u32`, mode `u32`, path, NUL.
    pub const OPEN: u32 = 4;
    /// Connect to a listener inside the container. Body: one of [`super::family`] `u32`; for TCP
    /// the port `u32`, the scope of an IPv6 address `u32`, and the address; for a unix socket its
    /// path and a NUL, with a leading NUL for an abstract name.
    pub const DIAL: u32 = 5;
    /// Set a terminal's size. Only a relay's other end accepts it, because there the runner does
    /// not have the master. Body: rows `u16`, columns `u16`.
    pub const RESIZE: u32 = 6;
    /// Reply with `ALIVE`. No body.
    pub const PING: u32 = 7;
    /// Stop the programs of jobs with [`super::flags::OF_BUILD`] and everything they started, until
    /// none of it runs. With the descriptor of a group's `cgroup.procs`, move them there instead of
    /// stopping them. No body. `STILL` follows.
    pub const FREEZE: u32 = 8;
    /// Let them go on. No body.
    pub const THAW: u32 = 9;
    /// Listen in the container's network. Body as for `DIAL` with TCP.
    pub const LISTEN: u32 = 10;
    /// Report whether any process besides PID 1 lives in the container. No body. `COUNTED` follows.
    pub const CENSUS: u32 = 11;
}

/// How a `DIAL` or `LISTEN` request gives its address.
pub mod family {
    /// TCP over IPv4: 4 bytes of address.
    pub const INET: u32 = 2;
    /// TCP over IPv6: 16 bytes of address.
    pub const INET6: u32 = 10;
    /// A unix stream socket.
    pub const UNIX: u32 = 1;
}

/// Reply kinds, PID 1 to runner.
pub mod reply {
    /// The first message: `a` is [`super::ABI_VERSION`].
    pub const HELLO: u32 = 1;
    /// The master of a job's terminal, if it has a pty.
    pub const TERMINAL: u32 = 2;
    /// The job's program has ended: `a` is the wait status as the kernel gives it.
    pub const EXITED: u32 = 3;
    /// The job failed: `a` is a [`super::stage`], `b` the errno.
    pub const FAILED: u32 = 4;
    /// The path is open, the connection made, or the port listening; the descriptor comes with it.
    pub const OPENED: u32 = 5;
    /// After `KILL_ALL`: no process is left but PID 1.
    pub const ALL_GONE: u32 = 6;
    /// After `PING`.
    pub const ALIVE: u32 = 7;
    /// After `FREEZE`.
    pub const STILL: u32 = 8;
    /// After `CENSUS`: `a` is 0 if only PID 1 lives.
    pub const COUNTED: u32 = 9;
}

/// What a job was doing when it failed; the `a` of a `FAILED` reply.
pub mod stage {
    /// The request was malformed. `errno` is `EINVAL` or `E2BIG`.
    pub const REQUEST: u32 = 1;
    /// No room for another job, or no process could be made.
    pub const FORK: u32 = 2;
    /// The pseudo-terminal could not be made or taken.
    pub const PTY: u32 = 3;
    /// Standard input, output or error could not be put in place.
    pub const STDIO: u32 = 4;
    /// Switching the group or user failed.
    pub const USER: u32 = 5;
    /// The working directory could not be entered.
    pub const CHDIR: u32 = 6;
    /// The program could not be executed.
    pub const EXEC: u32 = 7;
    /// The path could not be opened.
    pub const OPEN: u32 = 8;
    /// The process disappeared silently (killed before it could execute).
    pub const LOST: u32 = 9;
    /// The connection could not be made.
    pub const DIAL: u32 = 10;
    /// The build's processes could not all be stopped.
    pub const FREEZE: u32 = 11;
    /// Listening at the address failed.
    pub const LISTEN: u32 = 12;
}

/// Bits of [`ExecHead::flags`].
pub mod flags {
    /// Open a pseudo-terminal and make it the controlling terminal; the request carries no
    /// descriptors.
    pub const PTY: u32 = 1;
    /// A working directory that cannot be entered becomes `/` instead of a failure.
    pub const CWD_OR_ROOT: u32 = 2;
    /// The program runs as PID 1's user; the request's user, group and groups are ignored.
    pub const KEEP_USER: u32 = 4;
    /// Standard input is PID 1's own, the container's /dev/null; the request carries two
    /// descriptors, for output and error.
    pub const NULL_INPUT: u32 = 8;
    /// The program gets the toolbox, if the container has one.
    pub const TOOLBOX: u32 = 16;
    /// The program and its descendants belong to the build: `FREEZE` stops them.
    pub const OF_BUILD: u32 = 32;
}

/// The processes that a `SIGNAL` request reaches.
pub mod scope {
    /// The job's own process.
    pub const PROCESS: u32 = 0;
    /// Its process group.
    pub const GROUP: u32 = 1;
    /// Every process of its session, including background jobs.
    pub const SESSION: u32 = 2;
}

/// Precedes each request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the body, in bytes.
    pub body_len: u32,
    /// One of [`request`].
    pub kind: u32,
    /// Identifies the job in replies; chosen by the runner, never reused.
    pub id: u64,
}

impl Header {
    /// The header as sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Reads a header. Any bytes make one; the reader checks its fields.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Self {
        Header {
            body_len: u32_at(bytes, 0).unwrap_or(0),
            kind: u32_at(bytes, 4).unwrap_or(0),
            id: u64_at(bytes, 8).unwrap_or(0),
        }
    }
}

/// One message from PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid1Reply {
    /// One of [`reply`].
    pub kind: u32,
    /// Meaning depends on the kind.
    pub a: u32,
    /// The request that this answers; 0 if none.
    pub id: u64,
    /// Meaning depends on the kind.
    pub b: u32,
}

impl Pid1Reply {
    /// The reply as sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[0..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.a.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.b.to_le_bytes());
        bytes
    }

    /// Reads a reply. Any bytes make one; the reader checks its fields.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; REPLY_LEN]) -> Self {
        Pid1Reply {
            kind: u32_at(bytes, 0).unwrap_or(0),
            a: u32_at(bytes, 4).unwrap_or(0),
            id: u64_at(bytes, 8).unwrap_or(0),
            b: u32_at(bytes, 16).unwrap_or(0),
        }
    }
}

/// Length of an [`ExecHead`] on the wire, in bytes.
pub const EXEC_HEAD_LEN: usize = 28;

/// The fixed part of an `EXEC` body. It is followed by `groups` numbers of 4 bytes, and then by
/// NUL-terminated strings: the working directory, the search path for a program without a slash,
/// `argc` arguments and `envc` variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecHead {
    /// Bits of [`flags`].
    pub flags: u32,
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// Terminal size, used with [`flags::PTY`].
    pub rows: u16,
    /// Terminal size, used with [`flags::PTY`].
    pub cols: u16,
    /// Number of supplementary groups.
    pub groups: u32,
    /// Number of arguments, the program's name included.
    pub argc: u32,
    /// Number of variables.
    pub envc: u32,
}

impl ExecHead {
    /// The fixed part as sent.
    #[must_use]
    pub fn to_bytes(self) -> [u8; EXEC_HEAD_LEN] {
        let mut bytes = [0; EXEC_HEAD_LEN];
        bytes[0..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.uid.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.gid.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.rows.to_le_bytes());
        bytes[14..16].copy_from_slice(&self.cols.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.groups.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.argc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.envc.to_le_bytes());
        bytes
    }

    /// Reads the fixed part; `None` if the body is shorter.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Option<Self> {
        Some(ExecHead {
            flags: u32_at(body, 0)?,
            uid: u32_at(body, 4)?,
            gid: u32_at(body, 8)?,
            rows: u16_at(body, 12)?,
            cols: u16_at(body, 14)?,
            groups: u32_at(body, 16)?,
            argc: u32_at(body, 20)?,
            envc: u32_at(body, 24)?,
        })
    }
}

/// Messages of the shim socket: one request per connection, one byte back.
pub mod shim {
    /// Block until resumed. Body: uid `u32`, gid `u32`, working directory, NUL, then each variable
    /// with its NUL.
    pub const BREAKPOINT: u32 = 1;
    /// Release the breakpoint that waits longest. No body.
    pub const RESUME: u32 = 2;

    /// Length of a request's head in bytes: body length `u32`, kind `u32`.
    pub const HEAD_LEN: usize = 8;
    /// Longest body, in bytes.
    pub const MAX_BODY: usize = 4 << 20;

    /// The breakpoint is released.
    pub const RESUMED: u8 = 0;
    /// Nothing is paused; the resume did nothing.
    pub const NOTHING_PAUSED: u8 = 1;
    /// The runner accepts no more breakpoints at once.
    pub const TOO_MANY: u8 = 2;
    /// The breakpoint is released, and another one still waits.
    pub const ONE_RESUMED: u8 = 3;
}

/// Reads two bytes; `None` past the end.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([part[0], part[1]]))
}

/// Reads four bytes; `None` past the end.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([part[0], part[1], part[2], part[3]]))
}

/// Reads eight bytes; `None` past the end.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let low = u32_at(bytes, at)?;
    let high = u32_at(bytes, at.checked_add(4)?)?;
    Some(u64::from(high) << 32 | u64::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_survive_the_way_there_and_back() {
        let header = Header { body_len: 7, kind: request::OPEN, id: u64::MAX - 1 };
        assert_eq!(Header::from_bytes(&header.to_bytes()), header);
        let reply = Pid1Reply { kind: reply::FAILED, a: stage::EXEC, id: 1 << 40, b: 2 };
        assert_eq!(Pid1Reply::from_bytes(&reply.to_bytes()), reply);
        let head =
            ExecHead { flags: 3, uid: 1, gid: 2, rows: 24, cols: 80, groups: 4, argc: 5, envc: 6 };
        assert_eq!(ExecHead::from_body(&head.to_bytes()), Some(head));
        assert_eq!(ExecHead::from_body(&head.to_bytes()[..EXEC_HEAD_LEN - 1]), None);
    }
}
