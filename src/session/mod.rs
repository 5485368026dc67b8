//! Sessions: programs that somebody runs in a build's container beside the build.
//!
//! [`Hub`] opens and ends them, whatever client they serve; `control::host` relays between a session
//! and a client of this program. [`SessionLog`] keeps what was shown and done.

mod hub;
mod log;

pub(crate) use hub::{Hub, HubParts, OpenError, Output, Session, SessionInput, SessionOutput};
pub(crate) use log::{LogDir, SessionLog};
