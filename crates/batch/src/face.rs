//! What a batch reports to its display. A display must not block: its caller starts and stops
//! builds.

use runner_core::batch::BatchPlan;
use runner_core::phase::Status;
use runner_folder::state::{BuildDir, Home};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A batch whose builds are about to start.
pub struct BatchBegun<'a> {
    /// `<project>:<uuid>`.
    pub id: &'a str,
    pub plan: &'a BatchPlan,
    pub home: &'a Home,
}

/// A running build.
#[derive(Clone)]
pub struct Started {
    /// `<project>:<uuid>`.
    pub id: String,
    pub uuid: String,
    pub dir: BuildDir,
    /// Whether the log has grown since this was last cleared. A reader clears it before it reads.
    pub has_grown: Arc<AtomicBool>,
}

/// Shows a batch. Builds are numbered by their place in the plan.
pub trait BatchDisplay {
    fn begin(&mut self, begun: &BatchBegun<'_>);

    fn started(&mut self, at: usize, started: Started);

    /// The build's log has grown.
    fn grown(&mut self, at: usize);

    /// The build could not begin; `message` is the reason.
    fn refused(&mut self, at: usize, message: &str, hints: &[String]);

    fn ended(&mut self, at: usize, status: Status);

    /// The build will never run.
    fn left(&mut self, at: usize);

    fn finish(&mut self, status: Status);
}
