//! What the collecting code works with: the build's container, where to report, and who calls S3.
//!
//! Created by the driver at the start and the end of a build; used by `artifacts`, `reports` and
//! `cache`.

use super::cache::{CacheState, CacheTo};
use super::{
    ArtifactDestinations, LeavingPlaces, OutputError, PriorLeavings, Reporter, ShellValues,
    SourceDirectories,
};
use runner_cloud::s3::S3;
use runner_cloud::{Amazon, CloudIdentity};
use runner_core::mask::SharedSecrets;
use runner_engine::Container;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Where the outputs of a build go.
pub struct BuildOutputs {
    /// Where artifacts go; `None` if they are not collected.
    pub artifacts: Option<ArtifactDestinations>,
    /// What to do with reports.
    pub reports: ReportsWanted,
    /// Where caches are stored; `None` if there is no cache.
    pub cache: Option<CacheTo>,
    /// State of this build's cache.
    pub cache_state: Mutex<CacheState>,
    /// Places in the source that earlier builds wrote outputs to.
    pub leavings: LeavingPlaces,
    /// Identity used for buckets.
    pub identity: CloudIdentity,
    /// The build's own folder on the host.
    pub scratch: PathBuf,
}

/// What to do with reports besides reading them.
#[derive(Clone, Debug)]
pub struct ReportsWanted {
    /// Where to copy reports, if requested.
    pub dir: Option<PathBuf>,
    /// Whether to search for reports that the buildspec does not name.
    pub discovers: bool,
    pub project: String,
}

/// What the code that collects, keeps or restores something works with.
#[derive(Clone)]
pub struct Workplace {
    pub container: Arc<dyn Container>,
    pub teller: Reporter,
    pub values: ShellValues,
    /// `CODEBUILD_SRC_DIR`.
    pub source: String,
    /// Files to leave out.
    pub leavings: PriorLeavings,
    /// The local directories that were given to the build.
    pub sources: SourceDirectories,
    /// Values that must not be shown.
    pub secrets: SharedSecrets,
    /// The build's uuid.
    pub build: String,
    /// The build's own folder, for files that must be complete before they are sent or put in
    /// place.
    pub scratch: PathBuf,
    /// Identity that calls S3.
    pub identity: CloudIdentity,
    /// Becomes true when nobody waits for the result any more.
    pub cancel: watch::Receiver<bool>,
}

impl Workplace {
    /// An unnamed file, for data that must be complete before it is sent.
    #[expect(clippy::disallowed_methods, reason = "the build's own folder, in the state folder")]
    pub(super) fn scratch_file(&self) -> Result<File, OutputError> {
        let failed = OutputError::folder("make a file in", &self.scratch);
        tempfile::tempfile_in(&self.scratch).map_err(failed)
    }

    pub(super) async fn s3(&self) -> S3 {
        S3::new(&Amazon::load(&self.identity).await)
    }

    pub(super) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = T>,
    ) -> Result<T, OutputError> {
        let mut cancel = self.cancel.clone();
        tokio::select! {
            done = work => Ok(done),
            // The other end closes only when the build ends.
            _ = cancel.wait_for(|cancelled| *cancelled) => {
                Err(OutputError::Other("the build was stopped".to_owned()))
            }
        }
    }
}
