//! Batches as data: their progress, the settings of their builds, their record. Pure.

pub mod order;
pub mod record;

pub use crate::db::batches::{BatchProgress, Single};

use runner_core::batch::BatchPlan;
use runner_core::phase::{PhaseContext, Status};

/// The build that gets the source and reads the list of builds from it.
pub const DOWNLOAD: &str = "DOWNLOAD_SOURCE";
/// The build that combines the artifacts of the others.
pub const COMBINE: &str = "COMBINE_ARTIFACTS";

/// A batch's definition, read from the source.
#[derive(Clone, Debug)]
pub struct PlannedBatch {
    pub plan: BatchPlan,
    pub commit: Option<String>,
}

/// Why a batch has no builds.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub status: Status,
    pub context: PhaseContext,
}

/// The uuid in the ARN of a build.
#[must_use]
pub fn uuid_of(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or_default()
}
