//! Run Command with AWS's CLI and its client for Python: scripts in builds, and their results.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Outcome, Running, build, cases, list, outcome, python, until};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

cases! {
    [Containers, Image("busybox"), Python] => commands_by_the_cli, steps_and_what_they_come_to,
        what_is_refused, output_is_masked_and_cut, ends_by_others, targets_by_tag_and_project,
        a_build_is_denied_as_a_node, the_agents_configuration, an_endpoint_that_is_killed, an_endpoint_that_is_stopped;
    [Containers, Image("busybox"), Python, Extended] => fifty_builds;
}

/// The start of the scripts below: a client, and functions that send a command and wait for its
/// end.
const PRELUDE: &str = "
import boto3, json, os, sys, time
from botocore.exceptions import ClientError
ssm = boto3.client('ssm', endpoint_url=sys.argv[1], region_name='us-east-1')
def send(nodes, commands=None, document='AWS-RunShellScript', parameters=None, **more):
    given = dict(DocumentName=document, **more)
    if nodes: given['InstanceIds'] = nodes
    parameters = dict(parameters or {})
    if commands is not None: parameters['commands'] = commands
    if parameters: given['Parameters'] = parameters
    return ssm.send_command(**given)['Command']['CommandId']
def get(command, node, step=None):
    more = {'PluginName': step} if step else {}
    return ssm.get_command_invocation(CommandId=command, InstanceId=node, **more)
def ended(command, node, step=None):
    while True:
        got = get(command, node, step)
        if got['Status'] not in ('Pending', 'InProgress', 'Delayed', 'Cancelling'): return got
        time.sleep(0.02)
def refused(code, words, call, *args, **more):
    try: call(*args, **more)
    except ClientError as error:
        assert error.response['Error']['Code'] == code, error
        assert words in error.response['Error']['Message'], error
    else: assert False, 'not refused: ' + code
def is_equal(got, wanted): assert got == wanted, (got, wanted)
";

fn run(bed: &Bed, endpoint: &Endpoint, script: &str, arguments: &[&str]) -> Outcome {
    let mut program = bed.other(python("python3").to_str().unwrap());
    endpoint.surround(&mut program);
    let script = format!("{PRELUDE}{script}");
    program.args(["-c", &script, &format!("http://{}", endpoint.address)]).args(arguments);
    outcome(program.env("AWS_MAX_ATTEMPTS", "1")).code(0)
}

fn paused(bed: &Bed) -> (Running, Endpoint, String) {
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let endpoint = Endpoint::of_notice(&running);
    let uuid = uuid(&bed.live());
    (running, endpoint, uuid)
}

fn uuid(folder: &std::path::Path) -> String {
    folder.file_name().unwrap().to_str().unwrap().to_owned()
}

fn node(uuid: &str) -> String {
    format!("mi-{}", uuid.replace('-', "").get(..17).unwrap())
}

/// The folder of the only command.
fn only_command(bed: &Bed) -> PathBuf {
    let folder = bed.home().join("commands");
    let mut all = list(&folder);
    assert_eq!(all.len(), 1, "{all:?}");
    folder.join(all.remove(0))
}

