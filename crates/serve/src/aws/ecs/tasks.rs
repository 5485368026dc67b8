//! Builds as tasks: described and listed.

use super::clusters::{check_cluster, in_cluster};
use super::{CONTAINER, invalid, paged};
use crate::aws::builds::Known;
use crate::aws::call::Refusal;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{Input, Scope};
use crate::aws::resources::{Resource, cluster_arn, last, tags, task_arn};
use crate::aws::targets::{CLUSTER, check, task_id};
use runner_core::arn::arn;
use runner_host::clock;
use serde::Deserialize;
use serde_json::{Value, json};

/// How every task was launched: not on machines of AWS.
const LAUNCH_TYPE: &str = "EXTERNAL";
/// How tasks can be launched.
const LAUNCH_TYPES: [&str; 4] = ["EC2", "FARGATE", LAUNCH_TYPE, "MANAGED_INSTANCES"];
/// How long a task that has ended is listed.
const STOPPED_FOR_S: f64 = 3600.0;

/// What AWS adds to a task's id to name its container's run: ten digits.
pub(super) fn runtime_id(known: &Known) -> String {
    let digits = uuid::Uuid::try_parse(&known.uuid).map_or(0, |uuid| uuid.as_u64_pair().1);
    format!("{}-{:010}", task_id(known), digits % 10_000_000_000)
}

pub(super) fn container_arn(known: &Known) -> String {
    arn("ecs", &format!("container/{CLUSTER}/{}/{}", task_id(known), known.uuid))
}

/// The build of a task's id or ARN.
pub(super) async fn find(task: &str, endpoint: &Endpoint) -> Option<Known> {
    endpoint.builds.get(last(task)).await
}

#[derive(Deserialize)]
pub(crate) struct DescribeTasks {
    cluster: Option<String>,
    tasks: Vec<String>,
}

impl Input for DescribeTasks {
    /// What each task names.
    type Subject = Vec<Option<Known>>;

    async fn subject(&self, endpoint: &Endpoint) -> Result<(Scope, Self::Subject), Refusal> {
        if self.tasks.is_empty() || self.tasks.len() > 100 {
            return Err(invalid("Tasks is to have 1 to 100 items."));
        }
        let is_here = check_cluster(self.cluster.as_deref()).is_ok();
        let mut found = Vec::with_capacity(self.tasks.len());
        for task in &self.tasks {
            found.push(if is_here { find(task, endpoint).await } else { None });
        }
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let named = self.tasks.iter().zip(&found);
        let resources = named.map(|(task, known)| Resource::task(cluster, task, known.as_ref()));
        Ok((Scope::of(resources).when(in_cluster(cluster)), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        _: &Endpoint,
    ) -> Result<Value, Refusal> {
        check_cluster(self.cluster.as_deref())?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for (task, known) in self.tasks.iter().zip(found) {
            match known {
                Some(known) => tasks.push(shape(known).await),
                None => {
                    let arn = task_arn(CLUSTER, last(task));
                    failures.push(json!({"arn": arn, "reason": "MISSING"}));
                }
            }
        }
        Ok(json!({"tasks": tasks, "failures": failures}))
    }
}

async fn shape(known: Known) -> Value {
    let record = known.record.clone();
    let (id, runtime) = (task_id(&known), runtime_id(&known));
    let container = container_arn(&known);
    let is_live = known.is_live;
    let status = if is_live { "RUNNING" } else { "STOPPED" };
    let tags = tags(&known).into_iter().map(|(key, value)| json!({"key": key, "value": value}));
    let tags: Vec<Value> = tags.collect();
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
    let task_arn = task_arn(CLUSTER, &id);
    let mut task = json!({
        "taskArn": task_arn,
        "clusterArn": cluster_arn(CLUSTER),
        "taskDefinitionArn": arn("ecs", &format!("task-definition/{}:1", record.project_name)),
        "group": format!("build:{}", record.project_name),
        "startedBy": record.initiator,
        "launchType": LAUNCH_TYPE,
        "lastStatus": status,
        "desiredStatus": status,
        "connectivity": if is_live { "CONNECTED" } else { "DISCONNECTED" },
        "createdAt": record.start_time,
        "startedAt": record.start_time,
        "enableExecuteCommand": record.debug_session.session_enabled,
        "tags": tags,
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
    fn check(&self) -> Result<(), Refusal> {
        check_cluster(self.cluster.as_deref())?;
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

impl Input for ListTasks {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(Scope, ()), Refusal> {
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        Ok((Scope::all().when(in_cluster(cluster)), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, Refusal> {
        self.check()?;
        let mut builds = match self.desired_status.as_deref() {
            None | Some("RUNNING") => endpoint.builds.live().await?,
            Some("PENDING") => Vec::new(),
            Some("STOPPED") => stopped(endpoint).await?,
            Some(_) => return Err(invalid("desiredStatus is RUNNING, PENDING or STOPPED.")),
        };
        builds.retain(|known| self.wants(known));
        let arns: Vec<String> =
            builds.iter().map(|known| task_arn(CLUSTER, &task_id(known))).collect();
        paged("taskArns", &arns, self.next_token.as_deref(), self.max_results)
    }
}

/// Builds that have ended and are still listed.
async fn stopped(endpoint: &Endpoint) -> Result<Vec<Known>, Refusal> {
    let mut all = endpoint.builds.all().await?;
    let now = clock::wall().epoch_seconds();
    let is_recent =
        |known: &Known| known.record.end_time.is_some_and(|end| now - end < STOPPED_FOR_S);
    all.retain(|known| !known.is_live && is_recent(known));
    Ok(all)
}
