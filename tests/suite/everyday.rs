//! Everyday use of a build: started and detached, inspected, entered with the commands that people
//! type by habit.

use crate::common::endpoint::Endpoint;
use crate::common::{Bed, Running, build, cases, outcome, python, screen_of, until};
use serde_json::Value;
use std::fs;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => a_build_is_left_alone, a_detached_build_that_does_not_begin, the_id_in_a_file,
        a_terminal_for_one_command, parts_of_a_log, a_table_of_builds, another_pause_is_told_inside,
        shells_complete_options_and_builds, a_resume_says_what_it_did, a_breakpoint_that_was_passed, nothing_is_left_of_the_status_line;
    [Containers, Image("busybox"), Python] => aws_clients_as_their_manuals_have_them;
}

fn a_build_is_left_alone() {
    let bed = Bed::new();
    let commands = build(&["codebuild-breakpoint", "echo $GREETING; exit 3"]);
    let mut command =
        bed.build_command(&commands, &["--detach", "--enable-session", "-e", "GREETING=left"]);
    let started = outcome(&mut command).code(0);
    let id = started.stdout.trim_end().to_owned();
    assert_eq!(
        started.stdout,
        format!("demo:{}\n", bed.only().file_name().unwrap().to_str().unwrap())
    );
    bed.runner(["wait", &id, "--for", "paused"]).code(0);
    // There is no terminal, so it does not wait for ever.
    let paused = &bed.events("paused")[0];
    assert_eq!(paused["resumesInS"], 900, "{paused}");
    bed.runner(["resume", &id]).code(0);
    bed.runner(["wait", &id, "--for", "ended", "--exit-code"]).code(1);
    assert!(bed.runner(["logs", &id]).code(0).stdout.contains("\nleft\n"));
}

fn a_detached_build_that_does_not_begin() {
    let bed = Bed::new();
    let refused =
        outcome(&mut bed.build_command(&build(&["true"]), &["--detach", "--mask", "NONE"]));
    assert_eq!(refused.code(2).says("--mask NONE").says("hint: give it one with -e").stdout, "");
    // A build with a rejected buildspec has begun, and has ended.
    let rejected = outcome(&mut bed.build_command("version: 0.2\n", &["--detach"])).code(2);
    let id = rejected.says("error[").stdout;
    bed.runner(["wait", id.trim_end(), "--for", "ended", "--exit-code"]).code(2);
}

fn the_id_in_a_file() {
    let bed = Bed::new();
    let file = bed.path("id");
    let option = format!("--id-file={}", file.display());
    bed.build(&build(&["true"]), &[&option]).code(0);
    let id = fs::read_to_string(&file).unwrap();
    assert_eq!(id.trim_end(), bed.record()["id"]);
    bed.build(&build(&["true"]), &["--id-file=/none/id"]).code(2).says("--id-file: cannot write");
}

fn a_terminal_for_one_command() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let command = bed.command(["exec", "-it", "--", "sh", "-c", "test -t 0 && stty size; exit 9"]);
    let shown = bed.terminal(command, 33, 77).ends(9);
    assert!(shown.contains("33 77"), "{shown}");
    bed.runner(["exec", "-t", "--", "true"]).code(125).says("needs a terminal");
    // A shell without a prompt prints a notice; a script's shell does not.
    let terminal = bed.terminal(bed.command(["exec", "--", "/bin/sh"]), 24, 80);
    terminal.wait_for("runner exec -t, or runner attach");
    terminal.send("exit 4\n");
    terminal.ends(4);
    assert_eq!(bed.runner(["exec", "--", "sh"]).code(0).stderr, "");
    bed.resume(running);
}

fn parts_of_a_log() {
    let bed = Bed::new();
    let buildspec = "version: 0.2\nphases:\n  install: {commands: [echo one]}\n  build: {commands: [\"seq 100\"]}\n";
    bed.build(buildspec, &[]).code(0);
    let logs = |options: &[&str]| bed.runner(["logs"].iter().chain(options)).code(0).stdout;
    let whole = logs(&[]);
    let last = |count: usize| {
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        lines[lines.len() - count..].concat()
    };
    for count in [0, 1, 7, 60] {
        assert_eq!(logs(&["--tail", &count.to_string()]), last(count));
    }
    assert_eq!(logs(&["--tail", "100000"]), whole);
    let install = logs(&["--phase", "install"]);
    assert!(install.contains("\none\n") && !install.contains("DOWNLOAD_SOURCE"), "{install}");
    assert!(
        !install.contains("seq 100") && install.contains("Phase complete: INSTALL"),
        "{install}"
    );
    assert_eq!(
        logs(&["--phase", "BUILD", "--phase", "install", "--since", "1h"])
            .matches("Entering")
            .count(),
        2
    );
    let timed = logs(&["--timestamps", "--phase", "build", "--tail", "6"]);
    assert_eq!(timed.lines().count(), 6, "{timed}");
    for line in timed.lines() {
        let (time, _) = line.split_once(' ').unwrap();
        assert!(
            time.ends_with('Z') && time.len() == "2026-07-13T13:33:18.140066Z".len(),
            "{timed}"
        );
    }
}

