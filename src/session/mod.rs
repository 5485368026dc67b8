//! Sessions: programs that somebody runs in a build's container beside the build.
//!
//! [`Hub`] opens and ends them, whatever client they serve; `control::host` relays between a session
//! and a client of this program. [`client`] is the other end: `runner attach` and `runner exec`.
//! [`keys`] is the one-key menu at a breakpoint.

pub(crate) mod client;
mod hub;
pub(crate) mod keys;
mod terminal;

pub(crate) use hub::{Hub, HubParts, Output, Session, SessionInput, SessionOutput};
pub(crate) use terminal::{Signals, block as block_signals};
