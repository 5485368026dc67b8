//! ECS: a build as a task with one container and an agent that runs commands in it.

use super::builds::Known;
use super::call::{Call, Refusal, unknown};
use super::documents;
use super::endpoint::{Endpoint, Origin};
use super::page::page;
use super::targets::{CLUSTER, ECS_IDLE, check, no_session, resource};
use crate::amazon::{ACCOUNT, REGION};
use crate::clock;
use crate::gateway::Asked;
use serde::Deserialize;
use serde_json::{Value, json};

/// The one container of a task.
const CONTAINER: &str = "build";
/// How every task was launched: not on machines of AWS.
const LAUNCH_TYPE: &str = "EXTERNAL";
/// How tasks can be launched.
const LAUNCH_TYPES: [&str; 4] = ["EC2", "FARGATE", LAUNCH_TYPE, "MANAGED_INSTANCES"];
/// Most items of a page.
const PAGE: usize = 100;
/// How long a task that has ended is listed.
const STOPPED_FOR_S: f64 = 3600.0;
/// What the service itself says.
const NOT_ENABLED: &str = "The execute command failed because execute command was not enabled when the \
    task was run or the execute command agent isn't running. Wait and try again or run a new task with \
    execute command enabled and try again.";

pub(super) async fn answer(
    call: &Call,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    match call.operation.as_str() {
        "ExecuteCommand" => execute(&call.input()?, origin, endpoint).await,
        "DescribeTasks" => describe_tasks(&call.input()?, endpoint).await,
        "ListTasks" => list_tasks(&call.input()?, endpoint).await,
        "DescribeClusters" => describe_clusters(&call.input()?, endpoint).await,
        "ListClusters" => list_clusters(&call.input()?),
        other => Err(unknown(call.service, other)),
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:ecs:{REGION}:{ACCOUNT}:{kind}/{name}")
}

/// Checks that a cluster is the one there is.
fn cluster(name: Option<&str>) -> Result<(), Refusal> {
    let name = name.unwrap_or(CLUSTER);
    match name == CLUSTER || name == arn("cluster", CLUSTER) {
        true => Ok(()),
        false => Err(Refusal::new("ClusterNotFoundException", "Cluster not found.")),
    }
}

/// A task's id: its build's uuid, without dashes.
fn task_id(known: &Known) -> String {
    known.uuid.replace('-', "")
}

/// What AWS adds to a task's id to name its container's run: ten digits.
fn runtime_id(known: &Known) -> String {
    let digits = uuid::Uuid::try_parse(&known.uuid).map_or(0, |uuid| uuid.as_u64_pair().1);
    format!("{}-{:010}", task_id(known), digits % 10_000_000_000)
}

/// The build of a task's id or ARN.
async fn find(task: &str, endpoint: &Endpoint) -> Option<Known> {
    endpoint.builds.get(task.rsplit('/').next()?).await
}

/// The build that a call which needs a live one names: by its task, or as every verb takes it.
async fn named(task: &str, endpoint: &Endpoint) -> Result<Known, String> {
    match find(task, endpoint).await {
        Some(known) => Ok(known),
        None => {
            let build = task.rsplit('/').next().unwrap_or(task);
            let found = endpoint.builds.find(build).await;
            found.map_err(|why| format!("The specified task was not found: {why}."))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecuteCommand {
    cluster: Option<String>,
    container: Option<String>,
    command: String,
    #[serde(default)]
    interactive: bool,
    task: String,
}

async fn execute(
    input: &ExecuteCommand,
    origin: &Origin,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    if !input.interactive {
        return Err(invalid("Interactive is the only mode supported currently."));
    }
    cluster(input.cluster.as_deref())?;
    let known = named(&input.task, endpoint).await.map_err(invalid)?;
    endpoint.judge(origin, "ecs:ExecuteCommand", &resource(&known))?;
    if input.container.as_deref().is_some_and(|container| container != CONTAINER) {
        return Err(invalid(format!("The task has one container, `{CONTAINER}`.")));
    }
    if !known.is_live || !known.record.debug_session.session_enabled {
        return Err(invalid(NOT_ENABLED));
    }
    let plan = documents::command(&input.command).map_err(invalid)?;
    let reachable = check(known).await.map_err(|why| {
        tracing::debug!(why, "a task that cannot be reached");
        let text = format!("The execute command agent cannot be reached: {why}.");
        Refusal::new("TargetNotConnectedException", text)
    })?;
    let known = reachable.known;
    let asked = Asked {
        prefix: "ecs-execute-command".to_owned(),
        target: format!("ecs:{CLUSTER}_{}_{}", task_id(&known), runtime_id(&known)),
        document: None,
        reason: None,
        owner: origin.caller.arn.clone(),
        idle: ECS_IDLE,
        longest: reachable.longest,
        build: known.dir.clone(),
        plan,
    };
    let (session, token) = endpoint.gateway.open(asked).map_err(|error| no_session(&error))?;
    Ok(json!({
        "clusterArn": arn("cluster", CLUSTER),
        "taskArn": arn("task", &format!("{CLUSTER}/{}", task_id(&known))),
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

fn container_arn(known: &Known) -> String {
    arn("container", &format!("{CLUSTER}/{}/{}", task_id(known), known.uuid))
}

#[derive(Deserialize)]
struct DescribeTasks {
    cluster: Option<String>,
    tasks: Vec<String>,
}

async fn describe_tasks(input: &DescribeTasks, endpoint: &Endpoint) -> Result<Value, Refusal> {
    cluster(input.cluster.as_deref())?;
    if input.tasks.is_empty() || input.tasks.len() > 100 {
        return Err(invalid("Tasks is to have 1 to 100 items."));
    }
    let (mut tasks, mut failures) = (Vec::new(), Vec::new());
    for task in &input.tasks {
        match find(task, endpoint).await {
            Some(known) => tasks.push(shape(known).await),
            None => {
                let id = task.rsplit('/').next().unwrap_or(task);
                let arn = arn("task", &format!("{CLUSTER}/{id}"));
                failures.push(json!({"arn": arn, "reason": "MISSING"}));
            }
        }
    }
    Ok(json!({"tasks": tasks, "failures": failures}))
}

async fn shape(known: Known) -> Value {
    let record = known.record.clone();
    let (id, runtime) = (task_id(&known), runtime_id(&known));
    let container = container_arn(&known);
    let is_live = known.is_live;
    let status = if is_live { "RUNNING" } else { "STOPPED" };
    let agent = match is_live {
        false => "STOPPED",
        true => match check(known).await {
            Ok(_) => "RUNNING",
            Err(_) => "PENDING",
        },
    };
    let mut managed = json!({"name": "ExecuteCommandAgent", "lastStatus": agent});
    if agent == "RUNNING" {
        managed["lastStartedAt"] = json!(record.start_time);
    }
    let task_arn = arn("task", &format!("{CLUSTER}/{id}"));
    let mut task = json!({
        "taskArn": task_arn,
        "clusterArn": arn("cluster", CLUSTER),
        "taskDefinitionArn": arn("task-definition", &format!("{}:1", record.project_name)),
        "group": format!("build:{}", record.project_name),
        "startedBy": record.initiator,
        "launchType": LAUNCH_TYPE,
        "lastStatus": status,
        "desiredStatus": status,
        "connectivity": if is_live { "CONNECTED" } else { "DISCONNECTED" },
        "createdAt": record.start_time,
        "startedAt": record.start_time,
        "enableExecuteCommand": record.debug_session.session_enabled,
        "tags": [{"key": "codebuild:build", "value": record.id}],
        "containers": [{
            "containerArn": container,
            "taskArn": task_arn,
            "name": CONTAINER,
            "image": record.environment.image,
            "runtimeId": runtime,
            "lastStatus": status,
            "networkInterfaces": [],
            "managedAgents": if record.debug_session.session_enabled { json!([managed]) } else { json!([]) },
        }],
    });
    if let Some(ended) = record.end_time {
        task["stoppedAt"] = json!(ended);
        task["stoppedReason"] =
            json!(format!("the build has ended: {}", record.build_status.name()));
    }
    task
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTasks {
    cluster: Option<String>,
    container_instance: Option<String>,
    family: Option<String>,
    service_name: Option<String>,
    started_by: Option<String>,
    launch_type: Option<String>,
    desired_status: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl ListTasks {
    /// Checks the filters.
    fn check(&self) -> Result<(), Refusal> {
        cluster(self.cluster.as_deref())?;
        if self.service_name.is_some() {
            // Builds are tasks that nobody keeps running.
            return Err(Refusal::new("ServiceNotFoundException", "Service not found."));
        }
        if self.container_instance.is_some() {
            return Err(invalid("Container instance not found."));
        }
        if self.launch_type.as_deref().is_some_and(|name| !LAUNCH_TYPES.contains(&name)) {
            return Err(invalid(format!("launchType is one of {}.", LAUNCH_TYPES.join(", "))));
        }
        let has_others = self.family.is_some() || self.launch_type.is_some();
        if self.started_by.is_some() && (has_others || self.desired_status.is_some()) {
            return Err(invalid("startedBy must be the only filter."));
        }
        Ok(())
    }

    /// Whether it asks for this one, as far as it is not a matter of how it stands.
    fn wants(&self, known: &Known) -> bool {
        let record = &known.record;
        self.family.as_ref().is_none_or(|family| record.project_name == *family)
            && self.started_by.as_ref().is_none_or(|by| record.initiator == *by)
            && self.launch_type.as_ref().is_none_or(|name| name == LAUNCH_TYPE)
    }
}

async fn list_tasks(input: &ListTasks, endpoint: &Endpoint) -> Result<Value, Refusal> {
    input.check()?;
    let mut builds = match input.desired_status.as_deref() {
        None | Some("RUNNING") => endpoint.builds.live().await?,
        Some("PENDING") => Vec::new(),
        Some("STOPPED") => {
            let mut all = endpoint.builds.all().await?;
            let now = clock::wall().epoch_seconds();
            let is_recent =
                |known: &Known| known.record.end_time.is_some_and(|end| now - end < STOPPED_FOR_S);
            all.retain(|known| !known.is_live && is_recent(known));
            all
        }
        Some(_) => return Err(invalid("desiredStatus is RUNNING, PENDING or STOPPED.")),
    };
    builds.retain(|known| input.wants(known));
    let arns: Vec<String> =
        builds.iter().map(|known| arn("task", &format!("{CLUSTER}/{}", task_id(known)))).collect();
    paged("taskArns", &arns, input.next_token.as_deref(), input.max_results)
}

/// Some of a list, under this name.
fn paged(
    name: &str,
    arns: &[String],
    after: Option<&str>,
    most: Option<usize>,
) -> Result<Value, Refusal> {
    let most = most.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&most) {
        return Err(invalid(format!("maxResults is a number from 1 to {PAGE}.")));
    }
    let page = page(arns, |arn| arn, after, most)
        .ok_or_else(|| invalid("nextToken is none of this list"))?;
    let mut answer = json!({name: page.items});
    if let Some(next) = page.next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListClusters {
    max_results: Option<usize>,
    next_token: Option<String>,
}

fn list_clusters(input: &ListClusters) -> Result<Value, Refusal> {
    let arns = [arn("cluster", CLUSTER)];
    paged("clusterArns", &arns, input.next_token.as_deref(), input.max_results)
}

#[derive(Deserialize)]
struct DescribeClusters {
    #[serde(default)]
    clusters: Vec<String>,
}

async fn describe_clusters(
    input: &DescribeClusters,
    endpoint: &Endpoint,
) -> Result<Value, Refusal> {
    let named =
        if input.clusters.is_empty() { vec![CLUSTER.to_owned()] } else { input.clusters.clone() };
    let (mut clusters, mut failures) = (Vec::new(), Vec::new());
    for name in named {
        if cluster(Some(&name)).is_ok() {
            clusters.push(json!({
                "clusterArn": arn("cluster", CLUSTER),
                "clusterName": CLUSTER,
                "status": "ACTIVE",
                "registeredContainerInstancesCount": 1,
                "runningTasksCount": endpoint.builds.live().await?.len(),
                "pendingTasksCount": 0,
                "activeServicesCount": 0,
            }));
        } else {
            let id = name.rsplit('/').next().unwrap_or(&name);
            failures.push(json!({"arn": arn("cluster", id), "reason": "MISSING"}));
        }
    }
    Ok(json!({"clusters": clusters, "failures": failures}))
}
