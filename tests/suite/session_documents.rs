//! Documents of sessions, preferences, and the configuration of AWS's agent, tested with AWS's
//! client for Python and with a client that does whatever a test wants.

use crate::common::channel::{Channel, Started};
use crate::common::endpoint::Endpoint;
use crate::common::gateway::{Place, typed};
use crate::common::{Bed, build, cases, outcome, python};
use runner_wire::ssm::Payload;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::DirBuilderExt;

cases! {
    [Containers, Image("busybox"), Python] => every_call_about_documents;
    [Containers, Image("busybox")] => sessions_with_preferences, an_image_cannot_loosen;
    // The shortest time that a preference can set is a minute.
    [Extended, Containers, Image("busybox")] => preferences_end_sessions;
    // The files of the test image belong to root: nobody else can add users to them.
    [Root, Users, Image("busybox")] => sessions_of_other_users;
    [] => files_of_the_agent_that_are_wrong;
}

/// Makes calls in sequence: an operation, its input.
const CALLS: &str = "
import boto3, json, sys
from botocore.exceptions import ClientError
client = boto3.client('ssm', endpoint_url=sys.argv[1])
def one(name, given):
    try:
        answer = getattr(client, name)(**given)
    except ClientError as error:
        return error.response['Error']
    answer.pop('ResponseMetadata')
    return answer
print(json.dumps([one(*call) for call in json.loads(sys.argv[2])], default=str))
";

