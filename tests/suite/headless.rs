//! `runner __build`: a build without a terminal, requested by another process.

use crate::common::{Bed, Running, Stream, build, cases, image, outcome, runner, until};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

cases! {
    [Containers, Image("busybox")] => a_build_runs_to_its_end, a_rejected_buildspec, a_pause_is_seen,
        nobody_misses_who_asked, a_face_that_goes, values_stay_in_the_request, a_build_that_does_not_begin;
    [] => what_is_no_request;
}

/// A request for a build in the image busybox.
fn request(bed: &Bed, buildspec: &str) -> Value {
    let path = bed.write("buildspec.yml", buildspec);
    json!({
        "project": "demo",
        "directory": bed.source(),
        "source": fs::canonicalize(bed.source()).unwrap(),
        "secondary_sources": [],
        "buildspec": {"asked": null, "path": path, "text": {"Ok": buildspec}},
        "limits": {
            "timeout": {"secs": 3600, "nanos": 0},
            "timeout_while_paused": false,
            "break_timeout": {"secs": 900, "nanos": 0},
            "break_action": "resume",
        },
        "stops": {"breakpoints": [], "step": false},
        "container": {
            "engine": "auto",
            "image": format!("rootfs:{}", image("busybox").display()),
            "asker": "caller",
            "mounts": [],
            "resources": {"memory": null, "cpus": null, "pids": null},
            "network": "host",
            "privileged": false,
            "toolbox": false,
        },
        "values": {
            "variables": [["GREETING", "a value of the request"]],
            "fetched": [],
            "masked": [],
            "aws": null,
            "secrets": null,
        },
        "outputs": {
            "artifacts": null,
            "cache": null,
            "reports": null,
            "discovers": false,
            "build_json": bed.path("build.json"),
            "log_file": bed.path("build.log"),
            "logs": {"cloudwatch": null, "s3": null},
        },
        "sessions": {
            "is_enabled": true,
            "idle_timeout": {"secs": 1200, "nanos": 0},
            "longest": null,
            "log": null,
        },
    })
}

/// Starts the program with this request on its standard input.
fn spawn(bed: &Bed, request: &[u8]) -> Running {
    let file = bed.path("request");
    fs::write(&file, request).unwrap();
    let mut command = bed.command(["__build"]);
    command.stdin(fs::File::open(&file).unwrap());
    let running = Running::spawn(command);
    fs::remove_file(file).unwrap();
    running
}

fn start(bed: &Bed, request: &Value) -> Running {
    spawn(bed, &serde_json::to_vec(request).unwrap())
}

/// The only line of output.
fn answer(stdout: &Stream) -> Value {
    serde_json::from_slice(&stdout.wait_for_end()).unwrap()
}

fn a_build_runs_to_its_end() {
    let bed = Bed::new();
    let commands = build(&["echo $GREETING", "test ! -t 0 && test ! -t 1", "exit 3"]);
    let running = start(&bed, &request(&bed, &commands));
    let answer = answer(&running.stdout);
    let started = &answer["started"];
    assert_eq!(started["folder"], bed.only().to_str().unwrap(), "{answer}");
    running.ends(1);
    let record = bed.record();
    assert_eq!((&record["id"], &record["buildStatus"]), (&started["id"], &json!("FAILED")));
    let said = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert!(said.contains("a value of the request"), "{said}");
    // Files named in its request are written without a display.
    let written: Value =
        serde_json::from_slice(&fs::read(bed.path("build.json")).unwrap()).unwrap();
    assert_eq!(written["id"], record["id"]);
    let log = fs::read_to_string(bed.path("build.log")).unwrap();
    assert!(log.contains("a value of the request\n"), "{log}");
}

fn a_rejected_buildspec() {
    let bed = Bed::new();
    let running = start(&bed, &request(&bed, "version: 0.2\n"));
    assert!(answer(&running.stdout)["started"].is_object());
    running.ends(2);
    assert_eq!(bed.record()["buildStatus"], "FAILED");
}

fn a_pause_is_seen() {
    let bed = Bed::new();
    let running = start(&bed, &request(&bed, &build(&["codebuild-breakpoint"])));
    let uuid = answer(&running.stdout)["started"]["uuid"].as_str().unwrap().to_owned();
    bed.runner(["wait", &uuid, "--for", "paused"]).code(0);
    let rows: Value =
        serde_json::from_str(&bed.runner(["ps", "--format", "json"]).code(0).stdout).unwrap();
    assert_eq!(rows[0]["state"], "paused", "{rows}");
    // AWS's clients find it, although it has no display.
    assert!(rows[0]["endpoint"].is_string(), "{rows}");
    bed.runner(["exec", &uuid, "--", "true"]).code(0);
    bed.resume(running);
}

