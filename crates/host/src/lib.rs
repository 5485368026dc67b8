//! This machine as seen by programs: untrusted folders, users, time, signals, terminals and peers.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod beneath;
pub mod clock;
pub mod duplex;
pub mod named;
pub mod peers;
pub mod private;
pub mod runtime;
pub mod signals;
pub mod stdio;
pub mod trust;
pub mod users;
