//! A call of each operation, with the expected response and resources.

use runner_core::arn::{REGION, arn};
use serde_json::{Value, json};

/// An ended build.
pub(super) const UUID: &str = "01234567-89ab-4def-8123-456789abcdef";
pub(super) const TASK: &str = "0123456789ab4def8123456789abcdef";

/// A call of an operation and its expected results.
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) body: String,
    /// A text that only this operation's response contains.
    pub(super) sign: &'static str,
    /// The resource names that are checked.
    pub(super) judged: Vec<String>,
}

fn sample(name: &'static str, body: &Value, sign: &'static str, judged: &[&str]) -> Sample {
    let judged = judged.iter().map(|name| (*name).to_owned()).collect();
    Sample { name, body: body.to_string(), sign, judged }
}

/// A sample of each operation, in the table's order; `session` is an open session.
pub(super) fn samples(session: &str) -> Vec<Sample> {
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
    ])
    .chain(of_ecs())
    .chain(vec![
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
        Sample {
            body: "Action=GetRole&Version=2010-05-08&RoleName=runner-build".to_owned(),
            ..sample(
                "GetRole",
                &json!({}),
                "<RoleName>runner-build<",
                &["arn:aws:iam::000000000000:role/runner-build"],
            )
        },
    ])
    .chain(of_users())
    .chain(vec![sample("LookupEvents", &json!({"MaxResults": 1}), r#"{"Events":[{"#, &["*"])])
    .chain(vec![
        Sample {
            body: "Action=DescribeSubnets&Version=2016-11-15&SubnetId.1=subnet-00000000".to_owned(),
            ..sample("DescribeSubnets", &json!({}), "<vpcId>vpc-00000000<", &["*"])
        },
        Sample {
            body: "Action=DescribeVpcEndpoints&Version=2016-11-15".to_owned(),
            ..sample(
                "DescribeVpcEndpoints",
                &json!({}),
                "<vpcEndpointSet></vpcEndpointSet>",
                &["*"],
            )
        },
    ])
    .chain(vec![sample(
        "DescribeKey",
        &json!({"KeyId": "alias/x"}),
        // There are no credentials for asking AWS.
        "no AWS credentials can be had",
        &[&arn("kms", "alias/x")],
    )])
    .collect()
}

/// Samples of clusters and of starting tasks.
fn of_ecs() -> Vec<Sample> {
    let web = &arn("ecs", "cluster/web");
    let task = &arn("ecs", &format!("task/default/{TASK}"));
    let family = &arn("ecs", "task-definition/demo:1");
    let service = &arn("ecs", "service/default/web");
    let configured = json!({"executeCommandConfiguration": {"logging": "NONE"}});
    let tagged = json!({"resourceArn": web, "tags": [{"key": "team", "value": "web"}]});
    vec![
        sample("CreateCluster", &json!({"clusterName": "web"}), r#""clusterName":"web""#, &[web]),
        sample(
            "UpdateCluster",
            &json!({"cluster": "web", "configuration": configured}),
            r#""logging":"NONE""#,
            &[web],
        ),
        sample("DeleteCluster", &json!({"cluster": "web"}), r#""status":"INACTIVE""#, &[web]),
        sample("TagResource", &tagged, "resource was not found", &[web]),
        sample("UntagResource", &json!({"resourceArn": task, "tagKeys": ["team"]}), "{}", &[task]),
        sample("ListTagsForResource", &json!({"resourceArn": task}), r#"{"tags":[]}"#, &[task]),
        sample(
            "RunTask",
            &json!({"taskDefinition": "demo"}),
            "TaskDefinition not found",
            &[family],
        ),
        sample(
            "StartTask",
            &json!({"taskDefinition": "demo", "containerInstances": ["x"]}),
            "TaskDefinition not found",
            &[family],
        ),
        sample("StopTask", &json!({"task": TASK}), r#""lastStatus":"STOPPED""#, &[task]),
        sample(
            "DescribeTaskDefinition",
            &json!({"taskDefinition": "demo:1"}),
            r#""initProcessEnabled":true"#,
            &[family],
        ),
        sample(
            "CreateService",
            &json!({"serviceName": "web", "enableExecuteCommand": true}),
            "There are no services",
            &[service],
        ),
        sample("UpdateService", &json!({"service": "web"}), "There are no services", &[service]),
    ]
}

/// Samples of users and groups; each builds on the ones before.
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

/// The input that creates a project.
fn web() -> Value {
    json!({
        "name": "web",
        "source": {"type": "NO_SOURCE", "buildspec": "version: 0.2\n"},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": "host", "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/builds",
    })
}

/// Samples of projects and the queue.
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
    let web_batch = &arn("codebuild", "build-batch/web:x");
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
        sample("StartBuildBatch", &name, "must have a batch configuration", &[web_arn]),
        sample("StopBuildBatch", &json!({"id": "web:x"}), "does not exist", &[web_batch]),
        sample("RetryBuildBatch", &json!({"id": "web:x"}), "does not exist", &[web_batch]),
        sample(
            "BatchGetBuildBatches",
            &json!({"ids": ["web:x", web_batch]}),
            r#""buildBatchesNotFound":["web:x","arn:aws"#,
            &[web_batch, web_batch],
        ),
        sample("ListBuildBatches", &json!({}), r#"{"ids":[]}"#, &["*"]),
        sample("ListBuildBatchesForProject", &name, r#"{"ids":[]}"#, &[web_arn]),
        sample(
            "DeleteBuildBatch",
            &json!({"id": "web:x"}),
            r#""statusCode":"SUCCEEDED""#,
            &[web_batch],
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

/// Samples of logs: the ended build's record names the group `x` and the stream `y`.
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
