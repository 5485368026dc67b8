//! The caller's end of a build that runs elsewhere: its control socket, sessions, the terminal.
//!
//! Knows a build by its folder alone.

mod attach;
mod connection;
mod copy;
mod ended;
mod exec;
mod forward;
mod incoming;
mod link;
mod terminal;

pub(crate) use attach::attach;
pub(crate) use connection::{Client, ClientError, goes_on};
pub(crate) use copy::{Copied, CopyError, Manner, Unfinished, Way, copy};
pub(crate) use ended::Ended;
pub(crate) use exec::exec;
pub(crate) use forward::{Forward, forward};
pub(crate) use link::Link;
pub(crate) use terminal::{RawMode, can_be_asked};
