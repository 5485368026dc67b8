//! Where a build's outputs are collected: its container, whom one tells, and who calls S3.
//!
//! Made by the driver at either end of a build; `artifacts`, `reports` and `cache` work with it.

use super::cache::{CacheState, CacheTo};
use super::{Destinations, LeavingPlaces, Leavings, OutputError, Sources, Teller, Values};
use crate::amazon::s3::S3;
use crate::amazon::{Amazon, Identity};
use crate::engine::Container;
use runner_core::mask::SharedSecrets;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Where what a build leaves goes.
pub(crate) struct Outputs {
    /// Where artifacts go; none: they are not collected.
    pub(crate) artifacts: Option<Destinations>,
    /// What becomes of reports.
    pub(crate) reports: ReportsWanted,
    /// Where caches are; none: there is no cache.
    pub(crate) cache: Option<CacheTo>,
    /// What is known of this build's.
    pub(crate) cache_state: Mutex<CacheState>,
    /// Where earlier builds have left things in the source.
    pub(crate) leavings: LeavingPlaces,
    /// Whose the buckets are.
    pub(crate) identity: Identity,
    /// A folder of the build's own on the host.
    pub(crate) scratch: PathBuf,
}

/// What is wanted of reports, beyond that they are read.
#[derive(Clone, Debug)]
pub(crate) struct ReportsWanted {
    /// Where a copy goes, if it does.
    pub(crate) dir: Option<PathBuf>,
    /// Whether those are looked for that the buildspec does not name.
    pub(crate) discovers: bool,
    pub(crate) project: String,
}

/// What whoever collects, keeps or restores something has at hand.
#[derive(Clone)]
pub(crate) struct Workplace {
    pub(crate) container: Arc<dyn Container>,
    pub(crate) teller: Teller,
    pub(crate) values: Values,
    /// `CODEBUILD_SRC_DIR`.
    pub(crate) source: String,
    /// What is not collected.
    pub(crate) leavings: Leavings,
    /// The directories of this machine that the build was given.
    pub(crate) sources: Sources,
    /// What must not be shown.
    pub(crate) secrets: SharedSecrets,
    /// The build's uuid.
    pub(crate) build: String,
    /// A folder of the build's own, for what must be whole before it is sent or put in place.
    pub(crate) scratch: PathBuf,
    /// Who calls S3.
    pub(crate) identity: Identity,
    /// Becomes true when nobody waits for it any more.
    pub(crate) cancel: watch::Receiver<bool>,
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
