//! Users of the endpoint and their policies, tested with AWS's client for Python.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, build, cases, outcome, python};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

cases! {
    [Containers, Image("busybox"), Python] => a_build_is_denied_under_all_its_names;
    [Python] => users_do_what_their_policies_say;
    [Python] => users_are_made_by_the_cli, a_user_who_is_made_again;
    [] => files_of_users_that_are_wrong;
}

/// Makes calls in sequence, each as a user: the user's name, a service, an operation, its input.
const CALLS: &str = "
import boto3, json, sys
from botocore.exceptions import ClientError
def one(user, service, name, given):
    key, _, secret = user.partition(':')
    client = boto3.client(service, endpoint_url=sys.argv[1], region_name='us-east-1',
        aws_access_key_id='AKIA' + key.upper().ljust(16, 'A'),
        aws_secret_access_key=secret or 'the-secret-of-' + key)
    try:
        answer = getattr(client, name)(**given)
    except ClientError as error:
        return error.response['Error']
    answer.pop('ResponseMetadata')
    return answer
print(json.dumps([one(*call) for call in json.loads(sys.argv[2])], default=str))
";

/// The response to each call, including errors.
fn call(bed: &Bed, endpoint: &Endpoint, calls: &Value) -> Vec<Value> {
    let mut program = bed.other(python("python3").to_str().unwrap());
    program.args(["-c", CALLS, &format!("http://{}", endpoint.address), &calls.to_string()]);
    let answer = outcome(program.env("AWS_MAX_ATTEMPTS", "1")).code(0);
    serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"))
}

fn user(name: &str, statements: &Value) -> Value {
    let key = format!("AKIA{:A<16}", name.to_uppercase());
    json!({
        "name": name,
        "keys": [{"id": key, "secret": format!("the-secret-of-{name}")}],
        "policies": {"own": {"Version": "2012-10-17", "Statement": statements}},
    })
}

