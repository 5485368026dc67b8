//! CloudWatch Logs in `serve`: the logs of all builds as lines.

use super::service::{a_project, call, has_ended, pauses, served, spec, start, until};
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, awslogs, cases, outcome, project, python};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::HashSet;

cases! {
    [Containers] => lines_of_a_build, a_log_is_followed, where_logs_are, what_is_not_there;
    [Containers, Python] => tailers_of_real_clients;
    [Containers, Python, Extended] => awslogs_reads_a_log;
}

const GROUP: &str = "/aws/codebuild/demo";

#[track_caller]
fn logs(endpoint: &Endpoint, name: &str, input: &Value) -> Value {
    let (status, answer) = endpoint.call(&format!("Logs_20140328.{name}"), input);
    assert_eq!(status, 200, "{name}: {answer}");
    answer
}

fn events(answer: &Value) -> &[Value] {
    answer["events"].as_array().unwrap()
}

/// The text of a log's events.
fn text(answer: &Value) -> String {
    events(answer).iter().map(|event| event["message"].as_str().unwrap()).collect()
}

fn stream(id: &str) -> &str {
    id.split_once(':').unwrap().1
}

/// The log is what `runner logs` prints, and a token continues where it was issued.
fn lines_of_a_build() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "for i in 1 2 3; do echo line $i; done; exit 3", &[]);
    let none = logs(&endpoint, "FilterLogEvents", &json!({"logGroupName": GROUP}));
    assert_eq!(none["events"], json!([]), "a project has its group before its first build");
    let id = start(&endpoint, json!({}));
    let ended = until(&endpoint, &id, has_ended);
    let arn = ended["logs"]["cloudWatchLogsArn"].as_str().unwrap();
    assert!(arn.ends_with(&format!("log-group:{GROUP}:log-stream:{}", stream(&id))), "{arn}");
    let all = bed.runner(["logs", &id]).code(0).stdout;
    let on = |more: Value| {
        let mut input = json!({"logGroupName": GROUP, "logStreamName": stream(&id)});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        logs(&endpoint, "GetLogEvents", &input)
    };
    assert_eq!(text(&on(json!({}))), all);
    let filtered = logs(&endpoint, "FilterLogEvents", &json!({"logGroupName": GROUP}));
    assert_eq!(text(&filtered), all);
    assert!(filtered.get("nextToken").is_none() && filtered["searchedLogStreams"] == json!([]));
    // Forward and back, two lines at a time; an unchanged token marks an end.
    let (mut forward, mut back) = (String::new(), String::new());
    for (way, limit) in [("nextForwardToken", 2), ("nextBackwardToken", 2)] {
        let is_forward = way == "nextForwardToken";
        let mut page = on(json!({"limit": limit, "startFromHead": is_forward}));
        loop {
            let read = text(&page);
            if is_forward {
                forward.push_str(&read);
            } else {
                back.insert_str(0, &read);
            }
            let token = page[way].clone();
            page = on(json!({"limit": limit, "nextToken": token, "startFromHead": is_forward}));
            if events(&page).is_empty() {
                assert_eq!(page[way], token);
                break;
            }
        }
    }
    assert_eq!((&forward, &back), (&all, &all));
    // From the time of a line on; and by text.
    let events = events(&filtered);
    let last = events.last().unwrap()["timestamp"].clone();
    let late = on(json!({"startTime": last, "startFromHead": true}));
    assert!(all.ends_with(&text(&late)) && !text(&late).is_empty());
    assert_eq!(on(json!({"endTime": events[0]["timestamp"]}))["events"], json!([]));
    let matching = |pattern: &str| {
        text(&logs(
            &endpoint,
            "FilterLogEvents",
            &json!({"logGroupName": GROUP, "filterPattern": pattern}),
        ))
    };
    assert_eq!(matching("line -2 -Running"), "line 1\nline 3\n");
    assert_eq!(matching("%^line [12]%"), "line 1\nline 2\n");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// A line is sent when it is complete, and only once.
