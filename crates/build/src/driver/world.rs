//! What the effects work with.
//!
//! Made by `build`; used by `effects` and by what they are made of.

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
use std::sync::{Arc, Mutex};

/// Advice for the text of a command in which a program was not found.
pub type Advice = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// People in the container, and what they find there.
pub struct ContainerGuests {
    /// Variables and directory of the last finished command.
    pub snapshot: SharedSnapshot,
    pub sessions: Arc<dyn Sessions>,
    pub breakpoints: Arc<PausedProcesses>,
}

/// Everything the effects work with.
pub struct World {
    pub engine: Arc<dyn Engine>,
    /// What runs beside the build.
    pub services: Option<Arc<dyn Beside>>,
    pub container_spec: ContainerSpec,
    /// Certificates for the container's trust store, where it has one of its own.
    pub certificates: Option<String>,
    pub plan: Arc<BuildPlan>,
    /// Grows when values are fetched.
    pub secrets: SharedSecrets,
    pub vault: Arc<Vault>,
    pub guests: ContainerGuests,
    pub outputs: BuildOutputs,
    /// Copies of the log that go elsewhere.
    pub deliveries: Arc<dyn LogDeliveries>,
    /// Whether the build was given AWS credentials.
    pub gives_credentials: bool,
    /// Whether failures are advised on.
    pub advises: bool,
    /// What was advised already.
    pub advised: Mutex<BTreeSet<String>>,
    pub missing_program_hint: Advice,
}

impl World {
    /// What the buildspec asks for; none where it was rejected.
    pub(super) fn work(&self) -> Option<&PlannedWork> {
        self.plan.work.as_ref().ok()
    }
}
