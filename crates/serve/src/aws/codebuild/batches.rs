//! Batches: start, stop, retry, look up, list, delete.

use super::{invalid, not_found, plain_of, service};
use crate::aws::call::RefusedCall;
use crate::aws::endpoint::{Endpoint, Origin};
use crate::aws::operations::{OperationInput, RequestScope};
use crate::aws::resources::ResourceNames;
use runner_core::batch::BuildBatch;
use runner_service::batch::record::{first, shown};
use runner_service::db::batches::{Batch, BatchFilter};
use runner_service::db::builds::BuildProgress;
use runner_service::project::name_of;
use serde::Deserialize;
use serde_json::{Value, json};

/// Batches on one page of a list.
const PAGE: usize = 100;

/// The batch id of an id or ARN; `None` for an ARN from elsewhere. Refuses ids that are not a
/// batch's.
fn plain(id: &str) -> Result<Option<&str>, RefusedCall> {
    match plain_of(id, "build-batch") {
        Some(plain) if !plain.contains(':') => {
            Err(invalid(format!("Invalid build batch ID provided: {id}")))
        }
        found => Ok(found),
    }
}

/// A batch and its source.
pub(in crate::aws) enum KnownBatch {
    /// In the service's database.
    Row(Box<Batch>),
    /// Started and owned by `runner batch`: its current record.
    Record(Box<BuildBatch>),
}

impl KnownBatch {
    fn id(&self) -> String {
        match self {
            KnownBatch::Row(batch) => batch.id(),
            KnownBatch::Record(record) => record.id.clone(),
        }
    }

    fn project(&self) -> &str {
        match self {
            KnownBatch::Row(batch) => &batch.project,
            KnownBatch::Record(record) => &record.project_name,
        }
    }

    fn uuid(&self) -> &str {
        match self {
            KnownBatch::Row(batch) => &batch.uuid,
            KnownBatch::Record(record) => record.id.rsplit(':').next().unwrap_or_default(),
        }
    }

    fn shape(&self) -> Result<Value, RefusedCall> {
        match self {
            KnownBatch::Row(batch) => Ok(shown(batch)),
            KnownBatch::Record(record) => serde_json::to_value(record).map_err(|error| {
                RefusedCall::new("InternalServerException", error.to_string()).with_status(500)
            }),
        }
    }

    /// The service's own batch. Refuses other batches; `what` names the action in the message.
    fn own(self, what: &str) -> Result<Batch, RefusedCall> {
        match self {
            KnownBatch::Row(batch) => Ok(*batch),
            KnownBatch::Record(record) => Err(invalid(format!(
                "Build batch {} was begun by `runner batch`, and only that can {what}",
                record.id
            ))),
        }
    }
}

/// The batches of these ids or ARNs, in the same order.
async fn find_all(
    ids: &[String],
    endpoint: &Endpoint,
) -> Result<Vec<Option<KnownBatch>>, RefusedCall> {
    let mut named = Vec::with_capacity(ids.len());
    for id in ids {
        named.push(plain(id)?);
    }
    let Some(service) = &endpoint.service else {
        return Ok(ids.iter().map(|_| None).collect());
    };
    let uuid = |id: &Option<&str>| id.and_then(|id| id.rsplit(':').next()).unwrap_or("").to_owned();
    let uuids: Vec<String> = named.iter().map(uuid).collect();
    let rows = service.batches(uuids.clone()).await?;
    let without = uuids.into_iter().zip(&rows).filter(|(_, row)| row.is_none());
    let mut records =
        service.found_batches(without.map(|(uuid, _)| uuid).collect()).await?.into_iter();
    let is_meant = |(id, row): (Option<&str>, Option<Batch>)| {
        let known = match row {
            Some(row) => (row.state != BuildProgress::Gone).then(|| KnownBatch::Row(Box::new(row))),
            None => records.next().flatten().map(|record| KnownBatch::Record(Box::new(record))),
        };
        known.filter(|known| Some(known.id().as_str()) == id)
    };
    Ok(named.into_iter().zip(rows).map(is_meant).collect())
}

