//! What the effects work with.
//!
//! Made by `build`; used by `effects` and by what they are made of.

use super::SharedSnapshot;
use super::breakpoints::Breakpoints;
use super::deliveries::Deliveries;
use super::sessions::Sessions;
use crate::engine::{ContainerSpec, Engine};
use crate::outputs::Outputs;
use crate::secrets::Vault;
use runner_core::mask::SharedSecrets;
use runner_core::plan::{BuildPlan, Work};
use std::sync::Arc;

/// Advice for the text of a command in which a program was not found.
pub(crate) type Advice = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// People in the container, and what they find there.
pub(crate) struct Guests {
    /// Variables and directory of the last finished command.
    pub(crate) snapshot: SharedSnapshot,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) breakpoints: Arc<Breakpoints>,
}

/// Everything the effects work with.
pub(crate) struct World {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) container_spec: ContainerSpec,
    pub(crate) plan: Arc<BuildPlan>,
    /// Grows when values are fetched.
    pub(crate) secrets: SharedSecrets,
    pub(crate) vault: Arc<Vault>,
    pub(crate) guests: Guests,
    pub(crate) outputs: Outputs,
    /// Copies of the log that go elsewhere.
    pub(crate) deliveries: Arc<dyn Deliveries>,
    pub(crate) missing_program_hint: Advice,
}

impl World {
    /// What the buildspec asks for; none where it was rejected.
    pub(super) fn work(&self) -> Option<&Work> {
        self.plan.work.as_ref().ok()
    }
}
