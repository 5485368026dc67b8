//! Describes and lists builds as tasks.

use super::clusters::{find as find_cluster, in_cluster, name_of};
use super::{CONTAINER, invalid, paged};
use crate::aws::builds::VisibleBuild;
use crate::aws::call::RefusedCall;
use crate::aws::ec2::SUBNET;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::{ResourceNames, cluster_arn, last, tags, task_arn};
use crate::aws::targets::{CLUSTER, check, task_id};
use runner_core::arn::arn;
use runner_folder::state::Task;
use runner_host::clock;
use runner_service::db::builds::BuildProgress;
use serde::Deserialize;
use serde_json::{Value, json};

/// The launch type of every task: not on AWS's machines.
const LAUNCH_TYPE: &str = "EXTERNAL";
/// All launch types of ECS.
const LAUNCH_TYPES: [&str; 4] = ["EC2", "FARGATE", LAUNCH_TYPE, "MANAGED_INSTANCES"];
/// Seconds for which an ended task is listed.
const STOPPED_FOR_S: f64 = 3600.0;

/// A build found for a task.
pub(in crate::aws) enum TaskFound {
    Known(Box<VisibleBuild>),
    /// It has no folder yet.
    Waiting(Box<PendingTask>),
}

/// A build in the queue, or starting.
pub(in crate::aws) struct PendingTask {
    uuid: String,
    project: String,
    requested_ms: i64,
    task: Task,
}

/// The build of a task's id or ARN, even while it waits.
pub(super) async fn found(
    task: &str,
    endpoint: &Endpoint,
) -> Result<Option<TaskFound>, RefusedCall> {
    if let Some(known) = find(task, endpoint).await {
        return Ok(Some(TaskFound::Known(Box::new(known))));
    }
    let (Some(service), Ok(uuid)) = (&endpoint.service, uuid::Uuid::try_parse(last(task))) else {
        return Ok(None);
    };
    let uuid = uuid.hyphenated().to_string();
    let row = service.build(&uuid).await?;
    let row = row.filter(|row| {
        matches!(row.state, BuildProgress::Queued | BuildProgress::Starting | BuildProgress::Live)
    });
    Ok(row.zip(endpoint.builds.task(&uuid)).map(|(row, task)| {
        let (project, requested_ms) = (row.project, row.requested);
        TaskFound::Waiting(Box::new(PendingTask { uuid, project, requested_ms, task }))
    }))
}

impl TaskFound {
    pub(super) fn uuid(&self) -> &str {
        match self {
            TaskFound::Known(known) => &known.uuid,
            TaskFound::Waiting(waiting) => &waiting.uuid,
        }
    }

    /// The id in CodeBuild's form.
    pub(super) fn id(&self) -> String {
        match self {
            TaskFound::Known(known) => known.record.id.clone(),
            TaskFound::Waiting(waiting) => format!("{}:{}", waiting.project, waiting.uuid),
        }
    }

    /// Whether the task belongs to this cluster.
    pub(super) fn is_in(&self, cluster: &str) -> bool {
        let own = match self {
            TaskFound::Known(known) => &known.task.cluster,
            TaskFound::Waiting(waiting) => &waiting.task.cluster,
        };
        name_of(Some(cluster)).is_some_and(|name| name == own)
    }

    /// A task as a resource, whether or not it exists.
    pub(super) fn resource(found: Option<&Self>, cluster: &str, task: &str) -> ResourceNames {
        match found {
            Some(TaskFound::Waiting(it)) => {
                ResourceNames::waiting_task(task, &it.project, &it.uuid, &it.task)
            }
            Some(TaskFound::Known(known)) => ResourceNames::task(cluster, task, Some(known)),
            None => ResourceNames::task(cluster, task, None),
        }
    }
}

/// The runtime id of a task's container: the task's id and ten digits.
pub(super) fn runtime_id(known: &VisibleBuild) -> String {
    let digits = uuid::Uuid::try_parse(&known.uuid).map_or(0, |uuid| uuid.as_u64_pair().1);
    format!("{}-{:010}", task_id(known), digits % 10_000_000_000)
}

