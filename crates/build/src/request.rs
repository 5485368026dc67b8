//! A request for a build: plain data, with all options and files resolved.
//!
//! It can be sent to the process that runs the build, which then opens the places it names
//! (`opened`). It contains values of variables, so it is neither stored nor put on a command line.

use super::buildspec::BuildspecFile;
use super::copies::LogsWanted;
use super::stubs::Stub;
use crate::services::ServiceRequest;
use crate::session::SessionOptions;
use crate::source::SourceFacts;
use runner_cloud as amazon;
use runner_core::batch::Shard;
use runner_core::env::Variables;
use runner_core::event::BatchMember;
use runner_core::plan::{PlannedStops, TimeLimits};
use runner_core::project::ProjectVariable;
use runner_core::skip::Skips;
use runner_engine::image::{Image, ImageRequester};
use runner_engine::{EngineKind, NetworkAccess, UserMount};
use runner_outputs::{ArtifactDestinations, OutputStore};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// A request for one build. It is never printed: it contains secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    pub project: String,
    /// Directory that relative paths start from.
    pub directory: PathBuf,
    /// The source directory, fully resolved.
    pub source: PathBuf,
    /// Further sources, by identifier.
    pub secondary_sources: Vec<(String, PathBuf)>,
    pub buildspec: BuildspecFile,
    pub limits: TimeLimits,
    /// Where the build stops.
    pub stops: PlannedStops,
    pub container: ContainerRequest,
    pub values: ValuesRequest,
    pub outputs: OutputsRequest,
    pub sessions: SessionOptions,
    /// Parts of the buildspec that are skipped.
    #[serde(default)]
    pub skips: Skips,
    /// Programs replaced by stand-ins, each name once.
    #[serde(default)]
    pub stubs: Vec<Stub>,
    /// Containers beside the build.
    #[serde(default)]
    pub services: Vec<ServiceRequest>,
    /// Certificates to trust besides those of this machine and the image, as PEM.
    #[serde(default)]
    pub certificates: Option<String>,
    /// Whether to give hints on failures.
    #[serde(default)]
    pub hints: bool,
    /// The batch that the build belongs to.
    #[serde(default)]
    pub member: Option<BatchMembership>,
    /// What a service decided when it accepted the build.
    #[serde(default)]
    pub accepted: Option<Accepted>,
}

/// Identity of a build that a service accepted before it began.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub uuid: Uuid,
    pub number: u64,
    pub initiator: String,
    /// Lines for the start of its log.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What a build gets from its batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchMembership {
    /// The second half of the build's id, chosen by the batch.
    pub uuid: Uuid,
    pub batch: BatchMember,
    /// The process that owns the batch, if the build must not outlive it.
    pub owner: Option<u32>,
    /// Copies of the sources shared by all builds of the batch, primary one first.
    pub frozen: Vec<FrozenSource>,
    /// The build's share of the tests.
    pub shard: Option<Shard>,
}

/// A source as it was when the batch began.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenSource {
    pub dir: PathBuf,
    /// Its facts at that time.
    pub facts: SourceFacts,
}

/// The container that the build runs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRequest {
    /// The container engine.
    pub engine: EngineKind,
    pub image: Image,
    /// The image that this one replaces.
    #[serde(default)]
    pub replaces: Option<Image>,
    /// Who requests the image from a registry.
    pub asker: ImageRequester,
    pub mounts: Vec<UserMount>,
    /// Whether tools of the caller's home are shown.
    #[serde(default)]
    pub home_tools: bool,
    /// Limits on the machine's resources.
    pub resources: runner_sandbox::ResourceLimits,
    pub network: NetworkAccess,
    pub privileged: bool,
    /// Whether sessions get additional programs.
    pub toolbox: bool,
}

/// Sources of the build's variables.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuesRequest {
    /// Variables that take precedence over all others.
    pub variables: Variables,
    /// A project's variables whose values are in Parameter Store or Secrets Manager.
    pub fetched: Vec<ProjectVariable>,
    /// Names of variables whose values must not be shown.
    pub masked: Vec<String>,
    /// The AWS identity whose credentials the build gets.
    pub aws: Option<amazon::CloudIdentity>,
    /// A file that provides values instead of AWS.
    pub secrets: Option<PathBuf>,
}

/// Destinations of the build's outputs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputsRequest {
    pub artifacts: Option<ArtifactDestinations>,
    pub cache: Option<CacheRequest>,
    pub reports: Option<PathBuf>,
    /// Whether to search for reports that the buildspec does not name, even if none are written.
    pub discovers: bool,
    pub build_json: Option<PathBuf>,
    /// A file that receives the build's id when it begins.
    #[serde(default)]
    pub id_file: Option<PathBuf>,
    /// A file that receives a copy of the log.
    pub log_file: Option<PathBuf>,
    /// Copies of the log on AWS.
    pub logs: LogsWanted,
}

