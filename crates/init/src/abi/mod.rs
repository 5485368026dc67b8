//! The messages between the runner and PID 1 of a container: numbers and layouts, nothing else.
//!
//! Fed by nobody; read by `pid1` in this crate and, through `runner-wire`, by the engine. Both ends
//! run on one machine and come from one build, so integers are little-endian and unpadded, and
//! [`ABI_VERSION`] in the first reply catches the one case where they do not match (a container
//! that outlived an upgrade).
//!
//! Requests travel over a `SOCK_STREAM` socket as a [`Header`] and a body. Descriptors ride on the
//! header's bytes, so the receiver, which reads exactly one header at a time, never gets those of
//! two requests at once. Replies are [`REPLY_LEN`] bytes each, with at most one descriptor.

pub mod files;
pub mod relay;
pub mod sockets;

/// Version of everything in this file. Raise it with any change.
pub const ABI_VERSION: u32 = 11;

/// Descriptor on which PID 1 finds its end of the request socket.
pub const CONTROL_FD: i32 = 3;
/// Descriptor on which PID 1 finds the root directory of the container's devpts.
pub const DEVPTS_FD: i32 = 4;

/// Descriptor on which PID 1 finds the toolbox: a directory of programs that is mounted nowhere.
pub const TOOLBOX_FD: i32 = 5;
/// Descriptor on which PID 1 finds the listener of the filter of system calls, where there is one: it
/// makes the sockets that the filter cannot judge.
pub const LISTENER_FD: i32 = 6;
/// Descriptor on which a program that is to have the toolbox finds it, and its children after it: high
/// enough that nobody takes it for one of its own.
pub const TOOLBOX_IN_PROGRAM: i32 = 200;
/// The toolbox as such a program sees it.
pub const TOOLBOX_PATH: &str = "/proc/self/fd/200";

/// Name of the shim socket, in the directory above that of the shims. Every process may connect.
pub const SHIM_SOCKET: &str = "shim.sock";
/// File name (`argv[0]`) under which the program is no PID 1 but the reaper of its descendants.
pub const REAPER_NAME: &str = "runner-reaper";
/// File name (`argv[0]`) under which the program is PID 1 of a container that a daemon has made. Its
/// argument is the socket on which the runner waits for it, or with [`relay::WAITS`] it for the relay.
pub const CONTAINER_NAME: &str = "runner-container";
/// Its exit code where it has found nobody.
pub const NOT_REACHED: i32 = 73;
/// File name (`argv[0]`) that makes the program the way to PID 1 where the runner has no other (see
/// [`relay`]).
pub const RELAY_NAME: &str = "runner-relay";
/// File name (`argv[0]`) that makes the program the blocking shim.
pub const BREAKPOINT_NAME: &str = "codebuild-breakpoint";
/// File name (`argv[0]`) that makes the program the releasing shim.
pub const RESUME_NAME: &str = "codebuild-resume";

/// File name (`argv[0]`) that makes the program hash files.
pub const HASH_FILES_NAME: &str = "codebuild-hash-files";
/// File name (`argv[0]`) that makes the program run a build's part of the tests.
pub const TESTS_RUN_NAME: &str = "codebuild-tests-run";
/// The file in `/codebuild/readonly` that says which part that is: its number and how many there are.
pub const SHARD_NAME: &str = "shard";
/// File name (`argv[0]`) that makes the program answer git.
pub const CREDENTIAL_NAME: &str = "git-credential-helper";
/// File name (`argv[0]`) that makes the program read and write files for the runner (see [`files`]).
pub const FILES_NAME: &str = "runner-files";
/// File name (`argv[0]`) that makes the program what an image's entrypoint runs.
pub const AGENT_NAME: &str = "runner-agent";
/// The commands of a build, in the directory that comes last in its PATH.
pub const COMMANDS: [&str; 4] = [BREAKPOINT_NAME, RESUME_NAME, HASH_FILES_NAME, TESTS_RUN_NAME];
/// Variable with what the program answers git: lines of `https://USER:PASSWORD@HOST`.
pub const GIT_CREDENTIALS: &str = "CODEBUILD_GIT_CREDENTIALS";