fn call(bed: &Bed, endpoint: &Endpoint, calls: &Value) -> Vec<Value> {
    let mut program = bed.other(python("python3").to_str().unwrap());
    endpoint.surround(&mut program);
    program.args(["-c", CALLS, &format!("http://{}", endpoint.address), &calls.to_string()]);
    let answer = outcome(program.env("AWS_MAX_ATTEMPTS", "1")).code(0);
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn document(kind: &str, more: &Value) -> String {
    let mut document = json!({"schemaVersion": "1.0", "sessionType": kind});
    for (name, value) in more.as_object().unwrap() {
        document[name] = value.clone();
    }
    document.to_string()
}

const YAML: &str = "schemaVersion: '1.0'
sessionType: InteractiveCommands
parameters:
  path: {type: String, default: /etc/passwd, allowedPattern: '^/[a-z/]+$'}
properties: {linux: {commands: 'cat {{ path }}'}}
";

fn every_call_about_documents() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let endpoint = Endpoint::of_notice(&running);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let target = format!("codebuild:{uuid}");
    let shell = |minutes: &str| {
        document("Standard_Stream", &json!({"inputs": {"idleSessionTimeout": minutes}}))
    };
    let name = "SSM-SessionManagerRunShell";
    let create = |name: &str, kind: &str, content: &str| json!(["create_document", {"Name": name, "DocumentType": kind, "Content": content}]);
    let typo = document("Standard_Stream", &json!({"inputs": {"kmsKeyID": "x"}}));
    let look = document(
        "Standard_Stream",
        &json!({"parameters": {"p": {"type": "String", "allowedPattern": "a(?=b)"}}}),
    );
    let yaml = json!({"Name": "show", "DocumentType": "Session", "DocumentFormat": "YAML", "Content": YAML,
        "Tags": [{"Key": "team", "Value": "web"}]});
    let start = |document: &str, parameters: &Value| json!(["start_session", {"Target": target, "DocumentName": document, "Parameters": parameters}]);
    let answers = call(
        &bed,
        &endpoint,
        &json!([
            ["get_document", {"Name": name}],
            create(name, "Session", &shell("5")),
            ["update_document", {"Name": name, "Content": shell("5"), "DocumentVersion": "$LATEST"}],
            ["update_document", {"Name": name, "Content": shell("6"), "DocumentVersion": "$LATEST",
                "VersionName": "six"}],
            ["describe_document", {"Name": name}],
            ["get_document", {"Name": name, "VersionName": "six", "DocumentFormat": "YAML"}],
            ["update_document_default_version", {"Name": name, "DocumentVersion": "2"}],
            ["list_document_versions", {"Name": name}],
            ["delete_document", {"Name": name, "DocumentVersion": "2"}],
            ["delete_document", {"Name": name, "DocumentVersion": "1"}],
            create("amzn-x", "Session", &shell("5")),
            create("mine", "Package", &shell("5")),
            create("mine", "Command", "{\"schemaVersion\": \"0.3\"}"),
            create("mine", "Session", &typo),
            create("mine", "Session", &look),
            create("mine", "Session", &"x".repeat(70_000)),
            create("AWS-RunShellScript", "Session", &shell("5")),
            ["create_document", yaml],
            ["create_document", yaml],
            ["list_documents", {"Filters": [{"Key": "tag:team", "Values": ["web"]}]}],
            ["list_documents", {"Filters": [{"Key": "Owner", "Values": ["Amazon"]}], "MaxResults": 2}],
            ["list_documents", {"Filters": [{"Key": "Colour", "Values": ["red"]}]}],
            ["delete_document", {"Name": "AWS-StartSSHSession"}],
            ["get_document", {"Name": "show", "DocumentFormat": "JSON"}],
            start("show", &json!({"path": ["/etc/group; id"]})),
            start("show", &json!({"path": ["/etc/group"]})),
            start("nothing", &json!({})),
            ["delete_document", {"Name": "show"}],
            ["get_document", {"Name": "show"}],
        ]),
    );
    let wanted = [
        ("/Code", "InvalidDocument"),
        ("/DocumentDescription/DocumentVersion", "1"),
        ("/Message", "the content is that of version 1"),
        ("/DocumentDescription/LatestVersion", "2"),
        ("/Document/DocumentVersion", "1"),
        ("/DocumentVersion", "2"),
        ("/Description/DefaultVersion", "2"),
        ("/DocumentVersions/1/DocumentVersion", "2"),
        ("/Code", "InvalidDocumentOperation"),
        ("", "{}"),
        ("/Code", "ValidationException"),
        ("/Code", "ValidationException"),
        ("/Code", "InvalidDocumentSchemaVersion"),
        ("/Message", "`kmsKeyID` is not known; it is written kmsKeyId"),
        ("/Code", "InvalidDocumentContent"),
        ("/Code", "MaxDocumentSizeExceeded"),
        ("/Code", "ValidationException"),
        ("/DocumentDescription/DocumentFormat", "YAML"),
        ("/Code", "DocumentAlreadyExists"),
        ("/DocumentIdentifiers/0/Name", "show"),
        ("/DocumentIdentifiers/0/Name", "AWS-RunShellScript"),
        ("/Code", "InvalidFilterKey"),
        ("/Code", "InvalidDocumentOperation"),
        ("/DocumentFormat", "JSON"),
        ("/Code", "InvalidDocument"),
        ("/StreamUrl", "ws://"),
        ("/Message", "Document with name nothing does not exist."),
        ("", "{}"),
        ("/Code", "InvalidDocument"),
    ];
    assert_eq!(answers.len(), wanted.len());
    for (at, (pointer, wanted)) in wanted.iter().enumerate() {
        let found = answers[at].pointer(pointer).unwrap_or(&Value::Null);
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        assert!(found.starts_with(wanted), "{at}: {pointer} {wanted}: {}", answers[at]);
    }
    assert!(answers[14]["Message"].as_str().unwrap().contains("(?=b)` at character "));
    assert!(answers[24]["Message"].as_str().unwrap().contains("`path` is to match the pattern"));
    assert_eq!(answers[20]["NextToken"], "AWS-StartInteractiveCommand");
    let json: Value = serde_json::from_str(answers[23]["Content"].as_str().unwrap()).unwrap();
    assert_eq!(json["properties"]["linux"]["commands"], "cat {{ path }}");
    bed.resume(running);
}

fn create(place: &Place, name: &str, content: &str) {
    let document = json!({"Name": name, "DocumentType": "Session", "Content": content});
    let (status, answer) = place.endpoint.call("AmazonSSM.CreateDocument", &document);
    assert_eq!(status, 200, "{answer}");
}

