//! CodeBuild: builds as records, projects, batches, and refusals of the rest.
//!
//! Every endpoint shows the builds in folders. Projects and the queue need a service
//! (`runner_service`), which only `runner serve` has.

mod batches;
mod builds;
mod fixed;
mod projects;
mod starts;

pub(super) use batches::{
    BatchGetBuildBatches, DeleteBuildBatch, ListBuildBatches, ListBuildBatchesForProject,
    RetryBuildBatch, StartBuildBatch, StopBuildBatch,
};
pub(super) use builds::stop_build;
pub(super) use builds::{
    BatchDeleteBuilds, BatchGetBuilds, ListBuilds, ListBuildsForProject, StopBuild,
};
pub(super) use fixed::{
    BatchGetFleets, CreateFleet, DeleteFleet, DeleteResourcePolicy, DeleteSourceCredentials,
    GetResourcePolicy, ListCuratedEnvironmentImages, ListFleets, ListSharedProjects,
    ListSharedReportGroups, ListSourceCredentials, PutResourcePolicy, UpdateFleet,
};
pub(super) use projects::{
    BatchGetProjects, CreateProject, DeleteProject, InvalidateProjectCache, ListProjects,
    UpdateProject, UpdateProjectVisibility,
};
pub(super) use starts::{RetryBuild, StartBuild};

use super::builds::{BuildTasks, VisibleBuild};
use super::call::RefusedCall;
use super::endpoint::Endpoint;
use super::resources::ResourceNames;
use runner_core::arn::{ACCOUNT, REGION};
use runner_service::db::DbError;
use runner_service::db::builds::{BuildProgress, ShownBuild, ShownRecord, StoredBuild};
use runner_service::{Fault, Service, record};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the process of an ended build to exit.
const ENDING: Duration = Duration::from_secs(5);

fn invalid(message: impl Into<String>) -> RefusedCall {
    RefusedCall::new("InvalidInputException", message)
}

fn not_found(message: impl Into<String>) -> RefusedCall {
    RefusedCall::new("ResourceNotFoundException", message)
}

impl From<Fault> for RefusedCall {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Invalid(text) => invalid(text),
            Fault::NotFound(text) => not_found(text),
            Fault::Exists(text) => RefusedCall::new("ResourceAlreadyExistsException", text),
            Fault::Limit(text) => RefusedCall::new("AccountLimitExceededException", text),
            Fault::Stopping => {
                RefusedCall::new("ServiceUnavailable", fault.to_string()).with_status(503)
            }
            Fault::Db(error) => error.into(),
        }
    }
}

impl From<DbError> for RefusedCall {
    fn from(error: DbError) -> Self {
        RefusedCall::new("InternalFailure", error.to_string()).with_status(500)
    }
}

/// The service, which only `runner serve` has.
fn service(endpoint: &Endpoint) -> Result<&Arc<Service>, RefusedCall> {
    endpoint.service.as_ref().ok_or_else(|| {
        let text = "a build's own endpoint has no projects and no queue: `runner serve` has";
        RefusedCall::new("UnknownOperationException", text)
    })
}

/// A build with its entry in the service and its folder.
pub(super) struct FoundBuild {
    uuid: String,
    /// Its end, where the service knows that, which is all there is to know.
    ended: Option<ShownRecord>,
    /// What the service knows otherwise.
    row: Option<StoredBuild>,
    /// The record from its folder.
    known: Option<VisibleBuild>,
}

/// Refuses ids that cannot be a build's.
fn check_id(id: &str) -> Result<(), RefusedCall> {
    if plain(id).is_some_and(|id| !id.contains(':')) {
        return Err(invalid(format!("Invalid build ID provided: {id}")));
    }
    Ok(())
}

/// The build id of an id or ARN; `None` for an ARN from elsewhere.
fn plain(id: &str) -> Option<&str> {
    plain_of(id, "build")
}

/// The id of another kind of resource.
fn plain_of<'a>(id: &'a str, kind: &str) -> Option<&'a str> {
    match id.strip_prefix("arn:") {
        None => Some(id),
        Some(_) => id.strip_prefix(&format!("arn:aws:codebuild:{REGION}:{ACCOUNT}:{kind}/")),
    }
}

/// The build of an id or an ARN.
async fn find(id: &str, endpoint: &Endpoint) -> Result<Option<FoundBuild>, RefusedCall> {
    Ok(find_all(&[id.to_owned()], endpoint).await?.pop().flatten())
}

