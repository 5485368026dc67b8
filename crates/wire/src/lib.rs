//! The languages spoken over sockets, as bytes and messages; nothing in here opens a socket.
//!
//! - [`init`]: requests to PID 1 of a container and its replies.
//! - [`shim`]: what `codebuild-breakpoint` and `codebuild-resume` say. Parsed as hostile.
//! - [`files`]: requests to the program that reads and writes files in a container, and its replies.
//!   Parsed as hostile.
//! - [`relay`]: the same requests and replies, and all their descriptors, on one stream. Parsed as hostile.
//! - [`control`]: what the program's other commands say to the process that owns a build.
//! - [`frame`]: how the latter are cut out of a stream.
//! - [`ssm`]: Session Manager's data channel, as its clients speak it. Parsed as hostile.
//! - [`smux`]: many connections in one such channel.
//! - [`cbor`]: the other encoding of AWS's calls.

pub mod cbor;
pub mod control;
pub mod files;
pub mod frame;
pub mod init;
pub mod relay;
pub mod shim;
pub mod smux;
pub mod ssm;
mod unread;

pub use runner_init::abi;
