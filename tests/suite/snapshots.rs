//! Complete output for people: help, the pretty view, a pause's notice, listings, diagnostics.
//!
//! Each is stored in `tests/snapshots`. `UPDATE_EXPECT=1` rewrites them; a reviewer checks the
//! difference.

use crate::common::picture::without_our_phases;
use crate::common::{Bed, Terminal, build, cases, project, runner, screen_of, until};
use expect_test::expect_file;
use regex_lite::Regex;
use std::process::Command;

cases! {
    [] => help_of_every_verb, ten_diagnostics;
    [Root, Containers, Image("busybox")] => a_build_that_succeeds, a_build_that_fails, a_failed_build_in_a_file,
        a_pause_on_a_terminal, a_pause_in_a_file, builds_in_a_listing;
    [Root, Containers, Program("podman"), Program("pasta")] => the_doctor;
}

const COLUMNS: u16 = 80;
/// More rows than any of them needs.
const ROWS: u16 = 120;

/// Text that varies between runs, and its replacement.
const STEADY: &[(&str, &str)] = &[
    (
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        "12345678-0000-0000-0000-000000000000",
    ),
    (r"\b(attach|resume|stop|aws-env) [0-9a-f]{8}\b", "$1 12345678"),
    (r"#t=[0-9a-f]{64}", "#t=TOKEN"),
    (r"/output/src\d+", "/output/src1"),
    (r"Linux \S+", "Linux 6.18"),
    (r"Podman \S+", "Podman 4.3"),
    (r"[\u{2801}-\u{28ff}]", "⠧"),
    (r"20\d\d/\d\d/\d\d \d\d:\d\d:\d\d", "2026/01/02 03:04:05"),
    (r"05\.\d{6}\b", "05.678901"),
    (r"\b1[45]:\d\d \(pause\)", "14:59 (pause)"),
    (r" 0:[0-5]\d ", " 0:00 "),
    (r"\b\d+\.\ds\b", "0.1s"),
    (r"\b\d+ ms\b", "9 ms"),
    (r"\b\d+ MiB\b", "9 MiB"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\.doctor-\w+", ".doctor-X"),
];

#[track_caller]
fn keep(name: &str, bed: &Bed, text: &str) {
    let file = project().join("tests/snapshots").join(name);
    expect_file![file].assert_eq(&steady(bed, text));
}

fn steady(bed: &Bed, text: &str) -> String {
    let bed = bed.path("").display().to_string();
    let runner = runner().display().to_string();
    let mut text = text.replace(bed.trim_end_matches('/'), "/bed").replace(&runner, "runner");
    text = text.replace(project().to_str().unwrap(), "/project");
    for (found, shown) in STEADY {
        text = Regex::new(found).unwrap().replace_all(&text, *shown).into_owned();
    }
    let text = without_our_phases(&text);
    let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    lines.trim_end().to_owned() + "\n"
}

/// The final content of a terminal with 80 columns.
fn screen(bed: &Bed, terminal: &Terminal) -> String {
    let bytes = terminal.stream.bytes();
    // Replace before lines are wrapped, so that a longer folder name wraps none.
    let text = steady_bytes(bed, &bytes);
    screen_of(text.as_bytes(), ROWS, COLUMNS)
}

fn steady_bytes(bed: &Bed, bytes: &[u8]) -> String {
    // Line ends matter to a screen.
    let text = String::from_utf8_lossy(bytes);
    let lines = text.split('\n').map(|line| steady(bed, line).trim_end().to_owned() + "\r");
    lines.collect::<Vec<_>>().join("\n")
}

fn verbs(help: &str) -> Vec<String> {
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter(|line| !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The help of a verb and, in order, of its subcommands.
fn help_below(bed: &Bed, verb: &[String], all: &mut String) {
    let said = bed.runner(verb.iter().map(String::as_str).chain(["--help"])).code(0).stdout;
    let name = verb.join(" ");
    all.push_str(&format!("$ runner {name} --help\n{said}\n"));
    if !said.contains("Commands:\n") {
        return;
    }
    for below in verbs(&said).into_iter().filter(|name| name != "help") {
        help_below(bed, &[verb, &[below]].concat(), all);
    }
}

fn help_of_every_verb() {
    let bed = Bed::host();
    let said = bed.runner(["--help"]).code(0).stdout;
    keep("help/runner.txt", &bed, &said);
    for verb in verbs(&said).into_iter().filter(|name| name != "help") {
        let mut all = String::new();
        help_below(&bed, std::slice::from_ref(&verb), &mut all);
        keep(&format!("help/{verb}.txt"), &bed, &all);
    }
}

/// Buildspecs with different errors.
const WRONG: [(&str, &str); 10] = [
    ("not-yaml", "version: 0.2\nphases:\n  build:\n    commands:\n      - \"echo\n"),
    ("no-version", "phases:\n  build:\n    commands:\n      - true\n"),
    ("unknown-key", "version: 0.2\nphases:\n  biuld:\n    commands:\n      - true\n"),
    ("command-is-a-map", "version: 0.2\nphases:\n  build:\n    commands:\n      - echo a: b\n"),
    ("wrong-type", "version: 0.2\nphases:\n  build:\n    commands: 5\n"),
    (
        "unknown-value",
        "version: 0.2\nphases:\n  build:\n    on-failure: NEVER\n    commands:\n      - true\n",
    ),
    ("empty-command", "version: 0.2\nphases:\n  build:\n    commands:\n      - true\n      -\n"),
    ("tag", "version: 0.2\nphases:\n  build:\n    commands:\n      - ! test -f x\n      - !ls x\n"),
    ("alias", "version: 0.2\nx: &all\n  commands: yes\nphases:\n  install: *all\n  build: *all\n"),
    (
        "several",
        "version: 0.2\nenv:\n  variables: []\nphases:\n  build:\n    run-as: 5\n    commands:\n      - \
         true\nartifacts:\n  files: x\n  typo: y\n",
    ),
];

fn ten_diagnostics() {
    let bed = Bed::host();
    for (name, text) in WRONG {
        bed.write("buildspec.yml", text);
        let said = bed.runner(["check"]);
        let all = format!("{text}\n$ runner check ({})\n{}{}", said.code, said.stdout, said.stderr);
        keep(&format!("check/{name}.txt"), &bed, &all);
    }
}

const FAILS: &str = "version: 0.2
phases:
  install:
    commands:
      - echo tools
  build:
    commands:
      - echo compile
      - printf 'one\\ntwo\\n'; echo three >&2
      - echo wrong; exit 7
    finally:
      - echo in the end
  post_build:
    commands:
      - echo after
";

fn on_terminal(bed: &Bed, buildspec: &str, options: &[&str]) -> Terminal {
    bed.terminal(bed.build_command(buildspec, options), ROWS, COLUMNS)
}

fn a_build_that_succeeds() {
    let bed = Bed::new();
    let mut terminal = on_terminal(&bed, &build(&["echo one", "echo two >&2"]), &[]);
    assert_eq!(terminal.wait(), 0);
    keep("build-succeeds.txt", &bed, &screen(&bed, &terminal));
}

fn a_build_that_fails() {
    let bed = Bed::new();
    let mut terminal = on_terminal(&bed, FAILS, &[]);
    assert_eq!(terminal.wait(), 1);
    keep("build-fails.txt", &bed, &screen(&bed, &terminal));
}

fn a_failed_build_in_a_file() {
    let bed = Bed::new();
    let said = bed.build(FAILS, &[]).code(1);
    keep("build-fails-stdout.txt", &bed, &said.stdout);
    keep("build-fails-stderr.txt", &bed, &said.stderr);
}

fn a_pause_on_a_terminal() {
    let bed = Bed::new();
    let buildspec = build(&["echo before", "codebuild-breakpoint", "echo after"]);
    let mut terminal = on_terminal(&bed, &buildspec, &["--enable-session"]);
    terminal.wait_for_after("[q]", "q stop");
    // The line of keys is redrawn repeatedly, and missing in between.
    let mut shown = String::new();
    until("the keys are shown", || {
        shown = screen(&bed, &terminal);
        shown.contains("q stop")
    });
    keep("pause.txt", &bed, &shown);
    bed.runner(["resume"]).code(0);
    assert_eq!(terminal.wait(), 0);
}

fn a_pause_in_a_file() {
    let bed = Bed::new();
    let buildspec = build(&["codebuild-breakpoint"]);
    let running = bed.paused(&buildspec, &["--enable-session"]);
    running.stderr.wait_for("if nobody connects\n");
    keep("pause-stderr.txt", &bed, &running.stderr.text());
    bed.resume(running);
}

fn builds_in_a_listing() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    bed.build(FAILS, &[]).code(1);
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--enable-session"]);
    let said = bed.runner(["ps", "--all"]).code(0).stdout;
    keep("ps.txt", &bed, &said);
    bed.resume(running);
}

fn the_doctor() {
    let bed = Bed::host();
    let mut command: Command = bed.command(["doctor"]);
    // Nobody listens there.
    command.env("DOCKER_HOST", format!("unix://{}", bed.path("no.sock").display()));
    let said = crate::common::outcome(&mut command).code(0).stdout;
    keep("doctor.txt", &bed, &said);
}
