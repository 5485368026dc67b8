//! What is kept on disk: the state folder and one folder a build.
//!
//! A build's folder is the truth about it (docs/architecture.md): who holds its lock owns it, its
//! files tell the rest. Used by `app` for the build it runs, by `cli` for all others.

mod build_dir;
mod home;
mod lookup;
mod random;
mod remove;
mod retention;
mod serving;
mod short_path;
mod signing_key;

pub(crate) use build_dir::{BuildDir, ContainerFile, Meta, Owned};
pub(crate) use home::{Home, StateError, make_private, write_durably};
pub(crate) use lookup::{Known, LookupError, all_builds, find, live_builds};
pub(crate) use random::random;
pub(crate) use remove::{remove_as_we_are, remove_tree};
pub(crate) use retention::prune_old;
pub(crate) use serving::{ServeLock, Serving, live_serve};
pub(crate) use short_path::{ShortPath, listen};
