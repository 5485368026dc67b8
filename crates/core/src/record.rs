//! The Build record, in the shape of AWS's API.
//!
//! Made from `view`. `crates/folder/src/state` writes it when a build ends, `--build-json` prints
//! it, and the endpoint serves it. Field names are AWS's.

use crate::debug::{DecisionClient, DecisionKind};
use crate::event::{BuildFacts, ExportedVariable, LogsFacts, Notice, StoredArtifact};
use crate::phase::{Phase, PhaseContext, Status};
use crate::report::ReportRecord;
use crate::time::WallTime;
use crate::view::BuildView;
use serde::{Deserialize, Serialize};

/// One element of `builds` in BatchGetBuilds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct Build {
    pub id: String,
    pub arn: String,
    pub build_number: u64,
    pub start_time: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_time: Option<f64>,
    pub current_phase: String,
    pub build_status: Status,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolved_source_version: Option<String>,
    pub project_name: String,
    pub phases: Vec<BuildPhase>,
    pub source: SourceRecord,
    pub secondary_sources: Vec<SourceRecord>,
    pub secondary_source_versions: Vec<SourceVersion>,
    pub artifacts: ArtifactsRecord,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub secondary_artifacts: Vec<ArtifactsRecord>,
    pub cache: CacheRecord,
    pub environment: EnvironmentRecord,
    pub logs: LogsRecord,
    pub timeout_in_minutes: u64,
    pub queued_timeout_in_minutes: u64,
    pub build_complete: bool,
    pub initiator: String,
    pub exported_environment_variables: Vec<ExportedVariable>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub report_arns: Vec<String>,
    /// Not AWS's: the response of BatchGetReports for `report_arns`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reports: Vec<ReportRecord>,
    pub debug_session: DebugSession,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub build_batch_arn: Option<String>,
    /// Not AWS's: what people did to the build.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub interventions: Vec<InterventionRecord>,
    /// Not AWS's: number of commands skipped on request.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub skipped: u32,
    /// Not AWS's: programs that were replaced by stand-ins.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stubs: Vec<String>,
    /// Not AWS's: warnings, and advice on failures.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notices: Vec<NoticeRecord>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A warning or hint in a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeRecord {
    /// Seconds since 1970.
    pub time: f64,
    /// The message.
    #[serde(flatten)]
    pub notice: Notice,
}

/// A person's decision in a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterventionRecord {
    /// Seconds since 1970.
    pub time: f64,
    /// The person.
    pub user: String,
    /// The client used.
    pub client: DecisionClient,
    /// The kind of decision.
    pub what: DecisionKind,
    /// The current run.
    pub run: u32,
}

/// A phase of a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct BuildPhase {
    pub phase_type: Phase,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phase_status: Option<Status>,
    pub start_time: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub contexts: Vec<PhaseContext>,
}

/// The source of a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct SourceRecord {
    pub r#type: String,
    pub location: String,
    pub buildspec: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source_identifier: Option<String>,
}

/// A version of a secondary source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct SourceVersion {
    pub source_identifier: String,
    pub source_version: String,
}

/// The artifacts of a [`Build`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct ArtifactsRecord {
    pub location: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256sum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub md5sum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub override_artifact_name: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub artifact_identifier: Option<String>,
}

impl From<&StoredArtifact> for ArtifactsRecord {
    fn from(stored: &StoredArtifact) -> Self {
        ArtifactsRecord {
            location: stored.location.clone(),
            sha256sum: stored.sha256.clone(),
            md5sum: stored.md5.clone(),
            override_artifact_name: stored.override_name.then_some(true),
            artifact_identifier: stored.identifier.clone(),
        }
    }
}

/// The cache of a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct CacheRecord {
    pub r#type: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
}

/// The environment of a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct EnvironmentRecord {
    pub r#type: String,
    pub image: String,
    pub compute_type: String,
    pub environment_variables: Vec<ExportedVariable>,
    pub privileged_mode: bool,
}

/// The log destinations of a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct LogsRecord {
    pub group_name: String,
    pub stream_name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cloud_watch_logs_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub s3_logs_arn: Option<String>,
    #[serde(default)]
    pub cloud_watch_logs: LogsStatus,
    #[serde(default)]
    pub s3_logs: LogsStatus,
}

/// Whether and where a copy of the log is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct LogsStatus {
    pub status: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stream_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub location: Option<String>,
}

/// How to connect to a [`Build`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct DebugSession {
    pub session_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_target: Option<String>,
}

