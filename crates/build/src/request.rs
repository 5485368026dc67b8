//! What a build is asked for with: plain data, options and files resolved to their ends.
//!
//! It can be sent to the process that runs the build. What it names on this machine is opened there
//! (`opened`); values of variables are in it, so it is neither kept nor put on a command line.

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

/// One build, as asked for. It is never printed: it holds what is secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    pub project: String,
    /// Where relative paths start from.
    pub directory: PathBuf,
    /// Resolved to its end.
    pub source: PathBuf,
    /// Further ones, by their identifiers.
    pub secondary_sources: Vec<(String, PathBuf)>,
    pub buildspec: BuildspecFile,
    pub limits: TimeLimits,
    /// Where it stops.
    pub stops: PlannedStops,
    pub container: ContainerRequest,
    pub values: ValuesRequest,
    pub outputs: OutputsRequest,
    pub sessions: SessionOptions,
    /// What of the buildspec is not run.
    #[serde(default)]
    pub skips: Skips,
    /// Programs that others take the place of, each name once.
    #[serde(default)]
    pub stubs: Vec<Stub>,
    /// Containers beside the build.
    #[serde(default)]
    pub services: Vec<ServiceRequest>,
    /// Certificates that are trusted besides those of this machine and of the image, as PEM.
    #[serde(default)]
    pub certificates: Option<String>,
    /// Whether failures are advised on.
    #[serde(default)]
    pub hints: bool,
    /// The batch it belongs to.
    #[serde(default)]
    pub member: Option<BatchMembership>,
    /// What a service has given to it when it was taken in.
    #[serde(default)]
    pub accepted: Option<Accepted>,
}

/// Who a build is that a service has taken in before it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub uuid: Uuid,
    pub number: u64,
    pub initiator: String,
    /// What its log says at the start.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What a build has of the batch that it belongs to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchMembership {
    /// The second half of the build's id, which the batch has chosen.
    pub uuid: Uuid,
    pub batch: BatchMember,
    /// The process that owns the batch, where the build does not outlive it.
    pub owner: Option<u32>,
    /// Copies of the sources that all builds of the batch see, the primary one first.
    pub frozen: Vec<FrozenSource>,
    /// Which part of the tests is its.
    pub shard: Option<Shard>,
}

/// A source as it was when the batch began.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenSource {
    pub dir: PathBuf,
    /// What there was to say of it then.
    pub facts: SourceFacts,
}

/// What the build runs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerRequest {
    /// What runs it.
    pub engine: EngineKind,
    pub image: Image,
    /// The image in whose place that one is.
    #[serde(default)]
    pub replaces: Option<Image>,
    /// Who asks a registry for it.
    pub asker: ImageRequester,
    pub mounts: Vec<UserMount>,
    /// Whether tools of the caller's home are shown.
    #[serde(default)]
    pub home_tools: bool,
    /// What it may use of the machine.
    pub resources: runner_sandbox::ResourceLimits,
    pub network: NetworkAccess,
    pub privileged: bool,
    /// Whether sessions have programs of their own.
    pub toolbox: bool,
}

/// What the build's variables are made of.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValuesRequest {
    /// Those that go before all others.
    pub variables: Variables,
    /// Those of a project whose values are in Parameter Store or Secrets Manager.
    pub fetched: Vec<ProjectVariable>,
    /// Names of those that are not to be shown.
    pub masked: Vec<String>,
    /// Whose AWS credentials the build gets.
    pub aws: Option<amazon::CloudIdentity>,
    /// Where values come from instead of from AWS.
    pub secrets: Option<PathBuf>,
}

/// Where what the build leaves goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputsRequest {
    pub artifacts: Option<ArtifactDestinations>,
    pub cache: Option<CacheRequest>,
    pub reports: Option<PathBuf>,
    /// Whether those are looked for that the buildspec does not name, also where none are written.
    pub discovers: bool,
    pub build_json: Option<PathBuf>,
    /// A file that gets the build's id when it begins.
    #[serde(default)]
    pub id_file: Option<PathBuf>,
    /// A file that gets the log as well.
    pub log_file: Option<PathBuf>,
    /// Where on AWS the log goes as well.
    pub logs: LogsWanted,
}

/// Where caches are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheRequest {
    pub store: OutputStore,
    /// Caches are found by builds of this name only.
    pub project: String,
}

impl ValuesRequest {
    /// Who calls AWS for the build.
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
