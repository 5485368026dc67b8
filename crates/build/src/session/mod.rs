//! Sessions: programs that people run in a build's container besides the build.
//!
//! [`Hub`] opens them, whatever client they serve; `guests` keeps track of the clients, `program`
//! runs interactive programs, `script` runs scripts; `control::host` connects them with clients of
//! this program. [`SessionLog`] records what was shown and done.
#![deny(clippy::disallowed_methods)]

mod forwards;
mod guests;
mod hub;
mod image_agent;
mod log;
mod places;
mod program;
mod recording;
mod refusal;
mod run_as;
mod script;
mod tee;
mod transcript;

pub use hub::{Hub, HubParts, SessionOptions};
pub use log::{LogDir, SessionLog};
pub use places::ScriptPlace;
pub use program::{ProgramEnding, ProgramSession, SessionControls};
pub use refusal::{DEAF, SessionOpenError};