/// The builds of these ids or ARNs, in the same order.
async fn find_all(
    ids: &[String],
    endpoint: &Endpoint,
) -> Result<Vec<Option<FoundBuild>>, RefusedCall> {
    let named: Vec<Option<(&str, &str)>> =
        ids.iter().map(|id| plain(id).and_then(|id| Some((id, id.rsplit_once(':')?.1)))).collect();
    let uuids = named.iter().map(|named| named.map_or("", |(_, uuid)| uuid).to_owned()).collect();
    let rows = match &endpoint.service {
        Some(service) => service.builds(uuids).await?,
        None => std::iter::repeat_with(|| None).take(ids.len()).collect(),
    };
    // All builds share one deadline.
    let patience = tokio::time::Instant::now() + ENDING;
    let mut found = Vec::with_capacity(ids.len());
    for (named, row) in named.into_iter().zip(rows) {
        found.push(match named {
            Some((id, uuid)) => look(id, uuid, row, endpoint, patience).await?,
            None => None,
        });
    }
    Ok(found)
}

/// The build with this id; `row` is its entry in the service.
async fn look(
    id: &str,
    uuid: &str,
    row: Option<ShownBuild>,
    endpoint: &Endpoint,
    patience: tokio::time::Instant,
) -> Result<Option<FoundBuild>, RefusedCall> {
    let mut row = match row {
        Some(ShownBuild::Ended(ended)) => {
            let found = ended.is(id).then(|| FoundBuild::ended(ended));
            return Ok(found);
        }
        Some(ShownBuild::Other(row)) if row.state == BuildProgress::Gone || row.id() != id => {
            return Ok(None);
        }
        Some(ShownBuild::Other(row)) => Some(*row),
        None => None,
    };
    let known = endpoint.builds.get(uuid).await.filter(|known| known.record.id == id);
    if row.is_none() && known.is_none() {
        return Ok(None);
    }
    if let (Some(service), Some(known)) = (&endpoint.service, &known)
        && !known.is_live
        && row.as_ref().is_some_and(|row| row.order.is_some() && !row.state.has_ended())
    {
        // The record is final and the process is about to exit: waits for what follows from its
        // end.
        if let Ok(ended) = tokio::time::timeout_at(patience, end(service, uuid)).await {
            row = ended?;
        }
    }
    Ok(Some(FoundBuild { uuid: uuid.to_owned(), ended: None, row, known }))
}

/// A build's entry once its end is recorded.
async fn end(service: &Service, uuid: &str) -> Result<Option<StoredBuild>, RefusedCall> {
    loop {
        let seen = service.changes();
        match service.build(uuid).await? {
            Some(row) if !row.state.has_ended() => {}
            row => return Ok(row),
        }
        service.changed(seen).await;
    }
}

impl FoundBuild {
    fn ended(ended: ShownRecord) -> Self {
        FoundBuild { uuid: ended.uuid.clone(), ended: Some(ended), row: None, known: None }
    }

    fn project(&self) -> &str {
        match (&self.ended, &self.row, &self.known) {
            (Some(ended), _, _) => &ended.project,
            (None, Some(row), _) => &row.project,
            (None, None, Some(known)) => &known.record.project_name,
            (None, None, None) => "",
        }
    }

    /// As it stands: JSON.
    fn json(self) -> Result<String, RefusedCall> {
        match self.ended {
            Some(ended) => Ok(ended.record),
            None => Ok(self.shape()?.to_string()),
        }
    }

    /// The build's current state.
    fn shape(self) -> Result<Value, RefusedCall> {
        let failed = |error: serde_json::Error| {
            RefusedCall::new("InternalServerException", error.to_string()).with_status(500)
        };
        let FoundBuild { ended, row, known, .. } = self;
        let ended = ended.map(|ended| ended.record);
        let ended = ended.or_else(|| Some(row.as_ref()?.record.as_ref()?.text.clone()));
        if let Some(ended) = ended {
            return serde_json::from_str(&ended).map_err(failed);
        }
        let record = match (&row, known) {
            (_, Some(known)) => serde_json::to_value(&known.record).map_err(failed)?,
            (Some(row), None) => return Ok(record::waiting(row)),
            (None, None) => Value::Null,
        };
        Ok(match &row {
            Some(row) => record::joined(record, row),
            None => record,
        })
    }
}

/// What is judged where builds are named.
fn resources(
    ids: &[String],
    found: &[Option<FoundBuild>],
    endpoint: &Endpoint,
) -> Vec<ResourceNames> {
    let tasks = endpoint.builds.tasks();
    let named = ids.iter().zip(found);
    named.map(|(id, found)| resource_of(id, found.as_ref(), &tasks)).collect()
}

/// The resource to check for a build.
fn resource(id: &str, found: Option<&FoundBuild>, endpoint: &Endpoint) -> ResourceNames {
    resource_of(id, found, &endpoint.builds.tasks())
}

fn resource_of(id: &str, found: Option<&FoundBuild>, tasks: &BuildTasks) -> ResourceNames {
    match found {
        Some(FoundBuild { known: Some(known), .. }) => ResourceNames::build(id, Some(known)),
        Some(found) => {
            let task = tasks.of(&found.uuid);
            ResourceNames::waiting(id, found.project(), &found.uuid, task.as_ref())
        }
        None => ResourceNames::build(id, None),
    }
}