fn write_users(bed: &Bed, text: &str) {
    if !bed.home().exists() {
        fs::DirBuilder::new().mode(0o700).create(bed.home()).unwrap();
    }
    let path = bed.home().join("iam.json");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn users_do_what_their_policies_say() {
    let bed = Bed::new();
    let allowed = json!([
        {"Effect": "Allow", "Action": ["sts:GetCallerIdentity", "codebuild:List*", "cloudtrail:*"], "Resource": "*"},
        {"Effect": "Deny", "Action": "ecs:ListClusters", "Resource": "*"},
        {"Effect": "Allow", "Action": "iam:Simulate*", "Resource": "arn:aws:iam::*:user/${aws:username}"},
    ]);
    let mut eve = user("eve", &allowed);
    eve["keys"][0]["active"] = json!(false);
    // A key from AWS's files, whatever they say today.
    let mut dev = user("dev", &allowed);
    dev["keys"] = json!([{"aws-profile": "work"}]);
    let users = json!({"users": [user("ann", &allowed), eve, dev]}).to_string();
    write_users(&bed, &users);
    let files = |id: &str| {
        let text = format!(
            "[other]\naws_access_key_id = x\n[work]\naws_access_key_id = {id}\n\
             aws_secret_access_key = the-secret-of-dev\n"
        );
        fs::create_dir_all(bed.path("home/.aws")).unwrap();
        fs::write(bed.path("home/.aws/credentials"), text).unwrap();
    };
    files("AKIAOTHEROTHEROTHER");
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let (ann, eve) = ("arn:aws:iam::000000000000:user/ann", "arn:aws:iam::000000000000:user/eve");
    let actions = ["codebuild:ListBuilds", "ecs:ListTasks", "ecs:ListClusters"];
    let answers = call(
        &bed,
        &endpoint,
        &json!([
            ["ann", "sts", "get_caller_identity", {}],
            ["ann", "codebuild", "list_builds", {}],
            ["ann", "ecs", "list_tasks", {}],
            ["ann", "ecs", "list_clusters", {}],
            ["ann", "iam", "simulate_principal_policy", {"PolicySourceArn": ann, "ActionNames": actions}],
            ["ann", "iam", "simulate_principal_policy", {"PolicySourceArn": eve, "ActionNames": actions}],
            ["eve", "sts", "get_caller_identity", {}],
            ["ann:another-secret", "sts", "get_caller_identity", {}],
        ]),
    );
    assert_eq!(answers[0]["Arn"], ann);
    let as_dev = json!([
        ["dev", "sts", "get_caller_identity", {}],
        ["dev", "codebuild", "list_builds", {}],
        ["dev", "ecs", "list_tasks", {}],
    ]);
    assert_eq!(call(&bed, &endpoint, &as_dev)[0]["Code"], "InvalidClientTokenId");
    files("AKIADEVAAAAAAAAAAAAA");
    let of_dev = call(&bed, &endpoint, &as_dev);
    assert_eq!(of_dev[0]["Arn"], "arn:aws:iam::000000000000:user/dev", "{of_dev:?}");
    assert_eq!(of_dev[1], json!({"ids": []}));
    assert_eq!(of_dev[2]["Code"], "AccessDeniedException");
    assert!(answers[0]["UserId"].as_str().unwrap().starts_with("AIDA"), "{answers:?}");
    assert_eq!(answers[1], json!({"ids": []}));
    let refused = |at: usize, why: &str| {
        let (code, text) = (&answers[at]["Code"], answers[at]["Message"].as_str().unwrap());
        assert!(text.ends_with(why), "{text}");
        code.as_str().unwrap().to_owned()
    };
    let text = format!(
        "User: {ann} is not authorized to perform: ecs:ListTasks on resource: * because no \
         identity-based policy allows the ecs:ListTasks action"
    );
    assert_eq!(refused(2, &text), "AccessDeniedException");
    let text = "on resource: * with an explicit deny in an identity-based policy";
    assert_eq!(refused(3, text), "AccessDeniedException");
    let results = answers[4]["EvaluationResults"].as_array().unwrap();
    let decisions: Vec<&Value> = results.iter().map(|result| &result["EvalDecision"]).collect();
    assert_eq!(decisions, ["allowed", "implicitDeny", "explicitDeny"]);
    assert_eq!(refused(5, "iam:SimulatePrincipalPolicy action"), "AccessDenied");
    assert_eq!(answers[6]["Code"], "InvalidClientTokenId");
    assert_eq!(answers[7]["Code"], "SignatureDoesNotMatch");
    // The same without a call.
    let mut arguments = vec!["iam", "simulate", "--user", "ann"];
    actions.iter().for_each(|action| arguments.extend(["--action", action]));
    let said = bed.runner(&arguments).code(0).stdout;
    let wanted = "allowed       codebuild:ListBuilds  *  (user ann, policy own, statement 0)\n\
                  implicitDeny  ecs:ListTasks  *\n\
                  explicitDeny  ecs:ListClusters  *  (user ann, policy own, statement 1)\n";
    assert_eq!(said, wanted);
    // Only the audit log says which policy has decided.
    let audit = fs::read_to_string(bed.home().join("audit.jsonl")).unwrap();
    assert!(!audit.contains("the-secret-of"), "{audit}");
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decided = |event: &str| {
        let line = lines.iter().find(|line| line["eventName"] == event).unwrap();
        let who = &line["userIdentity"];
        assert_eq!(
            (&who["arn"], &who["accessKeyId"]),
            (&json!(ann), &json!("AKIAANNAAAAAAAAAAAAA"))
        );
        line["additionalEventData"]["decidedBy"].clone()
    };
    assert_eq!(decided("ListBuilds"), "user ann, policy own, statement 0");
    assert_eq!(decided("ListTasks"), Value::Null);
    assert_eq!(decided("ListClusters"), "user ann, policy own, statement 1");
    // And users who may look it up.
    let of = |name: &str| json!([{"AttributeKey": "EventName", "AttributeValue": name}]);
    let answers = call(
        &bed,
        &endpoint,
        &json!([
            ["ann", "cloudtrail", "lookup_events", {"LookupAttributes": of("ListClusters")}],
            ["ann", "cloudtrail", "lookup_events", {"MaxResults": 1}],
            ["ann", "cloudtrail", "lookup_events", {"NextToken": "1-2-3"}],
        ]),
    );
    let events = answers[0]["Events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{}", answers[0]);
    let event = &events[0];
    assert_eq!((&event["Username"], &event["ReadOnly"]), (&json!("ann"), &json!("true")));
    let record: Value = serde_json::from_str(event["CloudTrailEvent"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&record["eventID"], &record["errorCode"]),
        (&event["EventId"], &json!("AccessDeniedException"))
    );
    assert_eq!(answers[1]["Events"].as_array().unwrap().len(), 1);
    assert!(answers[1]["NextToken"].is_string(), "{}", answers[1]);
    assert_eq!(answers[2]["Code"], "InvalidNextTokenException");
    // Users cannot make calls that cannot be audited; read-only calls continue.
    let audit = bed.home().join("audit.jsonl");
    fs::rename(&audit, bed.path("audit")).unwrap();
    fs::create_dir(&audit).unwrap();
    let start = json!({"Target": "codebuild:x"});
    let answers = call(
        &bed,
        &endpoint,
        &json!([["ann", "ssm", "start_session", start], ["ann", "codebuild", "list_builds", {}]]),
    );
    assert_eq!(answers[0]["Code"], "InternalServerError", "{}", answers[0]);
    assert!(
        answers[0]["Message"].as_str().unwrap().contains("cannot be audited"),
        "{}",
        answers[0]
    );
    assert_eq!(answers[1], json!({"ids": []}));
    // An invalid file changes nothing, and all its errors are reported.
    write_users(&bed, &users.replace("\"Allow\"", "\"Perhaps\""));
    let answers = call(&bed, &endpoint, &json!([["ann", "codebuild", "list_builds", {}]]));
    assert_eq!(answers[0], json!({"ids": []}));
    let said = server.stderr.text();
    assert_eq!(said.matches("Effect is Allow or Deny, not `Perhaps`").count(), 6, "{said}");
    assert!(said.contains("the users stay as they were") && said.contains("iam.json:1:"), "{said}");
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// The owner creates a user, who may do what their group may, until the key is revoked.
fn users_are_made_by_the_cli() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let ask = |arguments: &[&str]| endpoint.ask(&bed, &[&["iam"], arguments].concat());
    assert!(ask(&["get-user"])["User"]["Arn"].as_str().unwrap().contains(":user/"));
    let made = ask(&["create-user", "--user-name", "ann", "--tags", "Key=team,Value=web"]);
    assert_eq!(made["User"]["Tags"], json!([{"Key": "team", "Value": "web"}]));
    let key = ask(&["create-access-key", "--user-name", "ann"])["AccessKey"].clone();
    let policy = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": ["codebuild:ListBuilds", "iam:ListAccessKeys"], "Resource": "*",
        "Condition": {"StringEquals": {"aws:PrincipalTag/team": "web"}},
    }});
    let id = key["AccessKeyId"].as_str().unwrap();
    let user = format!("{}:{}", &id[4..], key["SecretAccessKey"].as_str().unwrap());
    let owner = |bed: &Bed, calls: &Value| {
        let text = fs::read_to_string(bed.home().join("aws-credentials")).unwrap();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches([' ', '=']).to_owned()
        };
        let owner =
            format!("{}:{}", &value("aws_access_key_id")[4..], value("aws_secret_access_key"));
        let calls =
            calls.as_array().unwrap().iter().map(|one| json!([owner, "iam", one[0], one[1]]));
        call(bed, &endpoint, &calls.collect())
    };
    let answers = owner(
        &bed,
        &json!([
            ["create_group", {"GroupName": "dev"}],
            ["put_group_policy",
                {"GroupName": "dev", "PolicyName": "builds", "PolicyDocument": policy.to_string()}],
            ["get_group_policy", {"GroupName": "dev", "PolicyName": "builds"}],
            ["add_user_to_group", {"GroupName": "dev", "UserName": "ann"}],
            ["get_group", {"GroupName": "dev"}],
            ["delete_user", {"UserName": "ann"}],
            ["put_user_policy", {"UserName": "ann", "PolicyName": "x", "PolicyDocument": "{}"}],
            ["create_user", {"UserName": "ann-bob"}],
            ["create_role", {"RoleName": "x", "AssumeRolePolicyDocument": "{}"}],
        ]),
    );
    assert_eq!(answers[2]["PolicyDocument"], policy, "{}", answers[2]);
    assert_eq!(answers[4]["Users"][0]["UserName"], "ann");
    let codes: Vec<&Value> = answers[5..].iter().map(|answer| &answer["Code"]).collect();
    assert_eq!(
        codes,
        ["DeleteConflict", "MalformedPolicyDocument", "InvalidInput", "InvalidAction"]
    );
    let both =
        json!([[user, "codebuild", "list_builds", {}], [user, "iam", "list_access_keys", {}]]);
    let answers = call(&bed, &endpoint, &both);
    assert_eq!(answers[0], json!({"ids": []}));
    assert_eq!(answers[1]["AccessKeyMetadata"][0]["AccessKeyId"], id, "{}", answers[1]);
    owner(
        &bed,
        &json!([
            ["update_access_key", {"UserName": "ann", "AccessKeyId": id, "Status": "Inactive"}],
        ]),
    );
    assert_eq!(call(&bed, &endpoint, &both)[0]["Code"], "UnrecognizedClientException");
    // The secret was shown once: neither a list nor the audit log contains it.
    let audit = fs::read_to_string(bed.home().join("audit.jsonl")).unwrap();
    assert!(!audit.contains(key["SecretAccessKey"].as_str().unwrap()));
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// What an earlier user of this name has done belongs to another user.
fn a_user_who_is_made_again() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let script = "
import boto3, json, sys
def client(service, **keys): return boto3.client(service, endpoint_url=sys.argv[1], region_name='us-east-1', **keys)
iam = client('iam')
policy = {'Version': '2012-10-17', 'Statement': {'Effect': 'Allow', 'Action': 'ssm:*', 'Resource': '*'}}
def made():
    user = iam.create_user(UserName='ann')['User']
    iam.put_user_policy(UserName='ann', PolicyName='p', PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName='ann')['AccessKey']
    ssm = client('ssm', aws_access_key_id=key['AccessKeyId'], aws_secret_access_key=key['SecretAccessKey'])
    return user['UserId'], key['AccessKeyId'], ssm
