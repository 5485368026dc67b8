//! Copies of a build's log besides the terminal, and reading it later.

use crate::common::aws::{Fault, Proxy, aws, bucket, cli, object, surround, with_aws, with_aws_at};
use crate::common::{Bed, Running, build, cases, outcome};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::Read;

cases! {
    [Containers, Image("busybox")] => a_log_file_holds_the_log, a_log_file_that_cannot_be_written,
        logs_of_ended_builds, commands_that_fail_are_annotated, a_bad_buildspec_is_annotated, what_cannot_be_sent_is_told,
        a_silent_service_and_ctrl_c;
    [Containers, Image("busybox"), Python] => copies_on_aws, copies_of_a_stopped_build, services_that_stumble;
}

fn a_log_file_holds_the_log() {
    let bed = Bed::new();
    let file = bed.path("build.log");
    fs::write(&file, "of another build").unwrap();
    let options = ["--log-file", file.to_str().unwrap(), "--log-format", "json"];
    bed.build(&build(&["echo one; printf two", "exit 3"]), &options).code(1);
    let written = fs::read_to_string(&file).unwrap();
    // It contains what a later reader gets.
    assert_eq!(written, bed.runner(["logs"]).code(0).stdout);
    assert!(written.contains("\none\ntwo\n\n[Container]"), "{written}");
    assert!(
        written.contains("Command did not exit successfully exit 3 exit status 3"),
        "{written}"
    );
}

fn a_log_file_that_cannot_be_written() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["true"]), &["--log-file", "nosuch/build.log"]).code(2);
    outcome.says("--log-file: cannot write nosuch/build.log: No such file or directory");
    // A full disk behind it does not fail the build, and is reported.
    let outcome = bed.build(&build(&["echo on"]), &["--log-file", "/dev/full"]).code(0);
    assert_eq!(outcome.output(), "on\n");
    outcome.says("warning: the log in /dev/full is not complete: No space left on device");
}

fn logs_of_ended_builds() {
    let bed = Bed::new();
    let first = bed.build(&build(&["echo first"]), &[]).code(0).stdout;
    let id = bed.record()["id"].as_str().unwrap().to_owned();
    let uuid = id.split(':').next_back().unwrap();
    bed.build(&build(&["echo second"]), &[]).code(0);
    for name in [id.as_str(), uuid, &uuid[..13]] {
        assert_eq!(bed.runner(["logs", name]).code(0).stdout, first);
        assert_eq!(bed.runner(["logs", "--follow", name]).code(0).stdout, first);
    }
    // The newest if none is named.
    assert!(bed.runner(["logs"]).code(0).stdout.contains("\nsecond\n"));
    bed.runner(["logs", "nosuch"]).code(2).says("nosuch");
}

fn commands_that_fail_are_annotated() {
    let bed = Bed::new();
    let buildspec = "version: 0.2\nphases:\n  build:\n    commands:\n      - 'true'\n      - |\n        echo '::error::no, 50%'\n        \
                     exit 4\n    finally:\n      - 'false'\n";
    let outcome = bed.build(buildspec, &["--annotations", "github"]).code(1);
    let outcome = outcome.says(
        "::error file=buildspec.yml,line=7,title=BUILD failed::echo '::error::no, 50%25'%0Aexit 4%0Aexit \
         status 4\n",
    );
    outcome.says("::error file=buildspec.yml,line=10,title=BUILD failed::false%0Aexit status 1\n");

    // Relative to the root of the work tree, as GitHub needs it.
    let mut command = bed.build_command(buildspec, &["--annotations", "github"]);
    command.env("GITHUB_WORKSPACE", bed.path(""));
    crate::common::outcome(&mut command).code(1).says("::error file=source/buildspec.yml,line=7,");
    let quiet = bed.build(buildspec, &[]).code(1);
    assert!(!quiet.stderr.contains("::error file"), "{}", quiet.stderr);
}

fn a_bad_buildspec_is_annotated() {
    let bed = Bed::new();
    let outcome =
        bed.build("version: 0.3\nphases: {build: {commands: [x]}}\n", &["--annotations", "github"]);
    outcome.code(2).says("::error file=buildspec.yml,line=1,col=10,title=bad-value::");
}

/// A project file that sends the log to both places.
fn to_aws(bed: &Bed, bucket: &str) {
    let logs = format!(
        "[logs]\ns3 = \"{bucket}/builds\"\n[logs.cloudwatch]\ngroup = \"/demo/{bucket}\"\nstream = \"ci\"\n"
    );
    bed.write("runner.toml", logs);
}

/// The messages of a log stream.
fn messages(group: &str, stream: &str) -> String {
    let text = cli(&[
        "logs",
        "get-log-events",
        "--log-group-name",
        group,
        "--log-stream-name",
        stream,
        "--start-from-head",
        "--output",
        "json",
    ]);
    let answer: Value = serde_json::from_slice(&text).unwrap();
    let events = answer["events"].as_array().unwrap();
    events.iter().map(|event| event["message"].as_str().unwrap()).collect()
}

