//! RunTask, StartTask and StopTask: start and stop builds of a project in ECS's terms. Calls for
//! services are checked and refused.

use super::clusters::{find, in_cluster};
use super::tasks::{TaskFound, found};
use super::{CONTAINER, changed, invalid, tags, tasks};
use crate::aws::call::RefusedCall;
use crate::aws::codebuild;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::policy::ConditionKeys;
use crate::aws::resources::{ResourceNames, last};
use crate::aws::targets::CLUSTER;
use runner_core::arn::arn;
use runner_folder::state::Task;
use runner_host::clock;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most tasks in one call, as in AWS.
const MOST: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunTask {
    task_definition: String,
    cluster: Option<String>,
    count: Option<usize>,
    #[serde(default)]
    enable_execute_command: bool,
    #[serde(default)]
    overrides: Overrides,
    #[serde(default)]
    tags: Vec<tags::EcsTag>,
    started_by: Option<String>,
    client_token: Option<String>,
}

/// Overrides of a task's definition.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Overrides {
    #[serde(default)]
    container_overrides: Vec<ContainerOverride>,
}

#[derive(Deserialize)]
struct ContainerOverride {
    name: Option<String>,
    #[serde(default)]
    environment: Vec<Variable>,
    command: Option<Value>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

/// The project of a task definition, given as FAMILY, FAMILY:1 or an ARN.
pub(super) fn project_of(definition: &str) -> Option<&str> {
    let name = match definition.starts_with("arn:") {
        true => definition.strip_prefix(&arn("ecs", "task-definition/"))?,
        false => definition,
    };
    match name.split_once(':') {
        // The checked name and the started name must be the same.
        _ if name.contains('/') => None,
        None => Some(name),
        Some((family, "1")) => Some(family),
        Some(_) => None,
    }
}

/// A task definition as a resource.
pub(super) fn definition(named: &str) -> ResourceNames {
    if let Some(project) = project_of(named) {
        return ResourceNames::named(arn("ecs", &format!("task-definition/{project}:1")));
    }
    if named.starts_with("arn:") {
        return ResourceNames::named(named.to_owned());
    }
    let revision = if named.contains(':') { "" } else { ":1" };
    ResourceNames::named(arn("ecs", &format!("task-definition/{named}{revision}")))
}

pub(super) fn no_definition() -> RefusedCall {
    RefusedCall::new("ClientException", "TaskDefinition not found.")
}

/// The condition keys for starting a task.
fn context(cluster: Option<&str>, is_enabled: bool) -> ConditionKeys {
    let mut context = in_cluster(cluster.unwrap_or(CLUSTER));
    // Set even if the request leaves it out, which means false.
    context.push(("ecs:enable-execute-command", is_enabled.to_string()));
    context
}

impl RunTask {
    /// The equivalent input of StartBuild.
    fn build(&self, project: &str, number: usize) -> Result<Value, RefusedCall> {
        let mut variables = Vec::new();
        for one in &self.overrides.container_overrides {
            if one.name.as_deref().is_some_and(|name| name != CONTAINER) {
                return Err(invalid(format!("The task has one container, `{CONTAINER}`.")));
            }
            if one.command.is_some() {
                return Err(invalid(
                    "command: a build's commands stand in its buildspec; start-build can give another.",
                ));
            }
            variables.extend(one.environment.iter().map(
                |Variable { name, value }| json!({"name": name, "value": value, "type": "PLAINTEXT"}),
            ));
        }
        let mut build = json!({
            "projectName": project,
            "debugSessionEnabled": self.enable_execute_command,
        });
        if !variables.is_empty() {
            build["environmentVariablesOverride"] = json!(variables);
        }
        if let Some(token) = &self.client_token {
            build["idempotencyToken"] = json!(format!("{token}-{number}"));
        }
        Ok(build)
    }
}

impl OperationInput for RunTask {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        let context = context(self.cluster.as_deref(), self.enable_execute_command);
        let mut resource = definition(&self.task_definition);
        // A rule that denies the project also denies its tasks.
        if let Some(project) = project_of(&self.task_definition) {
            resource.also.extend(ResourceNames::project(project).names);
        }
        Ok((RequestScope::of([resource]).when(context).when_also(tags::in_request(&self.tags)), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let cluster = find(self.cluster.as_deref(), endpoint)?;
        let count = self.count.unwrap_or(1);
        if !(1..=MOST).contains(&count) {
            return Err(invalid(format!("count is a number from 1 to {MOST}.")));
        }
        let new_tags = tags::checked(&self.tags)?;
        let project = project_of(&self.task_definition).ok_or_else(no_definition)?;
        let service = endpoint.service.as_ref().ok_or_else(|| {
            let text = "a build's own endpoint starts nothing: `runner serve` does, builds of its projects";
            RefusedCall::new("UnsupportedFeatureException", text)
        })?;
        if service.project(project).await?.is_none() {
            return Err(no_definition());
        }
        let mut uuids = Vec::with_capacity(count);
        for number in 0..count {
            let build = self.build(project, number)?;
            let started = service.start_build(project, &build, &origin.caller.name).await;
            match started {
                Ok(build) => uuids.push(build.uuid),
                // Started builds are returned; the rest counts as failed.
                Err(fault) if uuids.is_empty() => {
                    let refusal = RefusedCall::from(fault);
                    return Err(RefusedCall { code: "ClientException", ..refusal });
                }
                Err(_) => break,
            }
        }
        let (placed, started_by) = (uuids.clone(), self.started_by.clone());
        changed(endpoint, move |table| {
            for uuid in placed {
                let new = Task::new(&cluster.name, clock::wall());
                let task = table.tasks.entry(uuid).or_insert(new);
                task.cluster.clone_from(&cluster.name);
                task.tags.extend(new_tags.clone());
                task.started_by.clone_from(&started_by);
            }
            Ok(())
        })
        .await?;
        let mut started = Vec::with_capacity(count);
        for uuid in &uuids {
            if let Some(task) = found(uuid, endpoint).await? {
                started.push(tasks::shape(task).await);
            }
        }
        let left = (uuids.len()..count).map(
            |_| json!({"arn": definition(&self.task_definition).shown, "reason": "RESOURCE:QUEUE"}),
        );
        Ok(json!({"tasks": started, "failures": left.collect::<Vec<_>>()}))
    }
}

/// Like RunTask, on machines that the caller names. This one is the only choice.
#[derive(Deserialize)]
pub(crate) struct StartTask(RunTask);

impl OperationInput for StartTask {
    type Subject = ();

