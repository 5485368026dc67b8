//! Records of batches, in the form of BatchGetBuildBatches.

use super::{DOWNLOAD, order};
use crate::db::batches::Batch;
use crate::project::text;
use crate::record::{asked, seconds};
use runner_core::arn::arn;
use runner_core::batch::{BatchPhase, BatchPhaseType, BuildGroup, BuildSummary};
use runner_core::phase::Status;
use serde_json::{Value, json};

/// The ARN of a batch.
#[must_use]
pub fn arn_of(batch: &Batch) -> String {
    arn("codebuild", &format!("build-batch/{}", batch.id()))
}

/// The current record of a batch.
#[must_use]
pub fn shown(batch: &Batch) -> Value {
    let progress = &batch.progress;
    let mut record = asked(&batch.order);
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            record.insert(name.to_owned(), value);
        }
    };
    let (phases, status) = phases(batch);
    let complete = status != Status::InProgress;
    let last = phases.last();
    put("id", json!(batch.id()));
    put("arn", json!(arn_of(batch)));
    put("projectName", json!(batch.project));
    put("buildBatchNumber", json!(batch.number));
    put("startTime", seconds(batch.requested));
    put("endTime", last.filter(|_| complete).map_or(Value::Null, |last| json!(last.start_time)));
    put("currentPhase", json!(last.map(|last| last.phase_type)));
    put("phases", json!(phases));
    put("buildBatchStatus", json!(status));
    put("complete", json!(complete));
    put("resolvedSourceVersion", json!(progress.commit));
    put("buildGroups", groups(batch));
    put("reportArns", json!(progress.reports));
    put("artifacts", progress.artifacts.clone().unwrap_or_else(|| json!({"location": ""})));
    put("debugSessionEnabled", json!(batch.order["sessions"] == true));
    put("logConfig", batch.order["project"]["logsConfig"].clone());
    put("buildBatchConfig", config(&batch.order["project"]["buildBatchConfig"]));
    if let Some(minutes) = record.remove("timeoutInMinutes") {
        record.insert("buildTimeoutInMinutes".to_owned(), minutes);
    }
    if let Some(minutes) = record.remove("queuedTimeoutInMinutes") {
        record.insert("queuedTimeoutInMinutes".to_owned(), minutes);
    }
    Value::Object(record)
}

/// The first response to StartBuildBatch, as AWS gives it.
#[must_use]
pub fn first(batch: &Batch) -> Value {
    let mut record = shown(batch);
    if let Some(members) = record.as_object_mut() {
        members.remove("phases");
        members.remove("buildGroups");
    }
    record["currentPhase"] = json!("SUBMITTED");
    record
}

/// A batch's phases. A batch stopped by a person ends at once, even while its last builds are still
/// ending.
fn phases(batch: &Batch) -> (Vec<BatchPhase>, Status) {
    let machine = &batch.progress.machine;
    let mut phases = machine.phases().to_vec();
    match batch.progress.stopped.filter(|_| machine.is_being_stopped()) {
        None => (phases, machine.status()),
        Some(at) => {
            if let Some(phase) = phases.last_mut() {
                phase.phase_status = Some(Status::Stopped.into());
                phase.end_at(at);
            }
            phases.push(BatchPhase::mark(BatchPhaseType::Stopped, at));
            (phases, Status::Stopped)
        }
    }
}

/// The batch's status as shown to clients.
pub(crate) fn status(batch: &Batch) -> Status {
    phases(batch).1
}

fn groups(batch: &Batch) -> Value {
    let progress = &batch.progress;
    let download = BuildGroup {
        identifier: DOWNLOAD.to_owned(),
        depends_on: Vec::new(),
        ignore_failure: false,
        current_build_summary: progress.download.summary(DOWNLOAD),
        prior_build_summary_list: progress.download.prior.clone(),
    };
    let kind = text(&batch.order["project"]["artifacts"]["type"]).to_lowercase();
    let mut download = json!(download);
    if let Some(members) = download.as_object_mut() {
        members.remove("dependsOn");
    }
    let mut groups = vec![download];
    for group in progress.machine.groups() {
        let mut group = group;
        let runs = group.prior_build_summary_list.iter_mut();
        for run in runs.chain([&mut group.current_build_summary]) {
            has_left(run, &kind);
        }
        let mut group = json!(group);
        let places = &progress.places;
        // Indexing would add a missing member.
        let prior = group.get_mut("priorBuildSummaryList").and_then(Value::as_array_mut);
        prior.into_iter().flatten().for_each(|run| place(run, places));
        place(&mut group["currentBuildSummary"], places);
        groups.push(group);
    }
    Value::Array(groups)
}

fn has_left(run: &mut BuildSummary, kind: &str) {
    if let Some(artifact) = run.primary_artifact.as_mut().filter(|_| !kind.is_empty()) {
        kind.clone_into(&mut artifact.r#type);
    }
}

fn place(run: &mut Value, places: &std::collections::BTreeMap<String, String>) {
    if let Some(place) = places.get(text(&run["arn"]))
        && run["primaryArtifact"].is_object()
    {
        run["primaryArtifact"]["location"] = json!(place);
    }
}

/// The project's batch settings, completed with AWS's defaults.
fn config(given: &Value) -> Value {
    let mut config = given.clone();
    config["timeoutInMins"] = json!(order::minutes(given));
    config["restrictions"]["maximumBuildsAllowed"] = json!(order::most(&given["restrictions"]));
    config
}
