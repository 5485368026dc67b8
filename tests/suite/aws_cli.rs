//! AWS's CLI with the endpoint of a paused build and that of `serve`: every supported call, and who
//! is rejected.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, outcome, python};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

cases! {
    [Containers, Image("busybox"), Python] => the_calls_of_a_paused_build, builds_without_sessions,
        listing_and_stopping_builds, sessions_by_api, who_is_not_let_in, the_other_encoding,
        serve_takes_the_place_of_the_builds_own, what_is_noted, one_build_is_not_another;
    [Containers, Image("busybox")] => the_keys_are_the_owners_alone, serve_as_a_verb,
        programs_that_are_no_clients, builds_that_cannot_be_listed;
    [Containers, Image("debian"), Python] => a_build_cannot_call_without_a_signature;
    [Python] => without_a_container_neither;
}

const PAUSED: &str = "codebuild-breakpoint";

fn paused(bed: &Bed) -> (Running, Endpoint, String) {
    let running = bed.paused(&build(&[PAUSED]), &[]);
    let endpoint = Endpoint::of_notice(&running);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    (running, endpoint, uuid)
}

fn the_calls_of_a_paused_build() {
    let bed = Bed::new();
    let (running, endpoint, uuid) = paused(&bed);
    let (id, target) = (format!("demo:{uuid}"), format!("codebuild:{uuid}"));
    let line = format!("aws ssm start-session --target {target} --endpoint-url http://");
    assert!(running.stderr.text().contains(&line), "{}", running.stderr.text());

    let answer =
        endpoint.ask(&bed, &["codebuild", "batch-get-builds", "--ids", &id, "demo:nobody"]);
    let record = &answer["builds"][0];
    assert_eq!(record["debugSession"], json!({"sessionEnabled": true, "sessionTarget": target}));
    assert_eq!(record["buildStatus"], "IN_PROGRESS");
    assert_eq!(record["currentPhase"], "BUILD");
    assert_eq!(record["projectName"], "demo");
    assert!(record["phases"].as_array().unwrap().len() > 4, "{record}");
    assert_eq!(answer["buildsNotFound"], json!(["demo:nobody"]));
    let arn = record["arn"].as_str().unwrap();
    let by_arn = endpoint.ask(&bed, &["codebuild", "batch-get-builds", "--ids", arn]);
    assert_eq!(by_arn["builds"][0]["id"], *id);

    let me = endpoint.ask(&bed, &["sts", "get-caller-identity"]);
    assert!(me["Arn"].as_str().unwrap().contains(":user/"), "{me}");
    let status = ["ssm", "get-connection-status", "--target", &target];
    assert_eq!(endpoint.ask(&bed, &status)["Status"], "connected");
    let status = ["ssm", "get-connection-status", "--target", "codebuild:x"];
    assert_eq!(endpoint.ask(&bed, &status)["Status"], "notconnected");

    let task = uuid.replace('-', "");
    let tasks = endpoint.ask(&bed, &["ecs", "list-tasks"]);
    let arn = tasks["taskArns"][0].as_str().unwrap().to_owned();
    assert!(arn.ends_with(&task), "{tasks}");
    let tasks = endpoint.ask(&bed, &["ecs", "describe-tasks", "--tasks", &arn, "nobody"]);
    let described = &tasks["tasks"][0];
    assert_eq!(described["enableExecuteCommand"], true);
    assert_eq!(described["lastStatus"], "RUNNING");
    let container = &described["containers"][0];
    assert!(container["runtimeId"].as_str().unwrap().starts_with(&task), "{container}");
    let agent = &container["managedAgents"][0];
    assert_eq!(
        (&agent["name"], &agent["lastStatus"]),
        (&json!("ExecuteCommandAgent"), &json!("RUNNING"))
    );
    assert_eq!(tasks["failures"][0]["reason"], "MISSING");
    let clusters = endpoint.ask(&bed, &["ecs", "describe-clusters", "--clusters", "default", "x"]);
    assert_eq!(clusters["clusters"][0]["runningTasksCount"], 1);
    assert_eq!(clusters["failures"].as_array().unwrap().len(), 1);

    for (arguments, wanted) in [
        (&["ssm", "start-session", "--target", "codebuild:x"][..], "(TargetNotConnected)"),
        (
            &["ssm", "start-session", "--target", &target, "--document-name", "x"],
            "(InvalidDocument)",
        ),
        (
            &[
                "ssm",
                "start-session",
                "--target",
                &target,
                "--document-name",
                "AWS-StartPortForwardingSession",
                "--parameters",
                "portNumber=[\"0\"]",
            ],
            "portNumber",
        ),
        (&["ssm", "resume-session", "--session-id", "never"], "(DoesNotExistException)"),
        (
            &[
                "ssm",
                "describe-sessions",
                "--state",
                "Active",
                "--filters",
                "key=Target,value=x",
                "--next-token",
                "x",
            ],
            "(InvalidNextToken)",
        ),
        (&["codebuild", "list-projects"], "(UnknownOperationException)"),
        (&["codebuild", "stop-build", "--id", "demo:x"], "(ResourceNotFoundException)"),
        (&["ecs", "list-services"], "(UnknownOperationException)"),
        (&["ecs", "list-tasks", "--cluster", "x"], "(ClusterNotFoundException)"),
        (&["sts", "get-session-token"], "(InvalidAction)"),
        (&["dynamodb", "list-tables"], "(UnknownOperationException)"),
    ] {
        let answer = endpoint.refuses(&bed, arguments);
        assert!(answer.stderr.contains(wanted), "{arguments:?}: {answer:?}");
    }
    bed.resume(running);
}

