//! `runner run --watch`: runs the build again after each change, and at no other time.

use crate::common::{Bed, Running, build, cases, list, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::ffi::OsStrExt;

cases! {
    [Containers, Image("busybox")] => each_change_runs_the_build_again, a_build_that_runs_is_stopped,
        a_paused_build_is_left_alone, a_buildspec_that_is_typed, ctrl_c_ends_both, nothing_outlives_the_watcher;
    [Program("unshare"), Containers] => watches_may_run_out;
    [] => what_cannot_be_watched;
}

const WAITS: &str = "waits for a change in ";

/// Waits until standard error contains the text this many times.
fn said(running: &Running, text: &str, times: usize) {
    running
        .stderr
        .wait_until(text, |bytes| String::from_utf8_lossy(bytes).matches(text).count() == times);
}

fn each_change_runs_the_build_again() {
    let bed = Bed::new();
    bed.write("input", "one");
    bed.write(".gitignore", "*.tmp\n/cache/\n");
    bed.write("cache/x", "");
    let spec =
        build(&["echo is-$(cat input)-$A", "echo out > made"]) + "artifacts:\n  files: made\n";
    let options = ["--watch", "-e", "A=a", "--artifacts", "out", "--build-json", "build.json"];
    let mut running = bed.start(&spec, &options);
    running.stdout.wait_for("is-one-a\n");
    // The build's own outputs and files ignored by git are no changes.
    said(&running, WAITS, 1);
    assert_eq!(fs::read_to_string(bed.source().join("out/made")).unwrap(), "out\n");
    bed.write("x.tmp", "");
    bed.write("cache/x", "y");
    bed.write(".input.swp", "");
    bed.write("input", "two");
    said(&running, "input has changed: the build runs again", 1);
    running.stdout.wait_for("is-two-a\n");
    // After a rejected one it waits as well.
    said(&running, WAITS, 2);
    bed.write("buildspec.yml", "version: 0.2\n");
    said(&running, WAITS, 3);
    said(&running, "buildspec.yml has changed: the build runs again", 1);
    bed.write("buildspec.yml", spec.replace("is-", "IS-"));
    running.stdout.wait_for("IS-two-a\n");
    said(&running, WAITS, 4);
    // A new directory, and its content.
    fs::create_dir(bed.source().join("new")).unwrap();
    said(&running, WAITS, 5);
    bed.write("new/file", "");
    said(&running, "new/file has changed: the build runs again", 1);
    said(&running, WAITS, 6);
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 0, "{}", running.stderr.text());
    assert_eq!(list(&bed.home().join("builds")).len(), 6);
}

fn a_build_that_runs_is_stopped() {
    let bed = Bed::new();
    let spec = build(&["echo begun; test -e go || exec sleep 600", "false"]);
    let running = bed.start(&spec, &["--watch"]);
    running.stdout.wait_for("begun\n");
    bed.write("go", "");
    said(&running, "go has changed: the build is stopped, and runs again", 1);
    said(&running, WAITS, 1);
    let all = running.stderr.text();
    assert!(all.contains(": STOPPED") && all.contains(": FAILED"), "{all}");
    running.signal(Signal::SIGTERM);
    running.ends(1);
}

fn a_paused_build_is_left_alone() {
    let bed = Bed::new();
    let spec = build(&["test -e mended", "echo last"]);
    let running = bed.start(&spec, &["--watch", "--break-on", "failure"]);
    running.stderr.wait_for("is paused because build:1 has failed");
    running.stderr.wait_for("  stop ");
    bed.runner(["break", "add", "before:build:2"]).code(0);
    bed.write("mended", "");
    running.stderr.wait_for("is paused and stays as it is");
    bed.runner(["exec", "--", "true"]).code(0);
    bed.runner(["abort"]).code(0);
    // The next one begins at once, and stops at the added breakpoint.
    running.stderr.wait_for("is paused before build:2");
    let all = bed.runner(["break", "ls"]).code(0).stdout;
    assert!(all.contains("failure\n") && all.contains("before:build:2\n"), "{all}");
    bed.runner(["break", "rm", "1"]).code(0);
    bed.runner(["resume"]).code(0);
    said(&running, WAITS, 1);
    fs::remove_file(bed.source().join("mended")).unwrap();
    // Nothing stops at the failure any more, since that breakpoint was removed.
    said(&running, WAITS, 2);
    running.signal(Signal::SIGINT);
    running.ends(1);
}

