//! A client of Docker and Podman: where they listen, whether they answer, how they refuse.
//!
//! Used by the engines that make containers with them, by `image` for images they hold, and by
//! `doctor`.

mod address;
mod client;
mod find;
mod service;
mod storage;

pub use address::DaemonProgram;
pub use client::{connect, said};
pub use find::{Daemon, find, listening, podman, program_on_path, serve};
pub use storage::Storage;
