//! Projects: create, update, look up, list, delete.

use super::{invalid, not_found, service};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use runner_service::db::projects::{AfterProject, ProjectOrder};
use runner_service::project::{name_of, project_arn, shown};
use serde::Deserialize;
use serde_json::{Value, json};

/// Projects on one page of a list.
const PAGE: usize = 100;

/// The project's name from a name or an ARN.
fn name(named: &str) -> Result<&str, RefusedCall> {
    name_of(named).ok_or_else(|| not_found(format!("Project cannot be found: {named}")))
}

fn text<'v>(input: &'v Value, member: &str) -> &'v str {
    input[member].as_str().unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct CreateProject(Value);

impl OperationInput for CreateProject {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(text(&self.0, "name"))]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let made = service(endpoint)?.create_project(text(&self.0, "name"), &self.0).await?;
        Ok(json!({"project": shown(&made)}))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct UpdateProject(Value);

impl OperationInput for UpdateProject {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(text(&self.0, "name"))]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let name = name(text(&self.0, "name"))?;
        let changed = service(endpoint)?.update_project(name, &self.0).await?;
        Ok(json!({"project": shown(&changed)}))
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct DeleteProject {
    name: String,
}

impl OperationInput for DeleteProject {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(&self.name)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        if let Some(name) = name_of(&self.name) {
            service.delete_project(name).await?;
        }
        Ok(json!({}))
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct BatchGetProjects {
    names: Vec<String>,
}

impl OperationInput for BatchGetProjects {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of(self.names.iter().map(|name| ResourceNames::project(name))), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let mut asked: Vec<&String> = Vec::new();
        for name in &self.names {
            // A project named twice is answered once.
            if !asked.iter().any(|known| name_of(known) == name_of(name)) || name_of(name).is_none()
            {
                asked.push(name);
            }
        }
        let names = asked.iter().map(|name| name_of(name).unwrap_or_default().to_owned());
        let projects = service(endpoint)?.projects(names.collect()).await?;
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (name, project) in asked.into_iter().zip(projects) {
            match project {
                Some(project) => found.push(shown(&project)),
                None => missing.push(name),
            }
        }
        Ok(json!({"projects": found, "projectsNotFound": missing}))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct ListProjects {
    sort_by: Option<String>,
    sort_order: Option<String>,
    next_token: Option<String>,
}

impl OperationInput for ListProjects {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let order = match self.sort_by.as_deref() {
            Some("CREATED_TIME") => ProjectOrder::Created,
            Some("LAST_MODIFIED_TIME") => ProjectOrder::Modified,
            _ => ProjectOrder::Name,
        };
        let is_descending = self.sort_order.as_deref() == Some("DESCENDING");
        let kind = format!("projects {order:?} {is_descending}");
        let after: Option<AfterProject> = match &self.next_token {
            None => None,
            Some(token) => Some(
                service
                    .sealer()
                    .open(&kind, token)
                    .ok_or_else(|| invalid("nextToken is none of this list"))?,
            ),
        };
        let mut page = service.list_projects(order, is_descending, after, PAGE + 1).await?;
        let has_more = page.len() > PAGE;
        page.truncate(PAGE);
        let mut answer = json!({});
        if let Some((_, after)) = page.last().filter(|_| has_more) {
            answer["nextToken"] = json!(service.sealer().seal(&kind, after));
        }
        answer["projects"] = page.into_iter().map(|(name, _)| name).collect();
        Ok(answer)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct InvalidateProjectCache {
    project_name: String,
}

impl OperationInput for InvalidateProjectCache {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(&self.project_name)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        service(endpoint)?.invalidate_cache(name(&self.project_name)?).await?;
        Ok(json!({}))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct UpdateProjectVisibility {
    project_arn: String,
    project_visibility: String,
}

impl OperationInput for UpdateProjectVisibility {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(&self.project_arn)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let name = name(&self.project_arn)?;
        let there = service(endpoint)?.project(name).await?;
        there
            .ok_or_else(|| not_found(format!("Project cannot be found: {}", project_arn(name))))?;
        if self.project_visibility != "PRIVATE" {
            return Err(invalid(
                "Invalid visibility: nothing on this machine is shown to the public",
            ));
        }
        Ok(json!({"projectArn": project_arn(name), "projectVisibility": "PRIVATE"}))
    }
}
