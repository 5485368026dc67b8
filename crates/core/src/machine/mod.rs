//! The build machine: decides what a build does next, and does none of it.
//!
//! [`BuildMachine::apply`] takes one [`MachineInput`] and the time, and returns a [`MachineStep`]:
//! events for the log and effects for the driver. Phases advance nowhere else.

mod build;
mod failures;
mod pause;
mod step;
mod stops;
#[cfg(test)]
mod tests;

pub use build::BuildMachine;
pub use step::{
    BuildSetupError, CallId, CheckpointId, CommandRun, ContainerFacts, Fetched, FoundCache, Gone,
    Impasse, MachineEffect, MachineInput, MachineStep, RunFacts, ShellVariables, SourcePreparation,
    Standstill, TakenCheckpoint, Unkept, ValueRequests, Wants, is_large_cache,
};
