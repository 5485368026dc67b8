//! `--session-log`: output of sessions, without secrets, and a line for each event of a session;
//! and the limit that ends sessions even if they are active.

use crate::common::channel::{Channel, Heard, Started};
use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, list, outcome, until};
use nix::sys::signal::Signal;
use runner_wire::smux;
use runner_wire::ssm::Payload;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

cases! {
    [Containers, Image("busybox")] => terminals, commands, a_client_that_has_seen_enough,
        documents_without_a_terminal, ports, a_place_that_cannot_be,
        the_longest_session;
}

const SECRET: &str = "hunter2-hunter2";

/// A paused build whose sessions are recorded.
struct Recorded {
    bed: Bed,
    dir: PathBuf,
    build: Running,
}

impl Recorded {
    fn new() -> Self {
        let bed = Bed::new();
        let dir = bed.path("sessions");
        let secret = format!("SECRET={SECRET}");
        let options =
            ["--session-log", dir.to_str().unwrap(), "--mask", "SECRET", "-e", secret.as_str()];
        let build = bed.paused(&build(&["codebuild-breakpoint"]), &options);
        Recorded { bed, dir, build }
    }

    fn serve(&self) -> (Endpoint, Running) {
        Endpoint::serve(&self.bed, &["--no-auth"])
    }