fn commands_by_the_cli() {
    let bed = Bed::new();
    let (running, endpoint, uuid) = paused(&bed);
    let node = node(&uuid);
    let sent = endpoint.ask(
        &bed,
        &[
            "ssm",
            "send-command",
            "--document-name",
            "AWS-RunShellScript",
            "--instance-ids",
            &node,
            "--parameters",
            r#"{"commands": ["echo one", "pwd", "echo two >&2; echo $SSM_COMMAND_ID"]}"#,
        ],
    );
    let id = sent["Command"]["CommandId"].as_str().unwrap();
    assert_eq!(sent["Command"]["Status"], "Pending");
    // The waiter's first request already gets an answer; by now it is final, so the waiter need not
    // wait.
    let record = only_command(&bed).join("command.json");
    let has_ended = || fs::read_to_string(&record).unwrap().contains(r#""ended":["Success"]"#);
    until("the command has ended", has_ended);
    let wait = ["ssm", "wait", "command-executed", "--command-id", id, "--instance-id", &node];
    endpoint.ask(&bed, &wait);
    // By any of its names.
    let target = format!("codebuild:{uuid}");
    let named = ["ssm", "get-command-invocation", "--command-id", id, "--instance-id", &target];
    let got = endpoint.ask(&bed, &named);
    assert_eq!(
        (&got["Status"], &got["StandardErrorContent"]),
        (&json!("Success"), &json!("two\n"))
    );
    let output = got["StandardOutputContent"].as_str().unwrap();
    assert!(output.starts_with("one\n/codebuild/output/src"), "{output}");
    assert!(output.ends_with(&format!("{id}\n")), "{output}");
    // Nothing of it is left in the container.
    let left = bed.runner(["exec", "--", "ls", "-A", "/codebuild/.ssm"]).code(0);
    assert_eq!(left.stdout, "");
    bed.resume(running);
}

fn steps_and_what_they_come_to() {
    let bed = Bed::new();
    let step = |name: &str, command: &str| json!({"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": [command]}});
    let mut second = step("second", "echo never");
    second["precondition"] = json!({"StringEquals": ["platformType", "Windows"]});
    let mut last = step("last", "echo last");
    last["finallyStep"] = json!(true);
    let mut third = step("third", "exit {{ code }}");
    third["onFailure"] = json!("exit");
    let several = json!({
        "schemaVersion": "2.2",
        "parameters": {"code": {"type": "String", "allowedPattern": "[0-9]"}},
        "mainSteps": [step("first", "echo '{{ code }}' | cat"), second, third, step("fourth", "x"), last],
    });
    let (running, endpoint, uuid) = paused(&bed);
    let script = "
node = sys.argv[2]
ssm.create_document(Name='several', Content=sys.argv[3], DocumentType='Command', DocumentFormat='JSON')
c = send([node], document='several', parameters={'code': ['3']})
end = ended(c, node, 'last')
seen = [(get(c, node, step)['StatusDetails'], get(c, node, step)['ResponseCode'])
    for step in ('first', 'second', 'third', 'fourth', 'last')]
is_equal(seen, [('Success', 0), ('Skipped', 0), ('Failed', 3), ('Skipped', 0), ('Success', 0)])
is_equal(end['StandardOutputContent'], 'last\\n')
is_equal(get(c, node, 'third')['StandardErrorContent'], 'failed to run commands: exit status 3')
refused('InvalidPluginName', 'first, second', get, c, node)
refused('InvalidPluginName', 'first, second', get, c, node, 'none')
refused('InvalidParameters', 'code', send, [node], document='several', parameters={'code': ['x']})
while ssm.list_commands(CommandId=c)['Commands'][0]['Status'] == 'InProgress': time.sleep(0.02)
row = ssm.list_command_invocations(CommandId=c, Details=True)['CommandInvocations'][0]
is_equal((row['Status'], len(row['CommandPlugins'])), ('Failed', 5))
def one(*commands, **more):
    c = send([node], list(commands), **more)
    got = ended(c, node)
    return got['StatusDetails'], got['ResponseCode'], got['StandardOutputContent'], got['StandardErrorContent']
is_equal(one('exit 168')[:2], ('Success', 168))
is_equal(one('false; echo after'), ('Success', 0, 'after\\n', ''))
is_equal(one('kill -KILL $$')[:2], ('Failed', 137))
is_equal(one('#!/bin/cat', 'shown')[2], '#!/bin/cat\\nshown\\n')
is_equal(one('pwd', parameters={'workingDirectory': ['/nowhere']}),
    ('Failed', 1, '', 'workingDirectory /nowhere does not exist in the container'))
is_equal(one('pwd', parameters={'workingDirectory': ['/tmp']})[2], '/tmp\\n')
# What goes on in the background is not waited for.
status, code, output, errors = one('sleep 1000 & echo $! > /tmp/child; echo here')
is_equal((status, output), ('Success', 'here\\n'))
assert 'not kept' in errors, errors
";
    run(&bed, &endpoint, script, &[&node(&uuid), &several.to_string()]);
    bed.runner(["exec", "--", "sh", "-c", "kill $(cat /tmp/child)"]).code(0);
    bed.resume(running);
}

