//! SendCommand: sends a command to builds.

use super::document::{self, CommandDocumentVersion};
use super::nodes::{self, NodeTarget, Target, as_value, shown};
use super::{failed, invalid, shape};
use crate::aws::call::RefusedCall;
use crate::aws::documents;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::places;
use crate::aws::resources::{ResourceNames, node_id};
use crate::aws::targets::check;
use crate::commands::{CommandOrder, NotSent};
use futures_util::future::join_all;
use runner_core::arn::ACCOUNT;
use runner_core::destination::{Bucket, Destinations, Form, LogGroup};
use runner_core::document::command::{self, DocumentStep, StepWork};
use runner_core::document::{GivenParameters, Parameters};
use runner_core::run_command::bound::CommandBound;
use runner_core::run_command::{StatusDetails, standing};
use runner_core::time::WallTime;
use runner_folder::state::{BuildDir, CommandNode, CommandStep, SentCommand, random};
use runner_host::clock;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Default and allowed seconds within which a command must start.
const TIMEOUT: i64 = 3600;
const TIMEOUTS: std::ops::RangeInclusive<i64> = 30..=2_592_000;
/// Most bytes of a script with its parameters filled in.
const MAX_SCRIPT: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SendCommand {
    document_name: String,
    document_version: Option<String>,
    document_hash: Option<String>,
    document_hash_type: Option<String>,
    #[serde(default)]
    instance_ids: Vec<String>,
    #[serde(default)]
    targets: Vec<Target>,
    timeout_seconds: Option<i64>,
    comment: Option<String>,
    parameters: Option<GivenParameters>,
    #[serde(rename = "OutputS3BucketName")]
    bucket: Option<String>,
    #[serde(rename = "OutputS3KeyPrefix")]
    prefix: Option<String>,
    max_concurrency: Option<String>,
    max_errors: Option<String>,
    cloud_watch_output_config: Option<CloudWatch>,
    service_role_arn: Option<String>,
    notification_config: Option<Value>,
    alarm_configuration: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CloudWatch {
    #[serde(default)]
    cloud_watch_output_enabled: bool,
    #[serde(default)]
    cloud_watch_log_group_name: String,
}

/// The document and nodes that a request names.
pub(crate) struct CommandSubject {
    document: Result<CommandDocumentVersion, RefusedCall>,
    nodes: Vec<NodeTarget>,
}

impl OperationInput for SendCommand {
    type Subject = CommandSubject;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, CommandSubject), RefusedCall> {
        self.check()?;
        let version = self.document_version.as_deref();
        let document = document::find(endpoint, &self.document_name, version).await;
        let nodes = if self.targets.is_empty() {
            nodes::by_name(&self.instance_ids, endpoint).await?
        } else {
            nodes::by_rules(&self.targets, endpoint).await?
        };
        let named =
            nodes.iter().map(|node| ResourceNames::target(&node.name, node.known.as_ref().ok()));
        let of = documents::resource(endpoint, &self.document_name).await;
        let scope = RequestScope::of([of].into_iter().chain(named));
        Ok((scope, CommandSubject { document, nodes }))
    }

    async fn answer(
        self,
        subject: CommandSubject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let document = subject.document?;
        if let Some(hash) = self.document_hash.as_deref().filter(|hash| !hash.is_empty()) {
            document.check_hash(hash, self.document_hash_type.as_deref())?;
        }
        let destinations = self.destinations()?;
        places::may_write(&destinations, origin, endpoint)?;
        let steps = self.steps(&document.content)?;
        let (nodes, builds) = self.reachable(subject.nodes).await?;
        let limit = |bound: CommandBound, given: &Option<String>, default: &str| {
            let text = given.clone().unwrap_or_else(|| default.to_owned());
            bound.of(&text, nodes.len()).map(|allowed| (text, allowed)).map_err(invalid)
        };
        let (max_concurrency, at_once) =
            limit(CommandBound::Concurrency, &self.max_concurrency, "50")?;
        let (max_errors, errors_allowed) = limit(CommandBound::Errors, &self.max_errors, "0")?;
        // A caller who names builds wants all of them at once; a group is started gradually.
        let ramps_up = !self.targets.is_empty() || self.max_concurrency.is_some();
        let now = clock::wall();
        let timeout_s = self.timeout_seconds.unwrap_or(TIMEOUT).unsigned_abs();
        let step = |step: &DocumentStep| CommandStep {
            name: step.name.clone(),
            plugin: step.plugin.clone(),
            folder: step.folder.clone(),
        };
        let command = SentCommand {
            id: new_id(now).map_err(failed)?,
            document: self.document_name,
            document_version: self.document_version.unwrap_or_default(),
            comment: self.comment.unwrap_or_default(),
            parameters: self.parameters.unwrap_or_default(),
            instance_ids: self.instance_ids,
            targets: as_value(&self.targets),
            requested: now,
            expires: later(now, Duration::from_secs(timeout_s) + all_of(&steps)),
            timeout_s,
            max_concurrency,
            max_errors,
            errors_allowed,
            destinations,
            owner: origin.caller.arn.clone(),
            owner_id: origin.caller.user_id.clone(),
            owner_key: origin.caller.key_id.clone(),
            root: endpoint.agent.orchestration_folder().unwrap_or_default(),
            system: endpoint.agent.system(),
            nodes,
            steps: steps.iter().map(step).collect(),
            ended: None,
        };
        let begun = vec![StatusDetails::Pending; command.nodes.len()];
        let answer = shape::command(&command, &standing(&begun, command.errors_allowed));
        let order = CommandOrder { command, steps, builds, max_concurrency: at_once, ramps_up };
        endpoint.commands.send(order).await.map_err(|error| not_sent(&error))?;
        Ok(json!({"Command": answer}))
    }
}