    async fn subject(&self, endpoint: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        self.0.subject(endpoint).await
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        self.0.answer((), origin, endpoint).await
    }
}

#[derive(Deserialize)]
pub(crate) struct StopTask {
    cluster: Option<String>,
    task: String,
}

impl OperationInput for StopTask {
    type Subject = Option<TaskFound>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let task = found(last(&self.task), endpoint).await?;
        let resource = TaskFound::resource(task.as_ref(), cluster, &self.task);
        let task = task.filter(|task| task.is_in(cluster));
        Ok((RequestScope::of([resource]).when(in_cluster(cluster)), task))
    }

    async fn answer(
        self,
        task: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        find(self.cluster.as_deref(), endpoint)?;
        let missing = || invalid("The referenced task was not found.");
        let task = task.ok_or_else(missing)?;
        codebuild::stop_build(&task.id(), endpoint).await?;
        let task = found(task.uuid(), endpoint).await?.ok_or_else(missing)?;
        Ok(json!({"task": tasks::shape(task).await}))
    }
}

/// CreateService and UpdateService: checked, then refused.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateService {
    cluster: Option<String>,
    #[serde(alias = "service")]
    service_name: String,
    #[serde(default)]
    enable_execute_command: bool,
}

pub(crate) type UpdateService = CreateService;

impl OperationInput for CreateService {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        let cluster = self.cluster.as_deref().unwrap_or(CLUSTER);
        let service = format!("service/{}/{}", last(cluster), last(&self.service_name));
        let context = context(self.cluster.as_deref(), self.enable_execute_command);
        Ok((RequestScope::of([ResourceNames::named(arn("ecs", &service))]).when(context), ()))
    }

    async fn answer(self, (): (), _: &Origin, _: &Endpoint) -> Result<Value, RefusedCall> {
        Err(invalid(
            "There are no services: a build ends, and nobody starts it again. run-task starts one, of a project of \
             `runner serve`.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_definitions_are_projects() {
        for (named, wanted) in [
            ("demo", Some("demo")),
            ("demo:1", Some("demo")),
            ("arn:aws:ecs:us-east-1:000000000000:task-definition/demo:1", Some("demo")),
            ("demo:2", None),
            ("demo/secret", None),
            ("arn:aws:ecs:us-east-1:000000000000:task-definition/demo:1/secret", None),
            ("arn:aws:ecs:eu-west-1:000000000000:task-definition/demo", None),
        ] {
            assert_eq!(project_of(named), wanted, "{named}");
        }
        assert!(definition("demo").shown.ends_with(":task-definition/demo:1"));
        assert!(definition("demo:1").shown.ends_with(":task-definition/demo:1"));
    }
}
