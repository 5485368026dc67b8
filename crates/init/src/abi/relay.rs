//! The words (messages) between the runner and the relay, the program through which it reaches a
//! PID 1 on another machine: numbers and layouts.
//!
//! Each word is a [`super::Header`], whose id names a channel, and a body. A channel carries the
//! bytes of one descriptor, in one direction or both. Its number follows from its job
//! ([`channel`]), so it need not be requested.

/// Name of the socket on which PID 1 waits for the relay, in the parent directory of the programs.
pub const SOCKET: &str = "init.sock";
/// Argument after the socket that makes PID 1 wait there instead of connecting.
pub const WAITS: &str = "waits";
/// Argument after the directory that makes the relay listen for shims.
pub const SHIMS: &str = "shims";
/// How long PID 1 waits for the relay, and the relay for PID 1, in milliseconds.
pub const PATIENCE_MS: u32 = 60_000;

/// Most bytes in flight in one direction of a channel.
pub const WINDOW: usize = 256 << 10;
/// Longest body of a [`DATA`].
pub const MAX_DATA: usize = 32 << 10;
/// Longest body of any word: a request with its header, or a reply with a file's contents.
pub const MAX_BODY: usize = super::MAX_BODY + 64;
/// Most open channels; a job has three at most.
pub const MAX_CHANNELS: usize = 512;
/// Most of them that may be connections of shims.
pub const MAX_SHIMS: usize = 64;
/// First channel number for connections of shims.
pub const FIRST_SHIM: u64 = 1 << 63;

/// A job's standard input.
pub const INPUT: u64 = 0;
/// Its standard output, including standard error if the two are one.
pub const OUTPUT: u64 = 1;
/// Its standard error.
pub const ERROR: u64 = 2;
/// The descriptor that comes with a reply.
pub const GIVEN: u64 = 3;

/// The number of a job's channel.
#[must_use]
pub const fn channel(job: u64, which: u64) -> u64 {
    job << 2 | which
}

/// To the relay: a request to PID 1, starting with its header. Channels replace descriptors.
pub const REQUEST: u32 = 1;
/// Both ways: bytes of a channel.
pub const DATA: u32 = 2;
/// Both ways: no more bytes follow.
pub const END: u32 = 3;
/// Both ways: no more bytes are accepted.
pub const STOP: u32 = 4;
/// Both ways: allows this many more bytes, `u32`.
pub const CREDIT: u32 = 5;
/// To the relay: the size of a terminal, rows `u16`, columns `u16`.
pub const RESIZE: u32 = 6;
/// To the relay: the new state of a file opened for writing: its mode `u32`, contents.
pub const PUT: u32 = 7;
/// From the relay: a reply of PID 1, the kind of its descriptor as one of the three below `u32`,
/// and the data of that kind.
pub const REPLY: u32 = 8;
/// From the relay: a shim has connected.
pub const SHIM: u32 = 9;

/// No descriptor.
pub const NOTHING: u32 = 0;
/// A channel, [`GIVEN`], in both directions.
pub const STREAM: u32 = 1;
/// A regular file: its mode `u32`, its contents. One opened for writing accepts [`PUT`] until
/// [`END`].
pub const FILE: u32 = 2;
