//! The protocols spoken over sockets, as bytes and messages. Nothing in here opens a socket.
//!
//! - [`init`]: requests to PID 1 in a container, and its replies.
//! - [`shim`]: messages of `codebuild-breakpoint` and `codebuild-resume`. Untrusted.
//! - [`files`]: requests to the program that reads and writes files in a container, and its
//!   replies. Untrusted.
//! - [`relay`]: the same requests, replies and descriptors on a single stream. Untrusted.
//! - [`control`]: messages between `runner` commands and the process that owns a build.
//! - [`frame`]: splits a stream into `control` messages.
//! - [`ssm`]: Session Manager's data channel, from the server's side. Untrusted.
//! - [`smux`]: multiplexed connections in such a channel.
//! - [`cbor`]: the alternative encoding of AWS requests.

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
