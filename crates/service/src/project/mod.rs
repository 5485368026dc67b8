//! Rules of projects beyond the description of inputs: valid combinations, AWS's defaults, the
//! effect of an update. Pure.

mod order;
#[cfg(test)]
mod tests;

pub use order::{Merged, merge, overridden_privileges};

use crate::db::projects::Project;
use runner_core::arn::{ACCOUNT, REGION, arn};
use runner_core::spec::MOST_BUILDS;
use serde_json::{Map, Value, json};

/// Maximum automatic retries of a build, as in AWS.
const MOST_RETRIES: i64 = 10;

/// Members that a project may have, by AWS's names.
const MEMBERS: &[&str] = &[
    "description",
    "source",
    "secondarySources",
    "sourceVersion",
    "secondarySourceVersions",
    "artifacts",
    "secondaryArtifacts",
    "cache",
    "environment",
    "serviceRole",
    "timeoutInMinutes",
    "queuedTimeoutInMinutes",
    "encryptionKey",
    "tags",
    "vpcConfig",
    "badgeEnabled",
    "logsConfig",
    "fileSystemLocations",
    "buildBatchConfig",
    "concurrentBuildLimit",
    "autoRetryLimit",
];

/// The ARN of a project.
#[must_use]
pub fn project_arn(name: &str) -> String {
    arn("codebuild", &format!("project/{name}"))
}

/// The name of a project given by name or ARN. An ARN of another account or region matches nothing
/// here.
#[must_use]
pub fn name_of(named: &str) -> Option<&str> {
    match named.strip_prefix("arn:") {
        None => Some(named),
        Some(_) => named.strip_prefix(&format!("arn:aws:codebuild:{REGION}:{ACCOUNT}:project/")),
    }
}

/// A new project from an input.
#[must_use]
pub fn given(input: &Value) -> Value {
    updated(&json!({}), input)
}

/// A project after an update: absent members are kept, present ones are replaced entirely.
#[must_use]
pub fn updated(old: &Value, input: &Value) -> Value {
    let mut new = old.as_object().cloned().unwrap_or_default();
    for name in MEMBERS {
        let Some(value) = input.get(name).filter(|value| !value.is_null()) else { continue };
        if is_removal(name, value) {
            new.remove(*name);
        } else {
            new.insert((*name).to_owned(), value.clone());
        }
    }
    Value::Object(new)
}

/// Whether AWS treats this value as a removal.
fn is_removal(name: &str, value: &Value) -> bool {
    match name {
        "buildBatchConfig" | "vpcConfig" => value.as_object().is_some_and(Map::is_empty),
        "concurrentBuildLimit" => value.as_i64().is_some_and(|limit| limit < 0),
        _ => false,
    }
}

