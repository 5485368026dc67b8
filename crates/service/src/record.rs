//! Records of builds accepted by the service: before they have a folder, and in addition to it.
//! Pure.

use crate::db::builds::StoredBuild;
use crate::db::streams::PREFIX;
use crate::project::text;
use runner_core::arn::arn;
use serde_json::{Map, Value, json};

/// Group and stream of a build's log, as in CloudWatch Logs; `None` if its project disables that
/// log.
#[must_use]
pub fn log_names(project: &str, uuid: &str, order: &Value) -> Option<(String, String)> {
    let config = &order["project"]["logsConfig"]["cloudWatchLogs"];
    if config["status"] == "DISABLED" {
        return None;
    }
    let (mut group, mut stream) = usual_log_names(project, uuid);
    if !text(&config["groupName"]).is_empty() {
        text(&config["groupName"]).clone_into(&mut group);
    }
    if !text(&config["streamName"]).is_empty() {
        stream = format!("{}/{uuid}", text(&config["streamName"]));
    }
    Some((group, stream))
}

/// The default group and stream.
#[must_use]
pub fn usual_log_names(project: &str, uuid: &str) -> (String, String) {
    (format!("{PREFIX}{project}"), uuid.to_owned())
}

/// Adds to a record where its log can be read here.
fn tell_log(record: &mut Value, log: Option<&(String, String)>) {
    let Some((group, stream)) = log else {
        record["logs"] = json!({
            "cloudWatchLogs": {"status": "DISABLED"},
            "s3Logs": {"status": "DISABLED", "encryptionDisabled": false},
        });
        return;
    };
    let name = format!("log-group:{group}:log-stream:{stream}");
    record["logs"]["groupName"] = json!(group);
    record["logs"]["streamName"] = json!(stream);
    record["logs"]["cloudWatchLogsArn"] = json!(arn("logs", &name));
    record["logs"]["cloudWatchLogs"] = json!({"status": "ENABLED"});
}

/// The ARN of a build.
#[must_use]
pub fn build_arn(id: &str) -> String {
    arn("codebuild", &format!("build/{id}"))
}

pub(crate) fn seconds(ms: i64) -> Value {
    json!(ms as f64 / 1000.0)
}

/// The members of a record that come from the request.
fn asked_of(build: &StoredBuild) -> Map<String, Value> {
    let empty = json!({});
    let order = build.order.as_ref().unwrap_or(&empty);
    let own = json!({
        "id": build.id(),
        "arn": build_arn(&build.id()),
        "buildNumber": build.number,
        "startTime": seconds(build.requested),
        "projectName": build.project,
        "buildBatchArn": order["batch"]["arn"],
        "autoRetryConfig": order["autoRetryConfig"],
    });
    let own = own.as_object().cloned().unwrap_or_default();
    asked(order).into_iter().chain(own).filter(|(_, value)| !value.is_null()).collect()
}

