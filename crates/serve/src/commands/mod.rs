//! Run Command: runs scripts in builds for AWS's clients.
//!
//! `aws` serves the calls: it passes commands to [`Center`] and reads their state from the state
//! folder (`runner_folder::state::Commands`), where each serving process finds the commands of all.
//! Each command has a task (`run`), which follows the decisions of `runner_core::run_command`. Each
//! node has a task (`node`), which takes the document's steps in turn. `script` runs one step as a
//! client of the build's control socket. `lanes` limits the scripts at a node.

mod center;
mod delivery;
mod lanes;
mod node;
mod run;
mod script;

pub use center::{Center, CommandOrder, NotSent};
