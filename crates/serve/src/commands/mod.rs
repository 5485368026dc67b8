//! Run Command: scripts in builds, for AWS's clients.
//!
//! `aws` answers the calls: it asks [`Center`] to carry a command out and reads its state from the state folder
//! (`runner_folder::state::Commands`), where each process that serves finds those of all. One task a command (`run`)
//! does what `runner_core::run_command` decides, one a node (`node`) takes the document's steps in turn, and
//! `script` runs one of them, as a client of the build's control socket. `lanes` bounds what runs at a node at once.

mod center;
mod delivery;
mod lanes;
mod node;
mod run;
mod script;

pub use center::{Center, CommandOrder, NotSent};
