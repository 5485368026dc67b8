//! What a build is asked for with: plain data, options and files resolved to their ends.
//!
//! It can be sent to the process that runs the build. What it names on this machine is opened there
//! (`opened`); values of variables are in it, so it is neither kept nor put on a command line.

use super::buildspec::BuildspecFile;
use super::copies::LogsWanted;
use crate::amazon;
use crate::engine::{Kind, Network, UserMount};
use crate::image::{Asker, Image};
use crate::outputs::{Destinations, Store};
use crate::session::SessionOptions;
use runner_core::env::Variables;
use runner_core::plan::{Limits, Stops};
use runner_core::project::ProjectVariable;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One build, as asked for. It is never printed: it holds what is secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuildRequest {
    pub(crate) project: String,
    /// Where relative paths start from.
    pub(crate) directory: PathBuf,
    /// Resolved to its end.
    pub(crate) source: PathBuf,
    /// Further ones, by their identifiers.
    pub(crate) secondary_sources: Vec<(String, PathBuf)>,
    pub(crate) buildspec: BuildspecFile,
    pub(crate) limits: Limits,
    /// Where it stops.
    pub(crate) stops: Stops,
    pub(crate) container: ContainerRequest,
    pub(crate) values: ValuesRequest,
    pub(crate) outputs: OutputsRequest,
    pub(crate) sessions: SessionOptions,
}

/// What the build runs in.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerRequest {
    /// What runs it.
    pub(crate) engine: Kind,
    pub(crate) image: Image,
    /// Who asks a registry for it.
    pub(crate) asker: Asker,
    pub(crate) mounts: Vec<UserMount>,
    /// What it may use of the machine.
    pub(crate) resources: runner_sandbox::Limits,
    pub(crate) network: Network,
    pub(crate) privileged: bool,
    /// Whether sessions have programs of their own.
    pub(crate) toolbox: bool,
}

/// What the build's variables are made of.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ValuesRequest {
    /// Those that go before all others.
    pub(crate) variables: Variables,
    /// Those of a project whose values are in Parameter Store or Secrets Manager.
    pub(crate) fetched: Vec<ProjectVariable>,
    /// Names of those that are not to be shown.
    pub(crate) masked: Vec<String>,
    /// Whose AWS credentials the build gets.
    pub(crate) aws: Option<amazon::Identity>,
    /// Where values come from instead of from AWS.
    pub(crate) secrets: Option<PathBuf>,
}

/// Where what the build leaves goes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputsRequest {
    pub(crate) artifacts: Option<Destinations>,
    pub(crate) cache: Option<CacheRequest>,
    pub(crate) reports: Option<PathBuf>,
    /// Whether those are looked for that the buildspec does not name, also where none are written.
    pub(crate) discovers: bool,
    pub(crate) build_json: Option<PathBuf>,
    /// A file that gets the log as well.
    pub(crate) log_file: Option<PathBuf>,
    /// Where on AWS the log goes as well.
    pub(crate) logs: LogsWanted,
}

/// Where caches are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheRequest {
    pub(crate) store: Store,
    /// Caches are found by builds of this name only.
    pub(crate) project: String,
}

impl ValuesRequest {
    /// Who calls AWS for the build.
    pub(super) fn identity(&self) -> amazon::Identity {
        self.aws.clone().unwrap_or(amazon::Identity::Default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::plan::BreakAction;
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
            limits: Limits {
                timeout: hour,
                timeout_while_paused: false,
                break_timeout: Some(hour),
                break_action: BreakAction::Stop,
            },
            stops: Stops {
                breakpoints: vec!["before:build".parse().expect("a breakpoint")],
                step: true,
            },
            container: ContainerRequest {
                engine: Kind::default(),
                image: Image::Layout("/a".into(), Some("b".to_owned())),
                asker: Asker::Caller,
                mounts: Vec::new(),
                resources: runner_sandbox::Limits::default(),
                network: Network::Host,
                privileged: false,
                toolbox: true,
            },
            values: ValuesRequest {
                variables: vec![("A".to_owned(), "b\nc".to_owned())],
                fetched: Vec::new(),
                masked: vec!["A".to_owned()],
                aws: Some(amazon::Identity::Profile("p".to_owned())),
                secrets: Some("secrets.yml".into()),
            },
            outputs: OutputsRequest::default(),
            sessions: SessionOptions {
                is_enabled: true,
                idle_timeout: hour,
                longest: None,
                log: None,
            },
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
        for group in ["/container", "/values", "/outputs", "/sessions", ""] {
            let mut sent = serde_json::to_value(request())?;
            let fields = sent.pointer_mut(group).and_then(Value::as_object_mut).expect("a group");
            fields.insert("hold".to_owned(), json!(true));
            assert!(serde_json::from_value::<BuildRequest>(sent).is_err(), "in {group}");
        }
        Ok(())
    }
}