impl SendCommand {
    /// Refuses input that no build could satisfy.
    fn check(&self) -> Result<(), RefusedCall> {
        if self.instance_ids.is_empty() == self.targets.is_empty() {
            return Err(invalid("either InstanceIds or Targets says which builds are meant"));
        }
        if self.timeout_seconds.is_some_and(|seconds| !TIMEOUTS.contains(&seconds)) {
            return Err(invalid("TimeoutSeconds is a number from 30 to 2592000"));
        }
        if self.comment.as_ref().is_some_and(|comment| comment.chars().count() > 100) {
            return Err(invalid("Comment has at most 100 characters"));
        }
        let is_there = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if is_there(&self.service_role_arn) {
            let text = "ServiceRoleArn: there are no roles here; leave it out";
            return Err(RefusedCall::new("InvalidRole", text));
        }
        if self.notification_config.as_ref().is_some_and(says_something) {
            let text = "NotificationConfig: there is no SNS here; leave it out";
            return Err(RefusedCall::new("InvalidNotificationConfig", text));
        }
        if self.alarm_configuration.as_ref().is_some_and(says_something) {
            return Err(invalid("AlarmConfiguration: there are no alarms here; leave it out"));
        }
        Ok(())
    }

    /// The targets at AWS for the output.
    fn destinations(&self) -> Result<Destinations, RefusedCall> {
        let bucket = self.bucket.clone().filter(|name| !name.is_empty());
        let prefix = self.prefix.clone().unwrap_or_default();
        if let Some(name) = &bucket {
            let wrong = places::wrong_bucket(("OutputS3BucketName", name));
            let wrong = wrong.or_else(|| places::wrong_prefix(("OutputS3KeyPrefix", &prefix)));
            if let Some(wrong) = wrong {
                return Err(RefusedCall::new("InvalidOutputFolder", wrong));
            }
        }
        let bucket = bucket.map(|name| Bucket { name, prefix, must_be_encrypted: false });
        let config = self.cloud_watch_output_config.as_ref();
        let config = config.filter(|config| config.cloud_watch_output_enabled);
        let group = match config.map(|config| config.cloud_watch_log_group_name.as_str()) {
            None => None,
            Some("") => {
                let name = self.document_name.chars();
                let name: String =
                    name.map(|c| if places::is_of_group(c) { c } else { '.' }).collect();
                Some(format!("/aws/ssm/{name}"))
            }
            Some(name) => match places::wrong_group(("CloudWatchLogGroupName", name)) {
                Some(wrong) => return Err(invalid(wrong)),
                None => Some(name.to_owned()),
            },
        };
        let (must_be_encrypted, is_made, form) = (false, true, Form::Text);
        let group = group.map(|name| LogGroup { name, must_be_encrypted, is_made, form });
        Ok(Destinations { group, bucket })
    }