fn a_table_of_builds() {
    let bed = Bed::new();
    bed.build(&build(&["exit 3"]), &[]).code(1);
    let long = format!("codebuild-breakpoint; : {}", "x".repeat(200));
    let running = bed.paused(&build(&[&long]), &["--break-timeout", "1h"]);
    let whole = bed.runner(["ps", "--all"]).code(0).stdout;
    let [title, paused, ended] = whole.lines().collect::<Vec<_>>()[..] else { panic!("{whole}") };
    assert!(title.contains("STARTED (UTC)") && title.contains("TIME LEFT"), "{whole}");
    assert!(paused.contains(" (pause) ") && paused.ends_with(&long), "{whole}");
    assert!(ended.contains("FAILED") && ended.ends_with("Reason: exit status 3"), "{whole}");
    let rows: Value =
        serde_json::from_str(&bed.runner(["ps", "--all", "--format", "json"]).code(0).stdout)
            .unwrap();
    assert!((3000..=3600).contains(&rows[0]["pauseLeftS"].as_u64().unwrap()), "{rows}");
    assert!(rows[1]["startTime"].is_f64() && rows[1]["durationS"].is_u64(), "{rows}");
    let mut terminal = bed.terminal(bed.command(["ps", "--all"]), 24, 100);
    terminal.wait();
    let screen = screen_of(&terminal.stream.bytes(), 24, 100);
    assert_eq!(screen.lines().count(), 3, "{screen}");
    assert!(screen.contains("…"), "{screen}");
    // The displayed part of an id names the build.
    let short = screen.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    bed.runner(["exec", &short, "--", "true"]).code(0);
    bed.resume(running);
}

fn another_pause_is_told_inside() {
    let bed = Bed::new();
    let running = bed.paused(
        &build(&["mkfifo go; (read x < go; codebuild-breakpoint) & codebuild-breakpoint; wait"]),
        &[],
    );
    let terminal = bed.terminal(bed.command(["attach"]), 24, 100);
    terminal.send("echo > go\r");
    terminal.wait_for("runner: the build is paused at another breakpoint: 2 wait");
    terminal.send("codebuild-resume\r");
    terminal.wait_for("codebuild-resume: one breakpoint is released; another still waits");
    terminal.send("codebuild-resume\r");
    terminal.ends(0);
    running.ends(0);
}

fn a_resume_says_what_it_did() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint", "codebuild-resume"]), &[]);
    let said = bed.runner(["exec", "--", "codebuild-resume"]);
    assert_eq!(said.stderr, "codebuild-resume: the build goes on\n");
    running.stdout.wait_for("codebuild-resume: nothing is paused\n");
    running.ends(0);
}

fn a_breakpoint_that_was_passed() {
    let bed = Bed::new();
    let hint = "hint: a breakpoint was passed; to pause there: --enable-session";
    let passed = bed.build(&build(&["codebuild-breakpoint", "codebuild-breakpoint"]), &[]).code(0);
    assert_eq!(passed.stderr.matches(hint).count(), 1, "{}", passed.stderr);
    assert_eq!(passed.output(), "", "it does nothing, as in AWS");
    let not = build(&["true || codebuild-breakpoint"]);
    assert!(!bed.build(&not, &[]).code(0).stderr.contains(hint));
    assert!(
        !bed.build(&build(&["codebuild-breakpoint"]), &["--no-hints"])
            .code(0)
            .stderr
            .contains(hint)
    );
}