id, key, ssm = made()
sent = ssm.send_command(DocumentName='AWS-RunShellScript', Parameters={'commands': ['secret']},
    Targets=[{'Key': 'tag:x', 'Values': ['y']}])['Command']['CommandId']
assert [one['CommandId'] for one in ssm.list_commands()['Commands']] == [sent]
iam.delete_access_key(UserName='ann', AccessKeyId=key)
iam.delete_user_policy(UserName='ann', PolicyName='p')
iam.delete_user(UserName='ann')
other, _, ssm = made()
assert id != other and iam.list_users()['Users'][0]['UserId'] == other, (id, other)
assert ssm.list_commands()['Commands'] == []
";
    let mut program = bed.other(python("python3").to_str().unwrap());
    endpoint.surround(&mut program);
    outcome(program.args(["-c", script, &format!("http://{}", endpoint.address)])).code(0);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// One container has several names; and the user who began a session may end it.
fn a_build_is_denied_under_all_its_names() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let task = uuid.replace('-', "");
    let start = json!({"Effect": "Allow", "Action": "ssm:StartSession", "Resource": "*"});
    let users = json!({"users": [
        // As documented for ECS.
        user("ann", &json!([start, {
            "Effect": "Deny",
            "Action": "ssm:StartSession",
            "Resource": "arn:aws:ecs:*:000000000000:task/default/*",
        }])),
        user("bob", &json!([start])),
        user("eve", &json!([start, {
            "Effect": "Deny", "Action": "ssm:TerminateSession", "Resource": "*",
        }])),
    ]});
    write_users(&bed, &users.to_string());
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let target = json!({"Target": format!("codebuild:{uuid}")});
    let answers = call(
        &bed,
        &endpoint,
        &json!([
            ["ann", "ssm", "start_session", target],
            ["ann", "ssm", "start_session", {"Target": format!("ecs:default_{task}_{task}-1")}],
            ["bob", "ssm", "start_session", target],
            ["eve", "ssm", "start_session", target],
        ]),
    );
    for answer in &answers[..2] {
        assert_eq!(answer["Code"], "AccessDeniedException");
        let text = answer["Message"].as_str().unwrap();
        assert!(text.ends_with("with an explicit deny in an identity-based policy"), "{text}");
    }
    let (bob, eve) = (&answers[2]["SessionId"], &answers[3]["SessionId"]);
    assert!(bob.as_str().unwrap().starts_with("bob-"), "{answers:?}");
    let answers = call(
        &bed,
        &endpoint,
        &json!([
            ["ann", "ssm", "terminate_session", {"SessionId": bob}],
            ["eve", "ssm", "resume_session", {"SessionId": bob}],
            ["eve", "ssm", "terminate_session", {"SessionId": eve}],
            ["bob", "ssm", "resume_session", {"SessionId": bob}],
            ["bob", "ssm", "terminate_session", {"SessionId": bob}],
        ]),
    );
    for answer in &answers[..3] {
        assert_eq!(answer["Code"], "AccessDeniedException", "{answers:?}");
    }
    assert!(answers[3]["TokenValue"].is_string(), "{answers:?}");
    assert_eq!(answers[4]["SessionId"], *bob);
    server.signal(Signal::SIGTERM);
    server.ends(0);
    bed.resume(running);
}

/// Nothing is opened, and every error is reported with its position.
fn files_of_users_that_are_wrong() {
    let bed = Bed::new();
    write_users(&bed, "{\"users\": [{\"name\": \"a/b\"},\n {\"name\": \"ann\", \"keys\": 1}]}");
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    bed.runner(serve)
        .code(2)
        .says("iam.json:1:21: `a/b` is not a valid name")
        .says("iam.json:2:26: keys is a list, not a number");
    let other = bed.write("users", "{}");
    fs::set_permissions(&other, PermissionsExt::from_mode(0o640)).unwrap();
    let named = ["serve", "--listen", "127.0.0.1:0", "--iam", other.to_str().unwrap()];
    bed.runner(named).code(2).says("chmod 600");
    let simulate = ["iam", "simulate", "--user", "ann", "--action", "ssm:StartSession"];
    bed.runner(simulate).code(2).says("2:26: keys is a list");
    write_users(&bed, "{}");
    bed.runner(simulate).code(2).says("there is no user ann");
}
