//! ExecuteCommand: opens a session with a command in a task.

use super::clusters::{find as find_cluster, in_cluster};
use super::configuration;
use super::tasks::{container_arn, find, runtime_id};
use super::{CONTAINER, invalid};
use crate::aws::builds::VisibleBuild;
use crate::aws::call::RefusedCall;
use crate::aws::documents;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::{ResourceNames, cluster_arn, last, task_arn};
use crate::aws::targets::{CLUSTER, ECS_IDLE, agent_of, check, demanded, no_session, task_id};
use crate::gateway::SessionRequest;
use runner_core::destination::Destinations;
use runner_folder::state::Cluster;
use serde::Deserialize;
use serde_json::{Value, json};

/// The message of the real service.
const NOT_ENABLED: &str = "The execute command failed because execute command was not enabled when the \
    task was run or the execute command agent isn't running. Wait and try again or run a new task with \
    execute command enabled and try again.";

/// The live build that a call names: by its task, or as every verb names builds.
async fn named(task: &str, endpoint: &Endpoint) -> Result<VisibleBuild, String> {
    match find(task, endpoint).await {
        Some(known) => Ok(known),
        None => {
            let found = endpoint.builds.find(last(task)).await;
            found.map_err(|why| format!("The specified task was not found: {why}."))
        }
    }
}

/// The named build, and its cluster if that is the one the call names.
async fn named_in(
    cluster: Option<&str>,
    task: &str,
    endpoint: &Endpoint,
) -> Result<(Cluster, VisibleBuild), RefusedCall> {
    let cluster = find_cluster(cluster, endpoint)?;
    let known = named(task, endpoint).await.map_err(invalid)?;
    let own = &known.task.cluster;
    match *own == cluster.name {
        true => Ok((cluster, known)),
        false => Err(invalid(format!(
            "The specified task was not found: it is one of the cluster {own}."
        ))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecuteCommand {
    cluster: Option<String>,
    container: Option<String>,
    command: String,
    #[serde(default)]
    interactive: bool,
    task: String,
}

impl OperationInput for ExecuteCommand {
    type Subject = Result<(Cluster, VisibleBuild), RefusedCall>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        if !self.interactive {
            return Err(invalid("Interactive is the only mode supported currently."));
        }
        let found = named_in(self.cluster.as_deref(), &self.task, endpoint).await;
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let known = found.as_ref().ok().map(|(_, known)| known);
        let task = ResourceNames::task(cluster, &self.task, known);
        let container = self.container.as_deref().unwrap_or(CONTAINER);
        let mut context = in_cluster(cluster);
        context.push(("ecs:container-name", container.to_owned()));
        context.extend(task.names.first().map(|arn| ("ecs:task", arn.clone())));
        if let Some(known) = known {
            let is_enabled = known.record.debug_session.session_enabled;
            context.push(("ecs:enable-execute-command", is_enabled.to_string()));
        }
        Ok((RequestScope::of([task]).when(context), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let (cluster, known) = found?;
        if self.container.is_some_and(|container| container != CONTAINER) {
            return Err(invalid(format!("The task has one container, `{CONTAINER}`.")));
        }
        if !known.is_live || !known.record.debug_session.session_enabled {
            return Err(invalid(NOT_ENABLED));
        }
        execute(&cluster, known, &self.command, origin, endpoint).await
    }
}

/// Opens a session with a command.
async fn execute(
    cluster: &Cluster,
    known: VisibleBuild,
    command: &str,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, RefusedCall> {
    let mut plan = documents::command(command).map_err(invalid)?;
    (plan.logs, plan.key) = asked_for(cluster.configuration.as_ref(), &known)?;
    let unreached = |why: String| {
        tracing::debug!(why, "a task that cannot be reached");
        // Tools match the first two sentences.
        let text = format!(
            "The execute command failed due to an internal error. Try again later. ({why})"
        );
        RefusedCall::new("TargetNotConnectedException", text)
    };
    let reachable = check(known).await.map_err(unreached)?;
    let plan = demanded(plan, reachable.requires_log, endpoint)?;
    let agent = agent_of(&reachable.known, endpoint).await.map_err(unreached)?;
    let known = reachable.known;
    let asked = SessionRequest {
        prefix: "ecs-execute-command".to_owned(),
        target: format!("ecs:{}_{}_{}", cluster.name, task_id(&known), runtime_id(&known)),
        document: None,
        version: None,
        reason: None,
        owner: origin.caller.arn.clone(),
        user_id: origin.caller.user_id.clone(),
        key_id: origin.caller.key_id.clone(),
        idle: ECS_IDLE,
        longest: reachable.longest,
        build: known.dir.clone(),
        plan,
        agent,
        region: origin.region.clone(),
    };
    let (session, token) = endpoint.gateway.open(asked).map_err(|error| no_session(&error))?;
    Ok(json!({
        "clusterArn": cluster_arn(&cluster.name),
        "taskArn": task_arn(&cluster.name, &task_id(&known)),
        "containerName": CONTAINER,
        "containerArn": container_arn(&known),
        "interactive": true,
        "session": {
            "sessionId": session,
            "streamUrl": origin.stream_url(&session),
            "tokenValue": token,
        },
    }))
}

/// The log targets and the encryption key that a cluster sets for sessions in a task.
pub(in crate::aws) fn asked_for(
    configuration: Option<&Value>,
    known: &VisibleBuild,
) -> Result<(Destinations, Option<String>), RefusedCall> {
    let exec = configuration::exec(configuration)?;
    // The log group that the build's own log goes to.
    let logs = &known.record.logs.cloud_watch_logs;
    let own = logs.group_name.as_deref().filter(|_| logs.status == "ENABLED");
    let to = exec.destinations(own);
    Ok((to, Some(exec.kms_key_id).filter(|key| !key.is_empty())))
}