fn ctrl_c_ends_both() {
    let bed = Bed::new();
    let spec = build(&["echo begun; exec sleep 600"]);
    let terminal = bed.terminal(bed.build_command(&spec, &["--watch"]), 24, 100);
    terminal.wait_for("begun");
    terminal.send("\u{3}");
    let all = terminal.ends(5);
    // Once: the build has time to end.
    assert!(all.contains("Ctrl-C: stopping the build; once more ends it at once"), "{all}");
    assert!(!all.contains(WAITS), "{all}");
    // Between builds, too; the build's menu is the usual one.
    let command = bed.build_command(&build(&["true"]), &["--watch", "--break-on", "start"]);
    let terminal = bed.terminal(command, 24, 100);
    terminal.wait_for("· r resume");
    bed.write("another", "");
    terminal.wait_for("stays as it is");
    terminal.send("r");
    terminal.wait_for_after("SUCCEEDED", "· r resume");
    terminal.send("r");
    terminal.wait_for(WAITS);
    terminal.send("\u{3}");
    terminal.ends(0);
}

/// A typed buildspec, below the current directory.
fn a_buildspec_that_is_typed() {
    let bed = Bed::new();
    bed.write("ci.yml", build(&["echo is-one"]));
    let mut command = bed.build_command(&build(&["false"]), &["--watch", "ci.yml"]);
    command.env("X", std::ffi::OsStr::from_bytes(b"a\xff"));
    let mut running = Running::spawn(command);
    running.stdout.wait_for("is-one\n");
    said(&running, WAITS, 1);
    bed.write("ci.yml", build(&["echo is-two; exit 7"]));
    running.stdout.wait_for("is-two\n");
    said(&running, WAITS, 2);
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 1, "{}", running.stderr.text());
}

fn nothing_outlives_the_watcher() {
    let bed = Bed::new();
    let running = bed.start(&build(&["echo begun; exec sleep 600"]), &["--watch"]);
    running.stdout.wait_for("begun\n");
    let meta = fs::read_to_string(bed.only().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    let build = Pid::from_raw(meta["runnerPid"].as_i64().unwrap().try_into().unwrap());
    assert_ne!(build.as_raw().cast_unsigned(), running.pid());
    running.signal(Signal::SIGKILL);
    until("the build has ended", || {
        kill(build, None).is_err() || list(&bed.home().join("live")).is_empty()
    });
    assert_eq!(bed.record()["buildStatus"], "STOPPED");
}

fn watches_may_run_out() {
    let bed = Bed::host();
    bed.write("a/b/c/d", "");
    bed.write("buildspec.yml", build(&["true"]));
    let script = "echo 2 > /proc/sys/user/max_inotify_watches; exec \"$0\" run --watch";
    let mut command = bed.other("unshare");
    command.args(["--user", "--map-root-user", "sh", "-ec", script]).arg(crate::common::runner());
    crate::common::outcome(&mut command).code(3).says("fs.inotify.max_user_watches");
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}

fn what_cannot_be_watched() {
    let bed = Bed::host();
    let spec = build(&["true"]);
    for (options, says) in [
        (&["--detach"][..], "--watch shows builds here, and --detach does not"),
        (&["--step", "--on-stop", "exit"], "--on-stop exit does not"),
        (&["--artifacts", "."], "each build would start the next one"),
        (&["--source", "nowhere"], "nowhere"),
    ] {
        let options = [&["--watch"], options].concat();
        bed.build(&spec, &options).code(2).says(says);
    }
    bed.runner(["batch", "--watch"]).code(2).says("--watch is for one build");
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}
