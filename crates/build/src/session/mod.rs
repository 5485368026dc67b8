//! Sessions: programs that somebody runs in a build's container beside the build.
//!
//! [`Hub`] opens them, whatever client they serve; `guests` knows who is in, `program` is one that runs, `script` one that
//! nobody sits at;
//! `control::host` connects it and a client of this program. [`SessionLog`] keeps what was shown
//! and done.
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
