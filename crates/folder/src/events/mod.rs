//! Logs of builds: one append-only log per build, with a single writer and any number of readers.
//!
//! Only [`LogWriter`] assigns `seq`. Output bytes go from the pipe through [`pump`] into
//! `output.log`, past the state machine; an event says where they are. A [`LogReader`] reads the
//! same files, in this process or another, during the build or years later; a [`Follower`] derives
//! the build's state from them.

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
