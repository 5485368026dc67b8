//! Obstacles to output for AWS: reported with their own cause, and overcome.

use super::session_uploads::{heard_of, is_audited, named, place, prefer, until_all_has_arrived};
use crate::common::aws::{self, Fault, Proxy};
use crate::common::channel::Channel;
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, typed};
use crate::common::{Bed, build, cases, outcome, until};
use nix::sys::signal::Signal;
use runner_wire::ssm::Payload;
use serde_json::{Value, json};
use std::fs;
use std::net::UdpSocket;

cases! {
    [Containers, Image("busybox"), Python] => what_is_in_the_way_is_told_and_passes,
        more_than_a_call_takes_arrives_whole, keys_that_were_renewed_are_used,
        sessions_that_are_to_be_logged_begin_nowhere_else, the_builds_own_endpoint_calls_as_its_profile,
        each_step_says_what_is_in_its_way, outputs_go_once_they_have_arrived, a_client_that_sends_nothing_again;
    [Python] => an_endpoint_at_this_machines_own_address;
}

const DENIED: &str = "not you";

/// CloudWatch Logs denies access.
fn denied(_: String) -> String {
    refused("AccessDeniedException")
}

/// The service is overloaded.
fn throttled(_: String) -> String {
    refused("ThrottlingException")
}

fn refused(code: &str) -> String {
    let body = json!({"__type": code, "message": DENIED});
    format!("HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1\r\n\r\n{body}")
}

/// S3 denies access.
fn denied_by_s3(_: String) -> String {
    let body = format!("<Error><Code>AccessDenied</Code><Message>{DENIED}</Message></Error>");
    format!("HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n{body}")
}

/// No rights, too many calls, a group that is removed meanwhile.
fn what_is_in_the_way_is_told_and_passes() {
    let (group, bucket) = (named("faults"), aws::bucket(&named("faults")));
    aws::log_group(&group, false);
    let proxy = Proxy::start(&[
        // The check of the group, and its stream.
        ("POST", " / ", 2, Fault::Rewritten(denied)),
        ("POST", " / ", 2, Fault::Rewritten(throttled)),
        ("PUT", "faults", 1, Fault::Rewritten(denied_by_s3)),
    ]);
    let place = place(proxy.port, &[]);
    prefer(
        &place,
        &json!({"cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": false,
            "cloudWatchStreamingEnabled": true, "s3BucketName": bucket, "s3EncryptionEnabled": false}),
    );
    let (started, mut channel) = place.shell();
    typed(&mut channel, "echo be''fore\n");
    is_audited(&place, &format!("log group {group}: AccessDeniedException: {DENIED}"));
    let shows = |word: &str| aws::log_events(&group, &started.id).concat().contains(word);
    until("it is streamed after all", || shows("before"));
    aws::cli(&["logs", "delete-log-group", "--log-group-name", &group]);
    typed(&mut channel, "echo between\n");
    is_audited(&place, "ResourceNotFoundException");
    aws::log_group(&group, false);
    until("it is streamed to the new one", || shows("between"));
    typed(&mut channel, "exit\n");
    channel.wait_for_close();
    is_audited(&place, &format!("AccessDenied: {DENIED}"));
    until_all_has_arrived(&place.bed);
    assert_eq!(aws::keys(&bucket), [format!("{}.log", started.id)]);
    // Without permission to check whether a group is encrypted, the message says just that.
    let held = Proxy::start(&[("POST", " / ", usize::MAX, Fault::Rewritten(denied))]);
    let place = served_anew(place, aws::variables(held.port), &["--no-auth"]);
    prefer(&place, &json!({"cloudWatchLogGroupName": group}));
    let why = heard_of(&place.start("", &json!({}))).unwrap_err();
    let cause = format!("log group {group}. Error: AccessDeniedException: {DENIED}");
    assert!(why.contains("unable to validate encryption") && why.contains(&cause), "{why}");
    place.ends();
}

/// Through another `serve`, with these variables.
fn served_anew(place: Place, variables: Vec<(String, String)>, options: &[&str]) -> Place {
    let Place { bed, build, server, .. } = place;
    server.signal(Signal::SIGTERM);
    server.ends(0);
    let bed = bed.with_variables(variables);
    let (endpoint, server) = Endpoint::serve(&bed, options);
    Place { bed, build, endpoint, server }
}