/// Length of a [`Header`] on the wire, in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of a [`Pid1Reply`] on the wire, in bytes.
pub const REPLY_LEN: usize = 24;
/// Longest request body, in bytes. Linux refuses an environment beyond 6 MiB whatever the limits.
pub const MAX_BODY: usize = 8 << 20;
/// Most descriptors one request carries: standard input, output and error.
pub const MAX_FDS: usize = 3;
/// Commands and opens that may be under way at once. One more is answered with `EAGAIN`.
pub const MAX_JOBS: usize = 1024;

/// Request kinds, runner to PID 1.
pub mod request {
    /// Start a program. Body: [`super::ExecHead`], groups, strings. Descriptors: 3, 2 without an input
    /// for it alone, 0 with a pty.
    pub const EXEC: u32 = 1;
    /// Send a signal to one job. Body: signal `u32`, scope `u32` (see [`super::scope`]).
    pub const SIGNAL: u32 = 2;
    /// Send a signal to every process but PID 1. Body: signal `u32`. `ALL_GONE` follows.
    pub const KILL_ALL: u32 = 3;
    /// Open a path inside the container. Body: flags `u32`, mode `u32`, path, NUL.
    pub const OPEN: u32 = 4;
    /// Connect to something that listens inside the container. Body: one of [`super::family`] `u32`;
    /// for TCP the port `u32`, the scope of an IPv6 address `u32`, and the address; for a unix socket its path and a NUL, a
    /// NUL first where it has no place in the file system.
    pub const DIAL: u32 = 5;
    /// For the other end of a relay, which alone takes it, because the master of a terminal is not here:
    /// its size. Body: rows `u16`, columns `u16`.
    pub const RESIZE: u32 = 6;
    /// Answer with `ALIVE`. No body.
    pub const PING: u32 = 7;
    /// Stop what jobs with [`super::flags::OF_BUILD`] have started, themselves among it, until nothing of it
    /// runs; with the descriptor of a group's `cgroup.procs`, put it there and stop nothing. No body.
    /// `STILL` follows.
    pub const FREEZE: u32 = 8;
    /// Let it go on. No body.
    pub const THAW: u32 = 9;
    /// Listen in the container's network. Body: as of `DIAL`, for TCP.
    pub const LISTEN: u32 = 10;
    /// Say whether anybody lives in the container but PID 1. No body. `COUNTED` follows.
    pub const CENSUS: u32 = 11;
}

/// How a `DIAL` request names what it connects to, and a `LISTEN` request where it listens.
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
    /// First message of all: `a` is [`super::ABI_VERSION`].
    pub const HELLO: u32 = 1;
    /// The master of the terminal of a job that was asked for with a pty.
    pub const TERMINAL: u32 = 2;
    /// The job's program has ended: `a` is the wait status as the kernel gives it.
    pub const EXITED: u32 = 3;
    /// The job came to nothing: `a` is a [`super::stage`], `b` the errno.
    pub const FAILED: u32 = 4;
    /// The path is open, the connection made, or the port listened at; the descriptor comes along.
    pub const OPENED: u32 = 5;
    /// After `KILL_ALL`: no process is left but PID 1.
    pub const ALL_GONE: u32 = 6;
    /// After `PING`.
    pub const ALIVE: u32 = 7;
    /// After `FREEZE`.
    pub const STILL: u32 = 8;
    /// After `CENSUS`: `a` is 0 where nobody lives but PID 1.
    pub const COUNTED: u32 = 9;
}

