//! A batch: several related builds of one buildspec.
//!
//! [`plan`] expands `batch:` into builds. [`BatchMachine`] takes one [`BatchInput`] at a time and
//! decides which builds to start and stop; the batch's owner carries that out. [`BuildBatch`] is
//! the record of a batch, in the shape of AWS's API. The builds are ordinary builds and know
//! nothing of the batch.

mod machine;
mod plan;
mod record;
mod tree;

#[cfg(test)]
mod tests;

pub use machine::{BatchEffect, BatchInput, BatchMachine, NotRetried, RetryType, Stand};
pub use plan::{
    BatchBuildSettings, BatchPlan, PlannedBuild, Restrictions, Shard, UnknownBuilds, plan,
};
pub use record::{
    BatchFacts, BatchPhase, BatchPhaseStatus, BatchPhaseType, BuildBatch, BuildGroup, BuildSummary,
};

/// Returns the worst of several exit codes. Unexpected failures come first, then failures of the
/// batch itself, in the order that the contract defines.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    const ORDER: [u8; 6] = [3, 2, 4, 5, 1, 0];
    let rank = |code: &u8| ORDER.iter().position(|known| known == code).unwrap_or(0);
    codes.into_iter().min_by_key(rank).unwrap_or(0)
}