/// The greeting, and a shell with a profile, on a terminal without a size, because its client sends
/// none.
fn sessions_with_preferences() {
    let place = Place::new();
    let inputs = json!({
        "maxSessionDuration": "3",
        "shellProfile": {"linux": "PROFILE=typed; stty -echo"},
    });
    create(
        &place,
        "SSM-SessionManagerRunShell",
        &document("Standard_Stream", &json!({"inputs": inputs})),
    );
    let started = place.start("", &json!({}));
    let mut channel = Channel::open(&started);
    typed(&mut channel, "echo it-was-$PROFILE; stty size\n");
    channel.wait_for("it-was-typed");
    channel.wait_for("24 80");
    let described =
        place.endpoint.call("AmazonSSM.DescribeSessions", &json!({"State": "Active"})).1;
    assert_eq!(described["Sessions"][0]["MaxSessionDuration"], "3");
    let audit = fs::read_to_string(place.bed.home().join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"document\":\"SSM-SessionManagerRunShell:1\""), "{audit}");

    let own = json!({
        "parameters": {"what": {"type": "String", "allowedPattern": "[a-z]+"}},
        "properties": {"linux": {"commands": "echo <{{ what }}>"}},
    });
    create(&place, "echo", &document("InteractiveCommands", &own));
    let mut channel = Channel::open(&place.start("echo", &json!({"what": ["hello"]})));
    channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
    channel.wait_for("<hello>");
    assert_eq!(channel.wait_for_close(), "");

    let inputs = json!({"runAsEnabled": true, "runAsDefaultUser": "bob"});
    let content = document("Standard_Stream", &json!({"inputs": inputs}));
    let update = json!({"Name": "SSM-SessionManagerRunShell", "Content": content});
    assert_eq!(place.endpoint.call("AmazonSSM.UpdateDocument", &update).0, 200);
    let (status, answer) = refused(&place, &json!({}));
    assert_eq!(status, 400, "{answer}");
    let wanted = "Agent.ContainerMode is true";
    assert!(answer["message"].as_str().unwrap().contains(wanted), "{answer}");
    place.ends();
}

/// An idle session, and one that is open for as long as its document allows.
fn preferences_end_sessions() {
    let place = Place::new();
    let inputs = |idle: &str, longest: &str| {
        let inputs = json!({"idleSessionTimeout": idle, "maxSessionDuration": longest});
        document("Standard_Stream", &json!({"inputs": inputs}))
    };
    create(&place, "SSM-SessionManagerRunShell", &inputs("1", "1440"));
    create(&place, "short", &inputs("60", "1"));
    let mut short = Channel::open(&place.start("short", &json!({})));
    let mut idle = Channel::open(&place.start("", &json!({})));
    for (channel, wanted) in [
        (&mut short, "closed: it was open for as long as a session may be"),
        (&mut idle, "closed: nothing happened for 1 minute"),
    ] {
        let reason = channel.wait_for_close();
        assert!(reason.contains(wanted), "{reason}");
    }
    place.ends();
}

fn refused(place: &Place, more: &Value) -> (u16, Value) {
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let mut body = json!({"Target": format!("codebuild:{uuid}")});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    place.endpoint.call("AmazonSSM.StartSession", &body)
}