/// A full window is not the end, and no line is lost or cut at a boundary.
fn more_than_a_call_takes_arrives_whole() {
    let place = place(aws::aws(), &[]);
    let group = named("much");
    aws::log_group(&group, false);
    prefer(&place, &json!({"cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": false}));
    // Three windows, two of which are full to the last byte.
    let script = "awk 'BEGIN { for (i = 0; i < 17000; i++) printf \"%099d\\n\", i }'";
    let document = json!({"schemaVersion": "1.0", "sessionType": "NonInteractiveCommands",
        "properties": {"linux": {"commands": script}}});
    let document =
        json!({"Name": "much", "DocumentType": "Session", "Content": document.to_string()});
    assert_eq!(place.endpoint.call("AmazonSSM.CreateDocument", &document).0, 200);
    let started = place.start("much", &json!({}));
    Channel::open(&started).wait_for_close();
    until_all_has_arrived(&place.bed);
    let text = aws::log_events(&group, &started.id).concat();
    assert_eq!(text.len(), 1_700_000);
    let numbers = text.lines().map(|line| line.parse::<u32>().unwrap());
    assert!(numbers.eq(0..17_000));
    place.ends();
}

/// It also knows no handshake: its input while AWS is asked about the log is kept.
fn a_client_that_sends_nothing_again() {
    let place = place(aws::aws(), &[]);
    let bucket = aws::bucket(&named("early"));
    prefer(&place, &json!({"s3BucketName": bucket, "s3EncryptionEnabled": false}));
    let started = place.start("", &json!({}));
    let mut channel = Channel::with_token(&started);
    channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
    typed(&mut channel, "echo he''ard; exit\n");
    channel.wait_for("heard");
    channel.wait_for_close();
    until_all_has_arrived(&place.bed);
    let text = aws::object(&bucket, &format!("{}.log", started.id));
    assert!(String::from_utf8_lossy(&text).contains("heard"));
    place.ends();
}

/// An AWS credentials file with these keys.
fn keys(bed: &Bed, profile: &str, id: &str) {
    let text = format!(
        "[{profile}]\naws_access_key_id = {id}\naws_secret_access_key = wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY\n"
    );
    let file = bed.path("keys");
    // As tools renew them: another file under the same name.
    fs::write(bed.path("keys.new"), text).unwrap();
    fs::rename(bed.path("keys.new"), file).unwrap();
}

