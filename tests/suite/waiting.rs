//! `runner wait`: a future start, pauses that are already over, and the build's own verdict.

use crate::common::{Bed, Running, build, cases, is_root, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

cases! {
    [Containers, Image("busybox")] => a_build_that_is_still_to_start, pauses_that_are_over, exit_codes,
        a_build_whose_runner_is_stopped, a_build_that_is_killed, a_log_that_is_followed;
    [] => nothing_to_wait_for;
}

/// Whether a process waits for file notifications. Only root sees a runner's open files; others see
/// that it sleeps, which it hardly does before.
fn waits(running: &Running) -> bool {
    let dir = format!("/proc/{}", running.pid());
    let Ok(fds) = fs::read_dir(format!("{dir}/fd")) else {
        return fs::read_to_string(format!("{dir}/stat")).is_ok_and(|stat| stat.contains(") S "));
    };
    fds.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == Path::new("anon_inode:inotify")))
}

fn wait(bed: &Bed, arguments: &[&str]) -> Running {
    let running = Running::spawn(bed.command([&["wait"], arguments].concat()));
    until("it waits", || waits(&running));
    running
}

fn a_build_that_is_still_to_start() {
    let bed = Bed::new();
    // Nobody has ever used this state folder.
    let first = wait(&bed, &["--for", "paused"]);
    let long = wait(&bed, &["--for", "ended", "--exit-code", "--timeout", "1h"]);
    let running = bed.paused(&build(&["codebuild-breakpoint; exit 3"]), &[]);
    first.ends(0);
    bed.runner(["resume"]).code(0);
    running.ends(1);
    long.ends(1);
}

fn nothing_to_wait_for() {
    let bed = Bed::host();
    bed.runner(["wait", "--for", "ended"])
        .code(2)
        .says("no build is live, and none has started in 10 s");
    bed.runner(["wait", "--for", "ended", "--timeout", "1s"]).code(4).says("the time is up");
    bed.runner(["wait", "nosuch", "--for", "ended"]).code(2).says("no build `nosuch`");
}

fn pauses_that_are_over() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint; codebuild-breakpoint"]), &[]);
    bed.runner(["wait", "--for", "paused"]).code(0);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let ended = wait(&bed, &[&uuid, "--for", "ended"]);
    bed.runner(["wait", "--for", "ended", "--timeout", "1s"]).code(4).says("the time is up");
    bed.runner(["resume"]).code(0);
    bed.runner(["wait", "--for", "paused"]).code(0);
    bed.resume(running);
    ended.ends(0);
    // It was paused, and has ended since: that counts even if nobody looked in between.
    let said = bed.runner(["wait", &uuid, "--for", "paused"]).code(0);
    said.says("has been paused, and has ended since");
    let never = bed.build(&build(&["false"]), &["--project", "never"]);
    assert_eq!(never.code, 1);
    bed.runner(["wait", "never", "--for", "paused"]).code(1).says("has ended without pausing");
    bed.runner(["wait", "never", "--for", "ended"]).code(0);
}

fn exit_codes() {
    let bed = Bed::new();
    let rejected = "version: 0.2\nphases: 3\n";
    let waits = build(&["sleep 86400"]);
    for (project, spec, options, code) in [
        ("succeeded", &*build(&["true"]), &[][..], 0),
        ("failed", &build(&["exit 9"]), &[], 1),
        ("rejected", rejected, &[], 2),
        ("fault", &build(&["rm /bin/sh", "true"]), &[], 3),
        ("late", &waits, &["--timeout", "5s"], 4),
    ] {
        // Only root may remove the image's shell.
        if project == "fault" && !is_root() {
            continue;
        }
        let mut all = vec!["--project", project];
        all.extend(options);
        bed.build(spec, &all).code(code);
        bed.runner(["wait", project, "--for", "ended", "--exit-code"]).code(code);
        bed.runner(["wait", project, "--for", "ended"]).code(0);
    }
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--project", "stopped"]);
    let waiting = wait(&bed, &["stopped", "--for", "ended", "--exit-code"]);
    running.signal(Signal::SIGTERM);
    running.ends(5);
    waiting.ends(5);
}

/// A build's status can be read without its owner.
fn a_build_whose_runner_is_stopped() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    bed.runner(["wait", "--for", "paused"]).code(0);
    bed.runner(["wait", "--for", "ended", "--timeout", "1s"]).code(4);
    kill(pid, Signal::SIGCONT).unwrap();
    bed.resume(running);
}

fn a_build_that_is_killed() {
    let bed = Bed::new();
    let mut running = bed.start(&build(&["echo ready; sleep 86400"]), &[]);
    running.stdout.wait_for("ready\n");
    let waiting = wait(&bed, &["--for", "ended", "--exit-code"]);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    waiting.ends(3);
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

fn a_log_that_is_followed() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["echo before; codebuild-breakpoint; echo after"]), &[]);
    let mut following = Running::spawn(bed.command(["logs", "-f"]));
    following.stdout.wait_for("before\n");
    until("it waits", || waits(&following));
    bed.resume(running);
    assert_eq!(following.wait(), 0);
    let all = bed.runner(["logs"]).code(0).stdout;
    assert_eq!(following.stdout.text(), all);
    assert!(all.contains("\nafter\n") && all.contains("complete: UPLOAD_ARTIFACTS"), "{all}");
}
