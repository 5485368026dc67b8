//! The state folder: builds, their logs and events, and the ownership of its files.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod events;
pub mod ledger;
pub mod state;