/// The services through a port, with keys in that file.
fn with_keys(bed: &Bed, port: u16) -> Vec<(String, String)> {
    let of_file = |(name, _): &(String, String)| !name.contains("KEY");
    let mut variables: Vec<_> = aws::variables(port).into_iter().filter(of_file).collect();
    let file = bed.path("keys").to_str().unwrap().to_owned();
    variables.push(("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file));
    variables
}

/// By an endpoint that keeps running.
fn keys_that_were_renewed_are_used() {
    let proxy = Proxy::start(&[]);
    let bed = Bed::new();
    keys(&bed, "default", "AKIAFIRSTEXAMPLE0000");
    let variables = with_keys(&bed, proxy.port);
    let place = Place::in_bed(bed.with_variables(variables), &["codebuild-breakpoint"], &[]);
    let bucket = aws::bucket(&named("renewed"));
    prefer(&place, &json!({"s3BucketName": bucket, "s3EncryptionEnabled": false}));
    let one = || {
        let (_, mut channel) = place.shell();
        typed(&mut channel, "exit\n");
        channel.wait_for_close();
        until_all_has_arrived(&place.bed);
        proxy.keys().last().cloned().unwrap()
    };
    assert_eq!(one(), "AKIAFIRSTEXAMPLE0000");
    keys(&place.bed, "default", "AKIASECONDEXAMPLE000");
    assert_eq!(one(), "AKIASECONDEXAMPLE000");
    assert_eq!(aws::keys(&bucket).len(), 2);
    place.ends();
}

/// With `run --aws-profile`: without it there would be no keys.
fn the_builds_own_endpoint_calls_as_its_profile() {
    let proxy = Proxy::start(&[]);
    let bed = Bed::new();
    keys(&bed, "audits", "AKIAPROFILEEXAMPLE00");
    let variables = with_keys(&bed, proxy.port);
    let bed = bed.with_variables(variables);
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--aws-profile", "audits"]);
    let own = Endpoint::of_notice(&running);
    let key = aws::kms_key();
    let described = own.ask(&bed, &["kms", "describe-key", "--key-id", &key]);
    assert_eq!(described["KeyMetadata"]["Arn"], json!(key), "{described}");
    assert_eq!(proxy.keys(), ["AKIAPROFILEEXAMPLE00"]);
    bed.resume(running);
}

/// The variable for the clients, with an address that others use for this machine.
fn an_endpoint_at_this_machines_own_address() {
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:1")?;
        socket.local_addr()
    });
    // A machine without a network has none.
    let Ok(own) = outside else { return };
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve_at(&bed, "0.0.0.0:0", &[]);
    let port: u16 = endpoint.address.rsplit(':').next().unwrap().parse().unwrap();
    server.signal(Signal::SIGTERM);
    server.ends(0);
    let mut variables = aws::variables(port);
    variables.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
    variables.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{}:{port}", own.ip())));
    let bed = bed.with_variables(variables);
    let (endpoint, server) = Endpoint::serve_at(&bed, &format!("0.0.0.0:{port}"), &[]);
    let asked = ["kms", "describe-key", "--key-id", "alias/x"];
    let mut command = endpoint.aws(&bed, &asked);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let refused = outcome(&mut command);
    assert!(
        refused.stderr.contains("is runner's own, not AWS's")
            && refused.stderr.contains("AWS_ENDPOINT_URL_KMS"),
        "{refused:?}"
    );
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// Required by the endpoint, or by the user who started the build.
fn sessions_that_are_to_be_logged_begin_nowhere_else() {
    const DEMANDED: &str = "Sessions begin only where they are logged: --require-session-log.";
    for (of_build, of_endpoint) in [
        (&["--require-session-log"][..], &["--no-auth"][..]),
        (&[], &["--no-auth", "--require-session-log"]),
    ] {
        let bed = Bed::new().with_variables(aws::variables(aws::aws()));
        let running = bed.paused(&build(&["codebuild-breakpoint"]), of_build);
        let (endpoint, server) = Endpoint::serve(&bed, of_endpoint);
        let place = Place { bed, build: running, endpoint, server };
        let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
        let call = |document: Option<&str>| {
            let mut body = json!({"Target": format!("codebuild:{uuid}")});
            if let Some(document) = document {
                body["DocumentName"] = json!(document);
                body["Parameters"] = json!({"portNumber": ["80"]});
            }
            place.endpoint.call("AmazonSSM.StartSession", &body)
        };
        let is_refused = |(status, answer): (u16, Value), why: &str| {
            assert_eq!(
                (status, &answer["__type"]),
                (400, &json!("AccessDeniedException")),
                "{answer}"
            );
            assert_eq!(answer["message"], format!("{why} {DEMANDED}"));
        };
        let nowhere = "This session is not logged: neither its preferences nor its cluster name a log group or a bucket.";
        is_refused(call(None), nowhere);
        let body = json!({"task": uuid.replace('-', ""), "command": "sh", "interactive": true});
        let exec = "AmazonEC2ContainerServiceV20141113.ExecuteCommand";
        is_refused(place.endpoint.call(exec, &body), nowhere);
        let gone = named("gone");
        prefer(&place, &json!({"cloudWatchLogGroupName": gone}));
        is_refused(
            call(Some("AWS-StartPortForwardingSession")),
            "Port forwarding sessions are not logged.",
        );
        let heard = || heard_of(&place.start("", &json!({})));
        let missing = format!("This session is not logged: log group {gone} does not exist.");
        assert_eq!(heard(), Err(format!("{missing} {DEMANDED}")));
        prefer(&place, &json!({"s3BucketName": gone, "s3EncryptionEnabled": false}));
        let why = heard().unwrap_err();
        assert!(why.contains("NoSuchBucket") && why.ends_with(DEMANDED), "{why}");
        aws::bucket(&gone);
        assert_eq!(heard(), Ok(String::new()));
        place.ends();
    }
}

/// And no longer reports it as soon as the output has arrived.
fn each_step_says_what_is_in_its_way() {
    let place = place(aws::aws(), &[]);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let bucket = named("gone");
    let step = |name: &str| json!({"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": [format!("echo {name}")]}});
    let document = json!({"schemaVersion": "2.2", "mainSteps": [step("one"), step("two")]});
    let document =
        json!({"Name": "steps", "DocumentType": "Command", "Content": document.to_string()});
    assert_eq!(place.endpoint.call("AmazonSSM.CreateDocument", &document).0, 200);
    let body = json!({"DocumentName": "steps", "InstanceIds": [format!("codebuild:{uuid}")],
        "OutputS3BucketName": bucket});
    let (status, sent) = place.endpoint.call("AmazonSSM.SendCommand", &body);
    assert_eq!(status, 200, "{sent}");
    let trace = || {
        let body = json!({"CommandId": sent["Command"]["CommandId"], "Details": true});
        let (_, answer) = place.endpoint.call("AmazonSSM.ListCommandInvocations", &body);
        answer["CommandInvocations"][0]["TraceOutput"].as_str().unwrap_or_default().to_owned()
    };
    until("both say it", || {
        let trace = trace();
        trace.contains("output of one for AWS: not yet: ")
            && trace.contains("\noutput of two for AWS: not yet: ")
            && trace.matches("NoSuchBucket").count() == 2
    });
    aws::bucket(&bucket);
    until_all_has_arrived(&place.bed);
    assert_eq!((trace(), aws::keys(&bucket).len()), (String::new(), 2));
    place.ends();
}