/// The terminal's echo of Ctrl-C follows the status line and must not break it.
fn nothing_is_left_of_the_status_line() {
    let bed = Bed::new();
    let command = format!("touch begun; exec sleep 600 # {}", "long ".repeat(60));
    let command = bed.build_command(&build(&[&command]), &["--log-format", "pretty"]);
    let mut terminal = bed.terminal(command, 24, 60);
    terminal.wait_for("BUILD 0.");
    until("it runs", || bed.runner(["exec", "--", "test", "-e", "begun"]).code == 0);
    terminal.send("\x03");
    terminal.wait();
    let screen = screen_of(&terminal.stream.bytes(), 24, 60);
    let is_spinner = |line: &str| line.starts_with(|c| ('\u{2800}'..='\u{28ff}').contains(&c));
    assert!(!screen.lines().any(is_spinner), "{screen}");
    assert!(screen.contains("STOPPED"), "{screen}");
}

fn aws_clients_as_their_manuals_have_them() {
    let bed = Bed::new();
    bed.runner(["aws-env"]).code(2).says("runner serve");
    let commands = build(&["mkfifo go; read x < go", "codebuild-breakpoint"]);
    let running = bed.start(&commands, &["--enable-session"]);
    running.stdout.wait_for("Running command mkfifo");
    // Long before the first pause.
    until("its endpoint is open", || bed.runner(["aws-env"]).code == 0);
    let exports = bed.runner(["aws-env"]).code(0).stdout;
    for name in ["AWS_ENDPOINT_URL=http://127.0.0.1:", "AWS_PROFILE=runner", "AWS_REGION=us-east-1"]
    {
        assert!(exports.contains(&format!("export {name}")), "{exports}");
    }
    assert!(!exports.contains("unset"), "{exports}");
    let id = format!("demo:{}", bed.live().file_name().unwrap().to_str().unwrap());
    let asked = with_exports(&bed, &format!("codebuild batch-get-builds --ids {id}"));
    let answer: Value = serde_json::from_str(&asked.code(0).stdout).unwrap();
    assert_eq!(answer["builds"][0]["id"], *id);
    bed.runner(["exec", "--", "sh", "-c", "echo > go"]).code(0);
    running.stderr.wait_for("  stop ");
    let notice = running.stderr.text();
    assert!(
        notice.contains(" aws-env ")
            && notice.contains("; aws ssm start-session --target codebuild:"),
        "{notice}"
    );
    let mut with_keys = bed.command(["aws-env"]);
    with_keys.env("AWS_ACCESS_KEY_ID", "mine");
    assert!(outcome(&mut with_keys).stdout.starts_with("unset AWS_ACCESS_KEY_ID\n"));
    // The endpoint for every build takes precedence over the one for a single build.
    let (serve, serving) = Endpoint::serve(&bed, &[]);
    let exports = bed.runner(["aws-env"]).code(0).stdout;
    assert!(exports.contains(&format!("=http://{}\n", serve.address)), "{exports}");
    end(serving);
    bed.resume(running);
}

fn end(mut serving: Running) {
    serving.signal(nix::sys::signal::Signal::SIGTERM);
    serving.wait();
}

/// AWS's CLI in a shell that has evaluated the exports.
fn with_exports(bed: &Bed, arguments: &str) -> crate::common::Outcome {
    let script = format!("eval \"$(\"$0\" aws-env)\"; \"$1\" {arguments} --output json");
    let mut shell: Command = bed.other("sh");
    shell.args(["-c", &script]).arg(crate::common::runner()).arg(python("aws"));
    outcome(&mut shell)
}

/// What bash does when someone presses Tab.
fn shells_complete_options_and_builds() {
    let bed = Bed::new();
    let script = bed.runner(["completions", "bash"]).code(0).stdout;
    assert!(
        script.contains("complete -o nospace") && script.contains("RUNNER_COMPLETE"),
        "{script}"
    );
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let offered = |words: &[&str]| {
        let mut asked = bed.command(["--"].iter().chain(words));
        asked.env("RUNNER_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        asked.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        outcome(&mut asked).code(0).stdout
    };
    assert!(offered(&["runner", "att"]).contains("attach"));
    assert!(offered(&["runner", "run", "--detac"]).contains("--detach"));
    for verb in ["attach", "exec", "logs", "resume", "port-forward"] {
        assert!(offered(&["runner", verb, ""]).contains(&uuid), "{verb}");
    }
    let pages = bed.path("man");
    fs::create_dir(&pages).unwrap();
    bed.runner(["__man", pages.to_str().unwrap()]).code(0);
    let page = fs::read_to_string(pages.join("runner-run.1")).unwrap();
    assert!(page.contains("detach") && page.starts_with(".ie"), "{page}");
    assert!(pages.join("runner.1").exists());
    bed.resume(running);
}
