//! The complete walk: buildspec, container, breakpoint, session, resume.

use crate::common::{Bed, cases, project};
use std::path::Path;

cases! {
    [Containers] => hello_world_runs_straight_through_without_sessions, hello_world_from_pause_to_end;
    [Containers, Image("busybox")] => from_outside, reached_as_soon_as_it_is_listed,
        nobody_comes, a_waiting_command_that_dies, the_program_is_replaced_while_paused, a_resume_releases_one_breakpoint, two_builds_at_once;
    [Users, Image("busybox")] => a_breakpoint_pauses_wherever_it_is_called;
}

fn hello_world() -> String {
    let path = project().join("buildspecs/hello-world.yml");
    std::fs::read_to_string(path).unwrap()
}

/// Replaces dates and numbers that differ from run to run.
fn normalised(log: &str) -> String {
    let mut text = String::new();
    for line in log.lines() {
        let line = match line.strip_prefix("[Container] ") {
            Some(rest) => format!("[C]{}", &rest["2026/07/13 13:33:18.140066".len()..]),
            None => line.to_owned(),
        };
        let line = match line.split_once("/codebuild/output/src") {
            Some((before, after)) => {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                assert!((9..=10).contains(&digits), "{line}");
                format!("{before}/codebuild/output/srcN{}", &after[digits..])
            }
            None => line,
        };
        let line = if line.starts_with("Build completed on ") { "Build completed" } else { &line };
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn hello_world_runs_straight_through_without_sessions() {
    let bed = Bed::host();
    let outcome = bed.build(&hello_world(), &[]).code(0).says("SUCCEEDED");
    assert_eq!(
        normalised(&outcome.stdout),
        "[C] Waiting for agent ping
[C] Waiting for DOWNLOAD_SOURCE
[C] Phase is DOWNLOAD_SOURCE
[C] CODEBUILD_SRC_DIR=/codebuild/output/srcN/src
[C] YAML location is /codebuild/output/srcN/src/buildspec.yml
[C] Processing environment variables
[C] Moving to directory /codebuild/output/srcN/src
[C] Cache is not defined in the buildspec
[C] Skip cache due to: no paths specified to be cached
[C] Registering with agent
[C] Phases found in YAML: 3
[C]  PRE_BUILD: 3 commands
[C]  BUILD: 2 commands
[C]  POST_BUILD: 1 commands
[C] Phase complete: DOWNLOAD_SOURCE State: SUCCEEDED
[C] Phase context status code:  Message: 
[C] Entering phase INSTALL
[C] Phase complete: INSTALL State: SUCCEEDED
[C] Phase context status code:  Message: 
[C] Entering phase PRE_BUILD
[C] Running command echo Entered the pre_build phase...
Entered the pre_build phase...

[C] Running command echo \"Hello World\" > /tmp/hello-world

[C] Running command codebuild-breakpoint

[C] Phase complete: PRE_BUILD State: SUCCEEDED
[C] Phase context status code:  Message: 
[C] Entering phase BUILD
[C] Running command echo Entered the build phase...
Entered the build phase...

[C] Running command cat /tmp/hello-world
Hello World

[C] Phase complete: BUILD State: SUCCEEDED
[C] Phase context status code:  Message: 
[C] Entering phase POST_BUILD
[C] Running command echo Build completed on $(date)
Build completed

[C] Phase complete: POST_BUILD State: SUCCEEDED
[C] Phase context status code:  Message: 
[C] Phase complete: UPLOAD_ARTIFACTS State: SUCCEEDED
[C] Phase context status code:  Message: 
"
    );
}

/// The walk of the README, with both terminals.
fn hello_world_from_pause_to_end() {
    let bed = Bed::host();
    let first = bed.terminal(bed.build_command(&hello_world(), &["--enable-session"]), 24, 80);
    first.wait_for("is paused at a breakpoint");
    first.wait_for("runner attach");

    let second = bed.terminal(bed.command(["attach"]), 30, 100);
    second.send("cat /tmp/hello-world; pwd; echo at-$CODEBUILD_BUILD_NUMBER; stty size\r");
    second.wait_for("Hello World");
    second.wait_for("/codebuild/output/src");
    second.wait_for("at-1");
    second.wait_for("30 100");
    second.send("codebuild-resume\r");
    let said = second.ends(0);
    assert!(said.contains("the build has ended: SUCCEEDED"), "{said}");
    let shown = first.ends(0);
    assert!(shown.contains("Build completed on"), "{shown}");
}

const PAUSE: &str = "version: 0.2\nphases:\n  build:\n    commands:\n      - export WHAT=inside; cd /tmp\n      \
                     - codebuild-breakpoint\n      - echo after\n";

fn from_outside() {
    let bed = Bed::new();
    let running = bed.paused(PAUSE, &[]);
    bed.runner(["wait", "--for", "paused"]).code(0);
    let listed = bed.runner(["ps"]).code(0).stdout;
    assert!(listed.contains("paused") && listed.contains("codebuild-breakpoint"), "{listed}");
    let json = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows[0]["state"], "paused");
    assert_eq!(rows[0]["phase"], "BUILD");
    assert_eq!(rows[0]["timeLeftS"], serde_json::Value::Null, "the clock stands still");

    let id = rows[0]["id"].as_str().unwrap().to_owned();
    for name in [&id[..], &id["demo:".len()..], &id["demo:".len()..][..6]] {
        let outcome = bed.runner(["exec", name, "--", "sh", "-c", "echo $WHAT $PWD; exit 7"]);
        assert_eq!(outcome.code(7).stdout, "inside /tmp\n");
    }

    let follower = crate::common::Running::spawn(bed.command(["logs", "-f"]));
    follower.stdout.wait_for("Running command codebuild-breakpoint");
    bed.runner(["resume"]).code(0);
    running.ends(0);
    follower.ends(0);
    bed.runner(["wait", &id, "--for", "ended"]).code(0);
    let log = bed.runner(["logs", &id]).code(0).stdout;
    assert!(log.contains("\nafter\n") && log.ends_with("Message: \n"), "{log}");
    let all = bed.runner(["ps", "--all"]).code(0).stdout;
    assert!(all.contains("SUCCEEDED"), "{all}");
    assert_eq!(bed.runner(["ps"]).code(0).stdout.lines().count(), 1);
}

/// A build is listed before its owner listens, and counts as alive.
fn reached_as_soon_as_it_is_listed() {
    for _ in 0..8 {
        let bed = Bed::new();
        let running = bed.start(PAUSE, &["--enable-session"]);
        bed.runner(["wait", "--for", "paused"]).code(0);
        bed.resume(running);
    }
}

fn a_breakpoint_pauses_wherever_it_is_called() {
    for (place, buildspec) in [
        ("install", "phases: {install: {commands: [codebuild-breakpoint]}}"),
        ("pre_build", "phases: {pre_build: {commands: [codebuild-breakpoint]}}"),
        ("build", "phases: {build: {commands: [codebuild-breakpoint]}}"),
        ("post_build", "phases: {post_build: {commands: [codebuild-breakpoint]}}"),
        ("finally", "phases: {build: {commands: [\"true\"], finally: [codebuild-breakpoint]}}"),
        (
            "after a failure",
            "phases: {build: {commands: [\"false\"], finally: [codebuild-breakpoint]}}",
        ),
        ("run-as", "phases: {build: {run-as: builder, commands: [codebuild-breakpoint]}}"),
        (
            "a script",
            "phases: {build: {commands: [\"printf '#!/bin/sh\\ncodebuild-breakpoint\\n' > /tmp/s; sh \
             /tmp/s\"]}}",
        ),
        ("a subshell", "phases: {build: {commands: [\"(cd /bin; codebuild-breakpoint)\"]}}"),
        ("a pipe", "phases: {build: {commands: [\"echo x | codebuild-breakpoint | cat\"]}}"),
        ("no PATH", "phases: {build: {commands: [\"PATH=/usr/local/bin codebuild-breakpoint\"]}}"),
    ] {
        let bed = Bed::new();
        let running = bed.paused(&format!("version: 0.2\n{buildspec}\n"), &[]);
        let wanted = if place == "run-as" { "1000" } else { "0" };
        let waiting = "for p in /proc/[0-9]*; do case $(cat $p/cmdline) in codebuild-breakpoint*) \
                       stat -c %u $p;; esac; done";
        let uid = bed.runner(["exec", "--", "sh", "-c", waiting]).code(0).stdout;
        assert_eq!(uid.trim(), wanted, "{place}");
        bed.runner(["resume"]).code(0);
        running.ends(i32::from(place == "after a failure"));
    }
}

/// Killing the waiting command ends the pause.
fn a_waiting_command_that_dies() {
    let bed = Bed::new();
    let buildspec = "version: 0.2\nphases:\n  build:\n    commands:\n      - codebuild-breakpoint; echo \
                     went on after $?\n";
    let running = bed.paused(buildspec, &[]);
    let end_it = "for p in /proc/[0-9]*; do case $(cat $p/cmdline) in codebuild-breakpoint*) kill -9 \
                  ${p#/proc/};; esac; done";
    bed.runner(["exec", "--", "sh", "-c", end_it]).code(0);
    running.stdout.wait_for("went on after 137");
    running.ends(0);
}

/// A paused build has everything it needs of the program even if its file is gone.
fn the_program_is_replaced_while_paused() {
    let bed = Bed::new();
    let program = bed.open_to_others();
    // If the runner is not root, removing this needs another start of the program.
    let theirs = "mkdir /d; touch /d/x; chown -R 33:33 /d 2>/dev/null; chmod 700 /d";
    bed.write("buildspec.yml", crate::common::build(&[theirs, "codebuild-breakpoint"]));
    let mut command = bed.other(program.to_str().unwrap());
    command.args(["run", "--enable-session", "--image"]);
    command.arg(format!("rootfs:{}", crate::common::image("busybox").display()));
    let running = crate::common::Running::spawn(command);
    running.stderr.wait_for("is paused at a breakpoint");
    std::fs::remove_file(&program).unwrap();
    bed.runner(["exec", "--", "true"]).code(0);
    bed.runner(["resume"]).code(0);
    running.ends(0);
    assert!(!bed.only().join("layer").exists());
}

fn nobody_comes() {
    let bed = Bed::new();
    let outcome = bed.build(PAUSE, &["--enable-session", "--break-timeout", "300ms"]).code(0);
    outcome.says("nobody is connected: the build continues");

    let bed = Bed::new();
    let options =
        ["--enable-session", "--break-timeout", "300ms", "--break-timeout-action", "stop"];
    bed.build(PAUSE, &options).code(5);
    assert_eq!(bed.record()["buildStatus"], "STOPPED");

    // Without a terminal there is always a limit, and the notice shows it.
    let bed = Bed::new();
    let running = bed.paused(PAUSE, &[]);
    running.stderr.wait_for("goes on by itself in 15m");
    bed.runner(["stop"]).code(0);
    running.ends(5);
}

fn a_resume_releases_one_breakpoint() {
    let bed = Bed::new();
    let running = bed.paused(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - (codebuild-breakpoint; echo one) & \
         (codebuild-breakpoint; echo two) & codebuild-breakpoint; wait; echo all\n",
        &[],
    );
    running.stderr.wait_until("three pauses", |bytes| {
        String::from_utf8_lossy(bytes).matches("is paused").count() == 3
    });
    bed.runner(["resume"]).code(0);
    bed.runner(["resume"]).code(0);
    let json = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(json.contains("\"paused\""), "one still waits: {json}");
    bed.runner(["resume"]).code(0);
    running.ends(0);
    let paused = bed.events("paused");
    assert!(paused.iter().all(|pause| pause["kind"] == "called"), "{paused:?}");
    for events in [paused, bed.events("resumed")] {
        let numbers: Vec<_> = events.iter().map(|event| event["breakpoint"].as_u64()).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    }
}

fn two_builds_at_once() {
    let bed = Bed::new();
    let first = bed.paused(PAUSE, &[]);
    let one = bed.live();
    let second = bed.paused(PAUSE, &["--project", "other"]);
    bed.runner(["resume"]).code(2).says("2 builds are live");
    let name = |dir: &Path| dir.file_name().unwrap().to_str().unwrap().to_owned();
    bed.runner(["resume", &name(&one)]).code(0);
    first.ends(0);
    bed.runner(["resume"]).code(0);
    second.ends(0);
    let numbers: Vec<String> = ["demo", "other"]
        .map(|project| std::fs::read_to_string(bed.home().join("counters").join(project)).unwrap())
        .into();
    assert_eq!(numbers, ["1\n", "1\n"]);
}
