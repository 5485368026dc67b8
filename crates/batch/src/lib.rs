//! The owner of a batch. It starts builds when `core::batch` says so, each in a separate process,
//! and keeps the batch's record.
//!
//! Everything here is synchronous: one loop receives all events from one channel (`owner`), one
//! thread per build follows its log (`child`), and nothing waits for the display (`face`).

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod sweep;

mod child;
mod face;
mod freeze;
mod owner;

pub use face::{BatchBegun, BatchDisplay, Started};
pub use freeze::{FrozenSources, freeze};
pub use owner::{BatchError, BatchRequest, ChildRequest, Over, run};