/// Where caches are stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheRequest {
    pub store: OutputStore,
    /// Project name; only builds of this project find the cache.
    pub project: String,
}

impl ValuesRequest {
    /// The identity that calls AWS for the build.
    pub fn identity(&self) -> amazon::CloudIdentity {
        self.aws.clone().unwrap_or(amazon::CloudIdentity::Default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::agent::AgentConfig;
    use runner_core::plan::{BreakAction, Checkpointing};
    use runner_core::skip::Glob;
    use runner_core::spec::UserPhase;
    use runner_engine::MountAccess;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn request() -> BuildRequest {
        let hour = Duration::from_secs(3600);
        BuildRequest {
            project: "demo".to_owned(),
            directory: "/here".into(),
            source: "/src".into(),
            secondary_sources: vec![("ID".to_owned(), "/other".into())],
            buildspec: BuildspecFile::inline("version: 0.2\n".to_owned()),
            limits: TimeLimits {
                timeout: hour,
                timeout_while_paused: false,
                break_timeout: Some(hour),
                break_action: BreakAction::Stop,
            },
            stops: PlannedStops {
                breakpoints: vec!["before:build".parse().expect("a breakpoint")],
                step: true,
                checkpoints: Checkpointing::Sealed,
            },
            container: ContainerRequest {
                engine: EngineKind::default(),
                image: Image::Layout("/a".into(), Some("b".to_owned())),
                replaces: Some(Image::Host),
                asker: ImageRequester::Caller,
                mounts: vec![UserMount {
                    source: "/a".into(),
                    target: "/b".into(),
                    access: MountAccess::CopyOnWrite,
                    hidden: vec!["c".into()],
                }],
                home_tools: true,
                resources: runner_sandbox::ResourceLimits::default(),
                network: NetworkAccess::Host,
                privileged: false,
                toolbox: true,
            },
            values: ValuesRequest {
                variables: vec![("A".to_owned(), "b\nc".to_owned())],
                fetched: Vec::new(),
                masked: vec!["A".to_owned()],
                aws: Some(amazon::CloudIdentity::Profile("p".to_owned())),
                secrets: Some("secrets.yml".into()),
            },
            outputs: OutputsRequest::default(),
            sessions: SessionOptions {
                is_enabled: true,
                idle_timeout: hour,
                is_idle_given: false,
                longest: None,
                log: None,
                requires_log: true,
                agent: AgentConfig::default(),
            },
            skips: Skips {
                commands: vec![Glob::new("docker *")],
                phases: vec![UserPhase::PreBuild],
            },
            stubs: vec![Stub { name: "aws".to_owned(), file: None }],
            services: vec![ServiceRequest {
                name: "db".to_owned(),
                image: Image::Layout("/a".into(), None),
                port: Some(5432),
                variables: vec![("A".to_owned(), "b".to_owned())],
            }],
            certificates: Some("PEM".to_owned()),
            hints: true,
            member: Some(BatchMembership {
                uuid: Uuid::nil(),
                batch: BatchMember::default(),
                owner: Some(1),
                frozen: vec![FrozenSource { dir: "/copy".into(), facts: SourceFacts::default() }],
                shard: Some(Shard { index: 1, count: 2 }),
            }),
            accepted: Some(Accepted {
                uuid: Uuid::nil(),
                number: 3,
                initiator: "ann".to_owned(),
                notes: vec!["kept".to_owned()],
            }),
        }
    }

    #[test]
    fn what_is_sent_is_what_arrives() -> serde_json::Result<()> {
        let sent = serde_json::to_value(request())?;
        let arrived: BuildRequest = serde_json::from_value(sent.clone())?;
        assert_eq!(serde_json::to_value(arrived)?, sent);
        Ok(())
    }

    #[test]
    fn what_is_not_known_is_not_overlooked() -> serde_json::Result<()> {
        for group in ["/container", "/values", "/outputs", "/sessions", "/member", "/accepted", ""]
        {
            let mut sent = serde_json::to_value(request())?;
            let fields = sent.pointer_mut(group).and_then(Value::as_object_mut).expect("a group");
            fields.insert("hold".to_owned(), json!(true));
            assert!(serde_json::from_value::<BuildRequest>(sent).is_err(), "in {group}");
        }
        Ok(())
    }
}
