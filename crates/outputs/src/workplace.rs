//! Where a build's outputs are collected: its container, whom one tells, and who calls S3.
//!
//! Made by the driver at either end of a build; `artifacts`, `reports` and `cache` work with it.

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
    /// Where artifacts go; none: they are not collected.
    pub artifacts: Option<ArtifactDestinations>,
    /// What becomes of reports.
    pub reports: ReportsWanted,
    /// Where caches are; none: there is no cache.
    pub cache: Option<CacheTo>,
    /// What is known of this build's.
    pub cache_state: Mutex<CacheState>,
    /// Where earlier builds have left things in the source.
    pub leavings: LeavingPlaces,
    /// Whose the buckets are.
    pub identity: CloudIdentity,
    /// A folder of the build's own on the host.
    pub scratch: PathBuf,
}

/// What is wanted of reports, beyond that they are read.
#[derive(Clone, Debug)]
pub struct ReportsWanted {
    /// Where a copy goes, if it does.
    pub dir: Option<PathBuf>,
    /// Whether those are looked for that the buildspec does not name.
    pub discovers: bool,
    pub project: String,
}

/// What the code that collects, keeps or restores something has at hand.
#[derive(Clone)]
pub struct Workplace {
    pub container: Arc<dyn Container>,
    pub teller: Reporter,
    pub values: ShellValues,
    /// `CODEBUILD_SRC_DIR`.
    pub source: String,
    /// What is not collected.
    pub leavings: PriorLeavings,
    /// The directories of this machine that the build was given.
    pub sources: SourceDirectories,
    /// What must not be shown.
    pub secrets: SharedSecrets,
    /// The build's uuid.
    pub build: String,
    /// A folder of the build's own, for what must be whole before it is sent or put in place.
    pub scratch: PathBuf,
    /// Who calls S3.
    pub identity: CloudIdentity,
    /// Becomes true when nobody waits for it any more.
    pub cancel: watch::Receiver<bool>,
}

impl Workplace {
    /// A file without a name, for what must be whole before it is sent.
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
            // Its other end goes only with the build.
            _ = cancel.wait_for(|cancelled| *cancelled) => {
                Err(OutputError::Other("the build was stopped".to_owned()))
            }
        }
    }
}
