use super::lookup::StoredDocument;
use super::*;
use crate::aws::call::RefusedCall;
use crate::gateway::{Destination, SessionWork, User};
use runner_core::agent::{AgentConfig, PropertyLayer};
use runner_core::document::{DocumentFormat, DocumentType, GivenParameters, builtin};
use runner_folder::state::{Documents, Home, Stored, StoredVersion};
use runner_wire::ssm::handshake::SessionType;
use serde_json::{Value, json};
use std::time::Duration;

fn parameters(list: &[(&str, &str)]) -> GivenParameters {
    let one = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
    list.iter().map(one).collect()
}

fn of_content(content: &Value) -> DocumentContent {
    let content = content.as_object().expect("a map").clone();
    let document = StoredDocument::Builtin(builtin("AWS-StartSSHSession").expect("a document"));
    DocumentContent {
        document,
        text: String::new(),
        format: DocumentFormat::Json,
        content,
        version: 1,
    }
}

fn of_name(name: &str) -> DocumentContent {
    of_content(&builtin(name).expect(name).content())
}

fn preferences(inputs: &Value) -> DocumentContent {
    of_content(&json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs}))
}

/// The agent's configuration for a machine rather than a container.
fn on_machine() -> AgentConfig {
    let text = r#"{"Agent": {"ContainerMode": false}}"#;
    AgentConfig::of_host(Some(PropertyLayer::read(text).expect("a layer").0), None)
}

fn planned(
    document: Option<&DocumentContent>,
    list: &[(&str, &str)],
    inputs: Option<&Value>,
    agent: &AgentConfig,
    run_as: Option<&str>,
) -> Result<PlannedSession, RefusedCall> {
    let (preferences, parameters) = (inputs.map(preferences), parameters(list));
    let preferences = preferences.as_ref();
    plan(&SessionAsking { document, preferences, parameters: &parameters, agent, run_as })
}

fn with(name: &str, list: &[(&str, &str)]) -> Result<PlannedSession, RefusedCall> {
    planned(Some(&of_name(name)), list, None, &AgentConfig::default(), None)
}

fn refused(name: &str, list: &[(&str, &str)]) -> String {
    with(name, list).expect_err("refused").message
}

#[test]
fn commands_are_parted_into_words_without_a_shell() {
    let name = "AWS-StartInteractiveCommand";
    let command = [("command", "sh -c 'echo \"a  b\"' x\\ y")];
    let plan = with(name, &command).expect("a plan").plan;
    let words = ["sh", "-c", "echo \"a  b\"", "x y"].map(str::to_owned).to_vec();
    assert_eq!(plan.work, SessionWork::Interactive(words));
    assert!(plan.properties.is_null() && plan.user.is_none());
    for command in ["", " ", "'", "\"\""] {
        refused(name, &[("command", command)]);
    }
    // On a machine a shell runs the words, as another user.
    let agent = on_machine();
    let plan = planned(Some(&of_name(name)), &[("command", "cd / && pwd")], None, &agent, None);
    let plan = plan.expect("a plan").plan;
    assert_eq!(
        plan.work,
        SessionWork::Interactive(["sh", "-c", "cd / && pwd"].map(str::to_owned).to_vec())
    );
    assert_eq!(plan.user, Some(User { name: "ssm-user".to_owned(), is_made: true }));
}

#[test]
fn port_sessions() {
    let ports = |name: &str, list: &[(&str, &str)]| with(name, list).expect("a plan").plan;
    let plain = ports("AWS-StartPortForwardingSession", &[("portNumber", "8080")]);
    let wanted =
        json!({"portNumber": "8080", "localPortNumber": "0", "type": "LocalPortForwarding"});
    assert_eq!((plain.properties, plain.kind), (wanted, SessionType::Port));
    assert_eq!(plain.denied.len(), 9);
    let ssh = ports("AWS-StartSSHSession", &[]);
    assert_eq!(ssh.properties, json!({"portNumber": "22"}));
    let to = Destination { host: String::new(), port: 22 };
    assert_eq!(ssh.work, SessionWork::Ports { to, is_raw: true });
    let remote = ports(
        "AWS-StartPortForwardingSessionToRemoteHost",
        &[("host", "db.local"), ("portNumber", "5432")],
    );
    let to = Destination { host: "db.local".to_owned(), port: 5432 };
    assert_eq!(remote.work, SessionWork::Ports { to, is_raw: false });
    let socket = ports("AWS-StartPortForwardingSessionToSocket", &[("localUnixSocket", "/tmp/s")]);
    assert_eq!(socket.properties["localConnectionType"], "unix");
}

#[test]
fn what_is_wrong_is_named() {
    let port = "AWS-StartPortForwardingSession";
    for bad in ["0", "65536", "-1", "+80", "0x50", "", "99999999999"] {
        assert!(refused(port, &[("portNumber", bad)]).contains("portNumber"), "{bad}");
    }
    let host = "AWS-StartPortForwardingSessionToRemoteHost";
    for bad in [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "[fd00:ec2::254]",
        "169.254.170.2",
        "::ffff:a9fe:aa02",
        "169.254.170.23",
        "[fd00:ec2::23]",
    ] {
        assert!(refused(host, &[("host", bad)]).contains("forbidden"), "{bad}");
    }
    assert!(refused(host, &[("host", "a b")]).contains("host"));
    assert!(refused(host, &[]).contains("`host` is required"));
    assert!(refused("AWS-StartSSHSession", &[("x", "y")]).contains("not defined"));
    let apart = [("command", "ls"), ("separateOutputStream", "maybe")];
    assert!(refused("AWS-StartNonInteractiveCommand", &apart).contains("separateOutputStream"));
    assert!(refused("AWS-RunShellScript", &[]).contains("none of a session"));
}

