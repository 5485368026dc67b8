//! Settings of a batch's builds: from the batch, the build's own, and the overrides.

use super::{COMBINE, DOWNLOAD};
use crate::db::batches::Batch;
use crate::project::{self, Merged, is_privileged, text};
use runner_core::batch::{BatchBuildSettings, PlannedBuild, Restrictions};
use runner_core::spec::MOST_BUILDS;
use serde_json::{Value, json};

/// Default timeout of a batch, in minutes.
const TIMEOUT: i64 = 480;
/// Valid timeouts in minutes, as in AWS.
const TIMEOUTS: std::ops::RangeInclusive<i64> = 5..=2160;

/// Merges a project with the input of StartBuildBatch.
///
/// # Errors
/// Everything that prevents it from running here.
pub fn of_batch(
    name: &str,
    given: &Value,
    input: &Value,
    caller: &str,
) -> Result<Value, Vec<String>> {
    let Merged { project, has_sessions } = project::merge(name, given, input)?;
    let config = &project["buildBatchConfig"];
    let mut found = Vec::new();
    if text(&config["serviceRole"]).is_empty() {
        found.push(
            "The project must have a batch configuration (buildBatchConfig) with a serviceRole"
                .to_owned(),
        );
    }
    found.extend(project::batch_problems(config));
    if !found.is_empty() {
        return Err(found);
    }
    let overrides = input.as_object().into_iter().flatten();
    let overridden: Vec<&String> =
        overrides.filter(|(_, value)| !value.is_null()).map(|(name, _)| name).collect();
    let variables = input["environmentVariablesOverride"].as_array().into_iter().flatten();
    let fixed: Vec<&Value> = variables.map(|variable| &variable["name"]).collect();
    Ok(json!({
        "project": project, "sessions": has_sessions, "initiator": caller,
        "overridden": overridden, "fixedVariables": fixed,
    }))
}

/// The timeout of a batch, in milliseconds.
#[must_use]
pub fn patience(order: &Value) -> i64 {
    minutes(&order["project"]["buildBatchConfig"]) * 60_000
}

/// The timeout of a batch, in minutes.
#[must_use]
pub fn minutes(config: &Value) -> i64 {
    config["timeoutInMins"].as_i64().unwrap_or(TIMEOUT).clamp(*TIMEOUTS.start(), *TIMEOUTS.end())
}

/// A project's restrictions on its batches.
#[must_use]
pub fn restrictions(project: &Value, sessions: bool) -> Restrictions {
    let limits = &project["buildBatchConfig"]["restrictions"];
    let types = limits["computeTypesAllowed"].as_array().into_iter().flatten();
    Restrictions {
        most_builds: most(limits),
        compute_types: types.filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
        debug_sessions: sessions,
    }
}

/// Maximum number of builds in a batch.
#[must_use]
pub fn most(limits: &Value) -> usize {
    let most = limits["maximumBuildsAllowed"].as_u64().and_then(|most| usize::try_from(most).ok());
    most.filter(|most| *most > 0).unwrap_or(MOST_BUILDS).min(MOST_BUILDS)
}

/// Whether the artifacts of its builds are combined.
#[must_use]
pub fn combines(order: &Value) -> bool {
    let project = &order["project"];
    project["buildBatchConfig"]["combineArtifacts"] == true && project["artifacts"]["type"] == "S3"
}

/// The initiator of a batch's builds, as AWS names it: the batch's role, in one session for all
/// builds.
fn initiator(batch: &Batch) -> String {
    let role = text(&batch.order["project"]["buildBatchConfig"]["serviceRole"]);
    let name = role.rsplit('/').next().unwrap_or_default();
    format!("{name}/AWSCodeBuild-{}", batch.uuid)
}

fn build(batch: &Batch, project: &Value, sessions: bool, identifier: &str, more: Value) -> Value {
    let mut member = json!({
        "uuid": batch.uuid, "number": batch.number, "identifier": identifier, "arn": super::record::arn_of(batch),
        "combines": combines(&batch.order), "sessions": batch.order["sessions"],
    });
    if let (Some(member), Value::Object(more)) = (member.as_object_mut(), more) {
        member.extend(more);
    }
    json!({
        "project": project, "sessions": sessions, "initiator": initiator(batch),
        "cacheEpoch": batch.order["cacheEpoch"], "batch": member,
    })
}

/// Settings of the build that gets the source.
#[must_use]
pub fn download(batch: &Batch) -> Value {
    build(batch, &batch.order["project"], false, DOWNLOAD, json!({}))
}

/// Settings of the build that combines artifacts.
#[must_use]
pub fn combine(batch: &Batch) -> Value {
    let builds = &batch.progress.machine.plan().builds;
    let parts: Vec<&str> = builds.iter().map(|build| build.identifier.as_str()).collect();
    build(batch, &batch.order["project"], false, COMBINE, json!({"parts": parts}))
}

/// Settings of one of its builds.
///
/// # Errors
/// Everything that prevents it from running here.
/// Everything that keeps it from running here.
pub fn child(batch: &Batch, planned: &PlannedBuild) -> Result<Value, Vec<String>> {
    let base = &batch.order["project"];
    let input = overrides(&planned.settings, &batch.order);
    let Merged { project, .. } = project::merge(&batch.project, base, &input)?;
    let name = &planned.identifier;
    let mut found = Vec::new();
    if is_privileged(&project) && !is_privileged(base) {
        found.push(format!(
            "{name}: `privileged-mode` gives the build rights over this machine: let the project have them \
             (environment.privilegedMode)"
        ));
    }
    let has_image = !input["imageOverride"].is_null();
    let image = text(&project["environment"]["image"]);
    if has_image && image.starts_with("docker-daemon:") {
        found.push(format!(
            "{name}: image {image}: it is read from a Docker daemon, which projects name only"
        ));
    }
    if !found.is_empty() {
        return Err(found);
    }
    let sessions = batch.order["sessions"] == true || planned.settings.debug_session;
    let more = json!({
        "shard": planned.shard, "isStranger": has_image, "buildspec": planned.settings.buildspec,
        "commit": batch.progress.commit,
    });
    Ok(build(batch, &project, sessions, name, more))
}

/// A build's own settings as overrides of StartBuild; those that the batch was started with take
/// precedence.
fn overrides(own: &BatchBuildSettings, order: &Value) -> Value {
    let has = |list: &str, name: &str| {
        order[list].as_array().into_iter().flatten().any(|known| known == name)
    };
    let mut input = serde_json::Map::new();
    let members = [
        ("imageOverride", own.image.clone().map(Value::from)),
        ("computeTypeOverride", own.compute_type.clone().map(Value::from)),
        ("environmentTypeOverride", own.environment_type.clone().map(Value::from)),
        ("privilegedModeOverride", own.privileged.map(Value::from)),
    ];
    for (name, value) in members {
        if let Some(value) = value.filter(|_| !has("overridden", name)) {
            input.insert(name.to_owned(), value);
        }
    }
    let variables = own.variables.iter().filter(|(name, _)| !has("fixedVariables", name));
    let variables =
        variables.map(|(name, value)| json!({"name": name, "value": value, "type": "PLAINTEXT"}));
    input.insert("environmentVariablesOverride".to_owned(), variables.collect());
    Value::Object(input)
}
