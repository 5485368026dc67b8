//! Session and command logs at AWS, and encrypted sessions, with services simulated by moto.

use crate::common::aws::{self, Fault, Proxy};
use crate::common::channel::{Channel, Heard, Started};
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, typed};
use crate::common::{Bed, awslogs, build, cases, outcome, python, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::Signal;
use runner_wire::ssm::{Cipher, Payload};
use serde_json::{Value, json};
use std::fs;
use zeroize::Zeroizing;

cases! {
    [Containers, Image("busybox"), Python] => a_session_is_streamed_and_stored,
        places_that_are_not_as_they_are_to_be, what_a_killed_endpoint_leaves_is_sent_by_the_next,
        what_commands_write, encrypted_sessions;
    [Extended, Containers, Image("busybox"), Python] => other_clients_read_what_was_streamed;
}

const PREFERENCES: &str = "SSM-SessionManagerRunShell";

/// A paused build, and an endpoint that finds the services through a port.
pub(super) fn place(port: u16, options: &[&str]) -> Place {
    let bed = Bed::new().with_variables(aws::variables(port));
    Place::in_bed(bed, &["cd /tmp; codebuild-breakpoint"], options)
}

/// Sets the preferences of sessions from here on.
pub(super) fn prefer(place: &Place, inputs: &Value) {
    let content =
        json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs});
    let mut document = json!({"Name": PREFERENCES, "Content": content.to_string()});
    let (status, _) = place.endpoint.call("AmazonSSM.UpdateDocument", &document);
    if status != 200 {
        document["DocumentType"] = json!("Session");
        let (status, answer) = place.endpoint.call("AmazonSSM.CreateDocument", &document);
        assert_eq!(status, 200, "{answer}");
    }
}

/// Waits until the audit contains this text.
pub(super) fn is_audited(place: &Place, text: &str) {
    let file = place.bed.home().join("audit.jsonl");
    until(text, || fs::read_to_string(&file).is_ok_and(|audit| audit.contains(text)));
}

/// Waits until nothing is queued any more.
pub(super) fn until_all_has_arrived(bed: &Bed) {
    let spool = bed.home().join("sessions-log");
    until("all of it has arrived", || {
        fs::read_dir(&spool).is_ok_and(|mut entries| entries.next().is_none())
    });
}

pub(super) fn named(name: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{name}-{}-{next}", std::process::id())
}

pub(super) fn encrypted_bucket() -> String {
    let bucket = aws::bucket(&named("logs"));
    let rule = r#"{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}"#;
    aws::cli(&[
        "s3api",
        "put-bucket-encryption",
        "--bucket",
        &bucket,
        "--server-side-encryption-configuration",
        rule,
    ]);
    bucket
}

fn data(messages: &[String]) -> Vec<String> {
    let lines = |message: &String| {
        let event: Value = serde_json::from_str(message).unwrap_or_else(|_| panic!("{message}"));
        event["sessionData"].as_array().unwrap().clone()
    };
    messages.iter().flat_map(lines).map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// In both places, encrypted, masked, during the session and at its end.
fn a_session_is_streamed_and_stored() {
    let place = place(aws::aws(), &["-e", "WORD=hunter2-hunter2", "--mask", "WORD"]);
    let (group, bucket) = (named("sessions"), encrypted_bucket());
    aws::log_group(&group, true);
    prefer(
        &place,
        &json!({"cloudWatchLogGroupName": group, "cloudWatchStreamingEnabled": true,
            "s3BucketName": bucket, "s3KeyPrefix": "kept/"}),
    );
    let started = place.start("", &json!({}));
    let mut channel = Channel::with_token(&started);
    assert_eq!(channel.handshake_with_message().1, "");
    typed(&mut channel, "PS1='rea''dy> '\necho \"it is $WORD\"; echo one-''line\n");
    channel.wait_for("one-line");
    until("what was shown is streamed", || {
        let lines = data(&aws::log_events(&group, &started.id));
        lines.iter().any(|line| line == "one-line")
    });
    let events = aws::log_events(&group, &started.id);
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    assert!(event["target"]["id"].as_str().unwrap().starts_with("codebuild:"), "{event}");
    assert_eq!(event["sessionId"], json!(started.id));
    assert_eq!(event["runAsUser"], "root");
    let described =
        place.endpoint.call("AmazonSSM.DescribeSessions", &json!({"State": "Active"})).1;
    let urls = &described["Sessions"][0]["OutputUrl"];
    assert!(
        urls["S3OutputUrl"]
            .as_str()
            .unwrap()
            .ends_with(&format!("{bucket}/kept/{}.log", started.id))
    );
    assert!(urls["CloudWatchOutputUrl"].as_str().unwrap().contains(&group), "{urls}");
    typed(&mut channel, "exit\n");
    assert_eq!(channel.wait_for_close(), "");
    until_all_has_arrived(&place.bed);
    let text = aws::object(&bucket, &format!("kept/{}.log", started.id));
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("it is ***\r\n") && !text.contains("hunter2"), "{text}");
    let lines = data(&aws::log_events(&group, &started.id));
    assert!(lines.contains(&"it is ***".to_owned()), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("exit")), "{lines:?}");
    is_audited(&place, "\"SessionLogged\"");

    // The output of a command without a terminal is sent at its end, whatever is configured, and
    // that of a forwarded port never.
    let document = json!({"schemaVersion": "1.0", "sessionType": "NonInteractiveCommands",
        "properties": {"linux": {"commands": "echo from-a-command"}}});
    let document =
        json!({"Name": "command", "DocumentType": "Session", "Content": document.to_string()});
    assert_eq!(place.endpoint.call("AmazonSSM.CreateDocument", &document).0, 200);
    let started = place.start("command", &json!({}));
    Channel::open(&started).wait_for_close();
    until_all_has_arrived(&place.bed);
    assert_eq!(aws::log_events(&group, &started.id), ["from-a-command\n"]);
    let started = place.port("AWS-StartPortForwardingSession", 1);
    let mut channel = Channel::with_token(&started);
    assert_eq!(channel.handshake_with_message().1, "Port forwarding sessions are not logged.");
    place.ends();
}

