//! The debugger: a build stops, a person fixes it, and the runs that count decide.

use crate::common::{Bed, Running, build, cases, list, until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;

cases! {
    [Containers, Image("busybox")] => a_failure_is_mended_and_run_again, a_text_is_edited,
        a_skipped_failure_stands, step_by_step, an_abort_runs_nothing_more, breakpoints_come_and_go,
        from_an_earlier_place, a_text_is_evaluated, what_is_evaluated_can_be_ended, a_command_stands_still,
        a_paused_command_is_ended, a_line_is_waited_for, silence_and_time,
        what_a_stop_shows, nothing_is_left_of_a_frozen_build, what_does_not_apply, nobody_comes, a_log_is_written_and_nothing_stops;
    [Containers] => memory_that_nothing_measures;
    [] => what_does_not_parse;
}

/// Commands of [`whole_walk`].
pub(crate) const WALK: [&str; 2] =
    ["export A=1; echo begun; while ! test -e go; do sleep 0.01; done", "test $A = 3"];

/// A build started with `--break-on failure`: paused in the middle, resumed, fixed, in any engine.
pub(crate) fn whole_walk(bed: &Bed, running: Running) {
    running.stdout.wait_for("begun\n");
    bed.runner(["pause"]).code(0);
    wait_for_stop(&running, "in the middle of build:1");
    // A session still works.
    bed.runner(["exec", "--", "touch", "go"]).code(0);
    assert_eq!(bed.events("command_ended").len(), 0);
    bed.runner(["resume"]).code(0);
    wait_for_stop(&running, "because build:2 has failed");
    bed.runner(["rewind"]).code(2).says("no checkpoints: ").says("--engine namespaces");
    assert_eq!(bed.runner(["eval", "A=2; echo $A"]).code(0).stdout, "2\n");
    bed.runner(["set", "A=3"]).code(0);
    bed.runner(["retry"]).code(0);
    running.ends(0);
}

/// Starts a build and waits until it has stopped at `at`.
fn stopped(bed: &Bed, commands: &[&str], options: &[&str], at: &str) -> Running {
    let running = bed.start(&build(commands), options);
    wait_for_stop(&running, at);
    running
}

fn wait_for_stop(running: &Running, at: &str) {
    wait_for_stops(running, at, 1);
}

/// Waits until it has stopped there this many times.
pub(super) fn wait_for_stops(running: &Running, at: &str, times: usize) {
    let told = format!("is paused {at}");
    running.stderr.wait_until(at, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.split(&told).nth(times).is_some_and(|rest| rest.contains("  stop "))
    });
}

fn a_failure_is_mended_and_run_again() {
    let bed = Bed::new();
    let commands = ["export A=1; cd /tmp", "A=2; cd /; test -e /tmp/there && echo mended $OLDPWD"];
    let running =
        stopped(&bed, &commands, &["--break-on", "failure"], "because build:2 has failed");
    // Its text is unchanged.
    bed.runner(["retry"]).code(0);
    running.stderr.wait_for("(cli): retry\n");
    wait_for_stops(&running, "because build:2 has failed", 2);
    bed.runner(["exec", "--", "touch", "/tmp/there"]).code(0);
    let stops = bed.events("paused");
    assert_eq!(stops[0]["stop"]["place"], "build:2", "{stops:?}");
    assert_eq!(stops[0]["stop"]["kind"], "failed");
    bed.runner(["retry"]).code(0);
    let stdout = running.stdout.clone();
    running.ends(0);
    // In the directory of its first run.
    stdout.wait_for("mended /tmp\n");
    let record = bed.record();
    assert_eq!(record["buildStatus"], "SUCCEEDED");
    let what: Vec<_> = record["interventions"].as_array().unwrap().iter().collect();
    assert_eq!((what.len(), &what[0]["what"], &what[0]["run"]), (2, &"retry".into(), &2.into()));
}

fn a_text_is_edited() {
    let bed = Bed::new();
    let running =
        stopped(&bed, &["exit 3"], &["--break-on", "failure"], "because build:1 has failed");
    let editor = bed.path("editor");
    fs::write(&editor, "#!/bin/sh\nsed -i 's/exit 3/echo edited/' \"$1\"\n").unwrap();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let mut retry = bed.command(["retry", "--edit"]);
    crate::common::outcome(&mut retry).code(2).says("EDITOR");
    retry.env("EDITOR", format!("sh {}", editor.display()));
    crate::common::outcome(&mut retry).code(0);
    let stdout = running.stdout.clone();
    running.ends(0);
    stdout.wait_for("Running command echo edited");
    assert!(bed.events("intervened")[0]["text"] == "echo edited");
}

