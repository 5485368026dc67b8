//! A daemon that does not see this machine's files, as one on another machine: the same build, sessions
//! and ends, over its exec API.
//!
//! Its container is where the daemon is; the runner has nothing of it but one stream.

use crate::common::docker::Docker;
use crate::common::{Bed, Running, build, cases, list, outcome, until};
use nix::sys::signal::Signal;
use std::fs;

cases! {
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] =>
        commands_and_their_codes, the_walk, ctrl_c, kill_9, all_of_the_output;
}

/// A bed whose builds run there.
fn bed() -> Bed {
    let docker = Docker::elsewhere();
    let variables = vec![("DOCKER_HOST".to_owned(), docker.tcp())];
    Bed::with_image(&docker.image("busybox")).with_variables(variables)
}

const OPTIONS: [&str; 2] = ["--engine", "docker"];

/// Names of the bed's containers there, whatever their state.
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

/// Pause, look around with a shell and with single commands, mend, go on.
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
    // The relay's input ends, with it the relay, its first process, and the container.
    until("the container is gone", || containers(&bed).is_empty());
    assert!(bed.runner(["ps", "--all"]).code(0).stdout.contains("FAULT"));
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// However much it is, it is there before the command's end is told.
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