/// All problems of a project.
#[must_use]
pub fn problems(project: &Value) -> Vec<String> {
    let mut found = Vec::new();
    source(&project["source"], "source", &mut found);
    for other in list(&project["secondarySources"]) {
        source(other, "secondary source", &mut found);
        if other["type"] == "CODEPIPELINE" {
            found.push(
                "Invalid source: a secondary source cannot be of type CODEPIPELINE".to_owned(),
            );
        }
    }
    identifiers(&project["secondarySources"], "sourceIdentifier", "source", &mut found);
    if (project["source"]["type"] == "CODEPIPELINE")
        != (project["artifacts"]["type"] == "CODEPIPELINE")
    {
        found.push(
            "Invalid input: when using CodePipeline both sourceType, and artifactType must be set to: CODEPIPELINE"
                .to_owned(),
        );
    }
    artifacts(&project["artifacts"], &mut found);
    for other in list(&project["secondaryArtifacts"]) {
        artifacts(other, &mut found);
        if other["type"] == "CODEPIPELINE" {
            found.push(
                "Invalid artifacts: secondary artifacts cannot be of type CODEPIPELINE".to_owned(),
            );
        }
    }
    identifiers(&project["secondaryArtifacts"], "artifactIdentifier", "artifacts", &mut found);
    let cache = &project["cache"];
    if cache["type"] == "S3" && text(&cache["location"]).is_empty() {
        found.push("Invalid cache: location is required for type S3".to_owned());
    }
    if cache["type"] == "LOCAL" && list(&cache["modes"]).is_empty() {
        found.push("Invalid cache: modes are required for type LOCAL".to_owned());
    }
    for variable in list(&project["environment"]["environmentVariables"]) {
        let name = text(&variable["name"]);
        if name.is_empty() || name.contains(['=', '\0']) {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
            found.push(format!(
                "Invalid environment variable: name '{shown}' has = or NUL in it, or is empty"
            ));
        }
        if text(&variable["value"]).contains('\0') {
            found
                .push(format!("Invalid environment variable: the value of '{name}' has NUL in it"));
        }
    }
    if project["autoRetryLimit"].as_i64().is_some_and(|limit| !(0..=MOST_RETRIES).contains(&limit))
    {
        found.push(format!("Invalid autoRetryLimit: it has to be between 0 and {MOST_RETRIES}"));
    }
    if project["concurrentBuildLimit"].as_i64() == Some(0) {
        found.push("Invalid concurrentBuildLimit: it has to be at least 1".to_owned());
    }
    role(text(&project["serviceRole"]), &mut found);
    found.extend(batch_problems(&project["buildBatchConfig"]));
    found
}

/// Problems of a project's batch settings.
pub(crate) fn batch_problems(config: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !config["serviceRole"].is_null() {
        role(text(&config["serviceRole"]), &mut found);
    }
    let mut number = |value: &Value, name: &str, (least, most): (i64, i64)| {
        if value.as_i64().is_some_and(|value| !(least..=most).contains(&value)) {
            found.push(format!(
                "Invalid buildBatchConfig: {name} has to be between {least} and {most}"
            ));
        }
    };
    number(&config["timeoutInMins"], "timeoutInMins", (5, 2160));
    let most = i64::try_from(MOST_BUILDS).unwrap_or(i64::MAX);
    number(&config["restrictions"]["maximumBuildsAllowed"], "maximumBuildsAllowed", (1, most));
    found
}

fn source(source: &Value, what: &str, found: &mut Vec<String>) {
    let kind = text(&source["type"]);
    if !matches!(kind, "NO_SOURCE" | "CODEPIPELINE" | "") && text(&source["location"]).is_empty() {
        found.push(match what {
            "source" => "Project source location is required".to_owned(),
            _ => format!("Project {what} location is required"),
        });
    }
    if what == "source" && kind == "NO_SOURCE" && !is_inline(text(&source["buildspec"])) {
        found.push(
            "Invalid buildspec: a project with source type NO_SOURCE needs the buildspec itself"
                .to_owned(),
        );
    }
}

/// Whether its builds are privileged.
#[must_use]
pub fn is_privileged(project: &Value) -> bool {
    project["environment"]["privilegedMode"] == true
}

/// Whether a buildspec is the text itself rather than a path.
#[must_use]
pub fn is_inline(buildspec: &str) -> bool {
    buildspec.contains('\n') || buildspec.trim_start().starts_with("version")
}

fn artifacts(artifacts: &Value, found: &mut Vec<String>) {
    match text(&artifacts["type"]) {
        "NO_ARTIFACTS" => {
            for name in ["location", "name", "path"] {
                if !text(&artifacts[name]).is_empty() {
                    let called = if name == "name" { "output name" } else { name };
                    found.push(format!(
                        "Invalid artifacts: artifact type NO_ARTIFACTS should have null {called}"
                    ));
                }
            }
        }
        "S3" if text(&artifacts["location"]).is_empty() => {
            found.push("Invalid artifacts: location is required for type S3".to_owned());
        }
        _ => {}
    }
}