fn a_skipped_failure_stands() {
    let bed = Bed::new();
    let commands = ["exit 3", "echo next $CODEBUILD_BUILD_SUCCEEDING"];
    let running =
        stopped(&bed, &commands, &["--break-on", "failure"], "because build:1 has failed");
    bed.runner(["skip"]).code(0);
    let stdout = running.stdout.clone();
    running.ends(1);
    stdout.wait_for("next 0\n");
    let text = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(text, "next 0\n");
}

fn step_by_step() {
    let bed = Bed::new();
    let running =
        stopped(&bed, &["echo 1", "echo 2", "echo 3"], &["--step"], "before its first command");
    bed.runner(["step"]).code(0);
    wait_for_stop(&running, "before build:2");
    bed.runner(["skip"]).code(0);
    let stdout = running.stdout.clone();
    running.ends(0);
    stdout.wait_for("3\n");
    assert_eq!(bed.events("command_skipped").len(), 1);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), "1\n3\n");
}

fn an_abort_runs_nothing_more() {
    let bed = Bed::new();
    let spec = format!("{}    finally:\n      - echo finally\n", build(&["exit 3"]));
    let running = bed.start(&spec, &["--break-on", "failure"]);
    wait_for_stop(&running, "because build:1 has failed");
    bed.runner(["abort"]).code(0);
    running.ends(1);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), "");
    let bed = Bed::new();
    let running = stopped(&bed, &["true"], &["--break-on", "start"], "before its first command");
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

fn breakpoints_come_and_go() {
    let bed = Bed::new();
    let commands = ["export A=1", "A=2", "true"];
    let running = stopped(&bed, &commands, &["--break-on", "start"], "before its first command");
    bed.runner(["break", "add", "change:A if $A == 2"]).code(0);
    bed.runner(["break", "add", "before:build:2"]).code(0);
    let all = bed.runner(["break", "ls"]).code(0).stdout;
    assert_eq!(all.lines().count(), 3, "{all}");
    bed.runner(["break", "rm", "3"]).code(0);
    bed.runner(["break", "rm", "3"]).code(2).says("no breakpoint 3");
    bed.runner(["break", "add", "before:build:9"]).code(2).says("build has 3 commands");
    bed.runner(["break", "add", "never"]).code(2).says("column 1");
    bed.runner(["resume"]).code(0);
    wait_for_stop(&running, "before build:3");
    bed.runner(["break", "rm", "demo", "2"]).code(0);
    bed.resume(running);
}

fn from_an_earlier_place() {
    let bed = Bed::new();
    let commands = ["echo one", "test -e /tmp/there"];
    let running =
        stopped(&bed, &commands, &["--break-on", "failure"], "because build:2 has failed");
    bed.runner(["exec", "--", "touch", "/tmp/there"]).code(0);
    let runs = bed.runner(["history"]).code(0).stdout;
    assert!(runs.contains("   2  build:2  exit status 1"), "{runs}");
    bed.runner(["rerun", "build:3"]).code(2).says("build has 2 commands");
    bed.runner(["rerun", "build"]).code(0);
    running.ends(0);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), "one\none\n");
    let runs = bed.runner(["history", "--format", "json"]).code(0).stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).unwrap();
    assert_eq!(
        (&runs[2]["place"], &runs[3]["outcome"]),
        (&"build:1".into(), &"exit status 0".into())
    );
    assert!(runs[2]["intervention"].as_str().unwrap().starts_with("rerun by "), "{runs}");
}

fn a_text_is_evaluated() {
    let bed = Bed::new();
    let commands = ["export A=1; cd /tmp", "test $A = 3 && echo $PWD $B-"];
    let options = ["--break-on", "before:build:2", "-e", "B=b"];
    let running = stopped(&bed, &commands, &options, "before build:2");
    // Its final state applies to the following commands; its exit code fails nothing.
    let done = bed.runner(["eval", "A=2; cd /; echo $A; (exit 3)"]).code(3);
    assert_eq!(done.stdout, "2\n");
    bed.runner(["set", "A=3"]).code(0);
    bed.runner(["set", "demo", "--unset", "B"]).code(0);
    // A variable that was unset comes back, also with the same value.
    bed.runner(["eval", "true"]).code(0);
    bed.runner(["set", "B=b"]).code(0);
    assert_eq!(bed.runner(["eval", "echo $A-$B"]).code(0).stdout, "3-b\n");
    bed.runner(["set", "demo", "--unset", "B"]).code(0);
    bed.runner(["set", "A;x=3"]).code(2).says("`A;x` is not a variable name");
    assert_eq!(bed.runner(["eval", "echo $A-$B"]).code(0).stdout, "3-\n");
    bed.runner(["resume"]).code(0);
    running.ends(0);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), "2\n3-b\n3-\n/ -\n");
    let record = bed.record();
    let what = record["interventions"].as_array().unwrap().iter().map(|done| done["what"].clone());
    assert_eq!(
        what.collect::<Vec<_>>(),
        ["eval", "set", "set", "eval", "set", "eval", "set", "eval"]
    );
}

