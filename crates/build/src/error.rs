//! Why a build could not be run to its end.

use crate::credentials::EndpointError;
use runner_folder::state::StateError;
use runner_host::runtime::NoRuntime;
use std::io;
use std::path::{Path, PathBuf};

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
    #[error("cannot {doing} in {}: {source}", folder.display())]
    Folder { doing: &'static str, folder: PathBuf, source: io::Error },
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

    /// Wraps an I/O error in a folder.
    pub(super) fn folder(doing: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> Self {
        let folder = folder.to_path_buf();
        move |source| BuildError::Folder { doing, folder, source }
    }

    /// Whether a file system is full.
    pub fn is_about_space(&self) -> bool {
        let (BuildError::Io { source, .. } | BuildError::Folder { source, .. }) = self else {
            return false;
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
