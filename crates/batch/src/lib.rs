//! The owner of a batch. It starts the builds when `core::batch` says so, each in a separate process, and keeps
//! the batch's record.
//!
//! Everything here is synchronous: one loop takes what happens from one channel (`owner`), one thread a build
//! follows its log (`child`), and nothing waits for whoever shows it (`face`).

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
