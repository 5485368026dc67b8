//! Tests every row of the table over real connections.

mod samples;

use super::*;
use crate::aws::endpoint::EndpointAccess;
use crate::aws::endpoint::EndpointParts;
use crate::aws::keys::KeyPair;
use crate::aws::policy::{Policy, PolicyCaller, Question, Verdict};
use crate::aws::server::EndpointServer;
use crate::aws::users::Users;
use crate::gateway::{SessionPlan, SessionRequest, SessionWork};
use crate::http::bind;
use runner_cloud::CloudIdentity;
use runner_core::agent::AgentConfig;
use runner_core::arn::arn;
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_folder::state::{BuildDir, Home};
use runner_service::ServiceSettings;
use runner_service::batch::{PlannedBatch, Rejected};
use runner_service::queue::{Launcher, ProcessWait, Start};
use runner_wire::ssm::handshake::SessionType;
use samples::{TASK, UUID, samples};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A launcher that starts nothing.
struct Nobody;

impl Launcher for Nobody {
    fn launch(&self, _: &Start, _: std::fs::File) -> Result<ProcessWait, String> {
        Err("nobody is there".to_owned())
    }

    fn stop(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn plan(&self, _: &Start) -> Result<PlannedBatch, Rejected> {
        let context = PhaseContext::new(StatusCode::YamlFileError, "nobody is there");
        Err(Rejected { status: Status::Failed, context })
    }

    fn sweep(&self) {}
}

/// A service whose builds stay in the queue.
fn waiting(home: &Home) -> Arc<runner_service::Service> {
    let settings =
        ServiceSettings { max_builds: 0, max_queued: 9, source_root: None, no_privileges: None };
    runner_service::Service::open(home, settings, Arc::new(Nobody), false).expect("a service").0
}

/// Questions to a policy: the action, the resource's names, its other names and the condition keys.
type Asks = Arc<Mutex<Vec<(&'static str, Vec<String>, Vec<String>, ConditionKeys)>>>;

/// A policy with one verdict for all. Records the questions.
struct Always {
    verdict: Verdict,
    asked: Asks,
}

impl Policy for Always {
    fn judge(&self, _: &PolicyCaller, question: &Question<'_>) -> Verdict {
        let Question { action, resource, context, .. } = *question;
        let one = (action, resource.names.clone(), resource.also.clone(), context.clone());
        self.asked.lock().expect("no panic").push(one);
        self.verdict.clone()
    }
}

/// An endpoint with one ended build and one session.
struct Rig {
    address: SocketAddr,
    endpoint: Arc<Endpoint>,
    session: String,
    asked: Asks,
    home: TempDir,
    _server: EndpointServer,
}

impl Rig {
    async fn start(verdict: Verdict) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let home = Home::at(dir.path().to_path_buf()).expect("a state folder");
        let build = BuildDir::of(&home, UUID);
        std::fs::create_dir_all(build.path()).expect("a folder");
        let record = serde_json::from_value(record()).expect("a record");
        build.write_record(&record).expect("a record");
        let meta = json!({"uuid": UUID, "project": "demo", "number": 1, "runnerPid": 1});
        std::fs::write(build.path().join("meta.json"), meta.to_string()).expect("a file");
        let asked = Asks::default();
        let policy = Box::new(Always { verdict, asked: Arc::clone(&asked) });
        let keys = KeyPair::for_tests("AKIAEXAMPLE", "secret");
        let users = Users::open(&home, None).expect("no users");
        let served = home.clone();
        let service = tokio::task::spawn_blocking(move || waiting(&served)).await;
        let service = Some(service.expect("no panic"));
        let (access, agent) = (EndpointAccess::Local, AgentConfig::default());
        let identity = CloudIdentity::Environment;
        let requires_log = false;
        let parts = EndpointParts { keys, access, users, agent, service, identity, requires_log };
        let endpoint = Endpoint::with_policy(&home, parts, policy);
        let work = SessionWork::Shell { profile: String::new() };
        let plan = SessionPlan::new(SessionType::StandardStream, Value::Null, work);
        let wanted = SessionRequest {
            prefix: "ann".to_owned(),
            target: "codebuild:x".to_owned(),
            document: None,
            version: None,
            agent: AgentConfig::default(),
            region: "us-east-1".to_owned(),
            reason: None,
            owner: "arn:aws:iam::000000000000:user/ann".to_owned(),
            user_id: "AIDAANN".to_owned(),
            key_id: "AKIAANN".to_owned(),
            idle: Duration::from_secs(3600),
            longest: None,
            build,
            plan,
        };
        let (session, _) = endpoint.gateway.open(wanted).expect("a session");
        let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = EndpointServer::start(listener, Arc::clone(&endpoint), Vec::new());
        Rig { address, endpoint, session, asked, home: dir, _server: server }
    }

    /// Calls an operation like a client. Returns the response's status and body.
    async fn call(&self, service: AwsService, name: &str, body: &str) -> (u16, String) {
        let head = match service {
            AwsService::CodeBuild => format!("X-Amz-Target: CodeBuild_20161006.{name}"),
            AwsService::Logs => format!("X-Amz-Target: Logs_20140328.{name}"),
            AwsService::Ssm => format!("X-Amz-Target: AmazonSSM.{name}"),
            AwsService::Ecs => format!("X-Amz-Target: AmazonEC2ContainerServiceV20141113.{name}"),
            AwsService::CloudTrail => format!(
                "X-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.{name}"
            ),
            AwsService::Kms => format!("X-Amz-Target: TrentService.{name}"),
            AwsService::Sts | AwsService::Iam | AwsService::Ec2 => {
                "Content-Type: application/x-www-form-urlencoded".to_owned()
            }
        };
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\n{head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let status = answer[9..12].parse().expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// The calls in the audit.
    fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.home.path().join("audit.jsonl")).expect("a file");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line"));
        lines.filter(|line: &Value| line["eventType"] == "AwsApiCall").collect()
    }
}

fn record() -> Value {
    json!({
        "id": format!("demo:{UUID}"), "arn": arn("codebuild", &format!("build/demo:{UUID}")),
        "buildNumber": 1, "startTime": 1.0, "endTime": 2.0, "currentPhase": "COMPLETED",
        "buildStatus": "SUCCEEDED", "projectName": "demo", "phases": [],
        "source": {"type": "S3", "location": "x", "buildspec": ""}, "secondarySources": [],
        "secondarySourceVersions": [], "artifacts": {"location": ""}, "cache": {"type": "NO_CACHE"},
        "environment": {
            "type": "LINUX_CONTAINER", "image": "host", "computeType": "x",
            "environmentVariables": [], "privilegedMode": false,
        },
        "logs": {"groupName": "x", "streamName": "y"}, "timeoutInMinutes": 60,
        "queuedTimeoutInMinutes": 480, "buildComplete": true, "initiator": "me",
        "exportedEnvironmentVariables": [], "debugSession": {"sessionEnabled": false},
    })
}

/// Each row reaches its own operation and is checked on the resources it names.
#[tokio::test]
async fn every_operation_is_answered_and_judged_on_what_it_names() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    let samples = samples(&rig.session);
    let names = |all: &[Operation]| all.iter().map(|row| row.name).collect::<Vec<_>>();
    let sampled: Vec<_> = samples.iter().map(|sample| sample.name).collect();
    assert_eq!(names(OPERATIONS), sampled);
    for (row, sample) in OPERATIONS.iter().zip(samples) {
        let (_, answer) = rig.call(row.service, row.name, &sample.body).await;
        assert!(answer.contains(sample.sign), "{}: {answer}", row.name);
        let asked = std::mem::take(&mut *rig.asked.lock().expect("no panic"));
        assert!(asked.iter().all(|(action, ..)| *action == row.action), "{asked:?}");
        let judged: Vec<String> = asked.into_iter().flat_map(|(_, names, ..)| names).collect();
        assert_eq!(judged, sample.judged, "{}", row.name);
    }
}