/// What a job was doing when it failed; the `a` of a `FAILED` reply.
pub mod stage {
    /// The request itself was malformed. `errno` is `EINVAL` or `E2BIG`.
    pub const REQUEST: u32 = 1;
    /// No room for another job, or no process could be made.
    pub const FORK: u32 = 2;
    /// The pseudo-terminal could not be made or taken.
    pub const PTY: u32 = 3;
    /// Standard input, output or error could not be put in place.
    pub const STDIO: u32 = 4;
    /// Group or user could not be taken on.
    pub const USER: u32 = 5;
    /// The working directory could not be entered.
    pub const CHDIR: u32 = 6;
    /// The program could not be executed.
    pub const EXEC: u32 = 7;
    /// The path could not be opened.
    pub const OPEN: u32 = 8;
    /// The process vanished without a word (killed before it could execute).
    pub const LOST: u32 = 9;
    /// The connection could not be made.
    pub const DIAL: u32 = 10;
    /// The build's processes could not all be stopped.
    pub const FREEZE: u32 = 11;
    /// The address could not be listened at.
    pub const LISTEN: u32 = 12;
}

/// Bits of [`ExecHead::flags`].
pub mod flags {
    /// Open a pseudo-terminal and make it the controlling one; no descriptors come with the request.
    pub const PTY: u32 = 1;
    /// A working directory that cannot be entered becomes `/` instead of a failure.
    pub const CWD_OR_ROOT: u32 = 2;
    /// The program runs as the user of PID 1, and its user, group and groups are not looked at.
    pub const KEEP_USER: u32 = 4;
    /// Standard input is PID 1's own, the container's /dev/null; two descriptors come with the
    /// request, for output and error.
    pub const NULL_INPUT: u32 = 8;
    /// The program gets the toolbox, where the container has one.
    pub const TOOLBOX: u32 = 16;
    /// The program is the build's, and what it leaves behind too: `FREEZE` stops it.
    pub const OF_BUILD: u32 = 32;
}

/// Whom a `SIGNAL` request reaches.
pub mod scope {
    /// The job's own process.
    pub const PROCESS: u32 = 0;
    /// Its process group.
    pub const GROUP: u32 = 1;
    /// Every process of its session, jobs in the background included.
    pub const SESSION: u32 = 2;
}

/// What comes before each request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the body, in bytes.
    pub body_len: u32,
    /// One of [`request`].
    pub kind: u32,
    /// Names the job in replies; chosen by the runner, never reused.
    pub id: u64,
}

impl Header {
    /// The header as it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Reads a header; any bytes make one, its fields are judged by the reader.
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
    /// The request this answers; 0 where there is none.
    pub id: u64,
    /// Meaning depends on the kind.
    pub b: u32,
}

impl Pid1Reply {
    /// The reply as it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[0..4].copy_from_slice(&self.kind.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.a.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.b.to_le_bytes());
        bytes
    }

    /// Reads a reply; any bytes make one, its fields are judged by the reader.
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

/// The fixed part of an `EXEC` body. After it: `groups` numbers of 4 bytes, then, each ended by NUL,
/// the working directory, the search path for a program without a slash, `argc` arguments and
/// `envc` variables.
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
    /// The fixed part as it travels.
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

/// Messages of the shim socket: one request a connection, one byte back.
pub mod shim {
    /// Block until resumed. Body: uid `u32`, gid `u32`, working directory, NUL, then each variable
    /// with its NUL.
    pub const BREAKPOINT: u32 = 1;
    /// Release the breakpoint that waits longest. No body.
    pub const RESUME: u32 = 2;

    /// Length of what comes before a body: body length `u32`, kind `u32`.
    pub const HEAD_LEN: usize = 8;
    /// Longest body, in bytes.
    pub const MAX_BODY: usize = 4 << 20;

    /// The breakpoint is released.
    pub const RESUMED: u8 = 0;
    /// Nothing is paused; the resume did nothing.
    pub const NOTHING_PAUSED: u8 = 1;
    /// The runner takes no more breakpoints at once.
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
