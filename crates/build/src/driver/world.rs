//! The context that effects work with.
//!
//! Created by `build`; used by `effects` and its submodules.

use super::SharedSnapshot;
use super::beside::Beside;
use super::breakpoints::PausedProcesses;
use super::deliveries::LogDeliveries;
use super::sessions::Sessions;
use crate::secrets::Vault;
use runner_core::mask::SharedSecrets;
use runner_core::plan::{BuildPlan, PlannedWork};
use runner_engine::{ContainerSpec, Engine};
use runner_outputs::BuildOutputs;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Looks for a hint for the text of a command in which a program was not found.
pub type Advice = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Sessions in the container, and the state they start with.
pub struct ContainerGuests {
    /// Variables and directory of the last finished command.
    pub snapshot: SharedSnapshot,
    pub sessions: Arc<dyn Sessions>,
    pub breakpoints: Arc<PausedProcesses>,
}

/// Everything that effects work with.
pub struct World {
    pub engine: Arc<dyn Engine>,
    /// Containers that run beside the build.
    pub services: Option<Arc<dyn Beside>>,
    pub container_spec: ContainerSpec,
    /// Certificates for the container's trust store, if it has its own.
    pub certificates: Option<String>,
    pub plan: Arc<BuildPlan>,
    /// Grows as values are fetched.
    pub secrets: SharedSecrets,
    pub vault: Arc<Vault>,
    pub guests: ContainerGuests,
    pub outputs: BuildOutputs,
    /// Copies of the log sent to other places.
    pub deliveries: Arc<dyn LogDeliveries>,
    /// Whether the build was given AWS credentials.
    pub gives_credentials: bool,
    /// Whether to give hints on failures.
    pub advises: bool,
    /// Hints already given.
    pub advised: Mutex<BTreeSet<String>>,
    /// Whether the warning about unmeasured memory has been shown.
    pub is_told_uncounted: Arc<AtomicBool>,
    pub missing_program_hint: Advice,
}

impl World {
    /// The buildspec's work; `None` if it was rejected.
    pub(super) fn work(&self) -> Option<&PlannedWork> {
        self.plan.work.as_ref().ok()
    }
}