/// The message to a user whose session is to be logged.
fn heard(place: &Place) -> Result<String, String> {
    heard_of(&place.start("", &json!({})))
}

/// The same for a session that was started.
pub(super) fn heard_of(started: &Started) -> Result<String, String> {
    let mut channel = Channel::with_token(started);
    let Heard::Output { payload: Payload::HandshakeRequest, .. } = channel.hear() else { panic!() };
    let response = json!({"ClientVersion": "1.2.0.0",
        "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1}]});
    channel.input(Payload::HandshakeResponse, response.to_string().as_bytes());
    loop {
        match channel.hear() {
            Heard::Output { payload: Payload::HandshakeComplete, body, .. } => {
                let last: Value = serde_json::from_slice(&body).unwrap();
                return Ok(last["CustomerMessage"].as_str().unwrap().to_owned());
            }
            Heard::Closed(reason) => return Err(reason),
            _ => {}
        }
    }
}

/// Each failure has its own cause; only a place that must be encrypted prevents a session.
fn places_that_are_not_as_they_are_to_be() {
    let place = place(aws::aws(), &[]);
    let (plain, bare) = (named("plain"), aws::bucket(&named("bare")));
    aws::log_group(&plain, false);
    prefer(&place, &json!({"cloudWatchLogGroupName": plain}));
    let why = heard(&place).unwrap_err();
    assert!(why.contains("not set up on the selected CloudWatch Logs log group"), "{why}");
    prefer(&place, &json!({"s3BucketName": bare}));
    let why = heard(&place).unwrap_err();
    assert!(why.contains("not set up on the selected Amazon S3 bucket"), "{why}");
    prefer(&place, &json!({"s3BucketName": named("gone")}));
    let why = heard(&place).unwrap_err();
    assert!(why.contains("unable to validate encryption on Amazon S3 bucket"), "{why}");
    assert!(why.contains("NoSuchBucket"), "{why}");
    let gone = named("gone");
    prefer(&place, &json!({"cloudWatchLogGroupName": gone}));
    let message = heard(&place).unwrap();
    let wanted = format!("This session is not logged: log group {gone} does not exist.");
    assert_eq!(message, wanted);
    is_audited(&place, "\"SessionNotLogged\"");
    is_audited(&place, &wanted);
    // Without encryption both take what they get.
    prefer(
        &place,
        &json!({"cloudWatchLogGroupName": plain, "cloudWatchEncryptionEnabled": false,
            "s3BucketName": bare, "s3EncryptionEnabled": "false"}),
    );
    let (started, mut channel) = place.shell();
    typed(&mut channel, "exit\n");
    channel.wait_for_close();
    until_all_has_arrived(&place.bed);
    assert_eq!(aws::keys(&bare), [format!("{}.log", started.id)]);
    assert!(aws::log_events(&plain, &started.id)[0].contains("exit\n"));
    // An endpoint that leads back here: a common mistake, since the clients' own variable names it.
    let port: u16 = place.endpoint.address.rsplit(':').next().unwrap().parse().unwrap();
    place.server.signal(Signal::SIGTERM);
    place.server.ends(0);
    let Place { bed, build, .. } = place;
    let bed = bed.with_variables(aws::variables(port));
    let (endpoint, server) = Endpoint::serve_at(&bed, &format!("127.0.0.1:{port}"), &["--no-auth"]);
    let place = Place { bed, build, endpoint, server };
    prefer(&place, &json!({"s3BucketName": bare, "s3KeyPrefix": "round"}));
    let why = heard(&place).unwrap_err();
    assert!(
        why.contains("is runner's own, not AWS's") && why.contains("AWS_ENDPOINT_URL_S3"),
        "{why}"
    );
    place.ends();
}

/// With a bucket that does not answer, and a busy service.
fn what_a_killed_endpoint_leaves_is_sent_by_the_next() {
    let bucket = aws::bucket(&named("late"));
    let group = named("late");
    aws::log_group(&group, false);
    let held = Proxy::start(&[("PUT", "late", usize::MAX, Fault::Held)]);
    let place = place(held.port, &[]);
    prefer(
        &place,
        &json!({"s3BucketName": bucket, "s3EncryptionEnabled": false,
            "cloudWatchLogGroupName": group, "cloudWatchEncryptionEnabled": false}),
    );
    let (started, mut channel) = place.shell();
    typed(&mut channel, "echo kept-''here; exit\n");
    channel.wait_for_close();
    until("it is on its way", || held.count("PUT", &bucket) > 0);
    let Place { bed, build, mut server, .. } = place;
    server.signal(Signal::SIGKILL);
    server.wait();
    assert!(aws::keys(&bucket).is_empty());
    let busy = Proxy::start(&[("PUT", "late", 2, Fault::Status(503))]);
    let bed = bed.with_variables(aws::variables(busy.port));
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    until_all_has_arrived(&bed);
    let text = aws::object(&bucket, &format!("{}.log", started.id));
    assert!(String::from_utf8_lossy(&text).contains("kept-here"));
    // What had arrived is not sent again.
    let lines = aws::log_events(&group, &started.id).concat();
    assert_eq!(lines.matches("kept-here").count(), 1, "{lines}");
    Place { bed, build, endpoint, server }.ends();
}

/// During the command, at its end, and the messages if its output cannot be stored.
fn what_commands_write() {
    let place = place(aws::aws(), &["-e", "WORD=hunter2-hunter2", "--mask", "WORD"]);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let (bucket, group) = (aws::bucket(&named("commands")), named("commands"));
    let send = |bucket: &str, script: &str| {
        let body = json!({"DocumentName": "AWS-RunShellScript", "InstanceIds": [format!("codebuild:{uuid}")],
            "Parameters": {"commands": [script]}, "OutputS3BucketName": bucket, "OutputS3KeyPrefix": "out",
            "CloudWatchOutputConfig": {"CloudWatchLogGroupName": group, "CloudWatchOutputEnabled": true}});
        let (status, answer) = place.endpoint.call("AmazonSSM.SendCommand", &body);
        assert_eq!(status, 200, "{answer}");
        answer["Command"]["CommandId"].as_str().unwrap().to_owned()
    };
    let invocation = |id: &str| {
        let body = json!({"CommandId": id, "Details": true});
        let (_, answer) = place.endpoint.call("AmazonSSM.ListCommandInvocations", &body);
        answer["CommandInvocations"][0].clone()
    };
    let id =
        send(&bucket, "echo \"it is $WORD\"; until test -e /tmp/go; do :; done; echo over >&2");
    let node = place.endpoint.call("AmazonSSM.DescribeInstanceInformation", &json!({})).1;
    let node = node["InstanceInformationList"][0]["InstanceId"].as_str().unwrap().to_owned();
    let stream = format!("{id}/{node}/aws-runShellScript");
    until("the first line is streamed", || {
        aws::log_events(&group, &format!("{stream}/stdout")) == ["it is ***\n"]
    });
    place.bed.runner(["exec", "--", "touch", "/tmp/go"]).code(0);
    until("it has ended", || invocation(&id)["Status"] == "Success");
    until_all_has_arrived(&place.bed);
    assert_eq!(aws::log_events(&group, &format!("{stream}/stderr")), ["over\n"]);
    let path = format!("out/{id}/{node}/awsrunShellScript/0.awsrunShellScript");
    assert_eq!(aws::keys(&bucket), [format!("{path}/stderr"), format!("{path}/stdout")]);
    assert_eq!(aws::object(&bucket, &format!("{path}/stdout")), b"it is ***\n");
    let plugin = &invocation(&id)["CommandPlugins"][0];
    assert_eq!(plugin["OutputS3KeyPrefix"], format!("out/{id}/{node}/awsrunShellScript"));
    // A missing bucket changes no status, and is named.
    let gone = named("gone");
    let id = send(&gone, "echo x");
    until("it says what is in the way", || {
        let trace = invocation(&id)["TraceOutput"].as_str().unwrap().to_owned();
        trace.contains(&gone) && trace.contains("NoSuchBucket")
    });
    until("it has ended", || invocation(&id)["Status"] == "Success");
    aws::bucket(&gone);
    until_all_has_arrived(&place.bed);
    assert_eq!(invocation(&id)["TraceOutput"], "");
    place.ends();
}

/// A client with a data key, and its keys.
pub(super) struct Keyed {
    pub(super) channel: Channel,
    pub(super) cipher: Cipher,
}

/// Completes the handshake of an encrypted session, up to the proof of the key; `spoil` changes
/// what KMS has encrypted.
fn keyed(place: &Place, started: &Started, spoil: impl FnOnce(&mut Vec<u8>)) -> (Keyed, Value) {
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    keyed_for(&format!("codebuild:{uuid}"), started, spoil)
}

/// The same for a target as its client knows it.
pub(super) fn keyed_for(
    target: &str,
    started: &Started,
    spoil: impl FnOnce(&mut Vec<u8>),
) -> (Keyed, Value) {
    let mut channel = Channel::with_token(started);
    let Heard::Output { payload: Payload::HandshakeRequest, body, .. } = channel.hear() else {
        panic!()
    };
    let request: Value = serde_json::from_slice(&body).unwrap();
    let asked = &request["RequestedClientActions"][1];
    assert_eq!(asked["ActionType"], "KMSEncryption");
    let context = json!({"aws:ssm:SessionId": started.id, "aws:ssm:TargetId": target});
    let wanted = json!({"KeyId": asked["ActionParameters"]["KMSKeyId"], "NumberOfBytes": 64,
        "EncryptionContext": context});
    let (status, made) = aws::call("kms", "TrentService.GenerateDataKey", &wanted);
    assert_eq!(status, 200, "{made}");
    let bytes = |name: &str| BASE64.decode(made[name].as_str().unwrap()).unwrap();
    let (mut key, mut sealed) = (bytes("Plaintext"), bytes("CiphertextBlob"));
    spoil(&mut sealed);
    // This end encrypts with the half that the other decrypts with.
    key.rotate_left(32);
    let cipher = Cipher::new(&Zeroizing::new(key), [1; 12]).unwrap();
    let response = json!({"ClientVersion": "1.2.0.0", "ProcessedClientActions": [
        {"ActionType": "SessionType", "ActionStatus": 1},
        {"ActionType": "KMSEncryption", "ActionStatus": 1,
            "ActionResult": {"KMSCipherTextKey": BASE64.encode(&sealed), "KMSCipherTextHash": null}}]});
    channel.input(Payload::HandshakeResponse, response.to_string().as_bytes());
    (Keyed { channel, cipher }, request)
}

impl Keyed {
    /// The server's challenge.
    pub(super) fn challenge(&mut self) -> Vec<u8> {
        loop {
            match self.channel.hear() {
                Heard::Output { payload: Payload::ChallengeRequest, body, .. } => {
                    let asked: Value = serde_json::from_slice(&body).unwrap();
                    let sealed = BASE64.decode(asked["Challenge"].as_str().unwrap()).unwrap();
                    return self.cipher.open(&sealed).expect("encrypted with the key");
                }
                Heard::Closed(why) => panic!("{why}"),
                _ => {}
            }
        }
    }

    /// After the proof, a session that prints `in-side` and ends. Returns its output.
    pub(super) fn says_in_side(self) -> String {
        let Keyed { mut channel, mut cipher } = self;
        let said = loop {
            if let Heard::Output { payload: Payload::HandshakeComplete, body, .. } = channel.hear()
            {
                break String::from_utf8(body).unwrap();
            }
        };
        assert!(said.contains("This session is encrypted using AWS KMS."), "{said}");
        channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
        let mut line = b"echo in-''side; exit\n".to_vec();
        cipher.seal(&mut line, 0);
        channel.input(Payload::Bytes, &line);
        let mut shown = Vec::new();
        loop {
            match channel.hear() {
                Heard::Output { payload: Payload::Bytes, body, .. } => {
                    shown.extend(cipher.open(&body).expect("encrypted with the key"));
                }
                Heard::Closed(reason) => {
                    return format!("{} {reason}", String::from_utf8_lossy(&shown));
                }
                _ => {}
            }
        }
    }

    pub(super) fn show(&mut self, mut proof: Vec<u8>) {
        self.cipher.seal(&mut proof, 0);
        let answer = json!({"Challenge": BASE64.encode(&proof)});
        self.channel.input(Payload::ChallengeResponse, answer.to_string().as_bytes());
    }
}

fn encrypted_sessions() {
    let bed = Bed::new().with_variables(aws::variables(aws::aws()));
    let build = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let place = Place { bed, build, endpoint, server };
    let (key, group) = (aws::kms_key(), named("encrypted"));
    aws::log_group(&group, true);
    prefer(&place, &json!({"kmsKeyId": key, "cloudWatchLogGroupName": group}));
    let started = place.start("", &json!({}));
    let (mut keyed_one, request) = keyed(&place, &started, |_| ());
    assert_eq!(request["RequestedClientActions"][0]["ActionType"], "SessionType");
    let proof = keyed_one.challenge();
    assert_eq!(proof.len(), 64);
    keyed_one.show(proof);
    let shown = keyed_one.says_in_side();
    assert!(shown.contains("in-side"), "{shown}");
    // The log is not encrypted; its destination encrypts it.
    until_all_has_arrived(&place.bed);
    assert!(aws::log_events(&group, &started.id).concat().contains("in-side"));
    is_audited(&place, &format!("\"kmsKeyId\":\"{key}\""));

    // A client without the key, one that KMS does not know, and one that sends plaintext.
    let started = place.start("", &json!({}));
    let (mut without, _) = keyed(&place, &started, |_| ());
    without.challenge();
    without.show(vec![7; 64]);
    let why = without.channel.wait_for_close();
    assert!(why.contains("has not shown that it has the session's key"), "{why}");
    let started = place.start("", &json!({}));
    let (mut spoilt, _) = keyed(&place, &started, |sealed| *sealed.last_mut().unwrap() ^= 1);
    let why = spoilt.channel.wait_for_close();
    assert!(why.starts_with("Error calling KMS Decrypt API: InvalidCiphertextException"), "{why}");
    let mut clear = Channel::with_token(&place.start("", &json!({})));
    clear.hear();
    typed(&mut clear, "id\n");
    let why = clear.wait_for_close();
    assert!(why.contains("encrypted, which the client does not support"), "{why}");
    place.ends();
}

/// awslogs, and AWS's client for Python, which has created the preferences as well.
fn other_clients_read_what_was_streamed() {
    let place = place(aws::aws(), &[]);
    let group = named("streamed");
    aws::log_group(&group, false);
    let script = "
import boto3, json, sys
inputs = {'cloudWatchLogGroupName': sys.argv[2], 'cloudWatchStreamingEnabled': True, 'cloudWatchEncryptionEnabled': False}
content = {'schemaVersion': '1.0', 'sessionType': 'Standard_Stream', 'inputs': inputs}
boto3.client('ssm', endpoint_url=sys.argv[1]).create_document(
    Name='SSM-SessionManagerRunShell', DocumentType='Session', Content=json.dumps(content))
";
    let mut make = place.bed.other(python("python").to_str().unwrap());
    make.args(["-c", script, &format!("http://{}", place.endpoint.address), &group]);
    outcome(&mut make).code(0);
    let (started, mut channel) = place.shell();
    typed(&mut channel, "echo was-''streamed; exit\n");
    channel.wait_for_close();
    until_all_has_arrived(&place.bed);
    let url = format!("--aws-endpoint-url=http://127.0.0.1:{}", aws::aws());
    let asked =
        ["get", &group, &started.id, "--start=1h", "--no-group", "--no-stream", "--color=never"];
    let told = outcome(awslogs(&place.bed).args(asked).arg(url)).code(0).stdout;
    assert!(told.contains("\"was-streamed\""), "{told}");
    let read = "
import boto3, json, sys
pages = boto3.client('logs').get_paginator('filter_log_events').paginate(logGroupName=sys.argv[1])
print([json.loads(event['message'])['sessionId'] for page in pages for event in page['events']][0])
";
    let mut read_by_boto = place.bed.other(python("python").to_str().unwrap());
    let told = outcome(read_by_boto.args(["-c", read, &group])).code(0).stdout;
    assert_eq!(told.trim(), started.id);
    place.ends();
}
