//! StartBuild and RetryBuild.

use super::{FoundBuild, check_id, find, invalid, not_found, resource, service};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use runner_service::db::builds::BuildProgress;
use runner_service::project::name_of;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct StartBuild(Value);

impl StartBuild {
    fn named(&self) -> &str {
        self.0["projectName"].as_str().unwrap_or_default()
    }
}

impl OperationInput for StartBuild {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(self.named())]), ()))
    }

    async fn answer(
        self,
        (): (),
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let name = name_of(self.named())
            .ok_or_else(|| not_found(format!("Project cannot be found: {}", self.named())))?;
        let build = service.start_build(name, &self.0, &origin.caller.name).await?;
        begun(&build.id(), endpoint).await
    }
}

/// A build's current state, whether it is new or from an earlier call with the same token.
async fn begun(id: &str, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
    let found = find(id, endpoint).await?;
    let found = found.ok_or_else(|| not_found(format!("Build {id} does not exist")))?;
    Ok(json!({"build": found.shape()?}))
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct RetryBuild(Value);

impl RetryBuild {
    fn id(&self) -> Result<&str, RefusedCall> {
        let id = self.0["id"].as_str().ok_or_else(|| invalid("Build ID is required"))?;
        check_id(id)?;
        Ok(id)
    }
}

impl OperationInput for RetryBuild {
    type Subject = Option<FoundBuild>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let id = self.id()?;
        let found = find(id, endpoint).await?;
        Ok((RequestScope::of([resource(id, found.as_ref(), endpoint)]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let id = self.id()?;
        let found = found.ok_or_else(|| not_found(format!("Build {id} does not exist")))?;
        let row = service.build(&found.uuid).await?;
        let Some(row) = row.filter(|row| row.state != BuildProgress::Gone) else {
            return Err(invalid(format!(
                "Build {id} was begun by `runner run`, and only that can run it again"
            )));
        };
        let build = service.retry_build(&row, &self.0, &origin.caller.name).await?;
        begun(&build.id(), endpoint).await
    }
}
