//! Builds as records: look up, list, stop, delete.

use super::{
    FoundBuild, check_id, find, find_all, invalid, not_found, resource, resources, service,
};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{CallAnswer, OperationInput, RequestScope};
use crate::aws::page::page;
use crate::aws::resources::ResourceNames;
use runner_client::{ClientError, SharedClient};
use runner_folder::state::BuildDir;
use runner_service::db::builds::BuildProgress;
use runner_service::project::name_of;
use runner_wire::control::ControlRequest;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Builds on one page of a list.
const PAGE: usize = 100;
/// Longest wait for a starting build, so that it can be stopped.
const BEGINNING: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
pub(in crate::aws) struct BatchGetBuilds {
    ids: Vec<String>,
}

impl OperationInput for BatchGetBuilds {
    /// The build of each id, if there is one.
    type Subject = Vec<Option<FoundBuild>>;

    fn check(body: &Value) -> Result<(), RefusedCall> {
        match body["ids"].as_array() {
            Some(ids) if ids.is_empty() => Err(invalid("The input build ID list cannot be empty.")),
            _ => Ok(()),
        }
    }

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        named(&self.ids, endpoint).await
    }

    async fn answer(
        self,
        builds: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        self.reply(builds, origin, endpoint).await?.into_members()
    }

    async fn reply(
        self,
        builds: Self::Subject,
        _: &Origin,
        _: &Endpoint,
    ) -> Result<CallAnswer, RefusedCall> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (id, build) in self.ids.into_iter().zip(builds) {
            match build {
                Some(build) => found.push(build.json()?),
                None => missing.push(id),
            }
        }
        let (found, missing) = (found.join(","), json!(missing));
        Ok(CallAnswer::Json(format!("{{\"builds\":[{found}],\"buildsNotFound\":{missing}}}")))
    }
}

/// The builds of a list of ids.
async fn named(
    ids: &[String],
    endpoint: &Endpoint,
) -> Result<(RequestScope, Vec<Option<FoundBuild>>), RefusedCall> {
    ids.iter().try_for_each(|id| check_id(id))?;
    let builds = find_all(ids, endpoint).await?;
    let scope = RequestScope::of(resources(ids, &builds, endpoint));
    Ok((scope, builds))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct ListBuilds {
    sort_order: Option<String>,
    next_token: Option<String>,
}

impl OperationInput for ListBuilds {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let is_descending = is_descending(self.sort_order.as_deref());
        if endpoint.service.is_some() {
            return listed(endpoint, None, is_descending, self.next_token.as_deref()).await;
        }
        let all = endpoint.builds.all().await?;
        let mut ids: Vec<String> = all.into_iter().map(|known| known.record.id).collect();
        if !is_descending {
            ids.reverse();
        }
        let page = page(&ids, |id| id, self.next_token.as_deref(), PAGE)
            .ok_or_else(|| invalid("nextToken is none of this list"))?;
        let mut answer = json!({"ids": page.items});
        if let Some(next) = page.next {
            answer["nextToken"] = json!(next);
        }
        Ok(answer)
    }
}

/// Whether the newest build comes first, which is the default.
fn is_descending(order: Option<&str>) -> bool {
    order != Some("ASCENDING")
}

