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
    /// A failed BUILD is followed by POST_BUILD, a failed POST_BUILD by the
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

/// Which list of a phase a command stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// `commands`
    Commands,
    /// `finally`
    Finally,
    /// In none: a person has typed it at a stop.
    Eval,
}

/// What kind of reason a phase had to end as it did: CodeBuild's codes, in its spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StatusCode {
    /// A success, or an end that CodeBuild has no code for.
    #[default]
    None,
    /// The buildspec cannot be used.
    YamlFileError,
    /// A command has failed.
    CommandExecutionError,
    /// The build asks for what cannot be done.
    ClientError,
    /// Our own failure, or the machine's.
    InternalServiceError,
    /// The build took too long.
    BuildTimedOut,
    /// The image cannot be had.
    UnableToPullImage,
    /// A value of Parameter Store cannot be had.
    DecryptedVariablesError,
    /// A value of Secrets Manager cannot be had.
    SecretsManagerError,
    /// One that another version has written.
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

    /// As AWS writes it.
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

/// Why a phase ended as it did, in AWS's form. Both are empty after a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhaseContext {
    /// What kind of reason.
    pub status_code: StatusCode,
    /// A sentence.
    pub message: String,
}

impl PhaseContext {
    /// With this code and this sentence.
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
