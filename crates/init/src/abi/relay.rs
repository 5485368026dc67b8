//! The words between the runner and the relay, the program through which it reaches a PID 1 that is on
//! another machine: numbers and layouts.
//!
//! Each word is a [`super::Header`], whose id names a channel, and a body. A channel is one descriptor's
//! bytes, in one direction or both; its number follows from the job it belongs to ([`channel`]), so that
//! nobody has to ask for one.

/// Name of the socket on which PID 1 waits for the relay, in the directory above that of the programs.
pub const SOCKET: &str = "init.sock";
/// Argument after the socket that has PID 1 wait there instead of connecting.
pub const WAITS: &str = "waits";
/// Argument after the directory that has the relay listen for shims.
pub const SHIMS: &str = "shims";
/// How long PID 1 waits for the relay, and the relay for PID 1, in milliseconds.
pub const PATIENCE_MS: u32 = 60_000;

/// Bytes that may be under way in one direction of a channel.
pub const WINDOW: usize = 256 << 10;
/// Longest body of a [`DATA`].
pub const MAX_DATA: usize = 32 << 10;
/// Longest body of any word: a request with its header, or a reply with a file's contents.
pub const MAX_BODY: usize = super::MAX_BODY + 64;
/// Channels that are open at once; a job has three at most.
pub const MAX_CHANNELS: usize = 512;
/// How many of them may be connections of shims.
pub const MAX_SHIMS: usize = 64;
/// Channels from here on are connections of shims.
pub const FIRST_SHIM: u64 = 1 << 63;

/// A job's standard input.
pub const INPUT: u64 = 0;
/// Its standard output, and with it its standard error where the two are one.
pub const OUTPUT: u64 = 1;
/// Its standard error.
pub const ERROR: u64 = 2;
/// The descriptor of a reply to it.
pub const GIVEN: u64 = 3;

/// The number of a job's channel.
#[must_use]
pub const fn channel(job: u64, which: u64) -> u64 {
    job << 2 | which
}

/// To the relay: a request to PID 1, its header first. What would be its descriptors are channels.
pub const REQUEST: u32 = 1;
/// Both ways: bytes of a channel.
pub const DATA: u32 = 2;
/// Both ways: no more bytes come.
pub const END: u32 = 3;
/// Both ways: no more bytes are taken.
pub const STOP: u32 = 4;
/// Both ways: as many more bytes may be sent, `u32`.
pub const CREDIT: u32 = 5;
/// To the relay: the size of a terminal, rows `u16`, columns `u16`.
pub const RESIZE: u32 = 6;
/// To the relay: what a file that was opened for writing holds from now on: its mode `u32`, contents.
pub const PUT: u32 = 7;
/// From the relay: a reply of PID 1's, what its descriptor is, as one of the three below `u32`, and what
/// comes with that.
pub const REPLY: u32 = 8;
/// From the relay: a shim has connected.
pub const SHIM: u32 = 9;

/// There is no descriptor.
pub const NOTHING: u32 = 0;
/// It is a channel, [`GIVEN`], in both directions.
pub const STREAM: u32 = 1;
/// It is a regular file: its mode `u32`, its contents. One opened for writing takes [`PUT`] until [`END`].
pub const FILE: u32 = 2;
