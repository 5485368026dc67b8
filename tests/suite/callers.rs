//! Who may call the endpoint, and the responses to unsupported calls.

use crate::common::channel::{Channel, Heard, Started};
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, outcome, python};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

cases! {
    [Containers, Image("busybox"), Python] => whatever_it_is_signed_with, sessions_of_a_killed_endpoint,
        filters_of_tasks, a_call_made_twice;
    [Containers, Image("busybox")] => refusals_push_nothing_out;
    [Python] => services_that_are_not_offered, a_clock_that_is_wrong;
}

fn paused(bed: &Bed) -> (Running, String) {
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    (running, uuid)
}

fn ends(server: Running) {
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// AWS's CLI with unknown keys.
fn with_other_keys(endpoint: &Endpoint, bed: &Bed, arguments: &[&str]) -> std::process::Command {
    let mut command = endpoint.aws(bed, arguments);
    command.env_remove("AWS_PROFILE").env_remove("AWS_SHARED_CREDENTIALS_FILE");
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y");
    command
}

/// With `--no-auth` the calling process counts: clients sign with whatever keys they find.
fn whatever_it_is_signed_with() {
    let bed = Bed::new();
    let (running, uuid) = paused(&bed);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let ask = |arguments: &[&str]| -> Value {
        let answer = outcome(&mut with_other_keys(&endpoint, &bed, arguments)).code(0);
        serde_json::from_str(&answer.stdout).unwrap()
    };
    assert_eq!(ask(&["codebuild", "list-builds"])["ids"], json!([format!("demo:{uuid}")]));
    assert!(ask(&["sts", "get-caller-identity"])["Arn"].is_string());
    let with_token = |name: &str, value: &str| {
        let mut command = with_other_keys(&endpoint, &bed, &["codebuild", "list-builds"]);
        outcome(command.env(name, value)).code(0)
    };
    with_token("AWS_SESSION_TOKEN", "z");
    // As the plugin does after losing its socket, with whatever keys it has.
    let started = Started::new(&bed, &endpoint, "", &json!({}));
    let mut channel = Channel::open(&started);
    let resumed = ask(&["ssm", "resume-session", "--session-id", &started.id]);
    let resumed = Started { url: started.url.clone(), ..Started::of(&resumed) };
    channel.resume(&resumed);
    ask(&["ssm", "terminate-session", "--session-id", &started.id]);
    assert_eq!(channel.wait_for_close(), "");
    ends(server);
    // If a signature is required, it has to be valid.
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let arguments = ["codebuild", "list-builds"];
    let refused = outcome(&mut with_other_keys(&endpoint, &bed, &arguments)).code(255);
    refused.says("(UnrecognizedClientException)");
    ends(server);
    bed.resume(running);
}

/// A client whose endpoint was killed resumes its session at the next one and is told that it is
/// over. On an error it would hang.
fn sessions_of_a_killed_endpoint() {
    let bed = Bed::new();
    let (running, _) = paused(&bed);
    let (endpoint, mut server) = Endpoint::serve(&bed, &["--no-auth"]);
    let started = Started::new(&bed, &endpoint, "", &json!({}));
    let mut channel = Channel::open(&started);
    server.signal(Signal::SIGKILL);
    server.wait();
    channel.wait_for_loss();
    let listen = endpoint.address.clone();
    let (endpoint, server) = Endpoint::serve_at(&bed, &listen, &["--no-auth"]);
    assert!(started.resume(&endpoint).is_none());
    // It can be terminated again, and the channel rejects the old token.
    endpoint.ask(&bed, &["ssm", "terminate-session", "--session-id", &started.id]);
    let mut channel = Channel::with_token(&started);
    assert_eq!(channel.hear(), Heard::Closed("there is no such session, or it is over".to_owned()));
    // An id that was never issued is an error.
    let strange = ["ssm", "resume-session", "--session-id", "never"];
    endpoint.refuses(&bed, &strange).says("(DoesNotExistException)");
    ends(server);
    bed.resume(running);
}

fn filters_of_tasks() {
    let bed = Bed::new();
    let (running, uuid) = paused(&bed);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let clusters = endpoint.ask(&bed, &["ecs", "list-clusters"]);
    let cluster = clusters["clusterArns"][0].as_str().unwrap();
    assert!(cluster.ends_with(":cluster/default"), "{clusters}");
    let listed = |arguments: &[&str]| {
        let all = [&["ecs", "list-tasks", "--cluster", cluster], arguments].concat();
        let tasks = endpoint.ask(&bed, &all);
        let tasks: Vec<String> = serde_json::from_value(tasks["taskArns"].clone()).unwrap();
        assert!(tasks.iter().all(|arn| arn.ends_with(&uuid.replace('-', ""))), "{tasks:?}");
        tasks.len()
    };
    let initiator = {
        let id = format!("demo:{uuid}");
        let builds = endpoint.ask(&bed, &["codebuild", "batch-get-builds", "--ids", &id]);
        builds["builds"][0]["initiator"].as_str().unwrap().to_owned()
    };
    for (arguments, count) in [
        (&[][..], 1),
        (&["--launch-type", "EXTERNAL"], 1),
        (&["--launch-type", "FARGATE"], 0),
        (&["--launch-type", "EC2"], 0),
        (&["--family", "demo"], 1),
        (&["--family", "other"], 0),
        (&["--family", "demo", "--launch-type", "FARGATE"], 0),
        (&["--started-by", &initiator], 1),
        (&["--started-by", "somebody"], 0),
        (&["--desired-status", "RUNNING"], 1),
        (&["--desired-status", "STOPPED"], 0),
        (&["--desired-status", "PENDING"], 0),
    ] {
        assert_eq!(listed(arguments), count, "{arguments:?}");
    }
    for (arguments, wanted) in [
        (&["--service-name", "web"][..], "(ServiceNotFoundException)"),
        (&["--container-instance", "i"], "(InvalidParameterException)"),
        (&["--started-by", "me", "--family", "demo"], "startedBy must be the only filter"),
        (&["--desired-status", "GONE"], "(InvalidParameterException)"),
    ] {
        let all = [&["ecs", "list-tasks"], arguments].concat();
        endpoint.refuses(&bed, &all).says(wanted);
    }
    ends(server);
    running.signal(Signal::SIGTERM);
    running.ends(5);
}

/// Each response is in the form that its client parses.
fn services_that_are_not_offered() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    bed.write("file", "x".repeat(3 << 20));
    for (arguments, code) in [
        (&["s3", "ls"][..], "NotImplemented"),
        (&["s3api", "list-objects-v2", "--bucket", "b"], "NotImplemented"),
        (&["s3", "cp", "file", "s3://b/k"], "NotImplemented"),
        (&["lambda", "list-functions"], "UnknownOperationException"),
        (&["eks", "list-clusters"], "UnknownOperationException"),
        (&["route53", "list-hosted-zones"], "UnknownOperationException"),
        (&["ec2", "describe-instances"], "UnknownOperationException"),
        (&["iam", "list-roles"], "InvalidAction"),
        (&["logs", "describe-metric-filters"], "UnknownOperationException"),
        (&["cloudwatch", "list-metrics"], "UnknownOperationException"),
    ] {
        let mut command = endpoint.aws(&bed, arguments);
        // It retries what it does not understand.
        command.env("AWS_MAX_ATTEMPTS", "1").env("AWS_EC2_METADATA_DISABLED", "true");
        let answer = outcome(&mut command);
        assert!(answer.code != 0, "{answer:?}");
        assert!(answer.stderr.contains(&format!("({code})")), "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains("is not offered by this endpoint"), "{answer:?}");
    }
    ends(server);
}

/// Signs one call with a clock that is off by this many minutes, and sends it several times. Prints
/// the responses.
const SIGNED: &str = "
import sys, json, datetime, urllib.request
import botocore.session, botocore.auth
from botocore.awsrequest import AWSRequest
url, target, body, minutes, times = sys.argv[1:]
moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=int(minutes))
botocore.auth.get_current_datetime = lambda *_, **__: moment
headers = {'X-Amz-Target': target, 'Content-Type': 'application/x-amz-json-1.1'}
request = AWSRequest('POST', url + '/', headers, body.encode())
keys = botocore.session.Session().get_credentials()
botocore.auth.SigV4Auth(keys, 'ssm', 'us-east-1').add_auth(request)
prepared = request.prepare()
for _ in range(int(times)):
    plain = urllib.request.Request(prepared.url, prepared.body, dict(prepared.headers))
    try: print(urllib.request.urlopen(plain).read().decode())
    except urllib.error.HTTPError as error: print(error.read().decode())
