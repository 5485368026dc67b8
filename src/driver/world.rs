//! What the effects work with.
//!
//! Made by `app`; used by `effects` and by what they are made of.

use super::SharedSnapshot;
use super::breakpoints::Breakpoints;
use super::deliveries::Deliveries;
use super::sessions::Sessions;
use crate::amazon::Identity;
use crate::engine::{ContainerSpec, Engine};
use crate::outputs::cache::{CacheState, CacheTo};
use crate::outputs::{Destinations, LeavingPlaces};
use crate::secrets::Vault;
use runner_core::mask::SharedSecrets;
use runner_core::plan::{BuildPlan, Work};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Advice for the text of a command in which a program was not found.
pub(crate) type Advice = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What is wanted of reports, beyond that they are read.
#[derive(Clone, Debug)]
pub(crate) struct ReportsWanted {
    /// Where a copy goes, if it does.
    pub(crate) dir: Option<PathBuf>,
    /// Whether those are looked for that the buildspec does not name.
    pub(crate) discovers: bool,
    pub(crate) project: String,
}

/// Everything the effects work with.
pub(crate) struct World {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) container_spec: ContainerSpec,
    pub(crate) plan: Arc<BuildPlan>,
    /// Grows when values are fetched.
    pub(crate) secrets: SharedSecrets,
    pub(crate) vault: Arc<Vault>,
    pub(crate) snapshot: SharedSnapshot,
    pub(crate) sessions: Arc<dyn Sessions>,
    pub(crate) breakpoints: Arc<Breakpoints>,
    /// Copies of the log that go elsewhere.
    pub(crate) deliveries: Arc<dyn Deliveries>,
    /// What becomes of reports.
    pub(crate) reports: ReportsWanted,
    /// Where artifacts go; none: they are not collected.
    pub(crate) artifacts: Option<Destinations>,
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
    pub(crate) missing_program_hint: Advice,
}

impl World {
    /// What the buildspec asks for; none where it was rejected.
    pub(super) fn work(&self) -> Option<&Work> {
        self.plan.work.as_ref().ok()
    }
}
