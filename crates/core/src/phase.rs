//! The phases of a build, their statuses and their order.
//!
//! Used by `machine::build`, `event` and everything that shows builds.

use crate::spec::{OnFailure, UserPhase};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A phase of CodeBuild's lifecycle, in order.
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
    /// The build is cleaned up.
    Finalizing,
    /// The end mark; has no status and no duration.
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

    /// The buildspec phase that it runs, if any.
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

    /// Returns the phase that follows a phase of the buildspec.
    ///
    /// POST_BUILD follows a failed BUILD, and the upload follows a failed POST_BUILD. A failure
    /// before BUILD skips both.
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
            // A phase whose retries have failed counts as failed.
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

/// The status of a phase or build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Not over yet.
    InProgress,
    /// It succeeded.
    Succeeded,
    /// It failed by itself: a command, a bad buildspec, missing artifacts.
    Failed,
    /// It failed because of the runner or the machine.
    Fault,
    /// It timed out.
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

/// The list of commands in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// `commands`
    Commands,
    /// `finally`
    Finally,
    /// Not in a list: typed by a person at a stop.
    Eval,
}

/// Reason codes for a phase's status, in CodeBuild's spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StatusCode {
    /// Success, or an end without a code in CodeBuild.
    #[default]
    None,
    /// The buildspec cannot be used.
    YamlFileError,
    /// A command has failed.
    CommandExecutionError,
    /// The build requests something impossible.
    ClientError,
    /// A failure of the runner or the machine.
    InternalServiceError,
    /// The build timed out.
    BuildTimedOut,
    /// The image is not available.
    UnableToPullImage,
    /// A value in Parameter Store is not available.
    DecryptedVariablesError,
    /// A value in Secrets Manager is not available.
    SecretsManagerError,
    /// A code written by another version.
    Other(String),
}

impl StatusCode {
    const ALL: [StatusCode; 9] = [
        StatusCode::None,
        StatusCode::YamlFileError,
        StatusCode::CommandExecutionError,
        StatusCode::ClientError,
        StatusCode::InternalServiceError,
        StatusCode::BuildTimedOut,
        StatusCode::UnableToPullImage,
        StatusCode::DecryptedVariablesError,
        StatusCode::SecretsManagerError,
    ];

    /// The code as AWS writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            StatusCode::None => "",
            StatusCode::YamlFileError => "YAML_FILE_ERROR",
            StatusCode::CommandExecutionError => "COMMAND_EXECUTION_ERROR",
            StatusCode::ClientError => "CLIENT_ERROR",
            StatusCode::InternalServiceError => "INTERNAL_SERVICE_ERROR",
            StatusCode::BuildTimedOut => "BUILD_TIMED_OUT",
            StatusCode::UnableToPullImage => "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE",
            StatusCode::DecryptedVariablesError => "Decrypted Variables Error",
            StatusCode::SecretsManagerError => "Secrets Manager Error",
            StatusCode::Other(name) => name,
        }
    }
}

impl From<String> for StatusCode {
    fn from(name: String) -> Self {
        let known = StatusCode::ALL.into_iter().find(|code| code.name() == name);
        known.unwrap_or(StatusCode::Other(name))
    }
}

impl From<StatusCode> for String {
    fn from(code: StatusCode) -> Self {
        code.name().to_owned()
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a phase ended with its status, in AWS's form. Both fields are empty after a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseContext {
    /// The reason code.
    pub status_code: StatusCode,
    /// One sentence.
    pub message: String,
}

impl PhaseContext {
    /// Makes a context.
    #[must_use]
    pub fn new(status_code: StatusCode, message: impl Into<String>) -> Self {
        PhaseContext { status_code, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_and_read_as_aws_spells_them() {
        for code in StatusCode::ALL {
            let json = serde_json::to_string(&code).expect("serialises");
            assert_eq!(json, format!("{:?}", code.name()));
            assert_eq!(serde_json::from_str::<StatusCode>(&json).expect("reads back"), code);
        }
        let later = PhaseContext::new(StatusCode::Other("LATER".to_owned()), "m");
        let json = serde_json::to_string(&later).expect("serialises");
        assert_eq!(json, "{\"statusCode\":\"LATER\",\"message\":\"m\"}");
        assert_eq!(serde_json::from_str::<PhaseContext>(&json).expect("reads back"), later);
    }
}
