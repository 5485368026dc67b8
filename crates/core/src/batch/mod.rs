//! A batch: several builds of one buildspec that belong together.
//!
//! [`plan`] turns `batch:` into the builds it stands for. [`BatchMachine`] takes one [`BatchInput`] at a time and says
//! which of them are to be started and stopped; whoever owns the batch does it. [`BuildBatch`] is its record, in
//! the shape of AWS's API. Children are ordinary builds and know nothing of this.

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

/// The worst of several exit codes, in the order that the contract gives them: what nobody asked for first, then
/// what is wrong with the batch itself.
#[must_use]
pub fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    const ORDER: [u8; 6] = [3, 2, 4, 5, 1, 0];
    let rank = |code: &u8| ORDER.iter().position(|known| known == code).unwrap_or(0);
    codes.into_iter().min_by_key(rank).unwrap_or(0)
}
