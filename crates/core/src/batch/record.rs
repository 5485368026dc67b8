//! The BuildBatch record, in the shape of AWS's API. Field names are AWS's.

use super::machine::BatchMachine;
use crate::phase::{PhaseContext, Status, StatusCode};
use crate::record::{ArtifactsRecord, CacheRecord, EnvironmentRecord, SourceRecord, SourceVersion};
use crate::time::WallTime;
use serde::{Deserialize, Serialize};

/// One element of `buildBatches` in BatchGetBuildBatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BuildBatch {
    pub id: String,
    pub arn: String,
    pub build_batch_number: u64,
    pub start_time: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_time: Option<f64>,
    pub current_phase: BatchPhaseType,
    pub build_batch_status: Status,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolved_source_version: Option<String>,
    pub project_name: String,
    pub phases: Vec<BatchPhase>,
    pub source: SourceRecord,
    pub secondary_sources: Vec<SourceRecord>,
    pub secondary_source_versions: Vec<SourceVersion>,
    pub artifacts: ArtifactsRecord,
    pub cache: CacheRecord,
    pub environment: EnvironmentRecord,
    pub build_timeout_in_minutes: u64,
    pub queued_timeout_in_minutes: u64,
    pub complete: bool,
    pub initiator: String,
    pub build_batch_config: BatchConfig,
    pub build_groups: Vec<BuildGroup>,
    pub debug_session_enabled: bool,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub report_arns: Vec<String>,
}

impl BuildBatch {
    /// The ARNs of all builds, earlier runs included.
    pub fn builds(&self) -> impl Iterator<Item = &str> {
        let all = self.build_groups.iter().flat_map(|group| {
            group.prior_build_summary_list.iter().chain([&group.current_build_summary])
        });
        all.map(|summary| summary.arn.as_str())
    }
}

/// A project's batch settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BatchConfig {
    pub restrictions: BatchRestrictions,
    pub timeout_in_mins: u64,
}

/// Limits of batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BatchRestrictions {
    pub maximum_builds_allowed: usize,
}

/// A build of a [`BuildBatch`], with its earlier runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BuildGroup {
    pub identifier: String,
    pub depends_on: Vec<String>,
    pub ignore_failure: bool,
    pub current_build_summary: BuildSummary,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub prior_build_summary_list: Vec<BuildSummary>,
}

/// One run of a build in a [`BuildBatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BuildSummary {
    pub arn: String,
    pub requested_on: f64,
    /// The name of a [`Status`], or `PENDING`.
    pub build_status: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub primary_artifact: Option<SummaryArtifact>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secondary_artifacts: Option<Vec<SummaryArtifact>>,
}

/// An artifact of a build in a [`BuildBatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct SummaryArtifact {
    pub r#type: String,
    pub identifier: String,
}

/// A phase of a [`BuildBatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BatchPhase {
    pub phase_type: BatchPhaseType,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase_status: Option<BatchPhaseStatus>,
    pub start_time: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub contexts: Vec<PhaseContext>,
}

/// Phases of a batch. The last five only mark its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub enum BatchPhaseType {
    Submitted,
    DownloadBatchspec,
    InProgress,
    CombineArtifacts,
    Succeeded,
    Failed,
    Fault,
    TimedOut,
    Stopped,
}

/// The status of a batch phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub enum BatchPhaseStatus {
    InProgress,
    Succeeded,
    Failed,
    Fault,
    TimedOut,
    Stopped,
    /// Not in AWS's model: marks the end of a batch that was run again.
    Retry,
    /// Not in AWS's model: marks the phase that had failed before a retry.
    ClientError,
}

impl From<Status> for BatchPhaseStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::InProgress => BatchPhaseStatus::InProgress,
            Status::Succeeded => BatchPhaseStatus::Succeeded,
            Status::Failed => BatchPhaseStatus::Failed,
            Status::Fault => BatchPhaseStatus::Fault,
            Status::TimedOut => BatchPhaseStatus::TimedOut,
            Status::Stopped => BatchPhaseStatus::Stopped,
        }
    }
}

impl From<Status> for BatchPhaseType {
    fn from(status: Status) -> Self {
        match status {
            Status::InProgress => BatchPhaseType::InProgress,
            Status::Succeeded => BatchPhaseType::Succeeded,
            Status::Failed => BatchPhaseType::Failed,
            Status::Fault => BatchPhaseType::Fault,
            Status::TimedOut => BatchPhaseType::TimedOut,
            Status::Stopped => BatchPhaseType::Stopped,
        }
    }
}

impl BatchPhase {
    pub(super) fn open(kind: BatchPhaseType, now: WallTime) -> Self {
        BatchPhase {
            phase_type: kind,
            phase_status: Some(BatchPhaseStatus::InProgress),
            start_time: now.epoch_seconds(),
            end_time: None,
            duration_in_seconds: None,
            contexts: Vec::new(),
        }
    }

    /// Makes an end mark of a batch.
    #[must_use]
    pub fn mark(kind: BatchPhaseType, now: WallTime) -> Self {
        BatchPhase { phase_status: None, ..Self::open(kind, now) }
    }

    /// Ends the phase.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds, not negative"
    )]
    pub fn end_at(&mut self, now: WallTime) {
        let end = now.epoch_seconds().max(self.start_time);
        self.end_time = Some(end);
        self.duration_in_seconds = Some((end - self.start_time) as u64);
    }
}

