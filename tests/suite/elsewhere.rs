//! A daemon that does not see this machine's files, as on another machine: the same build, sessions
//! and ends, over its exec API.
//!
//! Its container is where the daemon is; the runner's only connection to it is one stream.

use crate::common::docker::Docker;
use crate::common::podman::Podman;
use crate::common::{Bed, Running, build, cases, list, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

cases! {
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] =>
        commands_and_their_codes, the_walk, ctrl_c, kill_9, all_of_the_output, what_a_build_leaves,
        copies_and_ports, streams_of_sessions, users, what_it_has_not, a_build_that_kills_everything;
    [Root, Image("busybox"), Program("podman"), Program("runc")] => podman;
}

/// A bed whose builds run there.
pub(super) fn bed() -> Bed {
    let docker = Docker::elsewhere();
    let variables = vec![("DOCKER_HOST".to_owned(), docker.tcp())];
    Bed::with_image(&docker.image("busybox")).with_variables(variables)
}

const OPTIONS: [&str; 2] = ["--engine", "docker"];

fn options<'o>(more: &[&'o str]) -> Vec<&'o str> {
    [&OPTIONS[..], more].concat()
}

/// Names of the bed's containers there, in any state.
fn containers(bed: &Bed) -> Vec<String> {
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let filter = format!("label=runner.build={uuid}");
    let listed = ["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"];
    let listed = outcome(&mut Docker::elsewhere().command(&listed)).code(0);
    listed.stdout.lines().map(str::to_owned).collect()
}

fn commands_and_their_codes() {
    let bed = bed();
    bed.write("dir/file", "in the source\n");
    let spec = build(&[
        "export A=1; cd dir; echo $A err >&2; printf 'no end'",
        "echo $A ${PWD##*/}; cat file; codebuild-breakpoint; codebuild-resume; ls /codebuild/readonly",
        "sh -c 'exit 7'",
        "echo never",
    ]);
    let seen = bed.build(&spec, &OPTIONS).code(1).says("does not see this machine's files");
    assert_eq!(seen.stderr.matches("exec API").count(), 1, "{}", seen.stderr);
    let wanted = "1 err\nno end\n1 dir\nin the source\nbin\n";
    assert_eq!(seen.output(), wanted);
    assert!(seen.stdout.contains("exit status 7"), "{}", seen.stdout);
    assert_eq!(containers(&bed), [""; 0]);
}

/// Pause, inspect with a shell and with single commands, fix, resume.
fn the_walk() {
    let bed = bed();
    let commands = ["export A=1; cd /tmp; B=2 codebuild-breakpoint", "cat mended; echo $A $PWD"];
    let running = bed.paused(&build(&commands), &OPTIONS);
    let name = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(containers(&bed), [format!("runner-{name}")]);
    let script = "echo $A $B $PWD; echo to stderr >&2; cat; exit 7";
    let seen = bed.runner(["exec", "--", "sh", "-c", script]).code(7);
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("1 2 /tmp\n", "to stderr\n"));
    let shell = bed.terminal(bed.command(["attach"]), 24, 80);
    shell.send("tty; stty size; id -u\r");
    shell.wait_for("/dev/pts/");
    shell.wait_for("24 80");
    shell.resize(33, 99);
    shell.send("until [ \"$(stty size)\" = '33 99' ]; do :; done; echo resi''zed\r");
    shell.wait_for("resized");
    shell.send("echo by hand > mended; exit 9\r");
    assert!(shell.ends(9).contains("\r\n0\r\n"));
    bed.runner(["resume"]).code(0);
    running.ends(0);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(log, "by hand\n1 /tmp\n");
    assert_eq!(containers(&bed), [""; 0]);
}

const POLITE: &str = "trap 'echo told to end; exit' TERM; echo ready; while :; do sleep 0.05; done";

fn ctrl_c() {
    let bed = bed();
    let mut running = bed.start(&build(&[POLITE]), &OPTIONS);
    running.stdout.wait_for("ready\n");
    assert_eq!(containers(&bed).len(), 1);
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 5);
    assert!(running.stdout.text().contains("told to end"), "{}", running.stdout.text());
    assert_eq!(containers(&bed), [""; 0]);
}