/// The members of a record that come from the settings of a build or batch.
pub(crate) fn asked(order: &Value) -> Map<String, Value> {
    let project = &order["project"];
    let or = |value: &Value, other: Value| if value.is_null() { other } else { value.clone() };
    let mut environment = project["environment"].as_object().cloned().unwrap_or_default();
    environment.entry("privilegedMode").or_insert(json!(false));
    environment.entry("imagePullCredentialsType").or_insert(json!("CODEBUILD"));
    environment.entry("environmentVariables").or_insert(json!([]));
    let all = json!({
        "initiator": or(&order["initiator"], json!("unknown")),
        "source": project["source"],
        "sourceVersion": project["sourceVersion"],
        "secondarySources": or(&project["secondarySources"], json!([])),
        "secondarySourceVersions": or(&project["secondarySourceVersions"], json!([])),
        "cache": or(&project["cache"], json!({"type": "NO_CACHE"})),
        "environment": environment,
        "serviceRole": project["serviceRole"],
        "timeoutInMinutes": or(&project["timeoutInMinutes"], json!(60)),
        "queuedTimeoutInMinutes": or(&project["queuedTimeoutInMinutes"], json!(480)),
        "encryptionKey": or(&project["encryptionKey"], json!(arn("kms", "alias/aws/s3"))),
        "vpcConfig": project["vpcConfig"],
    });
    let members = all.as_object().cloned().unwrap_or_default();
    members.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn done(name: &str, status: &str, from: i64, to: i64) -> Value {
    json!({"phaseType": name, "phaseStatus": status, "startTime": seconds(from), "endTime": seconds(to),
        "durationInSeconds": (to - from).max(0) / 1000})
}

/// The record of a build that is queued or has no folder yet.
#[must_use]
pub fn waiting(build: &StoredBuild) -> Value {
    let mut record = asked_of(build);
    let at = build.requested;
    let mut put = |name: &str, value: Value| record.insert(name.to_owned(), value);
    put("buildStatus", json!("IN_PROGRESS"));
    put("buildComplete", json!(false));
    put("currentPhase", json!("QUEUED"));
    let submitted = done("SUBMITTED", "SUCCEEDED", at, at);
    put("phases", json!([submitted, {"phaseType": "QUEUED", "startTime": seconds(at)}]));
    put("artifacts", json!({"location": ""}));
    let has_sessions = build.order.as_ref().is_some_and(|order| order["sessions"] == true);
    put("debugSession", json!({"sessionEnabled": has_sessions}));
    put("exportedEnvironmentVariables", json!([]));
    put(
        "logs",
        json!({
            "deepLink": format!(
                "https://console.aws.amazon.com/cloudwatch/home?region={}#logEvent:group=null;stream=null",
                runner_core::arn::REGION
            ),
            "cloudWatchLogsArn": arn("logs", "log-group:null:log-stream:null"),
            "cloudWatchLogs": {"status": "ENABLED"},
            "s3Logs": {"status": "DISABLED", "encryptionDisabled": false},
        }),
    );
    let mut record = Value::Object(record);
    if build.log.is_none() {
        tell_log(&mut record, None);
    }
    record
}

/// The record of a build that ended without a folder: in the queue, or because its process did not
/// begin it.
#[must_use]
pub fn never_begun(build: &StoredBuild, now: i64, status: &str, why: Option<&str>) -> Value {
    let mut record = waiting(build);
    let at = build.requested;
    let submitted = done("SUBMITTED", "SUCCEEDED", at, at);
    let end = json!({"phaseType": "COMPLETED", "startTime": seconds(now)});
    record["phases"] = match why {
        None => json!([submitted, done("QUEUED", status, at, now), end]),
        Some(why) => {
            let mut failed = done("PROVISIONING", status, now, now);
            failed["contexts"] = json!([{"statusCode": "INTERNAL_SERVICE_ERROR", "message": why}]);
            json!([submitted, done("QUEUED", "SUCCEEDED", at, now), failed, end])
        }
    };
    record["buildStatus"] = json!(status);
    record["buildComplete"] = json!(true);
    record["currentPhase"] = json!("COMPLETED");
    record["endTime"] = seconds(now);
    record
}

/// A folder's record, with what else the service knows.
#[must_use]
pub fn joined(record: Value, build: &StoredBuild) -> Value {
    let mut record = record;
    tell_log(&mut record, build.log.as_ref());
    if build.order.is_none() {
        return record;
    }
    let begun = record["startTime"].clone();
    let own = asked_of(build);
    if let Value::Object(members) = &mut record {
        members.extend(own);
    }
    // It was submitted and queued here.
    for phase in record["phases"].as_array_mut().into_iter().flatten() {
        let requested = seconds(build.requested);
        match text(&phase["phaseType"]) {
            "SUBMITTED" => {
                phase["startTime"] = requested.clone();
                phase["endTime"] = requested;
                phase["durationInSeconds"] = json!(0);
            }
            "QUEUED" => {
                phase["startTime"] = requested;
                if let (Some(from), Some(to)) = (phase["startTime"].as_f64(), begun.as_f64()) {
                    phase["endTime"] = begun.clone();
                    phase["durationInSeconds"] = json!((to - from).max(0.0) as i64);
                }
            }
            _ => {}
        }
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::builds::BuildProgress;

    fn build() -> StoredBuild {
        StoredBuild {
            uuid: "u".to_owned(),
            seq: 1,
            project: "demo".to_owned(),
            number: 3,
            state: BuildProgress::Queued,
            status: "IN_PROGRESS".to_owned(),
            requested: 1000,
            deadline: None,
            order: Some(json!({"initiator": "me", "sessions": true, "project": {
                "source": {"type": "NO_SOURCE"}, "environment": {"image": "host"}, "timeoutInMinutes": 7,
            }})),
            record: None,
            log: Some(("/aws/codebuild/demo".to_owned(), "u".to_owned())),
        }
    }

    #[test]
    fn the_first_answer_is_aws_s_own() {
        let record = waiting(&build());
        assert_eq!(record["currentPhase"], "QUEUED");
        assert_eq!(record["buildStatus"], "IN_PROGRESS");
        assert_eq!(record["phases"][0]["phaseStatus"], "SUCCEEDED");
        assert_eq!(record["phases"][1], json!({"phaseType": "QUEUED", "startTime": 1.0}));
        assert_eq!(
            record["logs"]["cloudWatchLogsArn"],
            "arn:aws:logs:us-east-1:000000000000:log-group:null:log-stream:null"
        );
        assert!(record["logs"].get("groupName").is_none());
        assert_eq!(
            (&record["timeoutInMinutes"], &record["queuedTimeoutInMinutes"]),
            (&json!(7), &json!(480))
        );
        assert_eq!(record["debugSession"]["sessionEnabled"], true);
    }

    #[test]
    fn an_end_without_a_folder() {
        let stopped = never_begun(&build(), 4000, "STOPPED", None);
        assert_eq!(stopped["phases"][1]["phaseStatus"], "STOPPED");
        assert_eq!(stopped["phases"][1]["durationInSeconds"], 3);
        assert_eq!(stopped["phases"][2]["phaseType"], "COMPLETED");
        let fault = never_begun(&build(), 4000, "FAULT", Some("no image"));
        assert_eq!(fault["phases"][2]["contexts"][0]["message"], "no image");
    }

    #[test]
    fn a_folder_s_record_is_joined_with_what_was_asked_for() {
        let record = json!({"startTime": 2.5, "initiator": "root", "logs": {"groupName": "g"}, "phases": [
            {"phaseType": "SUBMITTED", "startTime": 2.5}, {"phaseType": "QUEUED", "startTime": 2.5}]});
        let joined = joined(record, &build());
        assert_eq!((&joined["startTime"], &joined["initiator"]), (&json!(1.0), &json!("me")));
        assert_eq!(joined["phases"][1]["endTime"], 2.5);
        assert_eq!(joined["logs"]["streamName"], "u");
    }
}