pub(super) fn container_arn(known: &VisibleBuild) -> String {
    let cluster = &known.task.cluster;
    arn("ecs", &format!("container/{cluster}/{}/{}", task_id(known), known.uuid))
}

/// The build of a task's id or ARN.
pub(super) async fn find(task: &str, endpoint: &Endpoint) -> Option<VisibleBuild> {
    endpoint.builds.get(last(task)).await
}

#[derive(Deserialize)]
pub(crate) struct DescribeTasks {
    cluster: Option<String>,
    tasks: Vec<String>,
}

impl OperationInput for DescribeTasks {
    /// The task of each id, if there is one.
    type Subject = Vec<Option<TaskFound>>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        if self.tasks.is_empty() || self.tasks.len() > 100 {
            return Err(invalid("Tasks is to have 1 to 100 items."));
        }
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let mut all = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            let found = found(task, endpoint).await?;
            all.push(found.filter(|found| found.is_in(cluster)));
        }
        let named = self.tasks.iter().zip(&all);
        let resources =
            named.map(|(task, found)| TaskFound::resource(found.as_ref(), cluster, task));
        Ok((RequestScope::of(resources).when(in_cluster(cluster)), all))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let cluster = find_cluster(self.cluster.as_deref(), endpoint)?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for (task, found) in self.tasks.iter().zip(found) {
            match found {
                Some(found) => tasks.push(shape(found).await),
                None => {
                    let arn = task_arn(&cluster.name, last(task));
                    failures.push(json!({"arn": arn, "reason": "MISSING"}));
                }
            }
        }
        Ok(json!({"tasks": tasks, "failures": failures}))
    }
}

/// A task in the form of responses.
pub(super) async fn shape(found: TaskFound) -> Value {
    match found {
        TaskFound::Known(known) => shape_of(*known).await,
        TaskFound::Waiting(waiting) => shape_of_waiting(&waiting),
    }
}

/// The members that follow from a task's cluster and project.
fn common(uuid: &str, project: &str, task: &Task) -> Value {
    let id = uuid.replace('-', "");
    json!({
        "taskArn": task_arn(&task.cluster, &id),
        "clusterArn": cluster_arn(&task.cluster),
        "taskDefinitionArn": arn("ecs", &format!("task-definition/{project}:1")),
        "group": format!("build:{project}"),
        "launchType": LAUNCH_TYPE,
        "platformFamily": "Linux",
        "overrides": {"containerOverrides": [], "inferenceAcceleratorOverrides": []},
        "attachments": [{
            "id": uuid,
            "type": "ElasticNetworkInterface",
            "status": "ATTACHED",
            "details": [{"name": "subnetId", "value": SUBNET}],
        }],
    })
}