#[test]
fn preferences_hold_where_a_document_says_nothing() {
    let agent = AgentConfig::default();
    let inputs = json!({"idleSessionTimeout": "5", "maxSessionDuration": "7", "shellProfile": {"linux": "date"}});
    let shell = planned(None, &[], Some(&inputs), &agent, None).expect("a plan");
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    assert_eq!((shell.idle, shell.longest), (minutes(5), minutes(7)));
    assert_eq!(shell.plan.work, SessionWork::Shell { profile: "date".to_owned() });
    let ssh = of_name("AWS-StartSSHSession");
    let ssh = planned(Some(&ssh), &[], Some(&inputs), &agent, None).expect("a plan");
    assert_eq!(ssh.idle, minutes(5));
    let own = preferences(&json!({"idleSessionTimeout": "9"}));
    let own = planned(Some(&own), &[], Some(&inputs), &agent, None).expect("a plan");
    assert_eq!((own.idle, own.longest), (minutes(9), None));
}

#[test]
fn ports_are_neither_logged_nor_encrypted() {
    let agent = AgentConfig::default();
    let inputs = json!({
        "cloudWatchLogGroupName": "g", "s3BucketName": "b", "kmsKeyId": "alias/x"
    });
    let shell = planned(None, &[], Some(&inputs), &agent, None).expect("a plan").plan;
    let names = (shell.logs.group.map(|group| group.name), shell.logs.bucket.map(|it| it.name));
    assert_eq!(names, (Some("g".to_owned()), Some("b".to_owned())));
    assert_eq!((shell.key.as_deref(), shell.message.as_str()), (Some("alias/x"), ""));
    let ssh = of_name("AWS-StartSSHSession");
    let ports = planned(Some(&ssh), &[], Some(&inputs), &agent, None).expect("a plan").plan;
    assert_eq!(ports.message, "Port forwarding sessions are not logged.");
    assert!(ports.logs.is_empty() && ports.key.is_none());
}

#[test]
fn who_runs_a_session() {
    let machine = on_machine();
    let run_as = |user: &str| json!({"runAsEnabled": true, "runAsDefaultUser": user});
    let refused = planned(None, &[], Some(&run_as("bob")), &AgentConfig::default(), None);
    assert!(refused.expect_err("refused").message.contains("Agent.ContainerMode"));
    let plan = |inputs: &Value, tag: Option<&str>| {
        planned(None, &[], Some(inputs), &machine, tag).expect("a plan").plan
    };
    let named = |name: &str, is_made| Some(User { name: name.to_owned(), is_made });
    assert_eq!(plan(&json!({}), None).user, named("ssm-user", true));
    assert_eq!(plan(&run_as("bob"), None).user, named("bob", false));
    assert_eq!(plan(&run_as("bob"), Some("al")).user, named("al", false));
    let none = plan(&run_as(""), None);
    assert_eq!(none.fails.as_deref(), Some("please set the RunAs default user"));
    let odd = plan(&run_as(""), Some("a:b"));
    let text = "failed to start pty since RunAs user a:b does not exist";
    assert_eq!(odd.fails.as_deref(), Some(text));
    let elevated = of_content(&json!({
        "schemaVersion": "1.0", "sessionType": "InteractiveCommands",
        "properties": {"linux": {"commands": "id", "runAsElevated": true}},
    }));
    let elevated = planned(Some(&elevated), &[], Some(&run_as("bob")), &machine, None);
    assert_eq!(elevated.expect("a plan").plan.user, None);
}

/// A session starts with the stored preferences or the defaults, whenever a deletion happens.
#[test]
fn preferences_that_are_deleted_meanwhile() {
    let dir = tempfile::tempdir().expect("a folder");
    let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
    let documents = Documents::of(&home);
    let inputs = json!({"s3BucketName": "kept"});
    let content =
        json!({"schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": inputs});
    let text = content.to_string();
    let now = runner_host::clock::wall();
    let version = StoredVersion::new(1, DocumentFormat::Json, hash(&text), "1.0".to_owned(), now);
    let stored = Stored::new(PREFERENCES, DocumentType::Session, "me", version);
    for _ in 0..50 {
        let writing = documents.lock().expect("locked");
        writing.save(&stored, Some(&text)).expect("saved");
        drop(writing);
        let begin = std::sync::Barrier::new(2);
        let read = std::thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                let writing = documents.lock().expect("locked");
                writing.remove(PREFERENCES).expect("removed");
            });
            begin.wait();
            super::preferences(&documents)
        });
        let bucket = read.expect("read, or there are none").logs.bucket;
        assert!(bucket.is_none_or(|bucket| bucket.name == "kept"));
    }
    // The metadata exists without the content.
    let writing = documents.lock().expect("locked");
    writing.save(&stored, Some(&text)).expect("saved");
    writing.remove_content(PREFERENCES, 1).expect("removed");
    assert_eq!(super::preferences(&documents).expect_err("damaged").code, "InternalServerError");
}