/// A page of the service's index of builds.
async fn listed(
    endpoint: &Endpoint,
    project: Option<String>,
    is_descending: bool,
    token: Option<&str>,
) -> Result<Value, RefusedCall> {
    let service = service(endpoint)?;
    let kind = format!("builds {} {is_descending}", project.as_deref().unwrap_or_default());
    let after = match token {
        None => None,
        Some(token) => Some(
            service
                .sealer()
                .open(&kind, token)
                .ok_or_else(|| invalid("nextToken is none of this list"))?,
        ),
    };
    let mut page = service.list_builds(project, is_descending, after, PAGE + 1).await?;
    let has_more = page.len() > PAGE;
    page.truncate(PAGE);
    let next =
        page.last().filter(|_| has_more).map(|(_, after)| service.sealer().seal(&kind, after));
    let ids: Vec<String> = page.into_iter().map(|(id, _)| id).collect();
    let mut answer = json!({"ids": ids});
    if let Some(next) = next {
        answer["nextToken"] = json!(next);
    }
    Ok(answer)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct ListBuildsForProject {
    project_name: String,
    sort_order: Option<String>,
    next_token: Option<String>,
}

impl OperationInput for ListBuildsForProject {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(&self.project_name)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let is_descending = is_descending(self.sort_order.as_deref());
        let name = name_of(&self.project_name).map(str::to_owned);
        let token = self.next_token.as_deref();
        let answer = match &name {
            Some(name) => listed(endpoint, Some(name.clone()), is_descending, token).await?,
            None => json!({"ids": []}),
        };
        let is_empty = answer["ids"].as_array().is_none_or(Vec::is_empty);
        let is_there = match name.filter(|_| is_empty && token.is_none()) {
            Some(name) => service(endpoint)?.project(&name).await?.is_some(),
            None => !is_empty || token.is_some(),
        };
        // Builds of `runner run` have a project name, perhaps without a project.
        if is_there {
            return Ok(answer);
        }
        Err(not_found(format!(
            "Project cannot be found: {}",
            ResourceNames::project(&self.project_name).shown
        )))
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct StopBuild {
    id: String,
}

impl OperationInput for StopBuild {
    type Subject = Option<FoundBuild>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        check_id(&self.id)?;
        let found = find(&self.id, endpoint).await?;
        Ok((RequestScope::of([resource(&self.id, found.as_ref(), endpoint)]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let found = stopped(found, &self.id, endpoint).await?;
        Ok(json!({"build": found.shape()?}))
    }
}

/// Stops a running or waiting build.
pub(in crate::aws) async fn stop_build(id: &str, endpoint: &Endpoint) -> Result<(), RefusedCall> {
    let found = find(id, endpoint).await?;
    stopped(found, id, endpoint).await.map(drop)
}

async fn stopped(
    found: Option<FoundBuild>,
    id: &str,
    endpoint: &Endpoint,
) -> Result<FoundBuild, RefusedCall> {
    let gone = || not_found(format!("Build {id} does not exist"));
    let found = found.ok_or_else(gone)?;
    let found = match begun(found, id, endpoint).await? {
        Some(found) => found,
        None => return Err(gone()),
    };
    let runs = match (&found.known, &found.row) {
        (Some(known), _) => known.is_live,
        // Its process runs but has written nothing yet.
        (None, Some(row)) => row.state == BuildProgress::Live,
        (None, None) => false,
    };
    if runs {
        stop(&BuildDir::of(&endpoint.home, &found.uuid)).await?;
    }
    find(id, endpoint).await?.ok_or_else(gone)
}

/// Asks a build to stop. If it is gone by then, it has ended anyway.
async fn stop(dir: &BuildDir) -> Result<(), RefusedCall> {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let asked = async { SharedClient::connect(dir).await?.ask(&ControlRequest::Stop).await };
    let error = match asked.await {
        Err(ClientError::Connect(error))
            if !matches!(error.kind(), NotFound | ConnectionRefused) =>
        {
            ClientError::Connect(error)
        }
        Err(error @ (ClientError::Silent | ClientError::Stopped { .. })) => error,
        _ => return Ok(()),
    };
    let text = format!("the build cannot be asked to stop: {error}");
    Err(RefusedCall::new("InternalFailure", text).with_status(500))
}

/// Takes a waiting build out of the queue, or waits until it has started.
async fn begun(
    found: FoundBuild,
    id: &str,
    endpoint: &Endpoint,
) -> Result<Option<FoundBuild>, RefusedCall> {
    let Some(service) = &endpoint.service else { return Ok(Some(found)) };
    let is_early = |found: &FoundBuild| {
        let state = found.row.as_ref().filter(|row| row.order.is_some()).map(|row| row.state);
        found.known.is_none()
            && matches!(state, Some(BuildProgress::Queued | BuildProgress::Starting))
    };
    if !is_early(&found) {
        return Ok(Some(found));
    }
    service.stop_queued(&found.uuid).await?;
    let begins = async {
        loop {
            let seen = service.changes();
            match find(id, endpoint).await? {
                Some(found) if is_early(&found) => {}
                other => return Ok(other),
            }
            service.changed(seen).await;
        }
    };
    match tokio::time::timeout(BEGINNING, begins).await {
        Ok(begun) => begun,
        Err(_) => {
            Err(RefusedCall::new("InternalFailure", "the build does not begin").with_status(500))
        }
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct BatchDeleteBuilds {
    ids: Vec<String>,
}

impl OperationInput for BatchDeleteBuilds {
    type Subject = Vec<Option<FoundBuild>>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        named(&self.ids, endpoint).await
    }

    async fn answer(
        self,
        builds: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let uuids = builds.into_iter().flatten().map(|found| found.uuid).collect();
        let deleted = service(endpoint)?.delete_builds(uuids).await?;
        let alive = deleted.alive.iter().map(|arn| (arn, "BUILD_IN_PROGRESS"));
        let failed = deleted.failed.iter().map(|(arn, why)| (arn, why.as_str()));
        let not_deleted = alive.chain(failed).map(|(id, why)| json!({"id": id, "statusCode": why}));
        Ok(json!({
            "buildsDeleted": deleted.gone, "buildsNotDeleted": not_deleted.collect::<Vec<_>>(),
        }))
    }
}
