//! The phases of a build, their statuses, and which follows which.
//!
//! Used by `machine::build`, `event` and everything that shows a build.

use crate::spec::{OnFailure, UserPhase};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A phase of CodeBuild's lifecycle, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// The request is accepted.
    Submitted,
    /// Waiting for capacity.
    Queued,
    /// The container is being made.
    Provisioning,
    /// Source, buildspec and environment are being put in place.
    DownloadSource,
    /// `install` of the buildspec.
    Install,
    /// `pre_build` of the buildspec.
    PreBuild,
    /// `build` of the buildspec.
    Build,
    /// `post_build` of the buildspec.
    PostBuild,
    /// Artifacts, reports and cache.
    UploadArtifacts,
    /// Everything is put away.
    Finalizing,
    /// The end; has no status and no duration.
    Completed,
}

impl Phase {
    /// The name as AWS writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Submitted => "SUBMITTED",
            Phase::Queued => "QUEUED",
            Phase::Provisioning => "PROVISIONING",
            Phase::DownloadSource => "DOWNLOAD_SOURCE",
            Phase::Install => "INSTALL",
            Phase::PreBuild => "PRE_BUILD",
            Phase::Build => "BUILD",
            Phase::PostBuild => "POST_BUILD",
            Phase::UploadArtifacts => "UPLOAD_ARTIFACTS",
            Phase::Finalizing => "FINALIZING",
            Phase::Completed => "COMPLETED",
        }
    }

    /// The phase of the buildspec it runs, where it runs one.
    #[must_use]
    pub fn user_phase(self) -> Option<UserPhase> {
        match self {
            Phase::Install => Some(UserPhase::Install),
            Phase::PreBuild => Some(UserPhase::PreBuild),
            Phase::Build => Some(UserPhase::Build),
            Phase::PostBuild => Some(UserPhase::PostBuild),
            Phase::Submitted
            | Phase::Queued
            | Phase::Provisioning
            | Phase::DownloadSource
            | Phase::UploadArtifacts
            | Phase::Finalizing
            | Phase::Completed => None,
        }
    }

    /// What follows a phase of the buildspec that has ended.
    ///
    /// `spec/buildspec.md` 2.2: a failed BUILD is followed by POST_BUILD, a failed POST_BUILD by the
    /// upload, and a failure before BUILD by neither.
    #[must_use]
    pub fn after_user_phase(phase: UserPhase, failed: bool, on_failure: &OnFailure) -> Phase {
        let in_order = match phase {
            UserPhase::Install => Phase::PreBuild,
            UserPhase::PreBuild => Phase::Build,
            UserPhase::Build => Phase::PostBuild,
            UserPhase::PostBuild => Phase::UploadArtifacts,
        };
        match (failed, on_failure) {
            (false, _) | (true, OnFailure::Continue) => in_order,
            (true, OnFailure::Abort) => Phase::Finalizing,
            // A retry that was of no use leaves the phase failed like any other.
            (true, OnFailure::Default | OnFailure::Retry(_)) => match phase {
                UserPhase::Install | UserPhase::PreBuild => Phase::Finalizing,
                UserPhase::Build | UserPhase::PostBuild => in_order,
            },
        }
    }
}

impl From<UserPhase> for Phase {
    fn from(phase: UserPhase) -> Self {
        match phase {
            UserPhase::Install => Phase::Install,
            UserPhase::PreBuild => Phase::PreBuild,
            UserPhase::Build => Phase::Build,
            UserPhase::PostBuild => Phase::PostBuild,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How a phase, or a build, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Not over yet.
    InProgress,
    /// All of it worked.
    Succeeded,
    /// The build's own doing: a command, a bad buildspec, missing artifacts.
    Failed,
    /// Our own doing, or the machine's.
    Fault,
    /// It ran out of time.
    TimedOut,
    /// Somebody stopped it.
    Stopped,
}

impl Status {
    /// The name as AWS writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::InProgress => "IN_PROGRESS",
            Status::Succeeded => "SUCCEEDED",
            Status::Failed => "FAILED",
            Status::Fault => "FAULT",
            Status::TimedOut => "TIMED_OUT",
            Status::Stopped => "STOPPED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a phase ended as it did, in AWS's form. Both texts are empty after a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseContext {
    /// A code such as `COMMAND_EXECUTION_ERROR`.
    pub status_code: String,
    /// A sentence.
    pub message: String,
}

impl PhaseContext {
    /// With these texts.
    #[must_use]
    pub fn new(status_code: &str, message: impl Into<String>) -> Self {
        PhaseContext { status_code: status_code.to_owned(), message: message.into() }
    }
}