";

fn signed(
    bed: &Bed,
    endpoint: &Endpoint,
    (target, body): (&str, &Value),
    minutes: i32,
    times: u32,
) -> Vec<Value> {
    let mut command = bed.other(python("python").to_str().unwrap());
    endpoint.surround(&mut command);
    let url = format!("http://{}", endpoint.address);
    command.args(["-c", SIGNED, &url, target, &body.to_string()]);
    command.args([minutes.to_string(), times.to_string()]);
    let answer = outcome(&mut command).code(0);
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Both times are reported: only a person knows which clock is right.
fn a_clock_that_is_wrong() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let call = ("CodeBuild_20161006.ListBuilds", &json!({}));
    assert_eq!(signed(&bed, &endpoint, call, 0, 1)[0]["ids"], json!([]));
    for (minutes, wanted) in [(-30, "Signature expired: "), (30, "Signature not yet current: ")] {
        let answer = &signed(&bed, &endpoint, call, minutes, 1)[0];
        assert_eq!(answer["__type"], "InvalidSignatureException", "{answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with(wanted), "{message}");
        // Its own time, the limit, and ours.
        let is_time = |word: &&str| {
            word.trim_matches(['(', ')']).len() == 16 && word.contains('T') && word.contains('Z')
        };
        assert_eq!(message.split(' ').filter(is_time).count(), 3, "{message}");
    }
    ends(server);
}

/// As in AWS, a repeated call is a new call. The token it returns is valid once.
fn a_call_made_twice() {
    let bed = Bed::new();
    let (running, uuid) = paused(&bed);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let body = json!({"Target": format!("codebuild:{uuid}")});
    let answers = signed(&bed, &endpoint, ("AmazonSSM.StartSession", &body), 0, 2);
    let started: Vec<Started> = answers.iter().map(Started::of).collect();
    assert_ne!(started[0].id, started[1].id);
    assert_ne!(started[0].token, started[1].token);
    for one in &started {
        Channel::open(one);
        let mut again = Channel::with_token(one);
        assert_eq!(again.wait_for_close(), "the token is wrong, or was used before");
    }
    ends(server);
    bed.resume(running);
}

/// No number of rejected calls pushes the owner's actions out of the audit log.
fn refusals_push_nothing_out() {
    let bed = Bed::new();
    let (running, _) = paused(&bed);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let list = ("X-Amz-Target", "CodeBuild_20161006.ListBuilds");
    for _ in 0..300 {
        assert_eq!(endpoint.post(&[list], "{}").0, 400);
    }
    // In the channel as well.
    let url = format!("ws://{}/v1/data-channel/nobody-1", endpoint.address);
    let stranger = Started { id: "nobody-1".to_owned(), url, token: "x".to_owned() };
    Channel::with_token(&stranger).wait_for_close();
    let read = |name: &str| fs::read_to_string(bed.home().join(name)).unwrap_or_default();
    assert!(!read("audit.jsonl").contains("not signed"), "{}", read("audit.jsonl"));
    assert!(!read("audit.jsonl").contains("OpenDataChannel"));
    let refused = bed.home().join("refused.jsonl");
    assert_eq!(fs::metadata(&refused).unwrap().permissions().mode() & 0o777, 0o600);
    let first = read("refused.jsonl").lines().next().unwrap().to_owned();
    let first: Value = serde_json::from_str(&first).unwrap();
    assert!(first["errorMessage"].as_str().unwrap().contains("not signed"), "{first}");
    ends(server);
    bed.resume(running);
}