async fn find(id: &str, endpoint: &Endpoint) -> Result<Option<KnownBatch>, RefusedCall> {
    Ok(find_all(&[id.to_owned()], endpoint).await?.pop().flatten())
}

fn missing(id: &str) -> RefusedCall {
    not_found(format!("Build batch {id} does not exist"))
}

/// The resource to check for a batch.
fn resource(id: &str, found: Option<&KnownBatch>) -> ResourceNames {
    ResourceNames::batch(id, found.map(|batch| (batch.project(), batch.uuid())))
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct StartBuildBatch(Value);

impl StartBuildBatch {
    fn named(&self) -> &str {
        self.0["projectName"].as_str().unwrap_or_default()
    }
}

impl OperationInput for StartBuildBatch {
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
        let batch = service.start_batch(name, &self.0, &origin.caller.name).await?;
        Ok(json!({"buildBatch": first(&batch)}))
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct StopBuildBatch {
    id: String,
}

impl OperationInput for StopBuildBatch {
    type Subject = Option<KnownBatch>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let found = find(&self.id, endpoint).await?;
        Ok((RequestScope::of([resource(&self.id, found.as_ref())]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let found = found.ok_or_else(|| missing(&self.id))?.own("stop it")?;
        let stopped = service.stop_batch(&found.uuid).await?;
        let stopped = stopped.ok_or_else(|| missing(&self.id))?;
        Ok(json!({"buildBatch": shown(&stopped)}))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct RetryBuildBatch(Value);

impl RetryBuildBatch {
    fn id(&self) -> Result<&str, RefusedCall> {
        self.0["id"].as_str().ok_or_else(|| invalid("Build batch ID is required"))
    }
}

impl OperationInput for RetryBuildBatch {
    type Subject = Option<KnownBatch>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let id = self.id()?;
        let found = find(id, endpoint).await?;
        Ok((RequestScope::of([resource(id, found.as_ref())]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        origin: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let id = self.id()?;
        let found = found.ok_or_else(|| missing(id))?.own("run it again")?;
        let batch = service.retry_batch(&found, &self.0, &origin.caller.name).await?;
        Ok(json!({"buildBatch": shown(&batch)}))
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct BatchGetBuildBatches {
    ids: Vec<String>,
}

impl OperationInput for BatchGetBuildBatches {
    type Subject = Vec<Option<KnownBatch>>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let found = find_all(&self.ids, endpoint).await?;
        let named = self.ids.iter().zip(&found);
        let scope = RequestScope::of(named.map(|(id, found)| resource(id, found.as_ref())));
        Ok((scope, found))
    }

    async fn answer(
        self,
        batches: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        service(endpoint)?;
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (id, batch) in self.ids.into_iter().zip(batches) {
            match batch {
                Some(batch) => found.push(batch.shape()?),
                None => missing.push(id),
            }
        }
        Ok(json!({"buildBatches": found, "buildBatchesNotFound": missing}))
    }
}

/// The filter, order and page of a list of batches.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchListing {
    #[serde(default)]
    filter: Option<Value>,
    max_results: Option<usize>,
    sort_order: Option<String>,
    next_token: Option<String>,
}

impl BatchListing {
    async fn page(
        self,
        project: Option<String>,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let status = self.filter.as_ref().and_then(|filter| filter["status"].as_str());
        let filter = BatchFilter { project, status: status.map(str::to_owned) };
        let is_descending = self.sort_order.as_deref() != Some("ASCENDING");
        let kind = format!("batches {filter:?} {is_descending}");
        let none = || invalid("nextToken is none of this list");
        let token = self.next_token.as_deref();
        let after = token.map(|token| service.sealer().open(&kind, token).ok_or_else(none));
        let most = self.max_results.unwrap_or(PAGE).min(PAGE);
        let mut page =
            service.list_batches(filter, is_descending, after.transpose()?, most + 1).await?;
        let has_more = page.len() > most;
        page.truncate(most);
        let mut answer = json!({});
        if let Some((_, after)) = page.last().filter(|_| has_more) {
            answer["nextToken"] = json!(service.sealer().seal(&kind, after));
        }
        answer["ids"] = page.into_iter().map(|(id, _)| id).collect();
        Ok(answer)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::aws) struct ListBuildBatches(BatchListing);

impl OperationInput for ListBuildBatches {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::all(), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        self.0.page(None, endpoint).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::aws) struct ListBuildBatchesForProject {
    #[serde(default)]
    project_name: Option<String>,
    #[serde(flatten)]
    listed: BatchListing,
}

impl ListBuildBatchesForProject {
    fn named(&self) -> Result<&str, RefusedCall> {
        self.project_name.as_deref().ok_or_else(|| invalid("Project name is required"))
    }
}

impl OperationInput for ListBuildBatchesForProject {
    type Subject = ();

    async fn subject(&self, _: &Endpoint) -> Result<(RequestScope, ()), RefusedCall> {
        Ok((RequestScope::of([ResourceNames::project(self.named()?)]), ()))
    }

    async fn answer(self, (): (), _: &Origin, endpoint: &Endpoint) -> Result<Value, RefusedCall> {
        let named = self.named()?;
        let gone = || {
            not_found(format!("Project cannot be found: {}", ResourceNames::project(named).shown))
        };
        let name = name_of(named).ok_or_else(gone)?.to_owned();
        let is_there = service(endpoint)?.project(&name).await?.is_some();
        let is_first = self.listed.next_token.is_none();
        let missing = gone();
        let answer = self.listed.page(Some(name), endpoint).await?;
        // Batches outlive their projects.
        let is_empty = answer["ids"].as_array().is_none_or(Vec::is_empty);
        if is_empty && is_first && !is_there { Err(missing) } else { Ok(answer) }
    }
}

#[derive(Deserialize)]
pub(in crate::aws) struct DeleteBuildBatch {
    id: String,
}

impl OperationInput for DeleteBuildBatch {
    type Subject = Option<KnownBatch>;

    async fn subject(
        &self,
        endpoint: &Endpoint,
    ) -> Result<(RequestScope, Self::Subject), RefusedCall> {
        let found = find(&self.id, endpoint).await?;
        Ok((RequestScope::of([resource(&self.id, found.as_ref())]), found))
    }

    async fn answer(
        self,
        found: Self::Subject,
        _: &Origin,
        endpoint: &Endpoint,
    ) -> Result<Value, RefusedCall> {
        let service = service(endpoint)?;
        let Some(found) = found else {
            // A missing batch is no error.
            return Ok(
                json!({"statusCode": "SUCCEEDED", "buildsDeleted": [], "buildsNotDeleted": []}),
            );
        };
        let deleted = match &found {
            KnownBatch::Row(batch) => service.delete_batch(&batch.uuid).await?,
            KnownBatch::Record(record) => service.delete_found_batch(record).await?,
        };
        let is_done = deleted.alive.is_empty() && deleted.failed.is_empty();
        let alive = deleted.alive.iter().map(|arn| (arn, "BUILD_IN_PROGRESS"));
        let failed = deleted.failed.iter().map(|(arn, why)| (arn, why.as_str()));
        let not_deleted = alive.chain(failed).map(|(id, why)| json!({"id": id, "statusCode": why}));
        Ok(json!({
            "statusCode": if is_done { "SUCCEEDED" } else { "BUILD_IN_PROGRESS" },
            "buildsDeleted": deleted.gone, "buildsNotDeleted": not_deleted.collect::<Vec<_>>(),
        }))
    }
}