fn what_is_refused() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let plain = bed.start(&build(&["mkfifo /tmp/go; echo he''re; read x < /tmp/go"]), &[]);
    plain.stdout.wait_for("here\n");
    let script = "
node = sys.argv[2]
words = 'Instances [[%s]] not in a valid state for account 000000000000: '
refused('InvalidInstanceId', words % node, send, [node], ['true'])
refused('InvalidInstanceId', 'without --enable-session', send, [node], ['true'])
refused('InvalidInstanceId', words % 'mi-0123456789abcdef0', send, ['mi-0123456789abcdef0'], ['true'])
refused('DuplicateInstanceId', 'twice', send, ['codebuild:' + sys.argv[3], node], ['true'])
refused('InvalidDocument', 'AWS-RunShellScript', send, [node], document='AWS-RunRemoteScript')
refused('InvalidDocument', 'session', send, [node], document='AWS-StartSSHSession')
refused('InvalidDocumentVersion', 'version 1 and no other', send, [node], ['true'], DocumentVersion='7')
refused('InvalidParameters', 'executionTimeout', send, [node], ['true'], parameters={'executionTimeout': ['0x']})
refused('InvalidParameters', 'commands', send, [node])
refused('InvalidParameters', 'other', send, [node], ['true'], parameters={'other': ['x']})
refused('InvalidRole', 'ServiceRoleArn', send, [node], ['true'], ServiceRoleArn='arn:x')
refused('InvalidNotificationConfig', 'NotificationConfig', send, [node], ['true'],
    NotificationConfig={'NotificationArn': 'arn:x'})
refused('ValidationException', 'AlarmConfiguration', send, [node], ['true'],
    AlarmConfiguration={'Alarms': [{'Name': 'x'}]})
refused('InvalidOutputFolder', 'OutputS3BucketName', send, [node], ['true'], OutputS3BucketName='a/b')
refused('ValidationException', 'MaxConcurrency', send, None, ['true'],
    Targets=[{'Key': 'tag:x', 'Values': ['y']}], MaxConcurrency='101%')
refused('ValidationException', 'InstanceIds or Targets', send, None, ['true'])
refused('InvocationDoesNotExist', '', get, '01234567-89ab-4def-8123-456789abcdef', node)
refused('InvalidFilterKey', 'Status', ssm.list_commands, Filters=[{'key': 'Status', 'value': 'Undeliverable'}])
refused('InvalidInstanceInformationFilterValue', 'not both', ssm.describe_instance_information,
    Filters=[{'Key': 'PingStatus', 'Values': ['Online']}],
    InstanceInformationFilterList=[{'key': 'PingStatus', 'valueSet': ['Online']}])
is_equal(ssm.describe_instance_information()['InstanceInformationList'], [])
# Nobody is there: a success of nothing.
c = send(None, ['true'], Targets=[{'Key': 'tag:codebuild:project', 'Values': ['demo']}])
row = ssm.list_commands(CommandId=c)['Commands'][0]
is_equal((row['Status'], row['StatusDetails'], row['TargetCount']), ('Success', 'NoInstancesInTag', 0))
";
    let uuid = uuid(&bed.live());
    run(&bed, &endpoint, script, &[&node(&uuid), &uuid]);
    bed.runner(["exec", "--", "sh", "-c", "echo x > /tmp/go"]).code(0);
    plain.ends(0);
    stop(server);
}

