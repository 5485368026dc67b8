//! The local CodeBuild with ten thousand builds: raw HTTP on an open connection, compared with
//! `runner run` in the same rounds.

use super::bed::{Bed, OwnedProcess};
use super::{Contender, measure, quiet, until_hi};
use crate::ChoreResult;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Number of stored builds.
const STORED: usize = 10_000;
/// Calls of StartBuild per round.
const STARTS: usize = 200;
/// Lines of the log being followed.
const LINES: usize = 200_000;

/// A `runner serve` and a connection to it.
struct Served {
    stream: BufReader<TcpStream>,
    address: String,
    server: OwnedProcess,
    /// Time from its start until it listened.
    took: Duration,
}

pub(super) fn measure_service(bed: &Bed) -> ChoreResult {
    let spec = bed.buildspec("service", &["echo hi"])?;
    bed.runner_run(&spec, &[])?;
    store(bed)?;
    drop(Served::new(bed, &[])?);
    let mut served = Served::new(bed, &["--max-builds", "4"])?;
    println!("### {STORED} builds\n\n| | |\n|---|---|");
    println!("| `runner serve` until it listens, ms | {:.0} |", super::millis(served.took));
    println!("| `runner serve` idle, MiB | {:.1} |\n", served.resident());
    first_command(bed, &mut served)?;
    lookups(&mut served)?;
    follow(bed, &mut served)?;
    drop(served);
    accepted(bed)
}

/// Copies the only build until there are enough.
fn store(bed: &Bed) -> ChoreResult {
    let failed = |error: std::io::Error| error.to_string();
    let builds = bed.dir.join("state/builds");
    let first = fs::read_dir(&builds).map_err(failed)?.next().ok_or("no build")?.map_err(failed)?;
    let uuid = first.file_name().to_string_lossy().into_owned();
    let read = |name: &str| fs::read_to_string(first.path().join(name)).map_err(failed);
    let files = [("meta.json", read("meta.json")?), ("record.json", read("record.json")?)];
    for number in 0..STORED {
        let other = format!("00000000-0000-4000-8000-{number:012}");
        let dir = builds.join(&other);
        fs::create_dir(&dir).map_err(failed)?;
        for (name, text) in &files {
            fs::write(dir.join(name), text.replace(&uuid, &other)).map_err(failed)?;
        }
    }
    Ok(())
}

/// From the call, or from the start of the program, to the first command's output.
fn first_command(bed: &Bed, served: &mut Served) -> ChoreResult {
    served.call("CreateProject", &project("echo hi", &bed.image))?;
    let spec = bed.buildspec("service-first", &["echo hi"])?;
    let mut contenders = [
        Contender::timed("StartBuild", || {
            let begin = Instant::now();
            let build = served.call("StartBuild", &json!({"projectName": "bench"}))?;
            let id = build["build"]["id"].as_str().ok_or("no id")?.to_owned();
            let uuid = id.rsplit(':').next().unwrap_or_default();
            let output = bed.dir.join("state/builds").join(uuid).join("output.log");
            while !fs::read(&output).is_ok_and(|text| text.starts_with(b"hi")) {
                std::thread::sleep(Duration::from_micros(200));
            }
            let took = begin.elapsed();
            ends(served, &id)?;
            Ok(took)
        }),
        Contender::timed("`runner run`", || {
            until_hi(&mut bed.run_command(&spec, &["--image", &bed.image]))
        }),
    ];
    measure("From StartBuild to its first output", 10, &mut contenders)
}