/// Makes the record of a build's current state.
#[must_use]
pub fn record(view: &BuildView) -> Build {
    let facts = &view.facts;
    Build {
        id: view.build_id(),
        arn: facts.arn.clone(),
        build_number: facts.number,
        start_time: view.started.epoch_seconds(),
        end_time: view.ended.map(WallTime::epoch_seconds),
        current_phase: view.phase().name().to_owned(),
        build_status: view.status,
        resolved_source_version: facts.resolved_source_version.clone(),
        project_name: facts.project.clone(),
        phases: view
            .phases
            .iter()
            .map(|phase| BuildPhase {
                phase_type: phase.phase,
                // In AWS, the last entry is only a mark.
                phase_status: (phase.phase != Phase::Completed).then_some(phase.status),
                start_time: phase.started.epoch_seconds(),
                end_time: phase.ended.map(WallTime::epoch_seconds),
                duration_in_seconds: phase.duration_ms.map(|duration| duration / 1000),
                contexts: phase.contexts.clone(),
            })
            .collect(),
        source: SourceRecord {
            r#type: "NO_SOURCE".to_owned(),
            location: facts.source.clone(),
            buildspec: facts.buildspec.clone(),
            source_identifier: None,
        },
        secondary_sources: facts
            .secondary_sources
            .iter()
            .map(|source| SourceRecord {
                r#type: "NO_SOURCE".to_owned(),
                location: source.location.clone(),
                buildspec: String::new(),
                source_identifier: Some(source.identifier.clone()),
            })
            .collect(),
        secondary_source_versions: facts
            .secondary_sources
            .iter()
            .filter(|source| !source.version.is_empty())
            .map(|source| SourceVersion {
                source_identifier: source.identifier.clone(),
                source_version: source.version.clone(),
            })
            .collect(),
        artifacts: view
            .artifacts
            .iter()
            .find(|stored| stored.identifier.is_none())
            .map(ArtifactsRecord::from)
            .unwrap_or_default(),
        secondary_artifacts: view
            .artifacts
            .iter()
            .filter(|stored| stored.identifier.is_some())
            .map(ArtifactsRecord::from)
            .collect(),
        cache: match &facts.cache {
            None => CacheRecord { r#type: "NO_CACHE".to_owned(), location: None },
            Some(cache) => {
                CacheRecord { r#type: cache.r#type.clone(), location: Some(cache.location.clone()) }
            }
        },
        environment: EnvironmentRecord {
            r#type: "LINUX_CONTAINER".to_owned(),
            image: facts.image.clone(),
            compute_type: "BUILD_GENERAL1_SMALL".to_owned(),
            environment_variables: Vec::new(),
            privileged_mode: facts.privileged,
        },
        logs: logs(facts),
        timeout_in_minutes: facts.timeout_s.div_ceil(60),
        queued_timeout_in_minutes: 480,
        build_complete: view.ended.is_some(),
        initiator: facts.initiator.clone(),
        exported_environment_variables: view.exported.clone(),
        report_arns: view.reports.iter().map(|report| report.arn.clone()).collect(),
        reports: view.reports.clone(),
        debug_session: DebugSession {
            session_enabled: facts.session_enabled,
            session_target: facts.session_enabled.then(|| format!("codebuild:{}", facts.uuid)),
        },
        build_batch_arn: facts.batch.as_ref().map(|batch| batch.arn.clone()),
        skipped: u32::try_from(view.skipped.len()).unwrap_or(u32::MAX),
        stubs: facts.stubs.clone(),
        notices: view
            .notices
            .iter()
            .map(|(time, notice)| NoticeRecord {
                time: time.epoch_seconds(),
                notice: notice.clone(),
            })
            .collect(),
        interventions: view
            .interventions
            .iter()
            .map(|(time, done)| InterventionRecord {
                time: time.epoch_seconds(),
                user: done.by.user.clone(),
                client: done.by.client.clone(),
                what: done.what,
                run: done.command,
            })
            .collect(),
    }
}

fn logs(facts: &BuildFacts) -> LogsRecord {
    let LogsFacts { cloudwatch, s3 } = &facts.logs;
    let status = |is_there: bool| if is_there { "ENABLED" } else { "DISABLED" }.to_owned();
    // Region and account in the build's ARN.
    let owner: Vec<&str> = facts.arn.split(':').skip(3).take(2).collect();
    let owner = owner.join(":");
    let (group, stream) = cloudwatch
        .clone()
        .unwrap_or_else(|| (format!("/aws/codebuild/{}", facts.project), facts.uuid.clone()));
    LogsRecord {
        cloud_watch_logs_arn: cloudwatch
            .is_some()
            .then(|| format!("arn:aws:logs:{owner}:log-group:{group}:log-stream:{stream}")),
        s3_logs_arn: s3.as_ref().map(|object| format!("arn:aws:s3:::{object}")),
        cloud_watch_logs: LogsStatus {
            status: status(cloudwatch.is_some()),
            group_name: cloudwatch.as_ref().map(|(group, _)| group.clone()),
            stream_name: cloudwatch.as_ref().map(|(_, stream)| stream.clone()),
            location: None,
        },
        s3_logs: LogsStatus {
            status: status(s3.is_some()),
            location: s3.clone(),
            ..LogsStatus::default()
        },
        group_name: group,
        stream_name: stream,
    }
}
