//! Commands and invocations in the form of responses.

use crate::deliveries::Deliveries;
use runner_core::run_command::{Standing, StatusDetails};
use runner_core::time::WallTime;
use runner_folder::state::{CommandNode, CommandStep, Invocation, SentCommand, StepState};
use serde_json::{Map, Value, json};

/// A command with its status.
pub(super) fn command(command: &SentCommand, standing: &Standing) -> Value {
    let counts = standing.counts;
    let mut shape = json!({
        "CommandId": command.id,
        "DocumentName": command.document,
        "DocumentVersion": command.document_version,
        "Comment": command.comment,
        "ExpiresAfter": command.expires.epoch_seconds(),
        "Parameters": command.parameters,
        "InstanceIds": command.instance_ids,
        "Targets": command.targets,
        "RequestedDateTime": command.requested.epoch_seconds(),
        "Status": standing.status,
        "StatusDetails": standing.details,
        "MaxConcurrency": command.max_concurrency,
        "MaxErrors": command.max_errors,
        "TargetCount": counts.targets,
        "CompletedCount": counts.completed,
        "ErrorCount": counts.errors,
        "DeliveryTimedOutCount": counts.delivery_timed_out,
        "TimeoutSeconds": command.timeout_s,
    });
    let bucket = command.destinations.bucket.as_ref();
    shape["OutputS3BucketName"] = json!(bucket.map_or("", |bucket| &bucket.name));
    shape["OutputS3KeyPrefix"] = json!(bucket.map_or("", |bucket| &bucket.prefix));
    add(&mut shape, unused());
    shape["CloudWatchOutputConfig"] = cloud_watch(command);
    shape
}

/// The log group of a command.
pub(super) fn cloud_watch(command: &SentCommand) -> Value {
    let group = command.destinations.group.as_ref();
    json!({
        "CloudWatchLogGroupName": group.map_or("", |group| &group.name),
        "CloudWatchOutputEnabled": group.is_some(),
    })
}

/// The web addresses of a step's output and errors in the bucket; empty without a bucket.
pub(super) fn urls(
    command: &SentCommand,
    node: &CommandNode,
    step: &CommandStep,
    deliveries: &Deliveries,
) -> [String; 2] {
    let Some(bucket) = &command.destinations.bucket else { return Default::default() };
    ["stdout", "stderr"].map(|name| {
        let key = bucket.key(&format!("{}/{}/{}/{name}", command.id, node.id, step.path()));
        deliveries.object_url(&bucket.name, &key)
    })
}

/// A command on one node.
pub(super) fn invocation(
    command: &SentCommand,
    node: &CommandNode,
    invocation: &Invocation,
    plugins: &[Value],
) -> Value {
    let mut shape = json!({
        "CommandId": command.id,
        "InstanceId": node.name,
        "InstanceName": node.build,
        "Comment": command.comment,
        "DocumentName": command.document,
        "DocumentVersion": command.document_version,
        "RequestedDateTime": command.requested.epoch_seconds(),
        "Status": invocation.details.status(),
        "StatusDetails": invocation.details.name(),
        "TraceOutput": invocation.trace,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "CommandPlugins": plugins,
    });
    add(&mut shape, unused());
    shape["CloudWatchOutputConfig"] = cloud_watch(command);
    shape
}

/// A step of a command on one node.
pub(super) fn plugin(
    command: &SentCommand,
    node: &CommandNode,
    step: &CommandStep,
    state: &StepState,
    output: &str,
) -> Value {
    // As at AWS, the prefix contains the command and the node but not the step.
    let prefix = command.destinations.bucket.as_ref().map(|bucket| {
        let path = step.path();
        let plugin = path.split('/').next().unwrap_or_default();
        bucket.key(&format!("{}/{}/{plugin}", command.id, node.id))
    });
    let bucket = command.destinations.bucket.as_ref();
    let mut shape = json!({
        "Name": step.name,
        "Status": state.status,
        "StatusDetails": state.details,
        "ResponseCode": state.code,
        "Output": output,
        "StandardOutputUrl": "",
        "StandardErrorUrl": "",
        "OutputS3Region": "",
        "OutputS3BucketName": bucket.map_or("", |bucket| &bucket.name),
        "OutputS3KeyPrefix": prefix.unwrap_or_default(),
    });
    for (key, time) in
        [("ResponseStartDateTime", state.started), ("ResponseFinishDateTime", state.ended)]
    {
        if let Some(time) = time {
            shape[key] = json!(time.epoch_seconds());
        }
    }
    shape
}

/// The state of a step without a record, derived from its invocation.
pub(super) fn unbegun(invocation: &Invocation) -> StepState {
    let details = match invocation.details {
        StatusDetails::InProgress | StatusDetails::Cancelling => StatusDetails::Pending,
        other => other,
    };
    StepState {
        status: details.status().to_owned(),
        details: details.name().to_owned(),
        code: -1,
        started: None,
        ended: None,
    }
}

/// `2020-02-19T18:18:03.419Z`; empty without a time.
pub(super) fn iso(time: Option<WallTime>) -> String {
    let Some(time) = time else { return String::new() };
    let text = time.to_string();
    // Cuts microseconds to three digits.
    format!("{}Z", text.get(..23).unwrap_or(&text))
}

/// `PT0.091S`; empty unless the step has ended.
pub(super) fn elapsed(state: &StepState) -> String {
    match (state.started, state.ended) {
        (Some(started), Some(ended)) => {
            let millis = (ended.epoch_millis() - started.epoch_millis()).max(0);
            format!("PT{}.{:03}S", millis / 1000, millis % 1000)
        }
        _ => String::new(),
    }
}

/// Members that AWS's responses have and this program does not use.
fn unused() -> Value {
    json!({
        "ServiceRole": "",
        "NotificationConfig": {"NotificationArn": "", "NotificationEvents": [], "NotificationType": ""},
    })
}

fn add(shape: &mut Value, more: Value) {
    if let (Value::Object(shape), Value::Object(more)) = (shape, more) {
        let more: Map<String, Value> = more;
        shape.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lengths() {
        let time = WallTime(1_582_136_283_419_999);
        assert_eq!(iso(Some(time)), "2020-02-19T18:18:03.419Z");
        assert_eq!(iso(None), "");
        let mut state = unbegun(&Invocation::pending());
        assert_eq!((elapsed(&state).as_str(), state.code), ("", -1));
        state.started = Some(time);
        state.ended = Some(WallTime(time.0 + 91_000));
        assert_eq!(elapsed(&state), "PT0.091S");
        state.ended = Some(WallTime(time.0 + 62_001_000));
        assert_eq!(elapsed(&state), "PT62.001S");
    }
}
