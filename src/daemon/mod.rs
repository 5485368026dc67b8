//! Docker and Podman, as their client: where they listen, whether they answer, what they refuse.
//!
//! Used by the engines that have them make containers, by `image` for images they have, by `doctor`.

mod address;
mod client;
mod find;
mod service;
mod storage;

pub(crate) use address::Program;
pub(crate) use client::{connect, said};
pub(crate) use find::{Daemon, find, podman, program_on_path, serve};
pub(crate) use storage::Storage;
