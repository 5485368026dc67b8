//! The two sockets of a live build.
//!
//! [`ShimServer`]: inside the container, open to every process there, knows breakpoint and resume.
//! [`host`]: on this machine, for the build's owner and root, knows everything else; `client` is its
//! other end.

mod connection;
mod forward;
pub mod host;
mod shim;

pub use shim::ShimServer;