fn stop(server: Running) {
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

fn output_is_masked_and_cut() {
    let bed = Bed::new();
    let options = ["-e", "TOKEN=hunter2hunter2", "--mask", "TOKEN"];
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &options);
    let endpoint = Endpoint::of_notice(&running);
    let uuid = uuid(&bed.live());
    let script = "
node = sys.argv[2]
c = send([node], ['echo \"<$TOKEN>\"; echo \"[$TOKEN]\" >&2; i=0; while [ $i -lt 3000 ]; do echo 123456789; i=$((i+1)); done',
    'i=0; while [ $i -lt 900 ]; do echo 123456789 >&2; i=$((i+1)); done'])
got = ended(c, node)
output, errors = got['StandardOutputContent'], got['StandardErrorContent']
assert output.startswith('<***>\\n') and output.endswith('--output truncated--'), output
assert errors.startswith('[***]\\n') and errors.endswith('--output truncated--'), errors
is_equal((len(output), len(errors)), (24000, 8000))
row = ssm.list_command_invocations(CommandId=c, Details=True)['CommandInvocations'][0]
both = row['CommandPlugins'][0]['Output']
assert len(both) == 2500 and both.startswith('<***>') and '\\n----------ERROR-------\\n[***]' in both, both
assert both.count('truncated---') == 2, both
";
    run(&bed, &endpoint, script, &[&node(&uuid)]);
    let folder = only_command(&bed);
    let step = folder.join(node(&uuid)).join("awsrunShellScript/0.awsrunShellScript");
    assert_eq!(fs::read(step.join("stdout")).unwrap().len(), 6 + 30_000, "all of it is kept");
    let found = outcome(bed.other("grep").args(["-r", "hunter2hunter2"]).arg(&folder));
    assert_eq!(found.code, 1, "{found:?}");
    let mode = fs::metadata(step.join("stdout")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    bed.resume(running);
}

/// Cancelled, timed out, or ended with the build: nothing of a script continues.
fn ends_by_others() {
    let bed = Bed::new();
    let (running, endpoint, uuid) = paused(&bed);
    let node = node(&uuid);
    let script = "
node = sys.argv[2]
script = 'sleep 1000 & echo $! >> /tmp/children; echo here; wait'
def begun(c):
    while 'here' not in get(c, node)['StandardOutputContent']: time.sleep(0.02)
late = send([node], [script], parameters={'executionTimeout': ['5']})
c = send([node], [script])
begun(c)
is_equal(get(c, node)['ResponseCode'], -1)
is_equal(ssm.list_commands(Filters=[{'key': 'ExecutionStage', 'value': 'Executing'}])['Commands'][0]['CommandId'], c)
ssm.cancel_command(CommandId=c, InstanceIds=['codebuild:' + sys.argv[3]])
got = ended(c, node)
is_equal((got['Status'], got['StandardOutputContent']), ('Cancelled', 'here\\n'))
ssm.cancel_command(CommandId=c)
begun(late)
got = ended(late, node)
is_equal((got['Status'], got['StatusDetails'], got['ResponseCode']), ('TimedOut', 'ExecutionTimedOut', 137))
is_equal(got['StandardOutputContent'], 'here\\n')
# Five run at once, and those that come later wait.
all = [send([node], ['read x < /tmp/never']) for _ in range(6)]
while [get(c, node)['Status'] for c in all] != ['InProgress'] * 5 + ['Pending']: time.sleep(0.02)
ssm.cancel_command(CommandId=all[5])
is_equal(ended(all[5], node)['Status'], 'Cancelled')
print(' '.join(all))
";
    bed.runner(["exec", "--", "mkfifo", "/tmp/never"]).code(0);
    let sent = run(&bed, &endpoint, script, &[&node, &uuid]);
    let alive = "for p in $(cat /tmp/children); do kill -0 $p && echo $p; done";
    until("no child is left", || bed.runner(["exec", "--", "sh", "-c", alive]).stdout.is_empty());
    let (next, server) = Endpoint::serve(&bed, &[]);
    bed.runner(["stop"]).code(0);
    running.ends(5);
    let script = "
for c in sys.argv[3:8]:
    got = ended(c, sys.argv[2])
    is_equal((got['StatusDetails'], got['ResponseCode']), ('Failed', -1))
    assert 'the build has ended' in got['StandardErrorContent'], got
";
    let mut arguments = vec![node.as_str()];
    arguments.extend(sent.stdout.split_whitespace());
    run(&bed, &next, script, &arguments);
    stop(server);
}

fn targets_by_tag_and_project() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let first = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let second = bed.paused(&build(&["codebuild-breakpoint"]), &["--project", "other"]);
    let script = "
nodes = {row['Name'].split(':')[0]: row['InstanceId'] for row in ssm.describe_instance_information()['InstanceInformationList']}
is_equal(sorted(nodes), ['demo', 'other'])
for row in ssm.describe_instance_information(Filters=[{'Key': 'PingStatus', 'Values': ['Online']}])['InstanceInformationList']:
    is_equal((row['PingStatus'], row['PlatformType'], nodes[row['Name'].split(':')[0]]), ('Online', 'Linux', row['InstanceId']))
    # As a target of sessions, too.
    is_equal(ssm.get_connection_status(Target=row['InstanceId'])['Status'], 'connected')
def sent(*targets, **more):
    c = send(None, ['echo $AWS_SSM_INSTANCE_ID'], Targets=[{'Key': k, 'Values': v} for k, v in targets], **more)
    while True:
        row = ssm.list_commands(CommandId=c)['Commands'][0]
        if row['Status'] not in ('Pending', 'InProgress'): break
        time.sleep(0.02)
    is_equal((row['Status'], row['CompletedCount'], row['ErrorCount']), ('Success', row['TargetCount'], 0))
    rows = ssm.list_command_invocations(CommandId=c, Details=True)['CommandInvocations']
    for row in rows: is_equal(row['CommandPlugins'][0]['Output'].strip(), row['InstanceId'])
    return sorted(row['InstanceId'] for row in rows)
both = sorted(nodes.values())
is_equal(sent(('tag:codebuild:project', ['other'])), [nodes['other']])
is_equal(sent(('resource-groups:Name', ['demo'])), [nodes['demo']])
is_equal(sent(('tag:codebuild:project', ['demo', 'other'])), both)
is_equal(sent(('resource-groups:ResourceTypeFilters', ['AWS::SSM::ManagedInstance'])), both)
is_equal(sent(('InstanceIds', both), ('tag:codebuild:project', ['demo'])), [nodes['demo']])
# A page at a time, the newest first.
pages = ssm.get_paginator('list_command_invocations').paginate(PaginationConfig={'PageSize': 2})
seen = [(row['CommandId'], row['InstanceId']) for page in pages for row in page['CommandInvocations']]
is_equal((len(seen), len(set(seen))), (7, 7))
pages = ssm.get_paginator('list_commands').paginate(PaginationConfig={'PageSize': 2})
ids = [row['CommandId'] for page in pages for row in page['Commands']]
is_equal(ids, sorted(ids, reverse=True))
is_equal(len(ids), 5)
# Too many errors stop what has not begun.
c = send(None, ['exit 1'], Targets=[{'Key': 'InstanceIds', 'Values': both}], MaxErrors='0', MaxConcurrency='2')
while ssm.list_commands(CommandId=c)['Commands'][0]['Status'] in ('Pending', 'InProgress'): time.sleep(0.02)
seen = sorted(row['StatusDetails'] for row in ssm.list_command_invocations(CommandId=c)['CommandInvocations'])
is_equal(seen, ['Failed', 'Terminated'])
is_equal(ssm.list_commands(CommandId=c)['Commands'][0]['StatusDetails'], 'Failed')
";
    run(&bed, &endpoint, script, &[]);
    bed.runner(["resume", "demo"]).code(0);
    bed.runner(["resume", "other"]).code(0);
    first.ends(0);
    second.ends(0);
    stop(server);
}