fn what_is_evaluated_can_be_ended() {
    let bed = Bed::new();
    let running =
        stopped(&bed, &["test $A = 1"], &["--break-on", "start"], "before its first command");
    bed.runner(["set", "A=1"]).code(0);
    let mut eval = Running::spawn(bed.command(["eval", "A=2; echo begun; sleep 600"]));
    eval.stdout.wait_for("begun\n");
    eval.signal(Signal::SIGINT);
    assert_eq!(eval.wait(), 130, "{}", eval.stderr.text());
    // The state is that from before it.
    assert_eq!(bed.runner(["eval", "echo $A"]).code(0).stdout, "1\n");
    bed.resume(running);
}

/// The number of lines in `ticks` after some time has passed on the process's own clock.
fn ticks(bed: &Bed) -> usize {
    let count = || {
        let text = bed.runner(["exec", "--", "cat", "/tmp/ticks"]).code(0).stdout;
        text.lines().count()
    };
    let before = count();
    // Another process in the same container runs meanwhile.
    bed.runner(["exec", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 0.05; done"]).code(0);
    count() - before
}

/// Counts until `/tmp/go` exists.
const TICKS: &str =
    "echo begun; while ! test -e /tmp/go; do echo >> /tmp/ticks; sleep 0.01; done; echo $?";

fn a_command_stands_still() {
    let bed = Bed::new();
    let running = bed.start(&build(&[TICKS, "echo next"]), &["-e", "A=1"]);
    running.stdout.wait_for("begun\n");
    bed.runner(["pause"]).code(0);
    wait_for_stop(&running, "in the middle of build:1");
    assert_eq!(ticks(&bed), 0);
    bed.runner(["pause"]).code(2).says("stands still already");
    bed.runner(["eval", "true"]).code(2).says("in the middle of a command");
    bed.runner(["set", "A=2"]).code(0);
    let stop = &bed.events("paused")[0]["stop"];
    assert_eq!((&stop["kind"], &stop["scene"]["output"]), (&"pause".into(), &"begun".into()));
    bed.runner(["step"]).code(0);
    assert!(ticks(&bed) > 0);
    bed.runner(["exec", "--", "touch", "/tmp/go"]).code(0);
    wait_for_stop(&running, "before build:2");
    assert_eq!(bed.runner(["eval", "echo $A"]).code(0).stdout, "2\n");
    bed.runner(["pause"]).code(2).says("stopped already");
    bed.resume(running);
}

fn a_paused_command_is_ended() {
    let bed = Bed::new();
    let commands = [TICKS, "echo next"];
    let running = bed.start(&build(&commands), &["--break-on", "output:/begun/"]);
    wait_for_stop(&running, "in the middle of build:1");
    bed.runner(["retry", "--text", "echo begun again; sleep 60"]).code(0);
    wait_for_stops(&running, "in the middle of build:1", 2);
    bed.runner(["skip"]).code(0);
    running.ends(1);
    let text = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(text, "begun\nbegun again\nnext\n");
    // A build that stands still can be ended as fast as any other.
    let bed = Bed::new();
    let running = bed.start(&build(&commands), &["--break-on", "output:/begun/"]);
    wait_for_stop(&running, "in the middle of build:1");
    bed.runner(["stop"]).code(0);
    running.ends(5);
}

fn a_line_is_waited_for() {
    let bed = Bed::new();
    let commands = ["echo $TOKEN one; echo two; printf \"$TOKEN one\"", "echo three; false"];
    let on = ["output:/^[*]{3} one/ log \"seen in {place}\"", "failure if output =~ /^three/"];
    let mut options = vec!["-e", "TOKEN=hunter2-x", "--mask", "TOKEN"];
    on.iter().for_each(|on| options.extend(["--break-on", on]));
    let running = stopped(&bed, &commands, &options, "because build:2 has failed");
    let logged = bed.events("logged");
    assert_eq!((logged.len(), &logged[0]["text"]), (2, &"seen in build:1".into()));
    bed.runner(["resume"]).code(0);
    running.ends(1);
}

fn silence_and_time() {
    let bed = Bed::new();
    let commands = ["echo begun; sleep 60", "sleep 60", "true"];
    let options = ["--break-on", "idle:50ms", "--break-on", "longer:50ms if place == 'build:2'"];
    let running = stopped(&bed, &commands, &options, "in the middle of build:1");
    bed.runner(["skip"]).code(0);
    wait_for_stop(&running, "in the middle of build:2");
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

fn what_a_stop_shows() {
    let bed = Bed::new();
    let commands = ["A=2; cd /tmp; echo 1; echo 2 >&2; B=b gerp x"];
    let options = ["-e", "A=1", "--break-on", "failure"];
    let running = stopped(&bed, &commands, &options, "because build:1 has failed");
    let paused = &bed.events("paused")[0];
    let scene = &paused["stop"]["scene"];
    assert_eq!(scene["failure"], "exit status 127: `gerp` is not on PATH; `grep` is");
    assert!(scene["output"].as_str().unwrap().starts_with("1\n2\n"), "{scene}");
    let changed = serde_json::json!([{"name": "A", "before": "1", "now": "2"}]);
    assert_eq!((&scene["changed"], &paused["directory"]), (&changed, &"/tmp".into()));
    assert_eq!(paused["stop"]["line"], 5);
    bed.runner(["resume"]).code(0);
    running.ends(1);
}

fn nothing_is_left_of_a_frozen_build() {
    let bed = Bed::new();
    let mark = bed.home().display().to_string();
    let command =
        format!("echo begun; sh -c 'sleep 60; true' {mark} & sh -c 'sleep 60; true' {mark}");
    let running = bed.start(&build(&[&command]), &[]);
    running.stdout.wait_for("begun\n");
    bed.runner(["pause"]).code(0);
    wait_for_stop(&running, "in the middle of build:1");
    assert!(is_there(&mark));
    running.signal(Signal::SIGKILL);
    drop(running);
    until("nothing runs", || !is_there(&mark));
    bed.runner(["ps"]).code(0).says("was left by a runner that was killed");
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// Whether a shell with such an argument exists.
fn is_there(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.starts_with("sh\0-c\0sleep") && command.contains(argument)
    })
}

fn what_does_not_apply() {
    let bed = Bed::new();
    let running =
        stopped(&bed, &["true", "true"], &["--break-on", "before:build:2"], "before build:2");
    bed.runner(["retry"]).code(2).says("has not run yet");
    bed.runner(["skip", "--to", "build:1"]).code(2).says("does not come after build:2");
    bed.runner(["skip", "--to", "biuld"]).code(2).says("a phase belongs here");
    bed.resume(running);
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    bed.runner(["step"]).code(2).says("a process of the build waits at its own breakpoint");
    bed.runner(["retry", "--edit"])
        .code(2)
        .says("not stopped at a command that could be edited")
        .says("--break-on failure");
    bed.resume(running);
    let bed = Bed::new();
    let running = stopped(&bed, &["true"], &["--break-on", "after:build"], "after the phase");
    bed.runner(["retry"]).code(2).says("no command is at hand; `rerun PLACE` goes back to one");
    bed.resume(running);
}

/// It is told once in a build, not with every command.
fn memory_that_nothing_measures() {
    let bed = Bed::host();
    let spec = build(&["echo 1", "sleep 0.1; echo 2", "sleep 0.1; echo 3"]);
    let outcome = bed.build(&spec, &["--break-on", "memory:64M"]).code(0);
    let count = outcome.stderr.matches("which nothing counts here").count();
    assert!(count <= 1, "{}", outcome.stderr);
}

fn nobody_comes() {
    for (action, code) in [("resume", 1), ("stop", 5)] {
        let bed = Bed::new();
        let options =
            ["--break-on", "failure", "--break-timeout", "1s", "--break-timeout-action", action];
        bed.build(&build(&["exit 3"]), &options).code(code);
        assert_eq!(bed.record()["interventions"], serde_json::Value::Null);
    }
}

fn a_log_is_written_and_nothing_stops() {
    let bed = Bed::new();
    let logs = r#"command:/echo/ if $A == 1 log "{place}: A is {$A}""#;
    let done = bed.build(&build(&["export A=1", "echo 2", "A=2", "echo 3"]), &["--break-on", logs]);
    done.code(0).says("runner: build:2: A is 1\n");
    assert_eq!(bed.events("logged").len(), 1);
    assert_eq!(bed.events("paused").len(), 0);
}

fn what_does_not_parse() {
    let bed = Bed::host();
    let spec = build(&["true"]);
    for (breakpoint, says) in [
        ("failure if staus == 1", "column 12: `staus` is not known"),
        ("before:build:2", "build has one command"),
        ("change:dist/app.js", "for files use wrote:GLOB"),
    ] {
        bed.build(&spec, &["--break-on", breakpoint]).code(2).says(says);
    }
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}