fn kill_9() {
    let bed = bed();
    let running: Running = bed.start(&build(&["echo ready; sleep 600"]), &OPTIONS);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGKILL);
    drop(running);
    // The relay's input ends, and with it the relay, PID 1, and the container.
    until("the container is gone", || containers(&bed).is_empty());
    assert!(bed.runner(["ps", "--all"]).code(0).stdout.contains("FAULT"));
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// All output has arrived before the command's end is reported, however much it is.
fn all_of_the_output() {
    let bed = bed();
    let behind = "until [ -e /tmp/go ]; do sleep 0.01; done; echo from behind; touch /tmp/done";
    let spec = build(&[
        "seq 60000",
        &format!("seq 3; ({behind}) &"),
        "touch /tmp/go; until [ -e /tmp/done ]; do sleep 0.01; done; echo last",
    ]);
    let output = bed.build(&spec, &OPTIONS).code(0).output();
    let wanted: String = (1..=60_000).chain(1..=3).map(|number| format!("{number}\n")).collect();
    assert!(output.starts_with(&wanted), "{} bytes", output.len());
    for text in ["last\n", "from behind\n"] {
        assert!(output[wanted.len()..].contains(text), "{}", &output[wanted.len()..]);
    }
    assert_eq!(list(&bed.home().join("live")), [""; 0]);
}

/// Artifacts, a cache and reports are copied back, and the cache is sent there again.
fn what_a_build_leaves() {
    let bed = bed();
    let junit =
        "<testsuite><testcase name='one'/><testcase name='two'><failure/></testcase></testsuite>";
    let spec = format!(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - cat kept/file || echo none; mkdir -p kept \
         out/deep; echo cached > kept/file\n      - head -c 700000 /dev/zero > out/deep/big; chmod 750 \
         out/deep/big\n      - echo \"{junit}\" > report.xml\nreports:\n  unit:\n    files: \
         [report.xml]\nartifacts:\n  files: ['out/**/*']\ncache:\n  paths: ['kept/**/*']\n"
    );
    let (out, cache, reports) = (bed.path("out"), bed.path("cache"), bed.path("reports"));
    let places = [("--artifacts", &out), ("--cache", &cache), ("--reports", &reports)];
    let places: Vec<&str> =
        places.iter().flat_map(|(option, place)| [*option, place.to_str().unwrap()]).collect();
    let options = [&OPTIONS[..], &places].concat();
    for wanted in ["none\n", "cached\n"] {
        let seen = bed.build(&spec, &options).code(0);
        assert!(seen.output().contains(wanted), "{}", seen.stdout);
        let big = fs::metadata(out.join("out/deep/big")).unwrap();
        assert_eq!((big.len(), big.permissions().mode() & 0o777), (700_000, 0o750));
    }
    assert!(!list(&reports).is_empty());
}

/// `cp` both ways, and a server on the container's own loopback interface, which answers after the
/// request has ended.
fn copies_and_ports() {
    let bed = bed();
    bed.write("sent/file", vec![7; 1_500_000]);
    let serve = "printf '#!/bin/sh\\nmd5sum\\n' > /tmp/sum; chmod +x /tmp/sum; nc -ll -p 9000 -e /tmp/sum & \
                 until nc 127.0.0.1 9000 < /dev/null; do :; done";
    let running =
        bed.paused(&build(&[serve, "codebuild-breakpoint"]), &options(&["--network", "none"]));
    bed.runner(["cp", "sent", ":/tmp"]).code(0);
    bed.runner(["cp", ":/tmp/sent", "back"]).code(0);
    assert_eq!(fs::read(bed.source().join("back/file")).unwrap(), [7; 1_500_000]);
    let forward = Running::spawn(bed.command(["port-forward", ":9000"]));
    forward.stdout.wait_for(" -> localhost:9000\n");
    let text = forward.stdout.text();
    let mut stream = std::net::TcpStream::connect(text.split(" -> ").next().unwrap()).unwrap();
    stream.write_all(b"there and back").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut sum = String::new();
    stream.read_to_string(&mut sum).unwrap();
    assert_eq!(sum, "0f6b0e702acf7dbde0f88b6570f6fe08  -\n");
    bed.resume(running);
    forward.ends(0);
}

/// A program whose output nobody reads, and one whose reader has left, block nobody.
fn streams_of_sessions() {
    let bed = bed();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &OPTIONS);
    let mut unread = bed.command(["exec", "--", "yes"]);
    let mut unread = unread.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = unread.stdout.take().unwrap();
    let mut byte = [0];
    out.read_exact(&mut byte).unwrap();
    let mut command = bed.command(["exec", "--", "sh", "-c", "md5sum; head -c 3000000 /dev/zero"]);
    let input = bed.path("input");
    fs::write(&input, vec![b'x'; 3_000_000]).unwrap();
    command.stdin(fs::File::open(&input).unwrap());
    let seen = outcome(&mut command).code(0);
    let sum = outcome(bed.other("md5sum").stdin(fs::File::open(&input).unwrap())).stdout;
    assert!(seen.stdout.starts_with(&sum), "{}", &seen.stdout[..60]);
    assert_eq!(seen.stdout.len(), sum.len() + 3_000_000);
    // A program that ends as soon as its pipe has accepted all its output.
    let at_once = ["exec", "--", "dd", "if=/dev/zero", "bs=65536", "count=1"];
    for _ in 0..20 {
        assert_eq!(bed.runner(at_once).code(0).stdout.len(), 65_536);
    }
    // Its pipe breaks, there as here.
    drop(out);
    let is_there = || bed.runner(["exec", "--", "pidof", "yes"]).code == 0;
    until("yes has ended", || !is_there());
    let _ = unread.wait();
    // A terminal is hung up when its client disconnects.
    let shell = bed.terminal(bed.command(["attach"]), 24, 80);
    shell.send("sleep 1234\r");
    until("it sleeps", || bed.runner(["exec", "--", "pidof", "sleep"]).code == 0);
    drop(shell);
    until("it has ended", || bed.runner(["exec", "--", "pidof", "sleep"]).code != 0);
    bed.resume(running);
}

