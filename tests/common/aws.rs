//! AWS's services, simulated by moto on its own port and shared by all tests of a run; and a proxy
//! that injects faults.

use super::daemon::Daemon;
use super::{Bed, Outcome, outcome, python, until};
use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Keys and a Region; moto accepts any.
pub(crate) const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"),
    ("AWS_DEFAULT_REGION", "eu-west-1"),
];

/// The port of the services.
pub(crate) fn aws() -> u16 {
    static AWS: OnceLock<(Daemon, u16)> = OnceLock::new();
    AWS.get_or_init(|| {
        let server = Daemon::start(|_| {
            let mut command = Command::new(python("moto_server"));
            // Any free port.
            command.args(["-H", "127.0.0.1", "-p", "0"]);
            command
        });
        let port = server.log.number_after("Running on http://127.0.0.1:");
        (server, port)
    })
    .1
}

/// Sets keys and endpoint in a program's environment.
pub(crate) fn surround(command: &mut Command, port: u16) -> &mut Command {
    command
        .envs(KEYS)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
}

/// Runs AWS's CLI. Returns its output.
#[track_caller]
pub(crate) fn cli(arguments: &[&str]) -> Vec<u8> {
    let mut cli = Command::new(python("aws"));
    // Without the profile, proxy and endpoint of the user who runs the tests.
    cli.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
    let output = surround(&mut cli, aws()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output.stdout
}

/// Calls one of the JSON services directly, without another program.
pub(crate) fn call(service: &str, target: &str, body: &Value) -> (u16, Value) {
    let mut server = TcpStream::connect(("127.0.0.1", aws())).unwrap();
    let (id, region, body) = (KEYS[0].1, KEYS[2].1, body.to_string());
    write!(
        server,
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {target}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={id}/20260101/{region}/{service}/aws4_request, \
         SignedHeaders=host, Signature=0\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (head, mut answer) = read_head(&mut server).unwrap();
    server.read_to_end(&mut answer).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_slice(&answer).unwrap_or_default())
}

/// Creates a KMS key. Returns its ARN.
pub(crate) fn kms_key() -> String {
    let (status, made) = call("kms", "TrentService.CreateKey", &json!({}));
    assert_eq!(status, 200, "{made}");
    made["KeyMetadata"]["Arn"].as_str().unwrap().to_owned()
}

/// Creates a log group, encrypted or not.
pub(crate) fn log_group(name: &str, is_encrypted: bool) {
    let mut group = json!({"logGroupName": name});
    if is_encrypted {
        group["kmsKeyId"] = json!(kms_key());
    }
    let (status, made) = call("logs", "Logs_20140328.CreateLogGroup", &group);
    assert_eq!(status, 200, "{made}");
}

/// The messages in a log stream so far.
pub(crate) fn log_events(group: &str, stream: &str) -> Vec<String> {
    let asked = json!({"logGroupName": group, "logStreamName": stream, "startFromHead": true});
    let (_, found) = call("logs", "Logs_20140328.GetLogEvents", &asked);
    let events = found["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// Variables with which programs in a bed find the services through a port.
pub(crate) fn variables(port: u16) -> Vec<(String, String)> {
    let endpoint = ("AWS_ENDPOINT_URL".to_owned(), format!("http://127.0.0.1:{port}"));
    let keys = KEYS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let no_machine = ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
    keys.chain([endpoint, no_machine]).collect()
}

/// Creates a bucket.
pub(crate) fn bucket(name: &str) -> String {
    cli(&["s3", "mb", &format!("s3://{name}")]);
    name.to_owned()
}

/// The keys in a bucket, in order.
pub(crate) fn keys(bucket: &str) -> Vec<String> {
    let text = cli(&["s3api", "list-objects-v2", "--bucket", bucket, "--output", "json"]);
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    let objects = list["Contents"].as_array().cloned().unwrap_or_default();
    objects.iter().map(|object| object["Key"].as_str().unwrap().to_owned()).collect()
}

/// An object's bytes.
pub(crate) fn object(bucket: &str, key: &str) -> Vec<u8> {
    cli(&["s3", "cp", &format!("s3://{bucket}/{key}"), "-"])
}

/// Puts a small object with metadata, without another program; the services check no credentials.
pub(crate) fn put(bucket: &str, key: &str, metadata: &[(&str, &str)], body: &str) {
    let mut server = TcpStream::connect(("127.0.0.1", aws())).unwrap();
    let told: String =
        metadata.iter().map(|(name, value)| format!("x-amz-meta-{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        server,
        "PUT /{bucket}/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {told}\r\n{body}"
    )
    .unwrap();
    let (head, _) = read_head(&mut server).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

/// Number of incomplete, unaborted uploads.
pub(crate) fn half_uploads(bucket: &str) -> usize {
    let text = cli(&["s3api", "list-multipart-uploads", "--bucket", bucket, "--output", "json"]);
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    list["Uploads"].as_array().map_or(0, Vec::len)
}

/// Runs a build that finds the services.
pub(crate) fn with_aws(bed: &Bed, buildspec: &str, options: &[&str]) -> Outcome {
    with_aws_at(aws(), bed, buildspec, options)
}

/// The same through another port.
pub(crate) fn with_aws_at(port: u16, bed: &Bed, buildspec: &str, options: &[&str]) -> Outcome {
    outcome(surround(&mut bed.build_command(buildspec, options), port))
}

/// A fault applied to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The server answers with this status, and the services never see the request.
    Status(u16),
    /// It answers with what this function makes of the document that was sent.
    Answered(fn(&str) -> String),
    /// Its response ends after this many bytes of its body.
    Cut(usize),
    /// The connection is closed before a response.
    Dropped,
    /// The whole request is read, and nothing is sent.
    Held,
    /// Not even the request's body is read.
    Deaf,
    /// Its response stops after this many bytes of its body, and the connection stays open.
    Stalled(usize),
    /// Request and response are passed on in this many small pieces.
    Drops(usize),
    /// The request waits until the test opens the gate.
    Gated,
    /// Its response stops after this many bytes of its body until the test opens the gate.
    Paused(usize),
    /// The same, but then it ends.
    Severed(usize),
    /// Its response, head and body, is replaced.
    Rewritten(fn(String) -> String),
}

/// A rule: the request's method, a part of its path, how often, and the fault.
type Rule = (&'static str, &'static str, usize, Fault);

/// The pause after each piece.
const DRIP: Duration = Duration::from_millis(3);

/// A proxy that passes requests to the services and injects faults.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    way: Arc<Way>,
}

struct Way {
    rules: Mutex<Vec<Rule>>,
    /// Methods and paths of all requests, passed on or not.
    seen: Mutex<Vec<String>>,
    /// Methods and paths of requests that wait, or have waited, at the gate.
    waited: Mutex<Vec<String>>,
    /// Access keys that signed the requests.
    keys: Mutex<Vec<String>>,
    /// Requests with documents, and the documents.
    documents: Mutex<Vec<(String, String)>>,
    /// Whether gated requests may continue.
    gate: (Mutex<bool>, Condvar),
}

impl Proxy {
    pub(crate) fn start(rules: &[Rule]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Way {
            rules: Mutex::new(rules.to_vec()),
            seen: Mutex::default(),
            waited: Mutex::default(),
            keys: Mutex::default(),
            documents: Mutex::default(),
            gate: <(Mutex<bool>, Condvar)>::default(),
        });
        let shared = Arc::clone(&way);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let way = Arc::clone(&shared);
                // A client may disconnect.
                std::thread::spawn(move || way.pass(client.ok()?).ok());
            }
        });
        Proxy { port, way }
    }

    /// How many requests of a method had a path with this part.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        let seen = self.way.seen.lock().unwrap();
        seen.iter().filter(|line| line.starts_with(method) && line.contains(part)).count()
    }

    /// The access keys that signed the requests, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.way.keys.lock().unwrap().clone()
    }

    /// Waits until such a request waits at the gate.
    #[track_caller]
    pub(crate) fn until_it_waits(&self, method: &str, part: &str) {
        until("a request waits for the gate", || {
            let waited = self.way.waited.lock().unwrap();
            waited.iter().any(|line| line.starts_with(method) && line.contains(part))
        });
    }

    /// The documents that such requests have sent.
    pub(crate) fn documents(&self, method: &str, part: &str) -> Vec<String> {
        let documents = self.way.documents.lock().unwrap();
        let such =
            documents.iter().filter(|(first, _)| first.starts_with(method) && first.contains(part));
        such.map(|(_, document)| document.clone()).collect()
    }

    /// Opens the gate.
    pub(crate) fn open(&self) {
        let (open, changed) = &self.way.gate;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
}