/// Through the host's file and the image's, which can only tighten; for all endpoints of a build
/// together.
fn the_agents_configuration() {
    let bed = Bed::new();
    let commands = [
        "mkdir -p /etc/amazon/ssm; mkfifo /tmp/go",
        "printf 'NAME=\"Test\"\\nVERSION_ID=7\\n' > /etc/os-release",
        "echo '{\"Mds\": {\"CommandWorkersLimit\": 1}, \"Os\": {\"Lang\": \"xx\"}}' \
            > /etc/amazon/ssm/amazon-ssm-agent.json",
        "codebuild-breakpoint",
    ];
    let running = bed.paused(&build(&commands), &[]);
    let own = Endpoint::of_notice(&running);
    let config = json!({
        "Mds": {"CommandWorkersLimit": 3},
        "Agent": {"Region": "eu-west-9", "OrchestrationRootDir": "out"},
        "Profile": {"ShareProfile": "work"},
        "Ssm": {"PluginLocalOutputCleanup": "after-execution"},
        "Os": {"Name": "other"},
    });
    let file = bed.write("agent.json", config.to_string());
    let (endpoint, server) = Endpoint::serve(&bed, &["--agent-config", file.to_str().unwrap()]);
    let node = node(&uuid(&bed.live()));
    let script = "
node = sys.argv[2]
own = boto3.client('ssm', endpoint_url=sys.argv[3], region_name='us-east-1')
first = own.send_command(DocumentName='AWS-RunShellScript', InstanceIds=[node], Parameters={'commands':
    ['echo first >> /tmp/order; echo here; read x < /tmp/go; echo end >> /tmp/order']})['Command']['CommandId']
while 'here' not in get(first, node)['StandardOutputContent']: time.sleep(0.02)
# Its place is taken, whichever endpoint has sent it.
second = send([node], ['echo second >> /tmp/order; cat /tmp/order',
    'echo $AWS_SSM_REGION_NAME $AWS_PROFILE $AWS_SSM_PLATFORM_NAME $AWS_SSM_PLATFORM_VERSION'])
for _ in range(5): is_equal(get(second, node)['Status'], 'Pending')
opened = send([node], ['echo x > /tmp/none'], TimeoutSeconds=30)
ssm.cancel_command(CommandId=opened)
is_equal(ended(opened, node)['Status'], 'Cancelled')
print(second)
";
    let address = format!("http://{}", own.address);
    let sent = run(&bed, &endpoint, script, &[&node, &address]);
    bed.runner(["exec", "--", "sh", "-c", "echo x > /tmp/go"]).code(0);
    let script = "
got = ended(sys.argv[3].strip(), sys.argv[2])
is_equal(got['StandardOutputContent'], 'first\\nend\\nsecond\\neu-west-9 work Test 7\\n')
";
    run(&bed, &endpoint, script, &[&node, &sent.stdout]);
    let folder = bed.home().join("commands").join(sent.stdout.trim());
    let step = folder.join(&node).join("out/awsrunShellScript/0.awsrunShellScript");
    until("the whole output is gone", || !step.join("stdout").exists());
    assert!(step.join("cut.json").is_file());
    let record = fs::read_to_string(folder.join("command.json")).unwrap();
    assert!(record.contains(r#""name":"other""#), "{record}");
    stop(server);
    let audit = fs::read_to_string(bed.home().join("audit.jsonl")).unwrap();
    let ends = audit.lines().filter(|line| line.contains("\"CommandFinished\""));
    assert_eq!(ends.filter(|line| line.contains(sent.stdout.trim())).count(), 1, "{audit}");
    bed.resume(running);
}

/// A rule about a project or a task applies to its builds as nodes.
fn a_build_is_denied_as_a_node() {
    let bed = Bed::new();
    let users = json!({"users": [{
        "name": "ann",
        "keys": [{"id": "AKIAANNAAAAAAAAAAAAA", "secret": "the-secret-of-ann"}],
        "policies": {"own": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "ssm:*", "Resource": "*"},
            {"Effect": "Deny", "Action": ["ssm:SendCommand", "ssm:StartSession", "ssm:GetCommandInvocation"],
                "Resource": "arn:aws:codebuild:*:*:project/demo"},
        ]}},
    }]});
    fs::create_dir_all(bed.home()).unwrap();
    fs::set_permissions(bed.home(), PermissionsExt::from_mode(0o700)).unwrap();
    fs::write(bed.home().join("iam.json"), users.to_string()).unwrap();
    fs::set_permissions(bed.home().join("iam.json"), PermissionsExt::from_mode(0o600)).unwrap();
    let (running, endpoint, uuid) = paused(&bed);
    let script = "
