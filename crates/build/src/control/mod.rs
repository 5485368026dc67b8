//! The two sockets of a live build.
//!
//! [`ShimServer`]: inside the container, open to every process there; accepts breakpoint and
//! resume. [`host`]: on this machine, for the build's owner and root; accepts everything else.
//! `client` is its counterpart.

mod connection;
mod forward;
pub mod host;
mod shim;

pub use shim::ShimServer;
