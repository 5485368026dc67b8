//! Why a build could not be run to its end.

use crate::credentials::EndpointError;
use runner_folder::state::StateError;
use runner_host::runtime::NoRuntime;
use std::io;

/// A failure outside the build itself; `cli` maps it to an exit code and a hint.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Runtime(#[from] NoRuntime),
    #[error("--mask {name}: the build has no such variable")]
    UnknownMasked { name: String },
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    #[error("cannot mask these values: {0}")]
    Mask(String),
    #[error("--aws-profile: {0}")]
    Credentials(#[from] EndpointError),
    #[error("stopped before the build began")]
    Stopped,
    #[error("the build ended before it began")]
    NotBegun,
    #[error("{}", .0.join("; "))]
    Unfinished(Vec<String>),
}

impl BuildError {
    /// Wraps an I/O error with what was being done, for `map_err`.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| BuildError::Io { doing, source }
    }
}