fn write_config(bed: &Bed, name: &str, text: &str) -> String {
    if !bed.home().exists() {
        fs::DirBuilder::new().mode(0o700).create(bed.home()).unwrap();
    }
    let path = bed.path(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// An image's own file can only allow fewer sessions and forbid addresses.
fn an_image_cannot_loosen() {
    let bed = Bed::new();
    write_config(&bed, "state/amazon-ssm-agent.json", r#"{"Mgs": {"SessionWorkersLimit": 5}}"#);
    let image = r#"{"Mgs": {"SessionWorkersLimit": 1, "DeniedPortForwardingRemoteIPs": ["10.9.8.7"]},
        "Agent": {"ContainerMode": false}, "Profile": {"ShareProfile": "prod"}}"#;
    let commands = [
        "mkdir -p /etc/amazon/ssm".to_owned(),
        format!("printf %s '{}' > /etc/amazon/ssm/amazon-ssm-agent.json", image.replace('\n', "")),
        "codebuild-breakpoint".to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let place = Place::in_bed(bed, &commands, &[]);
    let (_, mut channel) = place.shell();
    typed(&mut channel, "id -u; echo the-''end\n");
    channel.wait_for("the-end");
    assert!(
        String::from_utf8_lossy(&channel.shown).contains("\n0\r\n"),
        "{}",
        String::from_utf8_lossy(&channel.shown)
    );
    let (status, answer) = refused(&place, &json!({}));
    assert!(
        answer["message"].as_str().unwrap().contains("Mgs.SessionWorkersLimit"),
        "{status}: {answer}"
    );
    for host in ["10.9.8.7", "169.254.169.254"] {
        let document = json!({
            "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost", "Parameters": {"host": [host]},
        });
        let (_, answer) = refused(&place, &document);
        assert!(answer["message"].as_str().unwrap().contains("is forbidden"), "{answer}");
    }
    place
        .build
        .stderr
        .wait_for("in the image can only make sessions stricter; ignored: Profile.ShareProfile");
    let doctor = place.bed.runner(["doctor", "--format", "json", &id(&place)]).code(0);
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let one = |name: &str| {
        let list = report["agent"].as_array().unwrap();
        list.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    assert_eq!(one("Mgs.SessionWorkersLimit")["value"], 1);
    assert_eq!(one("Mgs.SessionWorkersLimit")["from"], "the image");
    assert_eq!(one("Agent.ContainerMode")["value"], true);
    assert!(one("Mgs.Endpoint")["noEffect"].as_str().unwrap().contains("one program"));
    place.ends();
}

fn id(place: &Place) -> String {
    place.bed.live().file_name().unwrap().to_str().unwrap().to_owned()
}

/// On a machine sessions belong to a user: the named one, or one that is created.
fn sessions_of_other_users() {
    let bed = Bed::new();
    let file = write_config(&bed, "agent.json", r#"{"agent": {"containermode": false}}"#);
    let commands = [
        "printf 'bob:x:1234:1234::/home/bob:/bin/sh\\nevil:x:0:0::/:/bin/sh\\n' >> /etc/passwd",
        "echo 'bobs:x:77:bob' >> /etc/group; mkdir -p /etc/sudoers.d",
        "cd /; codebuild-breakpoint",
    ];
    let build = bed.paused(&build(&commands), &[]);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth", "--agent-config", &file]);
    let place = Place { bed, build, endpoint, server };
    let shell = |wanted: &str| {
        let mut channel = Channel::open(&place.start("", &json!({})));
        channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
        typed(&mut channel, "echo \"I am $(id -un) $HOME, of $(id -G).\"\n");
        channel.wait_for(wanted);
    };
    shell("I am ssm-user /home/ssm-user, of ");
    let made = "stat -c '%a %U' /home/ssm-user /etc/sudoers.d/ssm-agent-users; grep -c ssm-user /etc/passwd";
    let looked = place.bed.runner(["exec", "--", "sh", "-c", made]).code(0);
    assert_eq!(looked.stdout, "700 ssm-user\n440 root\n1\n");
    shell("I am ssm-user /home/ssm-user, of ");
    let run_as = |user: &str| {
        document(
            "Standard_Stream",
            &json!({"inputs": {"runAsEnabled": true, "runAsDefaultUser": user}}),
        )
    };
    create(&place, "SSM-SessionManagerRunShell", &run_as("bob"));
    shell("I am bob /home/bob, of 1234 77.");
    for (user, wanted) in [
        ("nobody-here", "failed to start pty since RunAs user nobody-here does not exist"),
        ("", "please set the RunAs default user"),
        ("evil", "the RunAs user evil has the rights of root"),
    ] {
        let update = json!({"Name": "SSM-SessionManagerRunShell", "Content": run_as(user)});
        assert_eq!(place.endpoint.call("AmazonSSM.UpdateDocument", &update).0, 200);
        let started: Started = place.start("", &json!({}));
        let mut channel = Channel::open(&started);
        channel.input(Payload::Size, br#"{"cols":80,"rows":24}"#);
        let reason = channel.wait_for_close();
        assert!(reason.contains(wanted), "{user}: {reason}");
    }
    place.ends();
}

fn files_of_the_agent_that_are_wrong() {
    let bed = Bed::new();
    let spec = bed.write("buildspec.yml", build(&["true"]));
    let wrong = write_config(
        &bed,
        "wrong.json",
        "{\"Mds\": {\"CommandWorkersLimit\": \"5\"},\n \"Os\": []}",
    );
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["run", spec.to_str().unwrap()]] {
        let refused =
            bed.runner(arguments.iter().copied().chain(["--agent-config", &wrong])).code(2);
        for wanted in [
            "wrong.json:1:33: Mds.CommandWorkersLimit is a whole number, not a text",
            "wrong.json:2:8: Os is a map, not a list",
        ] {
            assert!(refused.stderr.contains(wanted), "{refused:?}");
        }
        let missing = bed.runner(arguments.iter().copied().chain(["--agent-config", "/no/such"]));
        assert!(missing.code(2).stderr.contains("/no/such"));
    }
    let odd = write_config(
        &bed,
        "odd.json",
        r#"{"Mgs": {"SessionWorkersLimit": 0, "SessionWorkerLimit": 3}}"#,
    );
    let (_, server) = Endpoint::serve(&bed, &["--agent-config", &odd]);
    let told = server.stderr.text();
    assert!(told.contains("Mgs.SessionWorkersLimit 0 is below 1; 1000 is used"), "{told}");
    assert!(told.contains("is Mgs.SessionWorkersLimit meant?"), "{told}");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.ends(0);
}