fn a_log_is_followed() {
    let bed = Bed::host();
    let (endpoint, server) =
        served(&bed, "printf 'one\\ntw'; codebuild-breakpoint; echo o", &["--max-builds", "2"]);
    let id = start(&endpoint, json!({"debugSessionEnabled": true}));
    pauses(&bed, &id);
    let (mut seen, mut told, mut since) = (HashSet::new(), String::new(), 0);
    let mut follow = || {
        let input = json!({"logGroupName": GROUP, "startTime": since, "interleaved": true});
        for event in events(&logs(&endpoint, "FilterLogEvents", &input)) {
            since = event["timestamp"].as_u64().unwrap();
            if seen.insert(event["eventId"].as_str().unwrap().to_owned()) {
                told.push_str(event["message"].as_str().unwrap());
            }
        }
        told.clone()
    };
    crate::common::until("the line", || follow().ends_with("one\n"));
    bed.runner(["resume", &id]).code(0);
    until(&endpoint, &id, has_ended);
    assert_eq!(follow(), bed.runner(["logs", &id]).code(0).stdout);
    assert!(follow().contains("\ntwo\n"), "{}", follow());
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// Groups and streams under the names set by projects, including builds of `runner run`.
fn where_logs_are() {
    let bed = Bed::host();
    bed.build(&spec("echo from a terminal"), &[]).code(0);
    let (endpoint, server) = served(&bed, "true", &[]);
    let own = start(
        &endpoint,
        json!({"logsConfigOverride": {"cloudWatchLogs": {"status": "ENABLED", "groupName": "mine", "streamName": "ci"}}}),
    );
    let silent =
        start(&endpoint, json!({"logsConfigOverride": {"cloudWatchLogs": {"status": "DISABLED"}}}));
    until(&endpoint, &own, has_ended);
    let silent = until(&endpoint, &silent, has_ended);
    assert_eq!(silent["logs"]["cloudWatchLogs"]["status"], "DISABLED");
    assert!(silent["logs"].get("groupName").is_none(), "{}", silent["logs"]);
    let groups = logs(&endpoint, "DescribeLogGroups", &json!({}));
    let names: Vec<&str> = groups["logGroups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["logGroupName"].as_str().unwrap())
        .collect();
    let ids = call(&endpoint, "ListBuilds", &json!({}))["ids"].clone();
    let typed = ids.as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    assert_eq!(names, [GROUP, "mine"]);
    let some =
        logs(&endpoint, "DescribeLogGroups", &json!({"logGroupNamePrefix": "mi", "limit": 1}));
    assert_eq!(some["logGroups"][0]["arn"], "arn:aws:logs:us-east-1:000000000000:log-group:mine:*");
    let streams = |group: &str| {
        logs(&endpoint, "DescribeLogStreams", &json!({"logGroupIdentifier": group}))["logStreams"]
            .clone()
    };
    let mine = streams("arn:aws:logs:us-east-1:000000000000:log-group:mine");
    assert_eq!(mine[0]["logStreamName"], format!("ci/{}", stream(&own)));
    let time = |member: &str| mine[0][member].as_u64().unwrap();
    assert!(time("firstEventTimestamp") <= time("lastEventTimestamp"));
    // Not the one whose project wants no log, and not the one in another group.
    let others = streams(GROUP);
    assert_eq!(others.as_array().unwrap().len(), 1, "{others}");
    assert_eq!(others[0]["logStreamName"], stream(&typed));
    let read = logs(
        &endpoint,
        "GetLogEvents",
        &json!({"logGroupName": GROUP, "logStreamName": stream(&typed)}),
    );
    assert!(text(&read).contains("\nfrom a terminal\n"));
    let record = call(&endpoint, "BatchGetBuilds", &json!({"ids": [typed]}))["builds"][0].clone();
    assert_eq!(record["logs"]["cloudWatchLogs"]["status"], "ENABLED");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn what_is_not_there() {
    let bed = Bed::host();
    let (endpoint, server) = served(&bed, "true", &["--max-builds", "1"]);
    let id = start(&endpoint, json!({}));
    until(&endpoint, &id, has_ended);
    let one = stream(&id);
    for (name, input, code, told) in [
        (
            "FilterLogEvents",
            json!({"logGroupName": "none"}),
            "ResourceNotFoundException",
            "The specified log group does not exist.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logStreamName": "none"}),
            "ResourceNotFoundException",
            "The specified log stream does not exist.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logStreamName": one, "nextToken": "f/1"}),
            "InvalidParameterException",
            "The specified nextToken is invalid.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logGroupIdentifier": GROUP, "logStreamName": one}),
            "ValidationException",
            "LogGroup name and LogGroup ARN are mutually exclusive parameters.",
        ),
        (
            "GetLogEvents",
            json!({"logGroupName": GROUP, "logStreamName": one, "limit": 10_001}),
            "InvalidParameterException",
            "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: \
             Member must have value less than or equal to 10000",
        ),
        (
            "FilterLogEvents",
            json!({"logGroupName": GROUP, "filterPattern": "{ $.a = 1 }"}),
            "InvalidParameterException",
            "patterns for JSON",
        ),
        (
            "StartLiveTail",
            json!({}),
            "UnknownOperationException",
            "FilterLogEvents of CloudWatch Logs",
        ),
        ("PutLogEvents", json!({}), "UnknownOperationException", "not offered"),
    ] {
        let (status, answer) = endpoint.call(&format!("Logs_20140328.{name}"), &input);
        assert_eq!(status, 400, "{name}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(answer["__type"] == code && message.contains(told), "{name}: {answer}");
    }
    // A deleted build's log is gone as well.
    call(&endpoint, "BatchDeleteBuilds", &json!({"ids": [id]}));
    let streams = logs(&endpoint, "DescribeLogStreams", &json!({"logGroupName": GROUP}));
    assert_eq!(streams["logStreams"], json!([]));
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// boto3 with its paginators and the loops of programs that follow builds.
fn tailers_of_real_clients() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let file = bed.write("project.json", a_project(&spec("seq 40")).to_string());
    let file = format!("file://{}", file.display());
    endpoint.ask(&bed, &["codebuild", "create-project", "--cli-input-json", &file]);
    let started = endpoint.ask(&bed, &["codebuild", "start-build", "--project-name", "demo"]);
    let id = started["build"]["id"].as_str().unwrap();
    let mut command = bed.other(python("python").to_str().unwrap());
    endpoint.surround(&mut command);
    command.arg(project().join("tests/clients/logs.py")).arg(id);
    let read: Value = serde_json::from_str(&outcome(&mut command).code(0).stdout).unwrap();
    let wanted = bed.runner(["logs", id]).code(0).stdout;
    for (how, text) in read.as_object().unwrap() {
        assert_eq!(text, &json!(wanted), "{how}");
    }
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// Installed for the test.
fn awslogs_reads_a_log() {
    let bed = Bed::host();
    let mut command = awslogs(&bed);
    let (endpoint, server) = served(&bed, "seq 40", &[]);
    let id = start(&endpoint, json!({}));
    until(&endpoint, &id, has_ended);
    endpoint.surround(&mut command);
    let url = format!("--aws-endpoint-url=http://{}", endpoint.address);
    let asked = ["get", GROUP, "ALL", "--start=1h", "--no-group", "--no-stream", "--color=never"];
    let told = outcome(command.args(asked).arg(url)).code(0).stdout;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&told), words(&bed.runner(["logs", &id]).code(0).stdout));
    server.signal(Signal::SIGTERM);
    server.ends(0);
}
