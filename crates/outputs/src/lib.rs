//! A build's outputs: artifacts, reports and caches, in a folder or a bucket.
//!
//! Called by the driver's effects. Everything comes out of the container through the program that
//! moves files there (`engine::files`), is parsed as hostile, and appears at its destination whole
//! or not at all. Files in a folder of this machine belong to the caller.
#![deny(clippy::disallowed_methods)]
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "read by its own house; what needs a word has one")]

pub mod artifacts;
mod bucket;
pub mod cache;
mod expand;
mod folder;
mod git;
mod leavings;
mod listing;
mod meter;
mod packed;
pub mod reports;
mod shared;
mod transfer;
mod workplace;
mod zip;

pub use expand::ShellValues;
pub use git::SourceDirectories;
pub use leavings::{LeavingPlaces, PriorLeavings};
pub use workplace::{BuildOutputs, ReportsWanted, Workplace};

use runner_cloud::s3::{Location, S3Error};
use runner_core::artifact::{ArtifactSettings, Namespace, Packaging};
use runner_core::event::Notice;
use runner_core::machine::MachineInput;
use runner_engine::Fut;
use runner_engine::files::FilesProgramError;
use runner_host::named::NamedFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where outputs are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStore {
    /// A folder of this machine; the path has no links.
    Folder(PathBuf),
    /// A bucket, or a part of one.
    Bucket(Location),
}

impl fmt::Display for OutputStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutputStore::Folder(path) => path.display().fmt(f),
            OutputStore::Bucket(location) => location.fmt(f),
        }
    }
}

/// Where an artifact goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactDestination {
    pub store: OutputStore,
    pub settings: ArtifactSettings,
    /// Whether the whole path of the ZIP was given: a link is then followed, and a target that is
    /// not a regular file is written to.
    pub is_path: bool,
    /// Such a target, once open; never serialized.
    #[serde(skip)]
    pub stream: Option<NamedFile>,
}

impl ArtifactDestination {
    /// Resolves and opens the target. Its errors are reported when the ZIP is complete.
    fn open(self) -> Self {
        let (OutputStore::Folder(folder), Some(name), true) =
            (&self.store, &self.settings.name, self.is_path)
        else {
            return self;
        };
        let Ok(named) = NamedFile::open(&folder.join(name)) else { return self };
        let Some(place) = named.place() else {
            return ArtifactDestination { stream: Some(named), ..self };
        };
        let Ok(name) = String::from_utf8(place.name.clone()) else { return self };
        let store = OutputStore::Folder(place.dir.clone());
        let settings = ArtifactSettings { name: Some(name), ..self.settings };
        ArtifactDestination { store, settings, is_path: true, stream: None }
    }
}

/// Where artifacts go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArtifactDestinations {
    pub primary: ArtifactDestination,
    /// Destinations of secondary artifacts that have their own.
    pub secondary: BTreeMap<String, ArtifactDestination>,
}

impl ArtifactDestinations {
    /// Resolves and opens all targets.
    pub fn open(self) -> Self {
        ArtifactDestinations { primary: self.primary.open(), ..self }
    }

    /// The destination of an artifact, by identifier.
    fn of(&self, identifier: Option<&str>) -> ArtifactDestination {
        match identifier {
            None => self.primary.clone(),
            Some(id) => self.secondary.get(id).cloned().unwrap_or_else(|| {
                // Next to the primary artifact, under its own name.
                let mut beside = self.primary.clone();
                beside.settings.name = None;
                beside.is_path = false;
                beside.stream = None;
                beside
            }),
        }
    }

    /// Files and folders of this machine that artifacts create, as far as their names are known.
    pub fn places(&self) -> Vec<PathBuf> {
        let all = [&self.primary].into_iter().chain(self.secondary.values());
        let place = |destination: &ArtifactDestination| {
            let OutputStore::Folder(folder) = &destination.store else { return None };
            let settings = &destination.settings;
            let place = settings.place(None, None, None, "");
            let is_known = settings.name.is_some() && settings.namespace == Namespace::None;
            Some(match place.packaging {
                Packaging::Zip if is_known => folder.join(place.key),
                _ => folder.clone(),
            })
        };
        all.filter_map(place).collect()
    }

    /// The destinations that are folders of this machine.
    pub fn folders(&self) -> Vec<&Path> {
        let all = [&self.primary].into_iter().chain(self.secondary.values());
        all.filter_map(|destination| match &destination.store {
            OutputStore::Folder(path) => Some(path.as_path()),
            OutputStore::Bucket(_) => None,
        })
        .collect()
    }
}

/// Staging path of a build's artifacts in a folder.
pub fn staging(folder: &Path, build: &str) -> PathBuf {
    folder::Staging::place(folder, build)
}

/// Removes what a killed runner was writing there.
pub fn remove_staging(place: &Path) -> io::Result<()> {
    folder::Staging::remove(place)
}

/// An output could not be collected or stored.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Files(#[from] FilesProgramError),
    #[error(transparent)]
    Bucket(#[from] S3Error),
    /// A place on this machine.
    #[error("cannot {doing} {}: {source}", path.display())]
    Folder { doing: &'static str, path: PathBuf, source: io::Error },
    /// A file in the container.
    #[error("{}: {problem}", path.escape_ascii())]
    Source { path: Vec<u8>, problem: String },
    #[error("{0}")]
    Other(String),
}

impl OutputError {
    /// For `map_err`.
    fn folder(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_path_buf();
        move |source| OutputError::Folder { doing, path, source }
    }

    /// How to fix it.
    pub fn hint(&self) -> Option<String> {
        match self {
            OutputError::Bucket(error) => error.hint(),
            OutputError::Folder { path, source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space there, or name a directory on another disk".to_owned())
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("name a directory that you can write to".to_owned())
                }
                io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Some(format!(
                    "something else is in the way at {}: remove it, or name another directory",
                    path.display()
                )),
                _ => None,
            },
            OutputError::Files(_) | OutputError::Source { .. } | OutputError::Other(_) => None,
        }
    }
}

/// Receives inputs for the state machine.
pub trait InputSink: Send + Sync {
    fn send(&self, input: MachineInput) -> Fut<'_, ()>;
}

/// Writes to the build's log and to the user's terminal.
#[derive(Clone)]
pub struct Reporter(pub Arc<dyn InputSink>);

impl Reporter {
    async fn line(&self, text: impl Into<String>) {
        self.0.send(MachineInput::Line(text.into())).await;
    }

    async fn note(&self, text: impl Into<String>) {
        self.notice(Notice::note(text)).await;
    }

    async fn warn(&self, text: impl Into<String>) {
        self.notice(Notice::warning(text)).await;
    }

    async fn notice(&self, notice: Notice) {
        self.0.send(MachineInput::Notice(notice)).await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