fn shape_of_waiting(waiting: &PendingTask) -> Value {
    let PendingTask { uuid, project, requested_ms, task } = waiting;
    let mut shape = common(uuid, project, task);
    let tags = [("codebuild:project", project.as_str())].into_iter();
    let tags = tags.chain(task.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let tags: Vec<Value> = tags.map(|(key, value)| json!({"key": key, "value": value})).collect();
    // A double holds milliseconds of this century exactly.
    let created = std::time::Duration::from_millis(requested_ms.unsigned_abs()).as_secs_f64();
    let more = json!({
        "startedBy": task.started_by,
        "lastStatus": "PROVISIONING",
        "desiredStatus": "RUNNING",
        "createdAt": created,
        "tags": tags,
        "containers": [],
    });
    merge(&mut shape, more);
    shape
}

fn merge(shape: &mut Value, more: Value) {
    if let (Value::Object(shape), Value::Object(more)) = (shape, more) {
        shape.extend(more);
    }
}

async fn shape_of(known: VisibleBuild) -> Value {
    let record = known.record.clone();
    let runtime = runtime_id(&known);
    let container = container_arn(&known);
    let is_live = known.is_live;
    let status = if is_live { "RUNNING" } else { "STOPPED" };
    let tags = tags(&known).into_iter().map(|(key, value)| json!({"key": key, "value": value}));
    let tags: Vec<Value> = tags.collect();
    let mut task = common(&known.uuid, &record.project_name, &known.task);
    let started_by = known.task.started_by.clone().unwrap_or_else(|| record.initiator.clone());
    let task_arn = task["taskArn"].clone();
    let managed = agent(known).await;
    let is_enabled = record.debug_session.session_enabled;
    let more = json!({
        "startedBy": started_by,
        "lastStatus": status,
        "desiredStatus": status,
        "connectivity": if is_live { "CONNECTED" } else { "DISCONNECTED" },
        "createdAt": record.start_time,
        "startedAt": record.start_time,
        "enableExecuteCommand": is_enabled,
        "tags": tags,
        "containers": [{
            "containerArn": container,
            "taskArn": task_arn,
            "name": CONTAINER,
            "image": record.environment.image,
            "runtimeId": runtime,
            "lastStatus": status,
            "networkInterfaces": [],
            "managedAgents": if is_enabled { json!([managed]) } else { json!([]) },
        }],
    });
    merge(&mut task, more);
    if let Some(ended) = record.end_time {
        task["stoppedAt"] = json!(ended);
        task["stoppedReason"] =
            json!(format!("the build has ended: {}", record.build_status.name()));
    }
    task
}

/// The status of the agent that runs commands in the build.
async fn agent(known: VisibleBuild) -> Value {
    let (is_live, started) = (known.is_live, known.record.start_time);
    let name = "ExecuteCommandAgent";
    match (is_live, check(known).await) {
        (true, Ok(_)) => json!({"name": name, "lastStatus": "RUNNING", "lastStartedAt": started}),
        (true, Err(why)) => json!({"name": name, "lastStatus": "PENDING", "reason": why}),
        (false, _) => {
            json!({"name": name, "lastStatus": "STOPPED", "reason": "the build has ended"})
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListTasks {
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
    fn check(&self) -> Result<(), RefusedCall> {
        if self.service_name.is_some() {
            // Builds are tasks without a service.
            return Err(RefusedCall::new("ServiceNotFoundException", "Service not found."));
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

    /// Whether the filters match a build, apart from its status.
    fn wants(&self, known: &VisibleBuild) -> bool {
        let record = &known.record;
        self.family.as_ref().is_none_or(|family| record.project_name == *family)
            && self
                .started_by
                .as_ref()
                .is_none_or(|by| known.task.started_by.as_ref().unwrap_or(&record.initiator) == by)
            && self.launch_type.as_ref().is_none_or(|name| name == LAUNCH_TYPE)
    }
}

impl OperationInput for ListTasks {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        Ok((RequestScope::all().when(in_cluster(cluster)), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let cluster = find_cluster(self.cluster.as_deref(), endpoint)?;
        self.check()?;
        let mut builds = match self.desired_status.as_deref() {
            None | Some("RUNNING") => endpoint.builds.live().await?,
            Some("PENDING") => Vec::new(),
            Some("STOPPED") => stopped(endpoint).await?,
            Some(_) => return Err(invalid("desiredStatus is RUNNING, PENDING or STOPPED.")),
        };
        builds.retain(|known| known.task.cluster == cluster.name && self.wants(known));
        let arns: Vec<String> =
            builds.iter().map(|known| task_arn(&cluster.name, &task_id(known))).collect();
        paged("taskArns", &arns, self.next_token.as_deref(), self.max_results)
    }
}

/// Ended builds that are still listed.
async fn stopped(endpoint: &Endpoint) -> Result<Vec<VisibleBuild>, RefusedCall> {
    let mut all = endpoint.builds.all().await?;
    let now = clock::wall().epoch_seconds();
    let is_recent =
        |known: &VisibleBuild| known.record.end_time.is_some_and(|end| now - end < STOPPED_FOR_S);
    all.retain(|known| !known.is_live && is_recent(known));
    Ok(all)
}
