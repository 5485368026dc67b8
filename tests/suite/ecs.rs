//! Clusters, and builds as their tasks, tested with AWS's client for Python, including the calls of
//! AWS's checker for ECS Exec.

use super::service::{a_project, spec};
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, cases, outcome, python};
use nix::sys::signal::Signal;

cases! {
    [Python] => clusters_are_made_and_changed;
    [Containers, Python] => a_task_of_a_cluster;
}

const PRELUDE: &str = "
import boto3, json, os, sys, time
from botocore.exceptions import ClientError
def client(name, **keys): return boto3.client(name, endpoint_url=sys.argv[1], region_name='us-east-1', **keys)
ecs = client('ecs')
def refused(code, words, call, *args, **more):
    try: call(*args, **more)
    except ClientError as error:
        assert error.response['Error']['Code'] == code, error
        assert words in error.response['Error']['Message'], error
    else: assert False, 'not refused: ' + code
def is_equal(got, wanted): assert got == wanted, (got, wanted)
";

fn run(bed: &Bed, endpoint: &Endpoint, script: &str, arguments: &[&str]) {
    let mut program = bed.other(python("python3").to_str().unwrap());
    endpoint.surround(&mut program);
    let script = format!("{PRELUDE}{script}");
    program.args(["-c", &script, &format!("http://{}", endpoint.address)]).args(arguments);
    outcome(program.env("AWS_MAX_ATTEMPTS", "1")).code(0);
}

fn clusters_are_made_and_changed() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let script = "
def exec(**more): return {'executeCommandConfiguration': more}
log = {'cloudWatchLogGroupName': 'audits', 's3BucketName': 'kept', 's3KeyPrefix': 'exec'}
made = ecs.create_cluster(clusterName='web', tags=[{'key': 'team', 'value': 'web'}],
    configuration=exec(logging='OVERRIDE', logConfiguration=log))['cluster']
is_equal((made['clusterName'], made['status']), ('web', 'ACTIVE'))
is_equal(sorted(ecs.list_clusters()['clusterArns'])[1], made['clusterArn'])
plain = ecs.describe_clusters(clusters=['web', 'none'])
assert 'configuration' not in plain['clusters'][0] and plain['clusters'][0]['tags'] == [], plain
is_equal(plain['failures'][0]['reason'], 'MISSING')
def shown(): return ecs.describe_clusters(clusters=[made['clusterArn']], include=['CONFIGURATIONS', 'TAGS'])['clusters'][0]
is_equal(shown()['configuration'], exec(logging='OVERRIDE', logConfiguration=log))
is_equal(shown()['tags'], [{'key': 'team', 'value': 'web'}])
# The same once more is the same; another is not.
ecs.create_cluster(clusterName='web', tags=[{'key': 'team', 'value': 'web'}],
    configuration=exec(logging='OVERRIDE', logConfiguration=log))
refused('InvalidParameterException', 'inconsistent', ecs.create_cluster, clusterName='web')
ecs.update_cluster(cluster='web', configuration=exec(logging='NONE', kmsKeyId='alias/k'))
is_equal(shown()['configuration'], exec(logging='NONE', kmsKeyId='alias/k'))
for wrong, words in ((exec(logging='OVERRIDE'), 'required'), (exec(logging='NONE', logConfiguration=log), 'OVERRIDE'),
        (exec(logging='OVERRIDE', logConfiguration={}), 'neither'), (exec(logging='x'), 'variant')):
    refused('InvalidParameterException', words, ecs.update_cluster, cluster='web', configuration=wrong)
refused('ClusterNotFoundException', 'Cluster not found.', ecs.update_cluster, cluster='other', configuration={})
refused('ClusterNotFoundException', 'Cluster not found.', ecs.list_tasks, cluster='other')
refused('InvalidParameterException', 'letters', ecs.create_cluster, clusterName='a/b')
ecs.tag_resource(resourceArn=made['clusterArn'], tags=[{'key': 'a', 'value': 'b'}])
ecs.untag_resource(resourceArn=made['clusterArn'], tagKeys=['team'])
is_equal(ecs.list_tags_for_resource(resourceArn=made['clusterArn'])['tags'], [{'key': 'a', 'value': 'b'}])
refused('InvalidParameterException', 'codebuild:', ecs.tag_resource, resourceArn=made['clusterArn'],
    tags=[{'key': 'codebuild:project', 'value': 'x'}])
