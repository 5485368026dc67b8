//! The batch of a build: its state and its builds.
//!
//! A batch of `runner batch` is a record in the state folder, kept by its own process. A batch of
//! `StartBuildBatch` belongs to the service, and the page requests it like AWS's clients.

use super::WebPage;
use super::builds::{PAGE, brief};
use super::reply::{Refused, done, json};
use super::routes::VisitorRequest;
use crate::aws::{Deed, VisibleBuild};
use crate::http::HttpResponse;
use runner_folder::state::BatchDir;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;

const GET_BATCH: Deed =
    Deed { name: "GetBatch", action: "codebuild:BatchGetBuildBatches", is_read_only: true };
/// The members of a record that are shown.
const SHOWN: [&str; 10] = [
    "id",
    "buildBatchNumber",
    "projectName",
    "initiator",
    "startTime",
    "endTime",
    "buildBatchStatus",
    "currentPhase",
    "complete",
    "phases",
];

/// A batch's current state.
struct BatchView {
    record: Value,
    /// Whether it belongs to the service; other batches are stopped where they were started.
    is_of_service: bool,
}

impl WebPage {
    /// The batch that a build belongs to.
    pub(super) async fn batch(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        asked.may_act()?;
        let is_first = asked.visitor.looks_first(format!("batch {}", known.uuid));
        let BatchView { record, is_of_service } = self.find_batch(asked, known, is_first).await?;
        let groups = record["buildGroups"].as_array().map_or(&[][..], Vec::as_slice);
        let ids: Vec<&str> = groups.iter().filter_map(id_of).collect();
        let mut builds = HashMap::new();
        for some in ids.chunks(PAGE) {
            let body = json!({"ids": some});
            let got = self.endpoint.codebuild(&asked.owner, "BatchGetBuilds", body, is_first);
            for build in got.await?["builds"].as_array().into_iter().flatten() {
                builds.insert(build["id"].as_str().unwrap_or_default().to_owned(), brief(build));
            }
        }
        let children = groups.iter().map(|group| {
            let summary = &group["currentBuildSummary"];
            let begun = id_of(group).and_then(|id| builds.get(id));
            let earlier = group["priorBuildSummaryList"].as_array().map_or(&[][..], Vec::as_slice);
            let earlier = earlier
                .iter()
                .map(|run| json!({"uuid": uuid_of(run), "status": run["buildStatus"]}));
            json!({
                "identifier": group["identifier"],
                "dependsOn": group["dependsOn"],
                "mayFail": group["ignoreFailure"],
                "status": summary["buildStatus"],
                "uuid": uuid_of(summary),
                // Null if it has not begun or is no longer kept.
                "build": begun,
                "earlier": earlier.collect::<Vec<_>>(),
            })
        });
        let children: Vec<Value> = children.collect();
        let mut shown: Value =
            SHOWN.iter().map(|name| ((*name).to_owned(), record[*name].clone())).collect();
        shown["builds"] = json!(children);
        shown["isOfService"] = json!(is_of_service);
        json(&shown)
    }

    /// Acts on the batch of a build.
    pub(super) async fn of_batch(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        verb: &str,
        body: &Value,
    ) -> Result<HttpResponse, Refused> {
        let batch = self.find_batch(asked, known, false).await?;
        if !batch.is_of_service {
            let text = "this batch is a `runner batch`: Ctrl-C stops it there, and it is begun again there";
            return Err(Refused::new(http::StatusCode::CONFLICT, text));
        }
        let mut input = json!({"id": batch.record["id"]});
        if verb == "stop-batch" {
            self.perform(asked, "StopBuildBatch", input).await?;
        } else {
            input["retryType"] = body["retryType"].clone();
            self.perform(asked, "RetryBuildBatch", input).await?;
        }
        Ok(done())
    }

    async fn find_batch(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
        is_recorded: bool,
    ) -> Result<BatchView, Refused> {
        let none = || Refused::not_found("this build is part of no batch");
        let gone = || Refused::not_found("the batch of this build is no longer stored");
        let arn = known.record.build_batch_arn.as_deref().ok_or_else(none)?;
        let id = arn.rsplit_once('/').map_or(arn, |(_, id)| id).to_owned();
        let uuid = id.rsplit(':').next().and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
        let uuid = uuid.ok_or_else(gone)?.hyphenated().to_string();
        let dir = BatchDir::of(self.endpoint.home(), &uuid);
        let read = tokio::task::spawn_blocking(move || dir.record());
        if let Some(record) = read.await.map_err(io::Error::other)?? {
            self.endpoint.permit_batch(&asked.owner, GET_BATCH, &id, is_recorded).await?;
            let record = serde_json::to_value(record).map_err(io::Error::other)?;
            return Ok(BatchView { record, is_of_service: false });
        }
        let body = json!({"ids": [id]});
        let got = self.endpoint.codebuild(&asked.owner, "BatchGetBuildBatches", body, is_recorded);
        match got.await?["buildBatches"][0].take() {
            Value::Null => Err(gone()),
            record => Ok(BatchView { record, is_of_service: true }),
        }
    }
}

/// The id of the group's current build.
fn id_of(group: &Value) -> Option<&str> {
    Some(group["currentBuildSummary"]["arn"].as_str()?.rsplit_once('/')?.1)
}

fn uuid_of(summary: &Value) -> Option<&str> {
    Some(summary["arn"].as_str()?.rsplit_once(':')?.1)
}