/// A caller without permission is refused and nothing happens, even if the resource does not exist.
#[tokio::test]
async fn a_policy_that_denies_denies_every_operation() {
    let rig = Rig::start(Verdict::NotAllowed).await;
    for (row, sample) in OPERATIONS.iter().zip(samples(&rig.session)) {
        let (status, answer) = rig.call(row.service, row.name, &sample.body).await;
        let (code, wanted) = match row.service {
            AwsService::Sts | AwsService::Iam => ("AccessDenied", 403),
            AwsService::Ec2 => ("UnauthorizedOperation", 403),
            AwsService::CodeBuild
            | AwsService::Logs
            | AwsService::Ssm
            | AwsService::Ecs
            | AwsService::CloudTrail
            | AwsService::Kms => ("AccessDeniedException", 400),
        };
        assert_eq!(status, wanted, "{}: {answer}", row.name);
        let text = format!("is not authorized to perform: {} on resource: ", row.action);
        for part in [code, &text, "because no identity-based policy allows"] {
            assert!(answer.contains(part), "{}: {answer}", row.name);
        }
        assert!(!answer.contains(sample.sign), "{}: {answer}", row.name);
    }
    let open = rig.endpoint.gateway.facts(&rig.session).expect("a session");
    assert_eq!((open.status.name(), open.ended.is_some()), ("Connecting", false));
    // A missing resource gets the same refusal as an existing one.
    for (service, name, body) in [
        (AwsService::Ssm, "TerminateSession", r#"{"SessionId":"never"}"#),
        (AwsService::CodeBuild, "StopBuild", r#"{"id":"demo:x"}"#),
        (AwsService::Ecs, "ExecuteCommand", r#"{"task":"x","command":"x","interactive":true}"#),
        (AwsService::Ecs, "DescribeTasks", r#"{"cluster":"x","tasks":["x"]}"#),
    ] {
        let (_, answer) = rig.call(service, name, body).await;
        assert!(answer.contains("AccessDeniedException"), "{name}: {answer}");
    }
}

/// Each call leaves a line in the audit, whether answered or refused.
#[tokio::test]
async fn every_operation_leaves_its_line_in_the_audit() {
    for (verdict, is_refused) in [
        (Verdict::Allowed(Some("policy p, statement 0".to_owned())), false),
        (Verdict::Denied("policy p, statement 0".to_owned()), true),
    ] {
        let rig = Rig::start(verdict).await;
        for (row, sample) in OPERATIONS.iter().zip(samples(&rig.session)) {
            let before = rig.audit_length();
            rig.call(row.service, row.name, &sample.body).await;
            let lines = rig.audit();
            assert_eq!(lines.len(), before + 1, "{}", row.name);
            let line = &lines[before];
            let source = format!("{}.amazonaws.com", row.service.name());
            assert_eq!(line["eventSource"], *source, "{line}");
            assert_eq!(line["eventName"], *row.name);
            assert_eq!(line["readOnly"], row.effect == OperationEffect::Reads, "{line}");
            assert_eq!(line["sourceIPAddress"], "127.0.0.1", "{line}");
            for member in ["eventTime", "eventID", "requestID"] {
                assert!(line[member].is_string(), "{line}");
            }
            let is_denied = line["errorCode"].as_str().is_some_and(|code| {
                code.starts_with("AccessDenied") || code == "UnauthorizedOperation"
            });
            assert_eq!(is_denied, is_refused, "{line}");
            let has_read = row.effect == OperationEffect::Reads || line["errorCode"].is_string();
            assert!(!has_read || line["responseElements"].is_null(), "{line}");
            assert_eq!(line["additionalEventData"]["decidedBy"], "policy p, statement 0", "{line}");
            assert_eq!(line["userIdentity"]["accessKeyId"], "AKIAEXAMPLE", "{line}");
            assert!(!line.to_string().contains("TokenValue"), "{line}");
            // Resources checked by ARN are in the record.
            let list = line["resources"].as_array().into_iter().flatten();
            let shown: Vec<&str> = list.filter_map(|resource| resource["ARN"].as_str()).collect();
            assert!(shown.iter().all(|arn| sample.judged.iter().any(|name| name == arn)), "{line}");
            let known = |name: &&String| {
                ["build/", "project/", "task/", "session/", "document/"]
                    .iter()
                    .any(|kind| name.starts_with("arn:") && name.contains(kind))
            };
            let first = sample.judged.iter().find(known);
            assert!(first.is_none_or(|name| shown.contains(&name.as_str())), "{line}");
        }
    }
}

impl Rig {
    fn audit_length(&self) -> usize {
        let is_there = self.home.path().join("audit.jsonl").exists();
        if is_there { self.audit().len() } else { 0 }
    }
}

/// A build is one resource under all its names; rules that deny its project or cluster apply.
#[tokio::test]
async fn a_build_is_judged_under_all_its_names() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    let of = |action: &str| {
        let mut asked = rig.asked.lock().expect("no panic");
        let at = asked.iter().position(|(name, ..)| *name == action);
        asked.swap_remove(at.unwrap_or_else(|| panic!("no {action}")))
    };
    for (row, sample) in OPERATIONS.iter().zip(samples(&rig.session)) {
        rig.call(row.service, row.name, &sample.body).await;
    }
    let build = arn("codebuild", &format!("build/demo:{UUID}"));
    let task = arn("ecs", &format!("task/default/{TASK}"));
    let cluster = arn("ecs", "cluster/default");
    let node = arn("ssm", "managed-instance/mi-0123456789ab4def8");
    assert_eq!(of("codebuild:StopBuild").2, [task.clone(), cluster.clone(), node.clone()]);
    let (_, _, also, context) = of("ecs:ExecuteCommand");
    let project = arn("codebuild", "project/demo");
    assert_eq!(also, [build, project, node, cluster.clone()]);
    let wanted = [
        ("ecs:cluster", cluster.as_str()),
        ("ecs:container-name", "build"),
        ("ecs:task", &task),
        ("ecs:enable-execute-command", "false"),
    ];
    assert_eq!(context, wanted.map(|(key, value)| (key, value.to_owned())));
    let wanted = [
        ("ssm:resourceTag/aws:ssmmessages:session-id", "AIDAANN"),
        ("ssm:resourceTag/aws:ssmmessages:target-id", "codebuild:x"),
        ("aws:ResourceTag/aws:ssmmessages:session-id", "AIDAANN"),
        ("aws:ResourceTag/aws:ssmmessages:target-id", "codebuild:x"),
    ];
    for action in ["ssm:ResumeSession", "ssm:TerminateSession"] {
        assert_eq!(of(action).3, wanted.map(|(key, value)| (key, value.to_owned())));
    }
}

/// A session ends after its user is removed.
#[tokio::test]
async fn sessions_end_with_their_users() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    assert!(rig.endpoint.expel_some().await);
    let facts = || rig.endpoint.gateway.facts(&rig.session).expect("a session");
    while facts().ended.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(facts().details, "the user's key is no longer valid");
    assert!(!rig.endpoint.expel_some().await);
}

#[test]
fn the_table_is_whole() {
    for row in OPERATIONS {
        assert_eq!(row.action, format!("{}:{}", row.service.name(), row.name));
        // Each action occurs once and can be found.
        assert_eq!(find(row.service, row.name).expect("a row").action, row.action);
        assert_eq!(OPERATIONS.iter().filter(|other| other.action == row.action).count(), 1);
    }
    assert!(find(AwsService::Ssm, "StopBuild").is_none());
}

#[test]
fn what_is_offered_in_words() {
    let told = offered();
    for part in [
        "BatchGetBuilds, ListBuilds, StopBuild, CreateProject, ",
        "BatchGetFleets of CodeBuild; DescribeLogGroups, DescribeLogStreams, GetLogEvents, FilterLogEvents of \
         CloudWatch Logs; StartSession, ResumeSession, TerminateSession, DescribeSessions, \
         GetConnectionStatus, CreateDocument, ",
        "SendCommand, CancelCommand, ListCommands, ListCommandInvocations, GetCommandInvocation, \
         DescribeInstanceInformation of SSM; ExecuteCommand, DescribeTasks, ListTasks, DescribeClusters, \
         ListClusters, CreateCluster, ",
        "UpdateService of ECS; GetCallerIdentity of STS; SimulatePrincipalPolicy, SimulateCustomPolicy, GetRole, \
         CreateUser, GetUser, ",
        "DeleteGroupPolicy of IAM; LookupEvents of CloudTrail; DescribeSubnets, DescribeVpcEndpoints of EC2; \
         DescribeKey of KMS",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// Every service refuses an unknown operation and lists those it offers.
#[tokio::test]
async fn what_is_not_in_the_table_is_not_offered() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    for (service, name, body) in [
        (AwsService::CodeBuild, "CreateWebhook", "{}"),
        (AwsService::Logs, "StartLiveTail", "{}"),
        (AwsService::Ssm, "ListAssociations", "{}"),
        (AwsService::Ssm, "startsession", "{}"),
        (AwsService::Ecs, "StopBuild", "{}"),
        (AwsService::Sts, "", "Action=GetSessionToken&Version=2011-06-15"),
    ] {
        let (status, answer) = rig.call(service, name, body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(&format!("not offered by this endpoint, which has {}", offered())));
    }
    assert!(rig.asked.lock().expect("no panic").is_empty());
}