# The one that is always there can have a configuration, and cannot go.
ecs.create_cluster(configuration=exec(logging='NONE'))
is_equal(ecs.describe_clusters(include=['CONFIGURATIONS'])['clusters'][0]['configuration'], exec(logging='NONE'))
refused('InvalidParameterException', 'always', ecs.delete_cluster, cluster='default')
is_equal(ecs.delete_cluster(cluster='web')['cluster']['status'], 'INACTIVE')
is_equal(len(ecs.list_clusters()['clusterArns']), 1)
";
    run(&bed, &endpoint, script, &[]);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// A project's build started as a task, in its own cluster.
fn a_task_of_a_cluster() {
    let bed = Bed::new();
    let (endpoint, server) = Endpoint::serve(&bed, &[]);
    let project = a_project(&spec("codebuild-breakpoint")).to_string();
    let script = "
client('codebuild').create_project(**json.loads(sys.argv[2]))
iam = client('iam')
ecs.create_cluster(clusterName='my_own')
def user(name, *statements):
    iam.create_user(UserName=name)
    policy = {'Version': '2012-10-17', 'Statement': list(statements)}
    iam.put_user_policy(UserName=name, PolicyName='p', PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)['AccessKey']
    return dict(aws_access_key_id=key['AccessKeyId'], aws_secret_access_key=key['SecretAccessKey'])
everything = {'Effect': 'Allow', 'Action': '*', 'Resource': '*'}
# As ECS documents it: tasks may be launched while ECS Exec is off.
ann = user('ann', {'Effect': 'Allow', 'Action': ['ecs:RunTask', 'ecs:StartTask', 'ecs:CreateService', 'ecs:UpdateService'],
    'Resource': '*', 'Condition': {'StringEquals': {'ecs:enable-execute-command': 'false'}}})
refused('AccessDeniedException', 'ecs:RunTask', client('ecs', **ann).run_task, taskDefinition='demo', enableExecuteCommand=True)
refused('InvalidParameterException', 'no services', client('ecs', **ann).create_service, serviceName='web', taskDefinition='demo')
refused('ClientException', 'TaskDefinition not found.', ecs.run_task, taskDefinition='other')
refused('ClusterNotFoundException', '', ecs.run_task, taskDefinition='demo', cluster='other')
task = ecs.run_task(taskDefinition='demo:1', cluster='my_own', enableExecuteCommand=True, startedBy='me',
    tags=[{'key': 'environment', 'value': 'production'}],
    overrides={'containerOverrides': [{'name': 'build', 'environment': [{'name': 'X', 'value': 'from-the-call'}]}]})['tasks'][0]
arn, id = task['taskArn'], task['taskArn'].rpartition('/')[2]
assert '/my_own/' in arn, arn
def described():
    found = ecs.describe_tasks(cluster='my_own', tasks=[arn])
    is_equal(found['failures'], [])
    return found['tasks'][0]
def agent():
    containers = described()['containers']
    return containers and containers[0]['managedAgents'][0]['lastStatus']
while agent() != 'RUNNING': time.sleep(0.02)
now = described()
is_equal((now['lastStatus'], now['startedBy'], now['enableExecuteCommand']), ('RUNNING', 'me', True))
assert {'key': 'environment', 'value': 'production'} in now['tags'], now
is_equal(ecs.list_tasks(cluster='my_own')['taskArns'], [arn])
is_equal(ecs.list_tasks()['taskArns'], [])
is_equal(ecs.describe_tasks(tasks=[id])['failures'][0]['reason'], 'MISSING')
refused('InvalidParameterException', 'my_own', ecs.execute_command, task=id, command='sh', interactive=True)
# A rule about its cluster or its tags counts under every name of the build.
build = id[:8] + '-' + '-'.join((id[8:12], id[12:16], id[16:20], id[20:]))
bob = user('bob', everything, {'Effect': 'Deny', 'Action': 'ssm:StartSession',
    'Resource': 'arn:aws:ecs:*:000000000000:task/my_own/*'})
eve = user('eve', everything, {'Effect': 'Deny', 'Action': '*', 'Resource': '*',
    'Condition': {'StringEquals': {'aws:ResourceTag/environment': 'production'}}})
runtime = now['containers'][0]['runtimeId']
for keys in (bob, eve):
    for target in ('codebuild:' + build, 'mi-' + id[:17], f'ecs:my_own_{id}_{runtime}'):
        refused('AccessDeniedException', 'explicit deny', client('ssm', **keys).start_session, Target=target)
refused('AccessDeniedException', '', client('ecs', **eve).execute_command, cluster='my_own', task=id, command='sh', interactive=True)
opened = client('ecs', **bob).execute_command(cluster='my_own', task=id, command='sh', interactive=True)
assert opened['session']['sessionId'].startswith('ecs-execute-command-'), opened
client('ssm').terminate_session(SessionId=opened['session']['sessionId'])
# What AWS's checker for ECS Exec asks, in its order.
caller = client('sts').get_caller_identity()['Arn']
def decided(source, action, *resource):
    found = iam.simulate_principal_policy(PolicySourceArn=source, ActionNames=[action], ResourceArns=list(resource) or ['*'])
    return found['EvaluationResults'][0]['EvalDecision']
is_equal(decided(caller, 'ecs:ExecuteCommand', arn), 'allowed')
definition = ecs.describe_task_definition(taskDefinition=now['taskDefinitionArn'])['taskDefinition']
container = definition['containerDefinitions'][0]
is_equal((container['linuxParameters'], container['environment'], container['readonlyRootFilesystem']),
    ({'initProcessEnabled': True}, [], False))
is_equal(iam.get_role(RoleName='runner-build')['Role']['Arn'], definition['taskRoleArn'])
for channel in ('CreateControlChannel', 'CreateDataChannel', 'OpenControlChannel', 'OpenDataChannel'):
    is_equal(decided(definition['taskRoleArn'], 'ssmmessages:' + channel), 'allowed')
is_equal(decided(definition['taskRoleArn'], 'dynamodb:Scan'), 'implicitDeny')
subnet = now['attachments'][0]['details'][0]['value']
ec2 = client('ec2')
found = ec2.describe_subnets(SubnetIds=[subnet])['Subnets'][0]
is_equal((found['SubnetId'], found['OwnerId']), (subnet, '000000000000'))
is_equal(ec2.describe_vpc_endpoints(Filters=[{'Name': 'vpc-id', 'Values': [found['VpcId']]}])['VpcEndpoints'], [])
refused('InvalidSubnetID.NotFound', 'subnet-1', ec2.describe_subnets, SubnetIds=['subnet-1'])
refused('ClusterContainsTasksException', '', ecs.delete_cluster, cluster='my_own')
ssm = client('ssm')
command = ssm.send_command(DocumentName='AWS-RunShellScript', Parameters={'commands': ['echo $X']},
    Targets=[{'Key': 'tag:environment', 'Values': ['production']}])['Command']['CommandId']
while True:
    got = ssm.get_command_invocation(CommandId=command, InstanceId='mi-' + id[:17])
    if got['Status'] not in ('Pending', 'InProgress', 'Delayed'): break
    time.sleep(0.02)
is_equal(got['StandardOutputContent'], 'from-the-call\\n')
ecs.stop_task(cluster='my_own', task=arn)
while described()['lastStatus'] != 'STOPPED': time.sleep(0.02)
assert 'has ended' in described()['stoppedReason'], described()
ecs.delete_cluster(cluster='my_own')
";
    run(&bed, &endpoint, script, &[&project]);
    server.signal(Signal::SIGTERM);
    server.ends(0);
}
