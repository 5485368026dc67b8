//! What a build leaves: artifacts, reports and cache, in a folder or in a bucket.
//!
//! Asked for by the driver's effects. Everything comes out of the container through the program that
//! moves files there (`engine::files`), is parsed as hostile, and appears at its place whole or not at
//! all. What lies in a folder of this machine belongs to the caller.
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

/// Where things are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStore {
    /// A folder of this machine, without links.
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
    /// Whether the whole path of a ZIP was named: a link leads to where it goes, and what is no regular file
    /// is written to.
    pub is_path: bool,
    /// The latter, once it is open; never sent.
    #[serde(skip)]
    pub stream: Option<NamedFile>,
}

impl ArtifactDestination {
    /// With what its path leads to found and opened. What is wrong with it is reported when the ZIP is there.
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
    /// Of secondary artifacts that have their own.
    pub secondary: BTreeMap<String, ArtifactDestination>,
}

impl ArtifactDestinations {
    /// With what is written to found and opened.
    pub fn open(self) -> Self {
        ArtifactDestinations { primary: self.primary.open(), ..self }
    }

    /// Where the artifact of an identifier goes.
    fn of(&self, identifier: Option<&str>) -> ArtifactDestination {
        match identifier {
            None => self.primary.clone(),
            Some(id) => self.secondary.get(id).cloned().unwrap_or_else(|| {
                // Beside the primary one, by its own name.
                let mut beside = self.primary.clone();
                beside.settings.name = None;
                beside.is_path = false;
                beside.stream = None;
                beside
            }),
        }
    }

    /// Files and folders of this machine that they make, as far as their names are known.
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

    /// Folders of this machine among them.
    pub fn folders(&self) -> Vec<&Path> {
        let all = [&self.primary].into_iter().chain(self.secondary.values());
        all.filter_map(|destination| match &destination.store {
            OutputStore::Folder(path) => Some(path.as_path()),
            OutputStore::Bucket(_) => None,
        })
        .collect()
    }
}

/// Where a build makes artifacts that go into a folder before they are whole.
pub fn staging(folder: &Path, build: &str) -> PathBuf {
    folder::Staging::place(folder, build)
}

/// Removes what a killed runner was making there.
pub fn remove_staging(place: &Path) -> io::Result<()> {
    folder::Staging::remove(place)
}

/// Something could not be collected or kept.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error(transparent)]
    Files(#[from] FilesProgramError),
    #[error(transparent)]
    Bucket(#[from] S3Error),
    /// A place of this machine.
    #[error("cannot {doing} {}: {source}", path.display())]
    Folder { doing: &'static str, path: PathBuf, source: io::Error },
    /// A file of the container.
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

    /// How to mend it.
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

/// Where inputs for the machine go.
pub trait InputSink: Send + Sync {
    fn send(&self, input: MachineInput) -> Fut<'_, ()>;
}

/// Writes to the build's log and to the person's terminal.
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
