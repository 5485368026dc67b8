//! Docker and Podman, as their client: where they listen, whether they answer, what they refuse.
//!
//! Used by the engines that have them make containers, by `image` for images they have, by `doctor`.

mod address;
mod connect;
mod service;

pub(crate) use address::Program;
pub(crate) use connect::{Daemon, connect, find, podman, program_on_path, said, serve};