impl BuildSummary {
    /// Makes the summary of a run. `status` is the name of a [`Status`], or `PENDING`.
    #[must_use]
    pub fn new(arn: &str, requested: WallTime, status: &str, identifier: &str) -> Self {
        let is_over = !matches!(status, "PENDING" | "IN_PROGRESS");
        let none = || SummaryArtifact {
            r#type: "no_artifacts".to_owned(),
            identifier: identifier.to_owned(),
        };
        BuildSummary {
            arn: arn.to_owned(),
            requested_on: requested.epoch_seconds(),
            build_status: status.to_owned(),
            primary_artifact: is_over.then(none),
            secondary_artifacts: is_over.then(Vec::new),
        }
    }
}

/// Facts about a batch that are known from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFacts {
    /// Project name.
    pub project: String,
    /// Second half of the batch ID.
    pub uuid: String,
    /// ARN of the batch.
    pub arn: String,
    /// Number of the batch in its project, from 1.
    pub number: u64,
    /// When the batch was requested.
    pub asked: WallTime,
    /// Who requested it.
    pub initiator: String,
    /// The requested image.
    pub image: String,
    /// Whether containers are privileged.
    pub privileged: bool,
    /// The requested buildspec.
    pub buildspec: String,
    /// Source directory on the host.
    pub source: String,
    /// Commit of the source.
    pub resolved_source_version: Option<String>,
    /// Type and location of the cache.
    pub cache: Option<(String, String)>,
    /// Time limit of one build, in seconds.
    pub timeout_s: u64,
    /// Time limit of the whole batch, in seconds.
    pub batch_timeout_s: u64,
    /// Maximum number of builds.
    pub most_builds: usize,
    /// Whether sessions are enabled.
    pub session_enabled: bool,
}

impl BatchMachine {
    /// The builds, as in the batch record.
    #[must_use]
    pub fn groups(&self) -> Vec<BuildGroup> {
        let builds = &self.plan().builds;
        let name = |at: &usize| builds[*at].identifier.clone();
        let groups = builds.iter().enumerate().map(|(at, build)| BuildGroup {
            identifier: build.identifier.clone(),
            depends_on: build.depends_on.iter().map(name).collect(),
            ignore_failure: build.ignore_failure,
            current_build_summary: self.summary(at),
            prior_build_summary_list: self.prior(at).to_vec(),
        });
        groups.collect()
    }
}

impl BuildBatch {
    /// Makes the record of the batch's current state.
    #[must_use]
    pub fn of(facts: &BatchFacts, machine: &BatchMachine) -> Self {
        let phases = machine.phases();
        let complete = machine.status() != Status::InProgress;
        let cache = facts.cache.clone();
        BuildBatch {
            id: format!("{}:{}", facts.project, facts.uuid),
            arn: facts.arn.clone(),
            build_batch_number: facts.number,
            start_time: facts.asked.epoch_seconds(),
            end_time: phases.last().filter(|_| complete).map(|phase| phase.start_time),
            current_phase: phases.last().map_or(BatchPhaseType::Submitted, |it| it.phase_type),
            build_batch_status: machine.status(),
            source_version: facts.resolved_source_version.clone(),
            resolved_source_version: facts.resolved_source_version.clone(),
            project_name: facts.project.clone(),
            phases: phases.to_vec(),
            source: SourceRecord {
                r#type: "NO_SOURCE".to_owned(),
                location: facts.source.clone(),
                buildspec: facts.buildspec.clone(),
                source_identifier: None,
            },
            secondary_sources: Vec::new(),
            secondary_source_versions: Vec::new(),
            artifacts: ArtifactsRecord::default(),
            cache: CacheRecord {
                r#type: cache.as_ref().map_or("NO_CACHE", |(kind, _)| kind).to_owned(),
                location: cache.map(|(_, location)| location),
            },
            environment: EnvironmentRecord {
                r#type: "LINUX_CONTAINER".to_owned(),
                image: facts.image.clone(),
                compute_type: "BUILD_GENERAL1_SMALL".to_owned(),
                environment_variables: Vec::new(),
                privileged_mode: facts.privileged,
            },
            build_timeout_in_minutes: facts.timeout_s.div_ceil(60),
            queued_timeout_in_minutes: 480,
            complete,
            initiator: facts.initiator.clone(),
            build_batch_config: BatchConfig {
                restrictions: BatchRestrictions { maximum_builds_allowed: facts.most_builds },
                timeout_in_mins: facts.batch_timeout_s.div_ceil(60),
            },
            build_groups: machine.groups(),
            debug_session_enabled: facts.session_enabled,
            report_arns: Vec::new(),
        }
    }

    /// Ends the record of a batch whose owner was killed. `status_of` returns the final status of
    /// the build with an ARN, if it ever began.
    pub fn fault(
        &mut self,
        reason: &str,
        now: WallTime,
        status_of: impl Fn(&str) -> Option<Status>,
    ) {
        for group in &mut self.build_groups {
            let summary = &mut group.current_build_summary;
            if matches!(summary.build_status.as_str(), "PENDING" | "IN_PROGRESS") {
                let status = status_of(&summary.arn).unwrap_or(Status::Stopped);
                let requested = summary.requested_on;
                *summary = BuildSummary::new(&summary.arn, now, status.name(), &group.identifier);
                summary.requested_on = requested;
            }
        }
        if let Some(phase) = self.phases.last_mut().filter(|phase| phase.end_time.is_none()) {
            phase.phase_status = Some(BatchPhaseStatus::Fault);
            phase.contexts.push(PhaseContext::new(StatusCode::InternalServiceError, reason));
            phase.end_at(now);
        }
        self.phases.push(BatchPhase::mark(BatchPhaseType::Fault, now));
        self.current_phase = BatchPhaseType::Fault;
        self.build_batch_status = Status::Fault;
        self.end_time = Some(now.epoch_seconds());
        self.complete = true;
    }
}