    /// The document's steps with parameters filled in.
    fn steps(&self, content: &Value) -> Result<Vec<DocumentStep>, RefusedCall> {
        let name = shown(&self.document_name);
        let unfit =
            |what: String| RefusedCall::new("InvalidDocument", format!("Document {name}: {what}."));
        let document = command::CommandDocument::read(content).map_err(unfit)?;
        let parameters = Parameters::read(content.get("parameters"));
        let parameters = parameters.map_err(|problems| unfit(problems.join("; ")))?;
        let given = self.parameters.clone().unwrap_or_default();
        let values = parameters.values(&given).map_err(|problems| {
            let text = format!("Document {name}: {}.", problems.join("; "));
            RefusedCall::new("InvalidParameters", text)
        })?;
        let too_long = || {
            let text = format!("the document has more than {MAX_SCRIPT} bytes with its parameters");
            RefusedCall::new("MaxDocumentSizeExceeded", text)
        };
        if !values.fits(content, MAX_SCRIPT) {
            return Err(too_long());
        }
        let steps = document.steps(|part| values.fill(part));
        Ok(steps)
    }

    /// The nodes that can run scripts. An unusable node refuses the call if it was named; otherwise
    /// it is left out.
    async fn reachable(
        &self,
        wanted: Vec<NodeTarget>,
    ) -> Result<(Vec<CommandNode>, Vec<BuildDir>), RefusedCall> {
        let is_named = self.targets.is_empty();
        let checked = wanted.into_iter().map(|NodeTarget { name, known }| async move {
            match known {
                Ok(known) => (name, check(known).await.map(|reachable| reachable.known)),
                Err(why) => (name, Err(why)),
            }
        });
        let (mut nodes, mut builds) = (Vec::new(), Vec::new());
        for (name, checked) in join_all(checked).await {
            match checked {
                Ok(known) => {
                    nodes.push(CommandNode {
                        name,
                        id: node_id(&known.uuid),
                        uuid: known.uuid,
                        build: known.record.id,
                        project: known.record.project_name,
                    });
                    builds.push(known.dir);
                }
                Err(why) if is_named => {
                    let name = shown(&name);
                    return Err(RefusedCall::new(
                        "InvalidInstanceId",
                        format!(
                            "Instances [[{name}]] not in a valid state for account {ACCOUNT}: {why}"
                        ),
                    ));
                }
                Err(_) => {}
            }
        }
        Ok((nodes, builds))
    }
}

/// Whether a member is not empty.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Array(list) => list.iter().any(says_something),
        Value::Object(map) => map.values().any(says_something),
    }
}

/// The total time limit of all scripts.
fn all_of(steps: &[DocumentStep]) -> Duration {
    let timeout = |step: &DocumentStep| match &step.work {
        StepWork::Script(script) => script.timeout,
        StepWork::Skip(_) | StepWork::Fail(_) => Duration::ZERO,
    };
    steps.iter().map(timeout).sum()
}

fn later(time: WallTime, length: Duration) -> WallTime {
    WallTime(time.0.saturating_add(i64::try_from(length.as_micros()).unwrap_or(i64::MAX)))
}

/// An id that begins with the time, so that ids sort in the order of commands.
fn new_id(now: WallTime) -> std::io::Result<String> {
    let millis = u64::try_from(now.epoch_millis()).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random::<10>()?).into_uuid();
    Ok(id.hyphenated().to_string())
}

fn not_sent(error: &NotSent) -> RefusedCall {
    match error {
        NotSent::TooMany(_) => RefusedCall::new("ThrottlingException", error.to_string()),
        NotSent::Stopping | NotSent::Unkept(_) => failed(error),
    }
}
