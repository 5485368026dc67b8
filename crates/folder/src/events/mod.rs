//! The pipe out: one append-only log a build, written in one place, read by cursors.
//!
//! [`LogWriter`] is the only one that gives out `seq`. Output bytes go from the pipe through
//! [`pump`] into `output.log` without ever passing the machine; an event says where they lie. A
//! [`LogReader`] reads the same files, in this process or another, live or years later; a [`Follower`]
//! makes of them the state of the build.

mod codebuild;
mod follower;
mod lines;
mod log;
pub mod pump;
mod reader;

pub use codebuild::CodeBuild;
pub use follower::Follower;
pub use lines::{Line, LineReader, LinesState};
pub use log::{Growth, Heads, LogWriter};
pub use reader::{LogReader, OutputReader};