node, uuid = sys.argv[2:4]
c = send([node], ['true'])
ended(c, node)
is_equal(len(ssm.list_commands(CommandId=c)['Commands']), 1)
ssm = boto3.client('ssm', endpoint_url=sys.argv[1], region_name='us-east-1',
    aws_access_key_id='AKIAANNAAAAAAAAAAAAA', aws_secret_access_key='the-secret-of-ann')
for name in (node, 'codebuild:' + uuid, 'codebuild:demo'):
    refused('AccessDeniedException', 'explicit deny', send, [name], ['true'])
    refused('AccessDeniedException', 'explicit deny', ssm.start_session, Target=name)
refused('AccessDeniedException', 'explicit deny', send, None, ['true'],
    Targets=[{'Key': 'tag:codebuild:project', 'Values': ['demo']}])
# What another has sent there is not shown.
refused('InvocationDoesNotExist', '', get, c, node)
";
    run(&bed, &endpoint, script, &[&node(&uuid), &uuid]);
    bed.resume(running);
}

fn an_endpoint_that_is_killed() {
    let bed = Bed::new();
    let (endpoint, mut server) = Endpoint::serve(&bed, &[]);
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let node = node(&uuid(&bed.live()));
    let script = "
node = sys.argv[2]
c = send([node], ['echo $$ > /tmp/script; echo run >> /tmp/runs; echo here; read x < /tmp/never'])
while 'here' not in get(c, node)['StandardOutputContent']: time.sleep(0.02)
print(c)
";
    bed.runner(["exec", "--", "mkfifo", "/tmp/never"]).code(0);
    let sent = run(&bed, &endpoint, script, &[&node]);
    server.signal(Signal::SIGKILL);
    server.wait();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let script = "
got = get(sys.argv[3].strip(), sys.argv[2])
is_equal((got['Status'], got['StandardErrorContent']), ('Failed', 'the endpoint was stopped'))
ssm.cancel_command(CommandId=sys.argv[3].strip())
";
    run(&bed, &endpoint, script, &[&node, &sent.stdout]);
    let is_dead = ["exec", "--", "sh", "-c", "kill -0 $(cat /tmp/script)"];
    until("the script is dead", || bed.runner(is_dead).code != 0);
    // Nobody has run it again.
    let runs = bed.runner(["exec", "--", "cat", "/tmp/runs"]).code(0);
    assert_eq!(runs.stdout, "run\n");
    bed.resume(running);
    stop(server);
}