fn nobody_misses_who_asked() {
    let bed = Bed::new();
    let file = bed.path("request");
    let request = request(&bed, &build(&["codebuild-breakpoint"]));
    fs::write(&file, serde_json::to_vec(&request).unwrap()).unwrap();
    // It is killed, with all of its jobs, as soon as it has the answer.
    let script = "mkfifo \"$1.answer\"; \"$0\" __build < \"$1\" > \"$1.answer\" 2> /dev/null & \
                  read -r line < \"$1.answer\"; echo \"$line\"; kill -KILL 0";
    let mut asker = bed.other("setsid");
    asker.args(["sh", "-c", script]).arg(runner()).arg(&file);
    let mut asker = Running::spawn(asker);
    assert_eq!(asker.wait(), 137);
    let answer: Value = serde_json::from_slice(&asker.stdout.bytes()).unwrap();
    let uuid = answer["started"]["uuid"].as_str().unwrap();
    bed.runner(["wait", uuid, "--for", "paused"]).code(0);
    bed.runner(["resume"]).code(0);
    bed.runner(["wait", uuid, "--for", "ended", "--exit-code"]).code(0);
}

fn a_face_that_goes() {
    let bed = Bed::new();
    let running = start(&bed, &request(&bed, &build(&["codebuild-breakpoint", "echo went on"])));
    answer(&running.stdout);
    bed.runner(["wait", "--for", "paused"]).code(0);
    let mut face = Running::spawn(bed.command(["exec", "--", "sh", "-c", "echo in; sleep 600"]));
    face.stdout.wait_for("in\n");
    face.signal(nix::sys::signal::Signal::SIGKILL);
    face.wait();
    until("it is gone", || {
        let rows = bed.runner(["ps", "--format", "json"]).code(0).stdout;
        serde_json::from_str::<Value>(&rows).unwrap()[0]["sessions"] == 0
    });
    bed.resume(running);
}

fn values_stay_in_the_request() {
    let bed = Bed::new();
    let mut request = request(&bed, &build(&["codebuild-breakpoint; echo $GREETING"]));
    request["values"]["masked"] = json!(["GREETING"]);
    let running = start(&bed, &request);
    answer(&running.stdout);
    bed.runner(["wait", "--for", "paused"]).code(0);
    let line = fs::read_to_string(format!("/proc/{}/cmdline", running.pid())).unwrap();
    assert!(line.ends_with("__build\0"), "{line:?}");
    let found = outcome(
        Command::new("grep").args(["-r", "--exclude-dir=layer", "a value of"]).arg(bed.only()),
    );
    assert_eq!(found.stdout, "");
    bed.resume(running);
    let found = outcome(Command::new("grep").args(["-r", "a value of"]).arg(bed.home()));
    found.code(1);
}

fn a_build_that_does_not_begin() {
    let bed = Bed::new();
    let good = request(&bed, &build(&["true"]));
    let refused = |change: &dyn Fn(&mut Value), code: i32, wanted: &str| {
        let mut request = good.clone();
        change(&mut request);
        let running = start(&bed, &request);
        let answer = answer(&running.stdout);
        let failed = &answer["failed"];
        assert_eq!(failed["code"], code, "{answer}");
        assert!(failed["message"].as_str().unwrap().contains(wanted), "{answer}");
        running.ends(code);
    };
    refused(&|request| request["values"]["masked"] = json!(["NONE"]), 2, "--mask NONE");
    refused(
        &|request| request["values"]["variables"] = json!([["A=B", ""]]),
        2,
        "name of a variable",
    );
    refused(&|request| request["values"]["secrets"] = json!("/none"), 2, "--secrets");
    refused(&|request| request["outputs"]["build_json"] = json!("/none/x"), 2, "--build-json");
    let hook = bed.source().join(".git/hooks/post-checkout");
    refused(&|request| request["outputs"]["log_file"] = json!(hook), 2, "what git keeps");
    refused(&|request| request["directory"] = json!("/none"), 2, "directory /none");
    refused(&|request| request["source"] = json!(bed.home()), 2, "state folder");
    assert_eq!(crate::common::list(&bed.home().join("builds")), [""; 0]);
}

fn what_is_no_request() {
    let bed = Bed::host();
    let nested = vec![b'['; 100_000];
    let good = serde_json::to_vec(&json!({"project": "demo"})).unwrap();
    for text in [&b""[..], b"{", b"\xff\xfe", &nested, &good, b"{\"unknown\": 1}"] {
        let running = spawn(&bed, text);
        let answer = answer(&running.stdout);
        assert_eq!(answer["failed"]["code"], 2, "{answer}");
        let message = answer["failed"]["message"].as_str().unwrap();
        assert!(message.starts_with("the request is none: "), "{message}");
        running.ends(2);
    }
    // A request that does not end.
    let mut command = bed.command(["__build"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let chunk = vec![b' '; 1 << 20];
    while stdin.write_all(&chunk).is_ok() {}
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(answer["failed"]["message"], "the request has more than 16777216 bytes");
}