/// The content of a compressed object.
fn unpacked(bucket: &str, key: &str) -> String {
    let mut text = String::new();
    let bytes = object(bucket, key);
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn copies_on_aws() {
    let bed = Bed::new();
    let name = bucket("logs-copies");
    to_aws(&bed, &name);
    let spec = build(&[
        "i=0; while [ $i -lt 3000 ]; do echo \"line $i \u{e4}\"; i=$((i+1)); done",
        "printf unended",
    ]);
    // It uses the caller's credentials at AWS, so the caller has to agree.
    with_aws(&bed, &spec, &[])
        .code(2)
        .says("runner.toml:1:2: `logs` writes to CloudWatch Logs and S3");
    let outcome = with_aws(&bed, &spec, &["--trust-project"]).code(0);
    assert!(!outcome.stderr.contains("not sent"), "{}", outcome.stderr);
    let record = bed.record();
    let uuid = record["id"].as_str().unwrap().split(':').next_back().unwrap();
    assert_eq!(unpacked(&name, &format!("builds/{uuid}.gz")), outcome.stdout);
    let (group, stream) = (format!("/demo/{name}"), format!("ci/{uuid}"));
    assert_eq!(messages(&group, &stream), outcome.stdout);
    let logs = &record["logs"];
    assert_eq!((&logs["groupName"], &logs["streamName"]), (&group.into(), &stream.into()));
    assert_eq!(logs["cloudWatchLogs"]["status"], "ENABLED");
    assert_eq!(logs["s3LogsArn"], format!("arn:aws:s3:::{name}/builds/{uuid}.gz"));
}

/// The log of a stopped build is sent as well, without secrets.
fn copies_of_a_stopped_build() {
    let bed = Bed::new();
    let name = bucket("logs-stopped");
    to_aws(&bed, &name);
    let spec = build(&["echo \"$TOKEN\"", "echo waits; sleep 1000"]);
    let options = ["--trust-project", "-e", "TOKEN=t0ken-of-app", "--mask", "TOKEN"];
    let mut command = bed.build_command(&spec, &options);
    let running = Running::spawn_from(surround(&mut command, aws()));
    running.stdout.wait_for("waits\n");
    running.signal(Signal::SIGINT);
    running.ends(5);
    let record = bed.record();
    let uuid = record["id"].as_str().unwrap().split(':').next_back().unwrap();
    let text = unpacked(&name, &format!("builds/{uuid}.gz"));
    assert!(
        text.contains("***\n") && text.contains("waits\n") && !text.contains("t0ken"),
        "{text}"
    );
    assert!(text.contains("Phase complete: BUILD State: STOPPED"), "{text}");
    assert_eq!(messages(&format!("/demo/{name}"), &format!("ci/{uuid}")), text);
}

fn services_that_stumble() {
    let bed = Bed::new();
    let name = bucket("logs-stumble");
    to_aws(&bed, &name);
    let proxy = Proxy::start(&[
        ("POST", "/", 2, Fault::Status(500)),
        ("PUT", "/", 1, Fault::Status(503)),
        ("POST", "/", 1, Fault::Dropped),
    ]);
    let outcome =
        with_aws_at(proxy.port, &bed, &build(&["echo heard"]), &["--trust-project"]).code(0);
    let record = bed.record();
    let uuid = record["id"].as_str().unwrap().split(':').next_back().unwrap();
    assert_eq!(unpacked(&name, &format!("builds/{uuid}.gz")), outcome.stdout);
    assert_eq!(messages(&format!("/demo/{name}"), &format!("ci/{uuid}")), outcome.stdout);
}

/// What cannot be sent is reported, together with where it can still be found, and fails nothing.
fn what_cannot_be_sent_is_told() {
    let bed = Bed::new();
    to_aws(&bed, "no-such-bucket-of-ours");
    let mut command = bed.build_command(&build(&["echo kept"]), &["--trust-project"]);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let outcome = outcome(&mut command).code(0);
    let outcome =
        outcome.says("warning: not sent to CloudWatch Logs /demo/no-such-bucket-of-ours ci/");
    let outcome = outcome.says("warning: the log is not in s3://no-such-bucket-of-ours/builds/");
    let record = bed.record();
    let uuid = record["id"].as_str().unwrap().split(':').next_back().unwrap();
    outcome.says(&format!("the whole log: runner logs {uuid}"));
    assert!(bed.runner(["logs", uuid]).code(0).stdout.contains("\nkept\n"));
}

/// A service that accepts connections and never answers does not delay a user in a hurry.
fn a_silent_service_and_ctrl_c() {
    let bed = Bed::new();
    to_aws(&bed, "silent");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command =
        bed.build_command(&build(&["echo done"]), &["--trust-project", "--log-format", "json"]);
    surround(&mut command, port);
    let running = Running::spawn_from(&mut command);
    running.stdout.wait_for("\"type\":\"phase_started\",\"data\":{\"phase\":\"FINALIZING\"}");
    running.signal(Signal::SIGINT);
    running.stderr.wait_for("once more ends it at once");
    running.signal(Signal::SIGINT);
    running.stderr.wait_for("there was no time for it");
    running.ends(0);
}