/// Commands of other users, and a container's rights: the same as elsewhere.
fn users() {
    let spec = "version: 0.2\nphases:\n  build:\n    run-as: builder\n    commands:\n      - id -un; export \
                KEPT=1; cd /tmp\n      - echo $KEPT $PWD; touch /tmp/mine\n  post_build:\n    commands:\n      - \
                id -un; echo $KEPT; stat -c %U /tmp/mine; mknod /tmp/d b 7 0 2>/dev/null || echo no devices\n";
    let outcome = bed().build(spec, &OPTIONS).code(0);
    assert_eq!(outcome.output(), "builder\n1 /tmp\nroot\n1\nbuilder\nno devices\n");
}

fn what_it_has_not() {
    let bed = bed();
    let mount = format!("{}:/a", bed.source().display());
    let seen = bed.build(&build(&["echo never"]), &options(&["--mount", &mount])).code(3);
    let seen = seen.says("so it cannot mount").says("leave out --mount");
    assert_eq!(seen.output(), "");
    let seen = bed.build(&build(&["echo all the same"]), &options(&["--memory", "64M"])).code(0);
    seen.says("--memory 64M: the runner cannot see whether Docker enforces it");
}

/// A build that cuts its connection to the runner ends itself, and that is reported.
fn a_build_that_kills_everything() {
    let bed = bed();
    let seen = bed.build(&build(&["echo ready", "kill -9 -1; sleep 60"]), &OPTIONS).code(3);
    assert_eq!(seen.output(), "ready\n");
    assert_eq!(bed.record()["buildStatus"], "FAULT");
    assert_eq!(containers(&bed), [""; 0]);
}

/// A Podman that does not see the state folder, with the same walk.
fn podman() {
    let podman = Podman::shared();
    let bed = Bed::with_image(&podman.image("busybox")).with_variables(podman.variables());
    fs::create_dir(bed.home()).unwrap();
    let address = format!("unix://{}", bed.path("podman.sock").display());
    let service =
        podman.command(&["--runtime", "runc", "system", "service", "--time", "0", &address]);
    let mut hidden = bed.other("unshare");
    let script = "mount -t tmpfs none $0; exec \"$@\"";
    hidden.args(["--mount", "--propagation", "private", "sh", "-ec", script]).arg(bed.home());
    hidden.arg(service.get_program()).args(service.get_args());
    let service = Running::spawn(hidden);
    // The socket exists before anyone listens on it.
    until("it listens", || UnixStream::connect(bed.path("podman.sock")).is_ok());
    let spec =
        build(&["cd /tmp; codebuild-breakpoint", "cat mended; seq 20000 | tail -n 1; exit 7"]);
    let mut command = bed.build_command(&spec, &["--engine", "podman", "--enable-session"]);
    command.env("CONTAINER_HOST", &address);
    let running = Running::spawn(command);
    running.stderr.wait_for("is paused at a breakpoint");
    assert!(running.stderr.text().contains("exec API"), "{}", running.stderr.text());
    let script = "cat > mended; echo to stderr >&2; exit 5";
    let seen = bed.runner(["exec", "--", "sh", "-c", script]).code(5);
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("", "to stderr\n"));
    let shell = bed.terminal(bed.command(["attach"]), 24, 80);
    shell.send("stty size; echo by hand > mended; exit 9\r");
    assert!(shell.ends(9).contains("24 80"));
    bed.runner(["resume"]).code(0);
    running.ends(1);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(log, "by hand\n20000\n");
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let filter = format!("label=runner.build={uuid}");
    let left = podman.command(&["ps", "--all", "--quiet", "--filter", &filter]);
    assert_eq!(outcome(&mut { left }).code(0).stdout, "");
    service.signal(Signal::SIGTERM);
}