/// A running script ends before the endpoint does.
fn an_endpoint_that_is_stopped() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let node = node(&uuid(&bed.live()));
    let script = "
node = sys.argv[2]
c = send([node], ['echo here; read x < /tmp/go; echo on'])
while 'here' not in get(c, node)['StandardOutputContent']: time.sleep(0.02)
print(c)
";
    bed.runner(["exec", "--", "mkfifo", "/tmp/go"]).code(0);
    let sent = run(&bed, &endpoint, script, &[&node]);
    server.signal(Signal::SIGTERM);
    server.stderr.wait_for("commands that run: 1");
    bed.runner(["exec", "--", "sh", "-c", "echo x > /tmp/go"]).code(0);
    server.ends(0);
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let script = "
got = get(sys.argv[3].strip(), sys.argv[2])
is_equal((got['Status'], got['StandardOutputContent']), ('Success', 'here\\non\\n'))
";
    run(&bed, &endpoint, script, &[&node, &sent.stdout]);
    bed.resume(running);
    stop(server);
}

/// With 24 kB of output each, in bounded memory.
fn fifty_builds() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let mut builds = Vec::new();
    for _ in 0..50 {
        builds.push(bed.paused(&build(&["codebuild-breakpoint"]), &[]));
    }
    let script = "
c = send(None, ['i=0; while [ $i -lt 2400 ]; do echo 123456789; i=$((i+1)); done'],
    Targets=[{'Key': 'tag:codebuild:project', 'Values': ['demo']}])
while True:
    row = ssm.list_commands(CommandId=c)['Commands'][0]
    if row['Status'] not in ('Pending', 'InProgress'): break
    time.sleep(0.1)
is_equal((row['Status'], row['TargetCount'], row['CompletedCount']), ('Success', 50, 50))
for row in ssm.list_command_invocations(CommandId=c)['CommandInvocations']:
    is_equal(len(get(c, row['InstanceId'])['StandardOutputContent']), 24000)
";
    run(&bed, &endpoint, script, &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    let peak: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!(peak < 96 << 10, "{peak} kB");
    for running in builds {
        running.signal(Signal::SIGTERM);
        running.ends(5);
    }
    stop(server);
}
