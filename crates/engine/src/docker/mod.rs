//! Docker and Podman, as their client: where they listen, whether they answer, what they refuse.
//!
//! Used by the engines that have them make containers, by `image` for images they have, by `doctor`.

mod address;
mod client;
mod find;
mod service;
mod storage;

pub use address::DaemonProgram;
pub use client::{connect, said};
pub use find::{Daemon, find, listening, podman, program_on_path, serve};
pub use storage::Storage;
