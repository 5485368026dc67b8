//! The table, walked over real connections.

use super::*;
use crate::aws::endpoint::Access;
use crate::aws::keys::KeyPair;
use crate::aws::policy::{Caller, Policy, Question, Verdict};
use crate::aws::server::Server;
use crate::aws::users::Users;
use crate::gateway::{Asked, SessionPlan, Work};
use crate::http::bind;
use runner_core::agent::AgentConfig;
use runner_core::arn::{REGION, arn};
use runner_folder::state::{BuildDir, Home};
use runner_service::Settings;
use runner_service::queue::{Launcher, Process, Start};
use runner_wire::ssm::handshake::SessionType;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A build that has ended.
const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";
const TASK: &str = "0123456789ab4def8123456789abcdef";

/// What a test asks of an operation, and what of it is looked at.
struct Sample {
    name: &'static str,
    body: String,
    /// What nobody else's answer contains.
    sign: &'static str,
    /// The names that are judged.
    judged: Vec<String>,
}

fn sample(name: &'static str, body: &Value, sign: &'static str, judged: &[&str]) -> Sample {
    let judged = judged.iter().map(|name| (*name).to_owned()).collect();
    Sample { name, body: body.to_string(), sign, judged }
}

/// One of each operation, in the order of the table; `session` is one that is open.
fn samples(session: &str) -> Vec<Sample> {
    let id = format!("demo:{UUID}");
    let build = &arn("codebuild", &format!("build/{id}"));
    let project = &arn("codebuild", "project/demo");
    let task = &arn("ecs", &format!("task/default/{TASK}"));
    let cluster = &arn("ecs", "cluster/default");
    let (nowhere, nobody) = (&arn("codebuild", "build/x"), &arn("codebuild", "build/demo:x"));
    let one = &arn("ssm", &format!("session/{session}"));
    let document = &arn("ssm", "document/mine");
    let command = json!({"command": ["ls"]});
    let start = json!({"Target": "codebuild:x", "DocumentName": "mine", "Parameters": command});
    let execute = json!({"task": TASK, "command": "sh", "interactive": true});
    let told = json!({"SessionId": session});
    let new = &arn("ssm", "document/new");
    let content = r#"{"schemaVersion": "1.0", "sessionType": "Standard_Stream"}"#;
    let made = json!({"Name": "new", "DocumentType": "Session", "Content": content});
    let name = json!({"Name": "new"});
    let second = json!({"Name": "new", "DocumentVersion": "2"});
    let nobody_else = "arn:aws:iam::000000000000:user/nobody-else";
    vec![
        sample(
            "BatchGetBuilds",
            &json!({"ids": [id, "demo:x"]}),
            r#""buildsNotFound":["demo:x"]"#,
            &[build, project, nobody],
        ),
        sample("ListBuilds", &json!({}), r#"{"ids":["#, &["*"]),
        sample("StopBuild", &json!({"id": id}), r#"{"build":{"#, &[build, project]),
    ]
    .into_iter()
    .chain(of_service())
    .chain(of_logs())
    .chain(vec![
        sample("StartSession", &start, "codebuild:x is not connected", &[nowhere, document]),
        sample("ResumeSession", &told, "TokenValue", &[one]),
        sample("TerminateSession", &told, r#"{"SessionId":"#, &[one]),
        sample("DescribeSessions", &json!({"State": "Active"}), r#""Sessions":["#, &["*"]),
        sample("GetConnectionStatus", &json!({"Target": "x"}), "notconnected", &[nowhere]),
        sample("CreateDocument", &made, r#""DocumentVersion":"1""#, &[new]),
        sample("GetDocument", &name, "sessionType", &[new]),
        sample("DescribeDocument", &name, r#""LatestVersion":"1""#, &[new]),
        sample("ListDocuments", &json!({}), r#""DocumentIdentifiers":["#, &["*"]),
        sample("ListDocumentVersions", &name, "IsDefaultVersion", &[new]),
        sample("UpdateDocument", &made, "DuplicateDocumentContent", &[new]),
        sample("UpdateDocumentDefaultVersion", &second, "InvalidDocumentVersion", &[new]),
        sample("DeleteDocument", &name, "{}", &[new]),
        sample(
            "SendCommand",
            &json!({"DocumentName": "AWS-RunShellScript", "InstanceIds": ["x"]}),
            "InvalidParameters",
            &[&format!("arn:aws:ssm:{REGION}::document/AWS-RunShellScript"), nowhere],
        ),
        sample("CancelCommand", &json!({"CommandId": UUID}), "InvalidCommandId", &["*"]),
        sample("ListCommands", &json!({}), r#"{"Commands":[]}"#, &["*"]),
        sample("ListCommandInvocations", &json!({}), r#"{"CommandInvocations":[]}"#, &["*"]),
        sample(
            "GetCommandInvocation",
            &json!({"CommandId": UUID, "InstanceId": "x"}),
            "InvocationDoesNotExist",
            &["*"],
        ),
        sample(
            "DescribeInstanceInformation",
            &json!({}),
            r#"{"InstanceInformationList":[]}"#,
            &["*"],
        ),
        sample("ExecuteCommand", &execute, "execute command was not enabled", &[task]),
        sample("DescribeTasks", &json!({"tasks": [TASK]}), r#""lastStatus":"STOPPED""#, &[task]),
        sample("ListTasks", &json!({"cluster": "default"}), r#""taskArns":"#, &["*"]),
        sample("DescribeClusters", &json!({}), r#""runningTasksCount":0"#, &[cluster]),
        sample("ListClusters", &json!({}), r#""clusterArns":"#, &["*"]),
        Sample {
            body: "Action=GetCallerIdentity&Version=2011-06-15".to_owned(),
            ..sample("GetCallerIdentity", &json!({}), "<GetCallerIdentityResult>", &["*"])
        },
        Sample {
            body: format!(
                "Action=SimulatePrincipalPolicy&Version=2010-05-08&PolicySourceArn={nobody_else}&\
                 ActionNames.member.1=ssm%3AStartSession"
            ),
            ..sample("SimulatePrincipalPolicy", &json!({}), "NoSuchEntity", &[nobody_else])
        },
        Sample {
            body: "Action=SimulateCustomPolicy&Version=2010-05-08&ActionNames.member.1=a%3Ab"
                .to_owned(),
            ..sample("SimulateCustomPolicy", &json!({}), "<EvalDecision>implicitDeny<", &["*"])
        },
    ])
    .chain(of_users())
    .chain(vec![sample("LookupEvents", &json!({"MaxResults": 1}), r#"{"Events":[{"#, &["*"])])
    .collect()
}

/// Those of users and groups, as they follow upon another.
fn of_users() -> Vec<Sample> {
    let user = |name: &str| format!("arn:aws:iam::000000000000:user/{name}");
    let (ann, bob) = (&user("ann"), &user("bob"));
    let (dev, ops) = ("arn:aws:iam::000000000000:group/dev", "arn:aws:iam::000000000000:group/ops");
    let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C\
                  %22Action%22%3A%22a%3Ab%22%2C%22Resource%22%3A%22%2A%22%7D%7D";
    let put = format!("UserName=ann&PolicyName=p&PolicyDocument={policy}");
    let put_in_group = format!("GroupName=dev&PolicyName=p&PolicyDocument={policy}");
    let rows: [(&'static str, &str, &'static str, &str); 26] = [
        ("CreateUser", "UserName=ann", "<UserId>AIDA", ann),
        ("GetUser", "UserName=ann", "<UserName>ann<", ann),
        ("ListUsers", "", "<Users><member>", "*"),
        ("DeleteUser", "UserName=bob", "no user with the name bob", bob),
        (
            "TagUser",
            "UserName=ann&Tags.member.1.Key=a&Tags.member.1.Value=b",
            "<TagUserResult>",
            ann,
        ),
        ("UntagUser", "UserName=ann&TagKeys.member.1=x", "<UntagUserResult>", ann),
        ("ListUserTags", "UserName=ann", "<Key>a</Key><Value>b<", ann),
        ("CreateAccessKey", "UserName=ann", "<SecretAccessKey>", ann),
        ("ListAccessKeys", "UserName=ann", "<AccessKeyMetadata><member>", ann),
        (
            "UpdateAccessKey",
            "UserName=ann&AccessKeyId=x&Status=Inactive",
            "no access key with the id x",
            ann,
        ),
        ("DeleteAccessKey", "UserName=ann&AccessKeyId=x", "no access key with the id x", ann),
        ("PutUserPolicy", &put, "<PutUserPolicyResult>", ann),
        ("GetUserPolicy", "UserName=ann&PolicyName=p", "<PolicyDocument>%7B%22", ann),
        ("ListUserPolicies", "UserName=ann", "<member>p<", ann),
        ("DeleteUserPolicy", "UserName=ann&PolicyName=p", "<DeleteUserPolicyResult>", ann),
        ("CreateGroup", "GroupName=dev", "<GroupId>AGPA", dev),
        ("GetGroup", "GroupName=dev", "<GroupName>dev<", dev),
        ("ListGroups", "", "<Groups><member>", "*"),
        ("DeleteGroup", "GroupName=ops", "no group with the name ops", ops),
        ("AddUserToGroup", "GroupName=dev&UserName=ann", "<AddUserToGroupResult>", dev),
        ("RemoveUserFromGroup", "GroupName=dev&UserName=ann", "<RemoveUserFromGroupResult>", dev),
        ("ListGroupsForUser", "UserName=ann", "<Groups></Groups>", ann),
        ("PutGroupPolicy", &put_in_group, "<PutGroupPolicyResult>", dev),
        ("GetGroupPolicy", "GroupName=dev&PolicyName=p", "<PolicyDocument>%7B%22", dev),
        ("ListGroupPolicies", "GroupName=dev", "<member>p<", dev),
        ("DeleteGroupPolicy", "GroupName=dev&PolicyName=p", "<DeleteGroupPolicyResult>", dev),
    ];
    let of = |(name, fields, sign, judged): (&'static str, &str, &'static str, &str)| Sample {
        body: format!("Action={name}&Version=2010-05-08&{fields}"),
        ..sample(name, &json!({}), sign, &[judged])
    };
    rows.into_iter().map(of).collect()
}

/// A project as it is made.
fn web() -> Value {
    json!({
        "name": "web",
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
    })
}

/// Those of projects and of the queue.
fn of_service() -> Vec<Sample> {
    let id = format!("demo:{UUID}");
    let (build, demo) =
        (&arn("codebuild", &format!("build/{id}")), &arn("codebuild", "project/demo"));
    let web_arn = &arn("codebuild", "project/web");
    let other = "arn:aws:codebuild:eu-west-1:000000000000:project/web";
    let name = json!({"projectName": "web"});
    let fleet = "arn:aws:codebuild:us-east-1:000000000000:fleet/a";
    let fleets = json!({"name": "fleet", "baseCapacity": 1, "environmentType": "LINUX_CONTAINER",
        "computeType": "BUILD_GENERAL1_SMALL"});
    let policy = json!({"resourceArn": web_arn, "policy": "{}"});
    let about = |member: &str, value: &str| json!({member: value});
    vec![
        sample("CreateProject", &web(), r#""lastModified":"#, &[web_arn]),
        sample("UpdateProject", &web(), r#""lastModified":"#, &[web_arn]),
        sample(
            "BatchGetProjects",
            &json!({"names": ["web", other, "web"]}),
            r#""projectsNotFound":["arn:aws:codebuild:eu-west-1"#,
            &[web_arn, other, web_arn],
        ),
        sample("ListProjects", &json!({}), r#"{"projects":["web"]}"#, &["*"]),
        sample("InvalidateProjectCache", &name, "{}", &[web_arn]),
        sample(
            "UpdateProjectVisibility",
            &json!({"projectArn": web_arn, "projectVisibility": "PUBLIC_READ"}),
            "shown to the public",
            &[web_arn],
        ),
        sample("StartBuild", &name, r#""currentPhase":"QUEUED""#, &[web_arn]),
        sample("RetryBuild", &json!({"id": id}), "only that can run it", &[build, demo]),
        sample("ListBuildsForProject", &name, r#"{"ids":["web:"#, &[web_arn]),
        sample(
            "BatchDeleteBuilds",
            &json!({"ids": ["demo:x"]}),
            r#""buildsDeleted":[]"#,
            &[&arn("codebuild", "build/demo:x")],
        ),
        sample("DeleteProject", &about("name", "web"), "{}", &[web_arn]),
        sample("ListCuratedEnvironmentImages", &json!({}), r#""platforms":["#, &["*"]),
        sample("ListSharedProjects", &json!({}), r#"{"projects":[]}"#, &["*"]),
        sample("ListSharedReportGroups", &json!({}), r#"{"reportGroups":[]}"#, &["*"]),
        sample("ListSourceCredentials", &json!({}), r#""sourceCredentialsInfos":[]"#, &["*"]),
        sample("DeleteSourceCredentials", &about("arn", "a"), "no source credentials", &["a"]),
        sample("GetResourcePolicy", &about("resourceArn", "a"), "does not exist", &["a"]),
        sample("DeleteResourcePolicy", &about("resourceArn", "a"), "{}", &["a"]),
        sample("PutResourcePolicy", &policy, "nothing here is shared", &[web_arn]),
        sample("CreateFleet", &fleets, "no fleets here", &["*"]),
        sample("UpdateFleet", &about("arn", fleet), "no fleets here", &[fleet]),
        sample("DeleteFleet", &about("arn", fleet), "no fleets here", &[fleet]),
        sample("ListFleets", &json!({}), r#"{"fleets":[]}"#, &["*"]),
        sample("BatchGetFleets", &json!({"names": ["a"]}), r#""fleetsNotFound":["a"]"#, &["*"]),
    ]
}

/// Those of logs: of the build that has ended, in whose record they are `x` and `y`.
fn of_logs() -> Vec<Sample> {
    let groups = &arn("logs", "log-group::log-stream:");
    let (group, all) = (&arn("logs", "log-group:x"), &arn("logs", "log-group:x:*"));
    let stream = &arn("logs", "log-group:x:log-stream:y");
    let token = "InvalidParameterException";
    vec![
        sample(
            "DescribeLogGroups",
            &json!({"logGroupNamePrefix": "x"}),
            r#""logGroupName":"x""#,
            &[groups],
        ),
        sample(
            "DescribeLogStreams",
            &json!({"logGroupIdentifier": group}),
            r#"{"logStreams":[]}"#,
            &[group, all],
        ),
        sample(
            "GetLogEvents",
            &json!({"logGroupName": "x", "logStreamName": "y", "nextToken": "z"}),
            token,
            &[stream],
        ),
        sample("FilterLogEvents", &json!({"logGroupName": "x"}), r#"{"events":[]"#, &[group, all]),
    ]
}

/// Starts nothing.
struct Nobody;

impl Launcher for Nobody {
    fn launch(&self, _: &Start, _: std::fs::File) -> Result<Process, String> {
        Err("nobody is there".to_owned())
    }

    fn sweep(&self) {}
}

/// A service whose builds wait.
fn waiting(home: &Home) -> Arc<runner_service::Service> {
    let settings =
        Settings { max_builds: 0, max_queued: 9, source_root: None, no_privileges: None };
    runner_service::Service::open(home, settings, Arc::new(Nobody), false).expect("a service").0
}

/// What was asked of a policy: the action, and every name of the resource.
type Asks = Arc<Mutex<Vec<(&'static str, Vec<String>, Vec<String>, Context)>>>;

/// Says the same to everybody, and keeps what it was asked.
struct Always {
    verdict: Verdict,
    asked: Asks,
}

impl Policy for Always {
    fn judge(&self, _: &Caller, question: &Question<'_>) -> Verdict {
        let Question { action, resource, context, .. } = *question;
        let one = (action, resource.names.clone(), resource.also.clone(), context.clone());
        self.asked.lock().expect("no panic").push(one);
        self.verdict.clone()
    }
}

/// An endpoint with one build that has ended and one session.
struct Rig {
    address: SocketAddr,
    endpoint: Arc<Endpoint>,
    session: String,
    asked: Asks,
    home: TempDir,
    _server: Server,
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
        let endpoint = Endpoint::with_policy(
            &home,
            keys,
            Access::Local,
            users,
            AgentConfig::default(),
            service,
            policy,
        );
        let work = Work::Shell { profile: String::new() };
        let plan = SessionPlan::new(SessionType::StandardStream, Value::Null, work);
        let wanted = Asked {
            prefix: "ann".to_owned(),
            target: "codebuild:x".to_owned(),
            document: None,
            version: None,
            workers: 1000,
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
        let server = Server::start(listener, Arc::clone(&endpoint));
        Rig { address, endpoint, session, asked, home: dir, _server: server }
    }

    /// Calls an operation as a client does; the status and the body of the answer.
    async fn call(&self, service: Service, name: &str, body: &str) -> (u16, String) {
        let head = match service {
            Service::CodeBuild => format!("X-Amz-Target: CodeBuild_20161006.{name}"),
            Service::Logs => format!("X-Amz-Target: Logs_20140328.{name}"),
            Service::Ssm => format!("X-Amz-Target: AmazonSSM.{name}"),
            Service::Ecs => format!("X-Amz-Target: AmazonEC2ContainerServiceV20141113.{name}"),
            Service::CloudTrail => format!(
                "X-Amz-Target: com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.{name}"
            ),
            Service::Sts | Service::Iam => {
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

/// Each row is performed by what answers so, and by nothing else; each is judged by what it names.
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

/// Who may not is told so, and nothing happens; also where there is no such thing.
#[tokio::test]
async fn a_policy_that_denies_denies_every_operation() {
    let rig = Rig::start(Verdict::NotAllowed).await;
    for (row, sample) in OPERATIONS.iter().zip(samples(&rig.session)) {
        let (status, answer) = rig.call(row.service, row.name, &sample.body).await;
        let (code, wanted) = match row.service {
            Service::Sts | Service::Iam => ("AccessDenied", 403),
            Service::CodeBuild
            | Service::Logs
            | Service::Ssm
            | Service::Ecs
            | Service::CloudTrail => ("AccessDeniedException", 400),
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
    // What nobody finds sounds as what is there.
    for (service, name, body) in [
        (Service::Ssm, "TerminateSession", r#"{"SessionId":"never"}"#),
        (Service::CodeBuild, "StopBuild", r#"{"id":"demo:x"}"#),
        (Service::Ecs, "ExecuteCommand", r#"{"task":"x","command":"x","interactive":true}"#),
        (Service::Ecs, "DescribeTasks", r#"{"cluster":"x","tasks":["x"]}"#),
    ] {
        let (_, answer) = rig.call(service, name, body).await;
        assert!(answer.contains("AccessDeniedException"), "{name}: {answer}");
    }
}

/// Answered or refused, a line says who has asked for what.
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
            assert_eq!(line["readOnly"], row.effect == Effect::Reads, "{line}");
            assert_eq!(line["sourceIPAddress"], "127.0.0.1", "{line}");
            for member in ["eventTime", "eventID", "requestID"] {
                assert!(line[member].is_string(), "{line}");
            }
            let is_denied =
                line["errorCode"].as_str().is_some_and(|code| code.starts_with("AccessDenied"));
            assert_eq!(is_denied, is_refused, "{line}");
            let has_read = row.effect == Effect::Reads || line["errorCode"].is_string();
            assert!(!has_read || line["responseElements"].is_null(), "{line}");
            assert_eq!(line["additionalEventData"]["decidedBy"], "policy p, statement 0", "{line}");
            assert_eq!(line["userIdentity"]["accessKeyId"], "AKIAEXAMPLE", "{line}");
            assert!(!line.to_string().contains("TokenValue"), "{line}");
            // What was judged by an ARN is a resource.
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

/// A build is one thing under all its names, and what it belongs to counts where a rule denies.
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

/// Whose user is gone.
#[tokio::test]
async fn sessions_end_with_their_users() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    assert!(rig.endpoint.expel_some().await);
    let facts = || rig.endpoint.gateway.facts(&rig.session).expect("a session");
    while facts().ended.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(facts().details, "the user's key is no longer good");
    assert!(!rig.endpoint.expel_some().await);
}

#[test]
fn the_table_is_whole() {
    for row in OPERATIONS {
        assert_eq!(row.action, format!("{}:{}", row.service.name(), row.name));
        // Each action once, and found.
        assert_eq!(find(row.service, row.name).expect("a row").action, row.action);
        assert_eq!(OPERATIONS.iter().filter(|other| other.action == row.action).count(), 1);
    }
    assert!(find(Service::Ssm, "StopBuild").is_none());
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
         ListClusters of ECS; GetCallerIdentity of STS; SimulatePrincipalPolicy, SimulateCustomPolicy, \
         CreateUser, GetUser, ",
        "DeleteGroupPolicy of IAM; LookupEvents of CloudTrail",
    ] {
        assert!(told.contains(part), "{told}");
    }
}

/// What stands in no row is refused with what there is, by every service.
#[tokio::test]
async fn what_is_not_in_the_table_is_not_offered() {
    let rig = Rig::start(Verdict::Allowed(None)).await;
    for (service, name, body) in [
        (Service::CodeBuild, "CreateWebhook", "{}"),
        (Service::Logs, "StartLiveTail", "{}"),
        (Service::Ssm, "ListAssociations", "{}"),
        (Service::Ssm, "startsession", "{}"),
        (Service::Ecs, "StopBuild", "{}"),
        (Service::Sts, "", "Action=GetSessionToken&Version=2011-06-15"),
    ] {
        let (status, answer) = rig.call(service, name, body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(&format!("not offered by this endpoint, which has {}", offered())));
    }
    assert!(rig.asked.lock().expect("no panic").is_empty());
}