/// With `after-upload`: each step's, whichever comes last, the arrival or the command's end.
fn outputs_go_once_they_have_arrived() {
    let config = json!({"Ssm": {"PluginLocalOutputCleanup": "after-upload"}});
    let place = place(aws::aws(), &[]);
    let file = place.bed.write("agent.json", config.to_string());
    let variables = aws::variables(aws::aws());
    let place =
        served_anew(place, variables, &["--no-auth", "--agent-config", file.to_str().unwrap()]);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let bucket = aws::bucket(&named("cleaned"));
    let step = |name: &str, script: &str| json!({"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": [script]}});
    let mut last = step("last", "never");
    last["precondition"] = json!({"StringEquals": ["platformType", "Windows"]});
    let steps =
        [step("one", "echo one"), step("two", "echo two; until test -e /tmp/go; do :; done"), last];
    let document = json!({"schemaVersion": "2.2", "mainSteps": steps});
    let document =
        json!({"Name": "steps", "DocumentType": "Command", "Content": document.to_string()});
    assert_eq!(place.endpoint.call("AmazonSSM.CreateDocument", &document).0, 200);
    let body = json!({"DocumentName": "steps", "InstanceIds": [format!("codebuild:{uuid}")],
        "OutputS3BucketName": bucket});
    let (status, sent) = place.endpoint.call("AmazonSSM.SendCommand", &body);
    assert_eq!(status, 200, "{sent}");
    let id = sent["Command"]["CommandId"].as_str().unwrap();
    let node = format!("mi-{}", &uuid.replace('-', "")[..17]);
    let folder = place.bed.home().join("commands").join(id).join(node).join("awsrunShellScript");
    let output = |step: &str| folder.join(step).join("stdout");
    until("the first output has arrived", || aws::keys(&bucket).len() == 1);
    until_all_has_arrived_but(&place.bed, 1);
    assert!(output("one").exists() && output("two").exists(), "the command goes on");
    place.bed.runner(["exec", "--", "touch", "/tmp/go"]).code(0);
    until("both are gone", || !output("one").exists() && !output("two").exists());
    assert_eq!(aws::keys(&bucket).len(), 2);
    let asked =
        json!({"CommandId": id, "InstanceId": format!("codebuild:{uuid}"), "PluginName": "one"});
    let (_, kept) = place.endpoint.call("AmazonSSM.GetCommandInvocation", &asked);
    assert_eq!(kept["StandardOutputContent"], "one\n");
    place.ends();
}

/// Waits until no more than this many jobs are queued.
fn until_all_has_arrived_but(bed: &Bed, most: usize) {
    let spool = bed.home().join("sessions-log");
    until("the others have arrived", || fs::read_dir(&spool).unwrap().count() <= most);
}
