//! Merges a project with the overrides of StartBuild, and checks whether such a build can run here.

use super::{is_inline, list, problems, text};
use serde_json::{Map, Value, json};

/// Overrides that replace a whole member of the project.
const WHOLE: &[(&str, &str)] = &[
    ("secondarySourcesOverride", "secondarySources"),
    ("secondarySourcesVersionOverride", "secondarySourceVersions"),
    ("artifactsOverride", "artifacts"),
    ("secondaryArtifactsOverride", "secondaryArtifacts"),
    ("cacheOverride", "cache"),
    ("logsConfigOverride", "logsConfig"),
    ("serviceRoleOverride", "serviceRole"),
    ("timeoutInMinutesOverride", "timeoutInMinutes"),
    ("queuedTimeoutInMinutesOverride", "queuedTimeoutInMinutes"),
    ("encryptionKeyOverride", "encryptionKey"),
    ("autoRetryLimitOverride", "autoRetryLimit"),
    ("buildTimeoutInMinutesOverride", "timeoutInMinutes"),
    ("buildBatchConfigOverride", "buildBatchConfig"),
    ("sourceVersion", "sourceVersion"),
];
const SOURCE: &[(&str, &str)] = &[
    ("sourceLocationOverride", "location"),
    ("sourceAuthOverride", "auth"),
    ("gitCloneDepthOverride", "gitCloneDepth"),
    ("gitSubmodulesConfigOverride", "gitSubmodulesConfig"),
    ("buildspecOverride", "buildspec"),
    ("insecureSslOverride", "insecureSsl"),
    ("reportBuildStatusOverride", "reportBuildStatus"),
    ("reportBuildBatchStatusOverride", "reportBuildStatus"),
    ("buildStatusConfigOverride", "buildStatusConfig"),
];
const ENVIRONMENT: &[(&str, &str)] = &[
    ("environmentTypeOverride", "type"),
    ("imageOverride", "image"),
    ("computeTypeOverride", "computeType"),
    ("certificateOverride", "certificate"),
    ("privilegedModeOverride", "privilegedMode"),
    ("fleetOverride", "fleet"),
    ("hostKernelOverride", "hostKernel"),
    ("registryCredentialOverride", "registryCredential"),
    ("imagePullCredentialsTypeOverride", "imagePullCredentialsType"),
];

/// The merged settings of a build.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// In the form of a project.
    pub project: Value,
    pub has_sessions: bool,
}

/// Merges a project with overrides.
///
/// # Errors
/// Everything that prevents it from running here.
pub fn merge(name: &str, given: &Value, input: &Value) -> Result<Merged, Vec<String>> {
    let mut project = given.as_object().cloned().unwrap_or_default();
    project.insert("name".to_owned(), json!(name));
    replace(&mut project, input, WHOLE);
    let mut source = object(project.get("source"));
    if let Some(kind) = input.get("sourceTypeOverride").filter(|kind| !kind.is_null()) {
        source.insert("type".to_owned(), kind.clone());
        source.remove("location");
    }
    replace(&mut source, input, SOURCE);
    project.insert("source".to_owned(), Value::Object(source));
    let mut environment = object(project.get("environment"));
    replace(&mut environment, input, ENVIRONMENT);
    let over = list(&input["environmentVariablesOverride"]);
    if !over.is_empty() {
        let mut all = Vec::new();
        if let Some(own) = environment.get("environmentVariables") {
            all = list(own).to_vec();
        }
        for variable in over {
            all.retain(|known| known["name"] != variable["name"]);
            all.push(variable.clone());
        }
        environment.insert("environmentVariables".to_owned(), Value::Array(all));
    }
    project.insert("environment".to_owned(), Value::Object(environment));
    let project = Value::Object(project);
    let mut found = problems(&project);
    unrunnable(&project, &mut found);
    match found.as_slice() {
        [] => Ok(Merged { project, has_sessions: input["debugSessionEnabled"] == true }),
        _ => Err(found),
    }
}

/// Whether a build is privileged, and by whose setting: the call's or the project's.
#[must_use]
pub fn overridden_privileges(project: &Value, input: &Value) -> Option<&'static str> {
    if project["environment"]["privilegedMode"] != true {
        return None;
    }
    Some(if input["privilegedModeOverride"] == true {
        "privilegedModeOverride"
    } else {
        "privilegedMode"
    })
}

fn replace(map: &mut Map<String, Value>, input: &Value, names: &[(&str, &str)]) {
    for (from, to) in names {
        if let Some(value) = input.get(from).filter(|value| !value.is_null()) {
            map.insert((*to).to_owned(), value.clone());
        }
    }
}

fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Settings that affect a build and are not supported here.
fn unrunnable(project: &Value, found: &mut Vec<String>) {
    let mut say =
        |text: String| found.push(format!("Invalid input: this machine cannot run it: {text}"));
    let environment = &project["environment"];
    let kind = text(&environment["type"]);
    let is_of_this_machine = match kind {
        "LINUX_CONTAINER" | "LINUX_EC2" => true,
        "ARM_CONTAINER" | "ARM_EC2" => cfg!(target_arch = "aarch64"),
        _ => false,
    };
    if !is_of_this_machine {
        say(format!("environment type {kind}"));
    }
    if !environment["fleet"].is_null() {
        say("environment.fleet".to_owned());
    }
    if !environment["dockerServer"].is_null() {
        say("environment.dockerServer".to_owned());
    }
    if !list(&project["fileSystemLocations"]).is_empty() {
        say("fileSystemLocations".to_owned());
    }
    if project["artifacts"]["type"] == "CODEPIPELINE" {
        found.push(
            "ArtifactsOverride must be set when using artifacts type CodePipelines".to_owned(),
        );
        return;
    }
    for source in [&project["source"]].into_iter().chain(list(&project["secondarySources"])) {
        let mut say =
            |text: String| found.push(format!("Invalid input: this machine cannot run it: {text}"));
        match text(&source["type"]) {
            "NO_SOURCE" => {}
            "S3" | "CODEPIPELINE" => say(format!("source type {}", text(&source["type"]))),
            kind if !text(&source["location"]).starts_with("file:///") => say(format!(
                "source type {kind} at {}: only folders are accepted, as file:///DIR",
                text(&source["location"])
            )),
            _ => {}
        }
    }
    let is_folder = text(&project["source"]["location"]).starts_with("file://");
    let versions = list(&project["secondarySourceVersions"]).len();
    if is_folder && !text(&project["sourceVersion"]).is_empty() || versions > 0 {
        found.push(
            "Invalid sourceVersion: a folder of this machine has no versions; check out the \
             version to build"
                .to_owned(),
        );
    }
    let buildspec = text(&project["source"]["buildspec"]);
    if buildspec.starts_with("arn:") || buildspec.starts_with("s3://") {
        found.push(format!(
            "Invalid input: this machine cannot run it: buildspec {buildspec}, an object on S3"
        ));
    } else if !is_inline(buildspec) && leaves_its_folder(buildspec) {
        found.push(format!(
            "Invalid buildspec: {buildspec} is outside the source; name a file below it"
        ));
    }
}

/// Whether a path, read as text, leads out of the folder it starts from.
fn leaves_its_folder(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|name| name == "..")
}
