//! DescribeTaskDefinition: presents a project or a build as a task definition, for clients that
//! ask. Variables of the build are left out.

use super::start::{definition, no_definition, project_of};
use super::{CONTAINER, ROLE_ARN};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use runner_core::arn::arn;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DescribeTaskDefinition {
    task_definition: String,
}

impl OperationInput for DescribeTaskDefinition {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([definition(&self.task_definition)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let family = project_of(&self.task_definition).ok_or_else(no_definition)?;
        let image = image(family, endpoint).await?.ok_or_else(no_definition)?;
        Ok(json!({
            "taskDefinition": {
                "taskDefinitionArn": arn("ecs", &format!("task-definition/{family}:1")),
                "family": family,
                "revision": 1,
                "status": "ACTIVE",
                "networkMode": "host",
                "taskRoleArn": ROLE_ARN,
                "requiresCompatibilities": ["EXTERNAL"],
                "compatibilities": ["EXTERNAL"],
                "volumes": [],
                "placementConstraints": [],
                "containerDefinitions": [{
                    "name": CONTAINER,
                    "image": image,
                    "essential": true,
                    "environment": [],
                    "mountPoints": [],
                    "volumesFrom": [],
                    // PID 1 of a build reaps all processes.
                    "linuxParameters": {"initProcessEnabled": true},
                    "readonlyRootFilesystem": false,
                }],
            },
            "tags": [],
        }))
    }
}

/// The image of a project, or of the newest build with this name.
async fn image(family: &str, endpoint: &Endpoint) -> Result<Option<String>, RefusedCall> {
    if let Some(service) = &endpoint.service
        && let Some(project) = service.project(family).await?
    {
        let shown = runner_service::project::shown(&project);
        let image = shown.pointer("/environment/image").and_then(Value::as_str);
        return Ok(Some(image.unwrap_or_default().to_owned()));
    }
    let all = endpoint.builds.all().await?;
    let found = all.into_iter().find(|known| known.record.project_name == family);
    Ok(found.map(|known| known.record.environment.image))
}