impl Way {
    /// Waits until the gate is open.
    fn wait(&self, first: &str) {
        self.waited.lock().unwrap().push(first.to_owned());
        let (open, changed) = &self.gate;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }

    fn fault(&self, first: &str) -> Option<Fault> {
        self.seen.lock().unwrap().push(first.to_owned());
        self.rules.lock().unwrap().iter_mut().find_map(|(method, part, left, fault)| {
            let applies = *left > 0 && first.starts_with(*method) && first.contains(*part);
            applies.then(|| *left -= 1).map(|()| *fault)
        })
    }

    /// Passes on one request and its response.
    fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let (head, mut body) = read_head(&mut client)?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default().to_owned();
        if let Some((_, rest)) = head.split_once("Credential=") {
            let key = rest.split('/').next().unwrap_or_default().to_owned();
            self.keys.lock().unwrap().push(key);
        }
        let fault = self.fault(&first);
        let kept: Vec<&str> = lines
            .filter(|line| {
                let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
                name != "connection" && name != "expect"
            })
            .collect();
        let length = kept.iter().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if head.to_ascii_lowercase().contains("expect: 100-continue") {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if let Some(Fault::Deaf) = fault {
            return until_gone(&client);
        }
        let length = length.unwrap_or(0);
        let most =
            if let Some(Fault::Drops(drops)) = fault { length / drops + 1 } else { 64 << 10 };
        let mut chunk = vec![0; most];
        while body.len() < length {
            let got = client.read(&mut chunk)?;
            if got == 0 {
                return Ok(());
            }
            body.extend_from_slice(&chunk[..got]);
            if let Some(Fault::Drops(_)) = fault {
                std::thread::sleep(DRIP);
            }
        }
        let document = String::from_utf8_lossy(if body.starts_with(b"<") { &body } else { b"" });
        self.documents.lock().unwrap().push((first.clone(), document.clone().into_owned()));
        match fault {
            Some(Fault::Dropped) => return client.shutdown(Shutdown::Both),
            Some(Fault::Held) => return until_gone(&client),
            Some(Fault::Status(status)) => {
                let answer = format!(
                    "HTTP/1.1 {status} Spoilt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                return client.write_all(answer.as_bytes());
            }
            Some(Fault::Answered(answer)) => {
                let answer = answer(&document);
                let length = answer.len();
                return write!(
                    client,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{answer}"
                );
            }
            Some(Fault::Gated) => self.wait(&first),
            _ => {}
        }
        let mut server = TcpStream::connect(("127.0.0.1", aws()))?;
        write!(server, "{first}\r\n{}\r\nConnection: close\r\n\r\n", kept.join("\r\n").trim_end())?;
        server.write_all(&body)?;
        let (head, mut rest) = read_head(&mut server)?;
        server.read_to_end(&mut rest)?;
        if let Some(Fault::Cut(most) | Fault::Stalled(most)) = fault {
            rest.truncate(most);
        }
        let answer = [head.trim_end().as_bytes(), b"\r\n\r\n", &rest].concat();
        match fault {
            Some(Fault::Paused(most) | Fault::Severed(most)) => {
                let (now, later) =
                    answer.split_at(answer.len() - rest.len() + most.min(rest.len()));
                client.write_all(now)?;
                self.wait(&first);
                if let Some(Fault::Paused(_)) = fault {
                    client.write_all(later)?;
                }
            }
            Some(Fault::Rewritten(rewrite)) => {
                let answer = rewrite(String::from_utf8_lossy(&answer).into_owned());
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
                let is_length =
                    |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
                // The response to a HEAD request gives the length of a body that does not follow.
                let is_head = first.starts_with("HEAD");
                let kept: Vec<&str> =
                    head.lines().filter(|line| is_head || !is_length(line)).collect();
                let length = match is_head {
                    true => String::new(),
                    false => format!("\r\nContent-Length: {}", body.len()),
                };
                write!(client, "{}{length}\r\n\r\n{body}", kept.join("\r\n"))?;
            }
            Some(Fault::Drops(drops)) => {
                client.set_nodelay(true)?;
                for drop in answer.chunks(answer.len() / drops + 1) {
                    client.write_all(drop)?;
                    std::thread::sleep(DRIP);
                }
            }
            _ => client.write_all(&answer)?,
        }
        if let Some(Fault::Stalled(_)) = fault {
            return until_gone(&client);
        }
        client.shutdown(Shutdown::Both)
    }
}

/// Waits for the client to disconnect.
fn until_gone(client: &TcpStream) -> io::Result<()> {
    let mut wanted = [PollFd::new(client, PollFlags::RDHUP)];
    rustix::event::poll(&mut wanted, None)?;
    Ok(())
}

/// Reads up to the empty line, and whatever has arrived of the body.
fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        let mut chunk = [0; 16 << 10];
        let got = stream.read(&mut chunk)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..got]);
    }
}