/// Checks that each identifier is present, valid and unique.
fn identifiers(items: &Value, member: &str, what: &str, found: &mut Vec<String>) {
    let mut seen = Vec::new();
    for item in list(items) {
        let id = text(&item[member]);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if id.is_empty() || id.len() > 127 || !id.chars().all(is_name) {
            found.push(format!(
                "Invalid {what}: a secondary one needs {member} of 1 to 127 letters, digits and underscores"
            ));
        } else if seen.contains(&id) {
            found.push(format!("Invalid {what}: {member} '{id}' is there twice"));
        }
        seen.push(id);
    }
}

fn role(role: &str, found: &mut Vec<String>) {
    let is_role = role
        .strip_prefix("arn:aws:iam::")
        .and_then(|rest| rest.split_once(":role/"))
        .is_some_and(|(account, name)| {
            !account.is_empty() && account.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()
        });
    if !is_role {
        found.push(
            "Invalid service role: Service role should be of form arn:aws:iam::ACCOUNT:role/NAME"
                .to_owned(),
        );
    }
}

/// A project in the form of BatchGetProjects.
#[must_use]
pub fn shown(project: &Project) -> Value {
    let mut shown = project.given.as_object().cloned().unwrap_or_default();
    let seconds = |ms: i64| json!(ms as f64 / 1000.0);
    shown.insert("name".to_owned(), json!(project.name));
    shown.insert("arn".to_owned(), json!(project_arn(&project.name)));
    shown.insert("created".to_owned(), seconds(project.created));
    shown.insert("lastModified".to_owned(), seconds(project.modified));
    let has_badge = shown.remove("badgeEnabled") == Some(json!(true));
    shown.insert("badge".to_owned(), json!({"badgeEnabled": has_badge}));
    shown.insert("projectVisibility".to_owned(), json!("PRIVATE"));
    fill(
        &mut shown,
        &[
            ("timeoutInMinutes", json!(60)),
            ("queuedTimeoutInMinutes", json!(480)),
            ("encryptionKey", json!(arn("kms", "alias/aws/s3"))),
            ("cache", json!({"type": "NO_CACHE"})),
            ("tags", json!([])),
            ("secondarySources", json!([])),
            ("secondarySourceVersions", json!([])),
            ("secondaryArtifacts", json!([])),
        ],
    );
    if let Some(Value::Object(environment)) = shown.get_mut("environment") {
        fill(
            environment,
            &[
                ("privilegedMode", json!(false)),
                ("imagePullCredentialsType", json!("CODEBUILD")),
                ("environmentVariables", json!([])),
            ],
        );
        for variable in list_mut(environment.get_mut("environmentVariables")) {
            fill(variable, &[("type", json!("PLAINTEXT"))]);
        }
    }
    if let Some(Value::Object(source)) = shown.get_mut("source") {
        fill(source, &[("insecureSsl", json!(false))]);
        if !matches!(text(&source["type"]), "NO_SOURCE" | "S3" | "CODEPIPELINE") {
            fill(source, &[("gitCloneDepth", json!(0)), ("reportBuildStatus", json!(false))]);
        }
    }
    for other in list_mut(shown.get_mut("secondarySources")) {
        fill(other, &[("insecureSsl", json!(false))]);
    }
    if let Some(Value::Object(artifacts)) = shown.get_mut("artifacts") {
        s3_artifacts(artifacts, &project.name);
    }
    for other in list_mut(shown.get_mut("secondaryArtifacts")) {
        s3_artifacts(other, &project.name);
    }
    Value::Object(shown)
}

fn s3_artifacts(artifacts: &mut Map<String, Value>, project: &str) {
    if artifacts.get("type") == Some(&json!("S3")) {
        fill(
            artifacts,
            &[
                ("name", json!(project)),
                ("namespaceType", json!("NONE")),
                ("packaging", json!("NONE")),
                ("encryptionDisabled", json!(false)),
            ],
        );
    }
}

fn fill(map: &mut Map<String, Value>, defaults: &[(&str, Value)]) {
    for (name, value) in defaults {
        if map.get(*name).is_none_or(Value::is_null) {
            map.insert((*name).to_owned(), value.clone());
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn list_mut(value: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    value.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