/// Without --enable-session AWS's clients are rejected, with the message of each service.
fn builds_without_sessions() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let running = bed.start(&build(&["mkfifo /tmp/go; echo he''re; read x < /tmp/go"]), &[]);
    running.stdout.wait_for("here\n");
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let answer =
        endpoint.refuses(&bed, &["ssm", "start-session", "--target", &format!("codebuild:{uuid}")]);
    answer.says("(TargetNotConnected)").says("without --enable-session");
    let body = json!({"task": uuid, "command": "sh", "interactive": true});
    let (status, refused) =
        endpoint.call("AmazonEC2ContainerServiceV20141113.ExecuteCommand", &body);
    assert_eq!(
        (status, &refused["__type"]),
        (400, &json!("InvalidParameterException")),
        "{refused}"
    );
    let tasks = endpoint.ask(&bed, &["ecs", "describe-tasks", "--tasks", &uuid]);
    assert_eq!(tasks["tasks"][0]["enableExecuteCommand"], false);
    // Its owner can connect all the same.
    bed.runner(["exec", "--", "sh", "-c", "echo x > /tmp/go"]).code(0);
    running.ends(0);
    let ended =
        endpoint.refuses(&bed, &["ssm", "start-session", "--target", &format!("codebuild:{uuid}")]);
    ended.says("has ended");
    ends(server);
}

fn ends(server: Running) {
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.ends(0);
}

fn listing_and_stopping_builds() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let (running, endpoint, uuid) = paused(&bed);
    let ids = endpoint.ask(&bed, &["codebuild", "list-builds"])["ids"].clone();
    let ids: Vec<String> = serde_json::from_value(ids).unwrap();
    assert_eq!((ids.len(), &ids[0]), (2, &format!("demo:{uuid}")), "the newest first");
    let ascending = endpoint.ask(&bed, &["codebuild", "list-builds", "--sort-order", "ASCENDING"]);
    assert_eq!(ascending["ids"][0], *ids[1]);
    let ended = endpoint.ask(&bed, &["codebuild", "batch-get-builds", "--ids", &ids[1]]);
    assert_eq!(ended["builds"][0]["buildStatus"], "SUCCEEDED");
    // An ended build stays unchanged.
    let stopped = endpoint.ask(&bed, &["codebuild", "stop-build", "--id", &ids[1]]);
    assert_eq!(stopped["build"]["buildStatus"], "SUCCEEDED");
    // The response comes at once, as in AWS; the end follows later.
    let stopped = endpoint.ask(&bed, &["codebuild", "stop-build", "--id", &ids[0]]);
    assert_eq!(stopped["build"]["id"], *ids[0]);
    running.ends(5);
}

