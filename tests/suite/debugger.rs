//! The debugger: a build stops, somebody mends it, and the runs that count decide.

use crate::common::{Bed, Running, build, cases, list};
use std::fs;
use std::os::unix::fs::PermissionsExt;

cases! {
    [Containers, Image("busybox")] => a_failure_is_mended_and_run_again, a_text_is_edited,
        a_skipped_failure_stands, step_by_step, an_abort_runs_nothing_more, breakpoints_come_and_go,
        from_an_earlier_place, a_text_is_evaluated, what_does_not_apply, nobody_comes, a_log_is_written_and_nothing_stops;
    [] => what_does_not_parse;
}

/// Starts a build and waits until it has stopped as `at` says.
fn stopped(bed: &Bed, commands: &[&str], options: &[&str], at: &str) -> Running {
    let running = bed.start(&build(commands), options);
    wait_for_stop(&running, at);
    running
}

fn wait_for_stop(running: &Running, at: &str) {
    wait_for_stops(running, at, 1);
}

/// Waits until it has stopped there so often.
fn wait_for_stops(running: &Running, at: &str, times: usize) {
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
    // It is still what it was.
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
    // In the directory in which it was first run.
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
    // The state it leaves is that of the commands to come; how it ends fails nothing.
    let done = bed.runner(["eval", "A=2; cd /; echo $A; exit 3"]).code(3);
    assert_eq!(done.stdout, "2\n");
    bed.runner(["set", "A=3"]).code(0);
    bed.runner(["set", "demo", "--unset", "B"]).code(0);
    bed.runner(["set", "A;x=3"]).code(2).says("`A;x` is no name of a variable");
    assert_eq!(bed.runner(["eval", "echo $A-$B"]).code(0).stdout, "3-\n");
    bed.runner(["resume"]).code(0);
    running.ends(0);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), "2\n3-\n/ -\n");
    let record = bed.record();
    let what = record["interventions"].as_array().unwrap().iter().map(|done| done["what"].clone());
    assert_eq!(what.collect::<Vec<_>>(), ["eval", "set", "set", "eval"]);
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
    bed.runner(["step"]).code(2).says("the build is not stopped");
    bed.resume(running);
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
        ("output:/x/", "this version has no breakpoints with output:"),
        ("failure if output =~ /x/", "a look at `output`"),
    ] {
        bed.build(&spec, &["--break-on", breakpoint]).code(2).says(says);
    }
    assert_eq!(list(&bed.home().join("builds")), [""; 0]);
}
