//! The client of a build that runs in another process: control socket, sessions, terminal.
//!
//! Needs nothing but the build's folder.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

mod attach;
mod connection;
mod copy;
pub mod diff;
mod ended;
mod exec;
mod forward;
mod incoming;
mod link;
mod terminal;

pub use attach::attach;
pub use connection::{Client, ClientError, goes_on};
pub use copy::{Copied, CopyDirection, CopyError, Manner, Unfinished, copy};
pub use ended::SessionEnd;
pub use exec::exec;
pub use forward::{Forward, forward};
pub use link::SharedClient;
pub use terminal::{RawMode, can_be_asked};