fn sessions_by_api() {
    let bed = Bed::new();
    let running = bed.paused(&build(&[PAUSED]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let target = json!({"Target": format!("codebuild:{uuid}"), "Reason": "a look"});
    let (status, session) = endpoint.call("AmazonSSM.StartSession", &target);
    assert_eq!(status, 200, "{session}");
    let id = session["SessionId"].as_str().unwrap();
    assert!(session["TokenValue"].as_str().unwrap().len() >= 43);
    let active = endpoint.ask(&bed, &["ssm", "describe-sessions", "--state", "Active"]);
    let seen = &active["Sessions"][0];
    assert_eq!(
        (&seen["SessionId"], &seen["Status"], &seen["Reason"]),
        (&json!(id), &json!("Connecting"), &json!("a look")),
        "{active}"
    );
    let none = ["ssm", "describe-sessions", "--state", "Active", "--filters", "key=Owner,value=x"];
    assert_eq!(endpoint.ask(&bed, &none)["Sessions"], json!([]));
    let resumed = endpoint.ask(&bed, &["ssm", "resume-session", "--session-id", id]);
    assert_ne!(resumed["TokenValue"], session["TokenValue"]);
    for _ in 0..2 {
        let ended = endpoint.ask(&bed, &["ssm", "terminate-session", "--session-id", id]);
        assert_eq!(ended["SessionId"], *id);
    }
    // It is over: no token, and no error that a client would retry for a minute.
    crate::common::until("the session is over", || {
        let resumed = endpoint.ask(&bed, &["ssm", "resume-session", "--session-id", id]);
        resumed.get("TokenValue").is_none()
    });
    let history = endpoint.ask(&bed, &["ssm", "describe-sessions", "--state", "History"]);
    assert_eq!(history["Sessions"][0]["Status"], "Terminated");
    ends(server);
    bed.resume(running);
}

fn who_is_not_let_in() {
    let bed = Bed::new();
    let (running, endpoint, _) = paused(&bed);
    let with = |name: &str, value: &str| {
        let mut command = endpoint.aws(&bed, &["codebuild", "list-builds"]);
        command.env_remove("AWS_PROFILE").env(name, value);
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
        command.env("AWS_SECRET_ACCESS_KEY", "another");
        outcome(&mut command)
    };
    with("X", "").code(255).says("(UnrecognizedClientException)");
    let file = fs::read_to_string(bed.home().join("aws-credentials")).unwrap();
    let key = file.lines().find_map(|line| line.strip_prefix("aws_access_key_id = ")).unwrap();
    let mut wrong = endpoint.aws(&bed, &["codebuild", "list-builds"]);
    wrong.env_remove("AWS_PROFILE").env("AWS_ACCESS_KEY_ID", key);
    wrong.env("AWS_SECRET_ACCESS_KEY", "another");
    outcome(&mut wrong).code(255).says("(InvalidSignatureException)");
    let unsigned =
        outcome(&mut endpoint.aws(&bed, &["codebuild", "list-builds", "--no-sign-request"]));
    unsigned.code(255).says("(MissingAuthenticationTokenException)");
    let sts =
        outcome(&mut endpoint.aws(&bed, &["sts", "get-caller-identity", "--no-sign-request"]));
    sts.code(255).says("(MissingAuthenticationToken)");
    bed.resume(running);
}

/// CodeBuild lists another encoding first; clients that choose it get the same answers.
fn the_other_encoding() {
    let bed = Bed::new();
    let (running, endpoint, uuid) = paused(&bed);
    let script = "
import sys, json, urllib.request
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from botocore.parsers import create_parser
session = botocore.session.Session()
model = session.get_service_model('codebuild')
def call(name, parameters):
    operation = model.operation_model(name)
    request = create_serializer('smithy-rpc-v2-cbor').serialize_to_request(parameters, operation)
    url = sys.argv[1] + request['url_path']
    signed = AWSRequest('POST', url, request['headers'], request['body'])
    SigV4Auth(session.get_credentials(), 'codebuild', 'us-east-1').add_auth(signed)
    prepared = signed.prepare()
    plain = urllib.request.Request(url, prepared.body, dict(prepared.headers))
    try:
        answer = urllib.request.urlopen(plain); status = 200
    except urllib.error.HTTPError as error:
        answer = error; status = error.code
    parsed = create_parser('smithy-rpc-v2-cbor').parse(
        {'body': answer.read(), 'headers': answer.headers, 'status_code': status}, operation.output_shape)
    print(json.dumps(parsed, default=str))
call('BatchGetBuilds', {'ids': [sys.argv[2]]})
call('StopBuild', {'id': 'demo:nobody'})
";
    let mut command = bed.other(python("python").to_str().unwrap());
    endpoint.surround(&mut command);
    let url = format!("http://{}", endpoint.address);
    command.args(["-c", script, &url, &format!("demo:{uuid}")]);
    let answer = outcome(&mut command).code(0);
    let lines: Vec<Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let record = &lines[0]["builds"][0];
    assert_eq!(record["debugSession"]["sessionTarget"], *format!("codebuild:{uuid}"));
    // A time as text, not a number.
    assert!(record["startTime"].as_str().unwrap().contains(':'), "{record}");
    assert_eq!(lines[1]["Error"]["Code"], "ResourceNotFoundException", "{answer:?}");
    bed.resume(running);
}

fn serve_takes_the_place_of_the_builds_own() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let second = bed.runner(["serve", "--listen", "127.0.0.1:0"]);
    second.code(3).says(&format!("already, at http://{}", endpoint.address));
    let (running, named, uuid) = paused(&bed);
    assert_eq!(named.address, endpoint.address);
    let listed = endpoint.ask(&bed, &["codebuild", "list-builds"]);
    assert_eq!(listed["ids"][0], *format!("demo:{uuid}"));
    // The server stops, and the build continues.
    ends(server);
    bed.resume(running);
    // The next build has its own endpoint.
    let (running, endpoint, _) = paused(&bed);
    let listed = endpoint.ask(&bed, &["codebuild", "list-builds"]);
    assert_eq!(listed["ids"].as_array().unwrap().len(), 2);
    bed.resume(running);
}

fn what_is_noted() {
    let bed = Bed::new();
    let (running, endpoint, uuid) = paused(&bed);
    let target = format!("codebuild:{uuid}");
    endpoint.refuses(&bed, &["ssm", "start-session", "--target", "codebuild:x"]);
    let body = json!({"Target": target});
    assert_eq!(endpoint.call("AmazonSSM.StartSession", &body).0, 400);
    endpoint.ask(&bed, &["ssm", "get-connection-status", "--target", &target]);
    let task = uuid.replace('-', "");
    endpoint.ask(&bed, &["ecs", "describe-tasks", "--tasks", &task, "nobody"]);
    endpoint.ask(&bed, &["sts", "get-caller-identity"]);
    endpoint.ask(&bed, &["codebuild", "stop-build", "--id", &format!("demo:{uuid}")]);
    running.ends(5);
    let text = fs::read_to_string(bed.home().join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |event: &str| {
        let line = lines.iter().find(|line| line["eventName"] == event);
        line.unwrap_or_else(|| panic!("no {event} in {text}"))
    };
    assert_eq!(of("StartSession")["errorCode"], "TargetNotConnected");
    assert!(!text.contains("not signed"), "{text}");
    let refused = fs::read_to_string(bed.home().join("refused.jsonl")).unwrap();
    let refused: Value = serde_json::from_str(refused.lines().next().unwrap()).unwrap();
    assert_eq!(refused["eventName"], "StartSession");
    assert_eq!(refused["userIdentity"], json!({"type": "Unknown"}));
    assert!(refused["errorMessage"].as_str().unwrap().contains("not signed"), "{refused}");
    let stop = of("StopBuild");
    assert!(stop.get("errorCode").is_none(), "{stop}");
    assert!(stop["userAgent"].as_str().unwrap().contains("aws-cli"));
    assert_eq!(stop["requestParameters"], json!({"id": format!("demo:{uuid}")}));
    assert_eq!(stop["responseElements"]["build"]["id"], *format!("demo:{uuid}"));
    assert_eq!(stop["readOnly"], false);
    // Read-only calls are recorded as well, and marked. Their results are not.
    assert_eq!(of("GetConnectionStatus")["requestParameters"], json!({"target": target}));
    assert_eq!(of("DescribeTasks")["requestParameters"]["tasks"], json!([task, "nobody"]));
    assert_eq!(of("DescribeTasks")["responseElements"], Value::Null);
    assert_eq!(of("GetCallerIdentity")["readOnly"], true);
    let mode = fs::metadata(bed.home().join("audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn one_build_is_not_another() {
    let bed = Bed::new();
    let (first, endpoint, uuid) = paused(&bed);
    let other = Bed::new();
    let (second, elsewhere, theirs) = paused(&other);
    // Another state folder is a separate world: other builds, other keys.
    let target = format!("codebuild:{theirs}");
    endpoint
        .refuses(&bed, &["ssm", "start-session", "--target", &target])
        .says("TargetNotConnected");
    let mut crossed = elsewhere.aws(&other, &["codebuild", "list-builds"]);
    crossed.env("AWS_SHARED_CREDENTIALS_FILE", bed.home().join("aws-credentials"));
    outcome(&mut crossed).code(255).says("(UnrecognizedClientException)");
    let found =
        endpoint.ask(&bed, &["codebuild", "batch-get-builds", "--ids", &format!("demo:{theirs}")]);
    assert_eq!(found["buildsNotFound"].as_array().unwrap().len(), 1, "{uuid}");
    bed.resume(first);
    other.resume(second);
}

fn the_keys_are_the_owners_alone() {
    let bed = Bed::new();
    let running = bed.paused(&build(&[PAUSED]), &[]);
    let path = bed.home().join("aws-credentials");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    let secret =
        text.lines().find_map(|line| line.strip_prefix("aws_secret_access_key = ")).unwrap();
    for shown in [running.stderr.text(), running.stdout.text()] {
        assert!(!shown.contains(secret) && !shown.contains("AKIA"), "{shown}");
    }
    bed.resume(running);
    // The next build uses the same key; a file that others can read is not used.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let running = bed.paused(&build(&[PAUSED]), &[]);
    assert!(running.stderr.text().contains("others may read it"), "{}", running.stderr.text());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    bed.resume(running);
}

fn serve_as_a_verb() {
    let bed = Bed::new();
    let refused = bed.runner(["serve", "--no-auth", "--listen", "0.0.0.0:0"]);
    refused.code(2).says("--no-auth is for loopback addresses only");
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    server.stderr.wait_for("warning: --no-auth");
    let taken = Bed::new().runner(["serve", "--listen", &endpoint.address]);
    taken.code(3).says("cannot listen on").says("--listen");
    ends(server);
    assert!(!bed.home().join("serve.json").exists());
}

/// A list that cannot be read is not an empty list.
fn builds_that_cannot_be_listed() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let folder = bed.home().join("builds");
    fs::rename(&folder, bed.home().join("elsewhere")).unwrap();
    fs::write(&folder, "").unwrap();
    let (status, answer) = endpoint.call("CodeBuild_20161006.ListBuilds", &json!({}));
    assert_eq!(status, 500, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("builds"), "{answer}");
    fs::remove_file(&folder).unwrap();
    fs::rename(bed.home().join("elsewhere"), &folder).unwrap();
    let (status, answer) = endpoint.call("CodeBuild_20161006.ListBuilds", &json!({}));
    assert_eq!((status, &answer["ids"]), (200, &json!([])));
    ends(server);
}

/// Pages in browsers, names that others point here, and programs that use another protocol.
fn programs_that_are_no_clients() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let list = ("X-Amz-Target", "CodeBuild_20161006.ListBuilds");
    assert_eq!(endpoint.post(&[list], "{}").0, 200);
    assert_eq!(endpoint.post(&[list, ("Origin", "http://evil.example")], "{}").0, 403);
    assert_eq!(endpoint.post(&[list, ("Host", "evil.example:4599")], "{}").0, 403);
    assert_eq!(endpoint.post(&[list], "{").0, 400);
    assert_eq!(endpoint.post(&[list], &"[".repeat(100_000)).0, 400);
    assert_eq!(endpoint.post(&[list], &" ".repeat(1 << 20)).0, 413);
    assert_eq!(endpoint.post(&[], "{}").0, 400);
    assert_eq!(endpoint.post(&[("smithy-protocol", "rpc-v2-cbor")], "{}").0, 400);
    // Browsers let pages of every origin open websockets.
    assert_eq!(upgrade(&endpoint, ""), "101");
    assert_eq!(upgrade(&endpoint, "Origin: http://evil.example\r\n"), "403");
    ends(server);
}

/// Requests a websocket. Returns the response's status.
fn upgrade(endpoint: &Endpoint, header: &str) -> String {
    let mut stream = TcpStream::connect(&endpoint.address).unwrap();
    let request = format!(
        "GET /v1/data-channel/nobody-1 HTTP/1.1\r\nHost: {}\r\n{header}Upgrade: websocket\r\nConnection: \
         Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        endpoint.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

const CALL: &str = "import sys, urllib.request
request = urllib.request.Request(sys.argv[1], b'{}', {'X-Amz-Target': 'CodeBuild_20161006.ListBuilds'})
try: print(urllib.request.urlopen(request).status)
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
";

/// For a process whose parents have exited: whether it got an answer, in its last line.
const ORPHAN: &str =
    "ended() { grep -q -e 'a signature:' -e '\"ids\"' -e '^200$' /tmp/said 2>/dev/null; }";

/// Not even if this user's programs need none, although the network is the same.
fn a_build_cannot_call_without_a_signature() {
    let image = format!("rootfs:{}", crate::common::image("debian").display());
    let bed = Bed::with_image(&image);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let list = ("X-Amz-Target", "CodeBuild_20161006.ListBuilds");
    assert_eq!(endpoint.post(&[list], "{}").0, 200);
    let (host, port) = endpoint.address.split_once(':').unwrap();
    // With only a shell; the second hides its socket's owner behind a child that outlives it.
    let call = format!(
        "exec 3<>/dev/tcp/{host}/{port}; printf 'POST / HTTP/1.1\\r\\nHost: {}\\r\\nX-Amz-Target: \
         CodeBuild_20161006.ListBuilds\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{{}}' >&3; \
         cat <&3",
        endpoint.address
    );
    let spec = format!(
        "version: 0.2\nenv:\n  shell: bash\nphases:\n  build:\n    commands:\n      - {}\n      - {}\n",
        json!(call),
        json!(format!(
            "{ORPHAN}; (({call}) > /tmp/said & ); until ended; do :; done; cat /tmp/said"
        ))
    );
    let outcome = bed.build(&spec, &[]).code(0);
    let output = outcome.output();
    assert_eq!(output.matches("HTTP/1.1 400").count(), 2, "{output}");
    assert_eq!(output.matches("needs a signature").count(), 2, "{output}");
    assert!(!output.contains("\"ids\""), "{output}");
    ends(server);
}

fn without_a_container_neither() {
    let bed = Bed::host();
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let script = bed.write("call.py", CALL);
    let call =
        format!("{} {} http://{}", python("python").display(), script.display(), endpoint.address);
    let mut outside = Command::new("sh");
    outside.args(["-c", &call]).env_clear();
    assert_eq!(outcome(&mut outside).code(0).stdout, "200\n");
    let orphan =
        format!("{ORPHAN}; ({call} > /tmp/said & ); until ended; do :; done; cat /tmp/said");
    bed.write("buildspec.yml", build(&[&call, &orphan.replace("/tmp/said", "\"$PWD\"/said")]));
    let options = ["run", "--engine", "process", "--project", "demo"];
    let inside = bed.runner(options).code(0);
    assert_eq!(inside.stdout.matches("needs a signature").count(), 2, "{inside:?}");
    ends(server);
}