    /// Ends the build. Returns its transcripts by session, and the audit's lines.
    fn ends(self) -> (BTreeMap<String, String>, Vec<Value>) {
        self.bed.resume(self.build);
        let mut texts = BTreeMap::new();
        for file in list(&self.dir) {
            let path = self.dir.join(&file);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
            let text = String::from_utf8(fs::read(path).unwrap()).unwrap();
            assert!(!text.contains("hunter2"), "{file}: {text}");
            texts.insert(file, text);
        }
        let audit = texts.remove("sessions.jsonl").unwrap();
        (texts, audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

fn ends(server: Running) {
    server.signal(Signal::SIGTERM);
    server.ends(0);
}

/// The events in order, by session.
fn events(lines: &[Value]) -> Vec<(u64, &str)> {
    lines
        .iter()
        .map(|line| (line["session"].as_u64().unwrap(), line["event"].as_str().unwrap()))
        .collect()
}

fn terminals() {
    let place = Recorded::new();
    let (endpoint, server) = place.serve();
    let started = Started::new(&place.bed, &endpoint, "", &json!({}));
    let mut channel = Channel::open(&started);
    channel.input(Payload::Bytes, b"echo shown-$((1+1)) $SECRET; exit\n");
    channel.wait_for_close();
    let terminal = place.bed.terminal(place.bed.command(["attach"]), 24, 80);
    terminal.send("echo attached-$((1+1)) $SECRET; exit\r");
    terminal.ends(0);
    ends(server);
    let uuid = place.bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    listed(&place, &started.id, &uuid);
    let (texts, lines) = place.ends();
    assert!(texts[&format!("{}.log", started.id)].contains("shown-2 ***"), "{texts:?}");
    assert!(texts[&format!("{uuid}-2.log")].contains("attached-2 ***"), "{texts:?}");
    // A recording of each.
    assert_eq!(texts.len(), 4, "{texts:?}");
    let cast = &texts[&format!("{uuid}-2.cast")];
    let mut cast = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = cast.next().unwrap();
    let size = (&header["version"], &header["width"], &header["height"]);
    assert_eq!(size, (&json!(2), &json!(80), &json!(24)));
    let shown: String = cast
        .filter(|event| event[1] == "o")
        .map(|event| event[2].as_str().unwrap().to_owned())
        .collect();
    assert!(shown.contains("attached-2 ***"), "{shown}");
    let wanted = [(1, "opened"), (1, "closed"), (2, "opened"), (2, "closed")];
    assert_eq!(events(&lines), wanted);
    assert_eq!(lines[0]["sessionId"], *started.id);
    assert!(lines.iter().all(|line| line["build"] == *uuid), "{lines:?}");
}

/// The recorded sessions, as shown by `runner sessions`.
fn listed(place: &Recorded, first: &str, uuid: &str) {
    let bed = &place.bed;
    let second = format!("{uuid}-2");
    // Without a folder: the last one used.
    let rows = bed.runner(["sessions", "ls", "--format", "json"]).code(0).stdout;
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    let names: Vec<&Value> = rows.iter().map(|row| &row["session"]).collect();
    assert_eq!(names, [&json!(second), &json!(first)]);
    assert!(rows[0]["end"].as_str().unwrap().starts_with("exit code"), "{rows:?}");
    assert_eq!(rows[0]["build"], *uuid);
    let dir = place.dir.to_str().unwrap();
    let table = bed.runner(["sessions", "ls", "--dir", dir]).code(0).stdout;
    assert!(table.starts_with("SESSION") && table.contains(&second), "{table}");
    let shown =
        bed.runner(["sessions", "show", &first[..first.len() - 1], "--dir", dir]).code(0).stdout;
    assert!(shown.contains("shown-2 ***") && !shown.contains('\u{1b}'), "{shown:?}");
    bed.runner(["sessions", "show", "no-such"]).code(2).says("there is no session no-such");
    bed.runner(["sessions", "play", "--dir", dir]).code(2).says("played on a terminal");
    let copy = bed.path("copy.cast");
    let export = ["sessions", "export", "-o", copy.to_str().unwrap()];
    bed.runner(export).code(0);
    bed.runner(export).code(2).says("cannot write");
    assert_eq!(
        fs::read(&copy).unwrap(),
        fs::read(place.dir.join(format!("{second}.cast"))).unwrap()
    );
    let played = bed.terminal(bed.command(["sessions", "play", "--speed", "1000"]), 24, 80);
    assert!(played.ends(0).contains("attached-2 ***"));
    let stopped = bed.terminal(
        bed.command(["sessions", "play", "--speed", "0.01", "--idle-limit", "1h"]),
        24,
        80,
    );
    stopped.send("q");
    stopped.ends(0);
}

/// The client sees everything unchanged, in separate streams, and with the exit code, as without a
/// transcript.
fn commands() {
    let place = Recorded::new();
    let script = "echo out $SECRET; cat; echo err $SECRET >&2; exit 7";
    let mut command = place.bed.command(["exec", "--", "sh", "-c", script]);
    command.stdin(fs::File::open(place.bed.write("input", "typed\n")).unwrap());
    let seen = outcome(&mut command).code(7);
    assert_eq!(seen.stdout, format!("out {SECRET}\ntyped\n"));
    assert_eq!(seen.stderr, format!("err {SECRET}\n"));
    // More than pipes hold, with the last part just before the end.
    let seen = place.bed.runner(["exec", "--", "seq", "1", "300000"]).code(0);
    let numbers: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(seen.stdout == numbers, "{} bytes", seen.stdout.len());
    // A background child does not delay it.
    let seen = place.bed.runner(["exec", "--", "sh", "-c", "sleep 1000 & echo done"]).code(0);
    assert_eq!(seen.stdout, "done\n");
    place.bed.runner(["exec", "--", "echo", SECRET]).code(0);
    place.bed.runner(["cp", "input", ":/tmp/copied"]).code(0);
    let (texts, lines) = place.ends();
    let texts: Vec<&String> = texts.values().collect();
    let text = texts.iter().find(|text| text.contains("typed")).unwrap();
    assert!(text.contains("out ***\ntyped\n") && text.contains("err ***\n"), "{text}");
    assert!(texts.contains(&&numbers), "{} transcripts", texts.len());
    // Copied files are not displayed, so they have no transcript.
    assert_eq!(texts.len(), 4, "{texts:?}");
    let of = |event: &str, field: &str| -> Vec<&str> {
        let lines = lines.iter().filter(|line| line["event"] == event);
        lines.filter_map(|line| line[field].as_str()).collect()
    };
    let programs = of("opened", "program");
    assert_eq!(programs[1..], ["seq 1 300000", "sh -c sleep 1000 & echo done", "echo ***", "cp"]);
    assert_eq!(of("closed", "how")[..2], ["exit code 7", "exit code 0"]);
}

/// The program notices that nobody reads its output, as without a transcript.
fn a_client_that_has_seen_enough() {
    let place = Recorded::new();
    let mut shell = place.bed.other("sh");
    let runner = crate::common::runner();
    let script = "echo $$ > /tmp/pid; exec yes over and over";
    let text = format!("{} exec -- sh -c '{script}' | head -n 2", runner.display());
    let seen = outcome(shell.args(["-c", &text])).code(0);
    assert_eq!(seen.stdout, "over and over\nover and over\n");
    let is_there = ["exec", "--", "sh", "-c", "kill -0 $(cat /tmp/pid)"];
    until("the program has ended", || place.bed.runner(is_there).code != 0);
    let (texts, _) = place.ends();
    assert!(texts.values().any(|text| text.starts_with("over and over\n")), "{texts:?}");
}

fn documents_without_a_terminal() {
    let place = Recorded::new();
    let (endpoint, server) = place.serve();
    let run = |apart: &str| {
        let script = "sh -c 'echo out $SECRET; echo err $SECRET >&2; exit 5'";
        let parameters = json!({"command": [script], "separateOutputStream": [apart]});
        let document = "AWS-StartNonInteractiveCommand";
        let started = Started::new(&place.bed, &endpoint, document, &parameters);
        let mut channel = Channel::open(&started);
        let mut heard = (String::new(), String::new(), String::new());
        loop {
            match channel.hear() {
                Heard::Output { payload, body, .. } => {
                    let to = match payload {
                        Payload::Bytes => &mut heard.0,
                        Payload::StdErr => &mut heard.1,
                        _ => &mut heard.2,
                    };
                    to.push_str(&String::from_utf8(body).unwrap());
                }
                Heard::Closed(reason) => {
                    assert_eq!(reason, "");
                    return (started.id, heard);
                }
                Heard::Lost => panic!("lost"),
                Heard::Acknowledged(_) => {}
            }
        }
    };
    let (merged, heard) = run("false");
    assert_eq!(heard.0, format!("out {SECRET}\nerr {SECRET}\n"));
    let (apart, heard) = run("true");
    let (out, err) = (format!("out {SECRET}\n"), format!("err {SECRET}\n"));
    assert_eq!(heard, (out, err, "EXIT_CODE: 5".to_owned()));
    ends(server);
    let (texts, lines) = place.ends();
    assert_eq!(texts[&format!("{merged}.log")], "out ***\nerr ***\n");
    let text = &texts[&format!("{apart}.log")];
    assert!(text.contains("out ***\n") && text.contains("err ***\n"), "{text}");
    let ids: Vec<&Value> = lines.iter().map(|line| &line["sessionId"]).collect();
    assert_eq!(ids, [&json!(merged), &json!(merged), &json!(apart), &json!(apart)]);
}

/// The data is not recorded; the destination is.
fn ports() {
    let place = Recorded::new();
    let (endpoint, server) = place.serve();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let parameters = json!({"portNumber": [port.to_string()]});
    let document = "AWS-StartPortForwardingSession";
    let started = Started::new(&place.bed, &endpoint, document, &parameters);
    let mut channel = Channel::open(&started);
    let mut open = smux::close(3).to_vec();
    open[1] = 0;
    channel.input(Payload::Bytes, &open);
    let data = [&smux::data_head(3, SECRET.len())[..], SECRET.as_bytes()].concat();
    channel.input(Payload::Bytes, &data);
    let (mut stream, _) = listener.accept().unwrap();
    let mut heard = [0; SECRET.len()];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(heard, SECRET.as_bytes());
    channel.input(Payload::Flag, &[0, 0, 0, 2]);
    channel.wait_for_close();
    ends(server);
    // A port where nobody listens: the other end of a connection.
    let pair = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let closed = pair.local_addr().unwrap().port();
    let ports = [format!(":{port}"), format!(":{closed}")];
    let forward = Running::spawn(place.bed.command(["port-forward", &ports[0], &ports[1]]));
    forward
        .stdout
        .wait_until("its ports", |bytes| bytes.iter().filter(|byte| **byte == b'\n').count() == 2);
    let text = forward.stdout.text();
    for line in text.lines() {
        let at = line.split(" -> ").next().unwrap();
        let mut stream = TcpStream::connect(at).unwrap();
        let _ = stream.write_all(SECRET.as_bytes());
        let _ = stream.shutdown(Shutdown::Write);
        if line.ends_with(&format!(":{port}")) {
            // The connection made above comes first.
            drop(listener.accept().unwrap());
            drop(listener.accept().unwrap());
        }
        let _ = stream.read_to_end(&mut Vec::new());
    }
    forward.signal(Signal::SIGTERM);
    forward.ends(143);
    drop(pair);
    let (texts, lines) = place.ends();
    assert!(texts.is_empty(), "{texts:?}");
    let wanted = [
        (1, "opened"),
        (1, "connected"),
        (1, "closed"),
        (2, "opened"),
        (2, "connected"),
        (2, "connected"),
        (2, "closed"),
    ];
    assert_eq!(events(&lines), wanted);
    assert!(lines[..3].iter().all(|line| line["sessionId"] == *started.id), "{lines:?}");
    assert_eq!(
        (&lines[1]["to"], &lines[1]["how"]),
        (&json!(format!("localhost:{port}")), &json!("ok"))
    );
    let how: Vec<&str> = lines[4..6].iter().map(|line| line["how"].as_str().unwrap()).collect();
    assert!(how[0] == "ok" && how[1].contains("nothing listens"), "{how:?}");
}

fn a_place_that_cannot_be() {
    let bed = Bed::new();
    let bad = bed.build(&build(&["true"]), &["--session-log", "/proc/no/such"]);
    bad.code(2).says("--session-log");
}

fn the_longest_session() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--session-max-duration", "2s"]);
    let (endpoint, server) = Endpoint::serve(&bed, &["--no-auth"]);
    let mut channel = Channel::open(&Started::new(&bed, &endpoint, "", &json!({})));
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    assert!(channel.wait_for_close().contains("as long as a session may be"));
    assert!(terminal.ends(0).contains("as long as a session may be"));
    ends(server);
    bed.resume(running);
}
