//! The build machine: what a build does next, decided without doing any of it.
//!
//! [`BuildMachine::apply`] takes one [`Input`] and the time, and returns a [`Step`]: events for the
//! log and effects for the driver. It is the only place where phases advance.

mod build;
mod failures;
mod pause;
mod step;
mod stops;
#[cfg(test)]
mod tests;

pub use build::BuildMachine;
pub use step::{
    CallId, CheckpointId, CommandRun, ContainerFacts, Effect, Fetched, FoundCache, Gone, Impasse,
    Input, Kept, Preparation, RunFacts, SetupError, ShellVariables, Standstill, Step, Unkept,
    Wanted, Wants, is_large_cache,
};
