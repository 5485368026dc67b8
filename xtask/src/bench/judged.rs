//! A call authorized by a hundred policies, compared with the owner's, which needs none: with AWS's
//! client for Python, on open connections.
//! connections that are kept.

use super::bed::Bed;
use super::gateway::PausedEndpoint;
use super::{Contender, measure as compare};
use crate::{ChoreResult, python, root};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Number of the user's policies.
const POLICIES: usize = 100;

/// For each input line, makes a call as one of the two and prints its duration in nanoseconds.
const CLIENT: &str = "
import boto3, sys, time
def client(*keys): return boto3.client('sts', endpoint_url=sys.argv[1], region_name='us-east-1',
    aws_access_key_id=keys[0], aws_secret_access_key=keys[1])
clients = {'owner': client(sys.argv[2], sys.argv[3]), 'user': client('AKIABENCHBENCHBENCHB', 'the-secret-of-the-bench')}
for line in sys.stdin:
    begin = time.perf_counter_ns()
    clients[line.strip()].get_caller_identity()
    print(time.perf_counter_ns() - begin, flush=True)
";

pub(super) fn measure(bed: &Bed) -> ChoreResult {
    let failed = |error: std::io::Error| error.to_string();
    python::install()?;
    let paused = bed.paused()?;
    let users = bed.dir.join("state/iam.json");
    fs::write(&users, policies().to_string()).map_err(failed)?;
    fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    let place = PausedEndpoint::new(bed)?;
    let client = RefCell::new(AwsClient::start(bed, &place.address)?);
    let mut contenders = [
        Contender::timed("judged by 100 policies", || client.borrow_mut().call("user")),
        Contender::timed("the owner's, judged by none", || client.borrow_mut().call("owner")),
    ];
    let result = compare("A call of a user", 200, &mut contenders);
    drop(contenders);
    drop((client, place, paused));
    fs::remove_file(&users).map_err(failed)?;
    result
}

/// A user whose policies must all be evaluated.
fn policies() -> Value {
    let one = |number: usize| {
        let statement = json!({
            "Effect": "Allow", "Action": ["ssm:StartSession", format!("ecs:Describe{number}*")],
            "Resource": format!("arn:aws:codebuild:*:*:build/project-{number}:*"),
            "Condition": {"StringLike": {"aws:ResourceTag/codebuild:project": format!("project-{number}*")}},
        });
        (format!("policy-{number}"), json!({"Version": "2012-10-17", "Statement": [statement]}))
    };
    let mut policies: serde_json::Map<String, Value> = (1..POLICIES).map(one).collect();
    let last = json!({"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"});
    policies.insert("z".to_owned(), json!({"Version": "2012-10-17", "Statement": [last]}));
    let key = json!({"id": "AKIABENCHBENCHBENCHB", "secret": "the-secret-of-the-bench"});
    json!({"users": [{"name": "bench", "keys": [key], "policies": policies}]})
}

/// AWS's client, with one connection for each of the two.
struct AwsClient {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl AwsClient {
    fn start(bed: &Bed, address: &str) -> ChoreResult<Self> {
        let failed = |error: std::io::Error| error.to_string();
        let text = fs::read_to_string(bed.dir.join("state/aws-credentials")).map_err(failed)?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_start_matches([' ', '=']).to_owned())
        };
        let (id, secret) = value("aws_access_key_id")
            .zip(value("aws_secret_access_key"))
            .ok_or("the endpoint has no key pair")?;
        let mut child = Command::new(root().join("target/python/bin/python3"))
            .args(["-c", CLIENT, &format!("http://{address}"), &id, &secret])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut client = AwsClient { child, input, output };
        // Opens the connections.
        for who in ["owner", "user"] {
            client.call(who)?;
        }
        Ok(client)
    }

    fn call(&mut self, who: &str) -> ChoreResult<Duration> {
        let failed = |error: std::io::Error| error.to_string();
        writeln!(self.input, "{who}").map_err(failed)?;
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(failed)?;
        let nanoseconds = line.trim().parse().map_err(|_| "the client has ended".to_owned())?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for AwsClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