fn ends(served: &mut Served, id: &str) -> ChoreResult {
    loop {
        let answer = served.call("BatchGetBuilds", &json!({"ids": [id]}))?;
        if answer["builds"][0]["buildComplete"] == true {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lookups(served: &mut Served) -> ChoreResult {
    let ids = served.call("ListBuilds", &json!({}))?["ids"].clone();
    let others = std::cell::RefCell::new(served);
    let timed = |name: &'static str, input: Value| {
        let others = &others;
        move || {
            let begin = Instant::now();
            let answer = others.borrow_mut().exchange("CodeBuild_20161006", name, &input)?;
            // Parsing the JSON is the client's work, and this client is a debug build.
            let took = begin.elapsed();
            answer.value(name).map(|_| took)
        }
    };
    let mut contenders = [
        Contender::timed("BatchGetBuilds of 100", timed("BatchGetBuilds", json!({"ids": ids}))),
        Contender::timed("BatchGetBuilds of 1", timed("BatchGetBuilds", json!({"ids": [ids[0]]}))),
        Contender::timed("ListBuilds", timed("ListBuilds", json!({}))),
    ];
    measure(&format!("Calls among {STORED} builds"), 50, &mut contenders)
}

/// New lines of a long log, compared with a short one.
fn follow(bed: &Bed, served: &mut Served) -> ChoreResult {
    let long = bed.buildspec("long", &[&format!("seq {LINES}; codebuild-breakpoint")])?;
    let short = bed.buildspec("short", &["echo hi; codebuild-breakpoint"])?;
    let mut paused = Vec::new();
    for (spec, name) in [(&long, "long"), (&short, "short")] {
        let options = ["--enable-session", "--detach", "--project", name];
        quiet(&mut bed.run_command(spec, &options))?;
        quiet(bed.runner().args(["wait", name, "--for", "paused"]))?;
        paused.push(name);
    }
    let others = std::cell::RefCell::new(served);
    let timed = |name: &str| {
        let (group, others) = (format!("/aws/codebuild/{name}"), &others);
        let mut since = 0;
        move || {
            let input = json!({"logGroupName": group, "startTime": since, "interleaved": true});
            let begin = Instant::now();
            let answer = others.borrow_mut().call_of("Logs_20140328", "FilterLogEvents", &input)?;
            let took = begin.elapsed();
            let last = answer["events"].as_array().and_then(|events| events.last());
            since = last.and_then(|last| last["timestamp"].as_u64()).unwrap_or(since);
            Ok(took)
        }
    };
    let mut contenders = [
        Contender::timed(format!("of {LINES} lines"), timed("long")),
        Contender::timed("of a few lines", timed("short")),
    ];
    let done = measure("A follow request of a log", 20, &mut contenders);
    for name in paused {
        quiet(bed.runner().args(["stop", name]))?;
    }
    done
}

/// How many builds are accepted while there is no room to run them.
fn accepted(bed: &Bed) -> ChoreResult {
    let mut served = Served::new(bed, &["--max-builds", "1", "--max-queued", "5000"])?;
    served.call("DeleteProject", &json!({"name": "bench"}))?;
    served.call("CreateProject", &project("exec sleep 1000", "host"))?;
    let first = served.call("StartBuild", &json!({"projectName": "bench"}))?;
    let begin = Instant::now();
    for _ in 0..STARTS {
        served.call("StartBuild", &json!({"projectName": "bench"}))?;
    }
    let rate = STARTS as f64 / begin.elapsed().as_secs_f64();
    println!(
        "### StartBuild, one after the other\n\n| | a second |\n|---|---|\n| accepted | {rate:.0} |\n"
    );
    served.call("StopBuild", &json!({"id": first["build"]["id"]}))?;
    // Queued builds disappear with the folder.
    drop(served);
    Ok(())
}

fn project(command: &str, image: &str) -> Value {
    json!({
        "name": "bench",
        "source": {"type": "NO_SOURCE", "buildspec": format!("version: 0.2\nphases:\n  build:\n    commands:\n      - {command}\n")},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "environment": {"type": "LINUX_CONTAINER", "image": image, "computeType": "BUILD_GENERAL1_SMALL"},
        "serviceRole": "arn:aws:iam::123456789012:role/bench",
    })
}

impl Served {
    fn new(bed: &Bed, options: &[&str]) -> ChoreResult<Self> {
        let failed = |error: std::io::Error| error.to_string();
        let begin = Instant::now();
        let images: PathBuf = crate::root().join("target/images");
        let mut server = bed
            .runner()
            .args(["serve", "--listen", "127.0.0.1:0", "--no-auth", "--source-root"])
            .arg(images)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let stderr = server.stderr.take().ok_or("no standard error")?;
        let server = OwnedProcess(server);
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| Some(line.split_once("listening on http://")?.1.to_owned()))
            .ok_or("the endpoint does not listen")?;
        let took = begin.elapsed();
        std::thread::spawn(move || lines.for_each(drop));
        let stream = BufReader::new(TcpStream::connect(&address).map_err(failed)?);
        Ok(Served { stream, address, server, took })
    }

    fn resident(&self) -> f64 {
        super::gateway::resident(&self.server.0) as f64 / 1024.0
    }

    fn call(&mut self, name: &str, input: &Value) -> ChoreResult<Value> {
        self.call_of("CodeBuild_20161006", name, input)
    }

    fn call_of(&mut self, service: &str, name: &str, input: &Value) -> ChoreResult<Value> {
        self.exchange(service, name, input)?.value(name)
    }

    /// Sends a call and reads the whole response.
    fn exchange(&mut self, service: &str, name: &str, input: &Value) -> ChoreResult<BenchResponse> {
        let body = input.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nX-Amz-Target: {service}.{name}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut talk = || -> std::io::Result<BenchResponse> {
            self.stream.get_mut().write_all(request.as_bytes())?;
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().map_err(std::io::Error::other)?;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            Ok(BenchResponse { is_ok: head.starts_with("HTTP/1.1 200"), body })
        };
        talk().map_err(|error| format!("{name}: {error}"))
    }
}

/// A raw response.
struct BenchResponse {
    is_ok: bool,
    body: Vec<u8>,
}

impl BenchResponse {
    fn value(&self, name: &str) -> ChoreResult<Value> {
        let answer: Value =
            serde_json::from_slice(&self.body).map_err(|error| format!("{name}: {error}"))?;
        if self.is_ok { Ok(answer) } else { Err(format!("{name}: {answer}")) }
    }
}
