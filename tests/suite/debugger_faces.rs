//! What people and programs see of the debugger: patches, changes, events, the prompt, scripts that
//! return later.

use crate::common::engines::Engine;
use crate::common::{Bed, Running, Terminal, build, cases, outcome, python};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => what_was_edited_goes_back, what_was_evaluated_goes_before, what_cannot_go_back, events_are_lines,
        a_script_comes_back, a_script_that_meets_no_stop, a_prompt, a_prompt_reads_a_script, keys_decide,
        a_shell_decides_outside_of_it, variables_are_shown, every_verb_at_a_terminal;
    [] => a_walk_without_a_container;
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] => a_walk_with_docker;
    [Users, Image("busybox"), Program("podman"), Program("runc")] => a_walk_with_podman;
    [Containers, Image("busybox"), Program("git")] => changes_are_shown_and_applied;
    [Containers, Image("busybox"), Python] => the_schema_fits_every_line;
}

const SPEC: &str = "\
version: 0.2 # kept
phases:
  build:
    commands:
      # the first
      - echo \"one\"   # one
      - exit 3 # two
      - test -e /tmp/three
";

fn stopped(bed: &Bed, spec: &str, at: &str) -> Running {
    let running = bed.start(spec, &["--break-on", "failure"]);
    wait_for_stop(&running, at);
    running
}

fn wait_for_stop(running: &Running, at: &str) {
    let told = format!("is paused because {at} has failed");
    running.stderr.wait_until(at, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.split(&told).nth(1).is_some_and(|rest| rest.contains("  stop "))
    });
}

fn what_was_edited_goes_back() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    bed.runner(["patch"]).code(0).says("nothing to put back");
    bed.runner(["retry", "--text", "echo 'two': \"2\""]).code(0);
    wait_for_stop(&running, "build:3");
    let new = SPEC.replace("exit 3 #", "'echo ''two'': \"2\"' #");
    let patch = bed.runner(["patch"]).code(0).stdout;
    assert!(patch.starts_with("--- a/buildspec.yml\n+++ b/buildspec.yml\n@@ "), "{patch}");
    assert!(
        patch.contains("-      - exit 3 # two\n+      - 'echo ''two'': \"2\"' # two\n"),
        "{patch}"
    );
    let file = bed.source().join("buildspec.yml");
    assert_eq!(fs::read_to_string(&file).unwrap(), SPEC);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    bed.runner(["patch", "--write"]).code(0).says("buildspec.yml is written");
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    bed.runner(["patch", "--write"]).code(0).says("contains the change already");
    // What was written earlier does not disturb later edits.
    bed.runner(["retry", "--text", "true"]).code(0);
    running.ends(0);
    bed.runner(["patch", "--write"]).code(0).says("is written");
    assert_eq!(fs::read_to_string(&file).unwrap(), new.replace("test -e /tmp/three", "true"));
}

fn what_was_evaluated_goes_before() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    bed.runner(["eval", "touch /tmp/three"]).code(0);
    bed.runner(["eval", "false"]).code(1);
    bed.runner(["patch", "--evals"]).code(0).says("no command followed it");
    bed.runner(["retry", "--text", "echo 2"]).code(0);
    running.ends(0);
    assert_eq!(bed.runner(["patch"]).code(0).stdout.matches("\n+ ").count(), 1);
    let outcome = bed.runner(["patch", "--evals", "--write"]).code(0);
    outcome
        .says("the text that run 4 evaluated, because it did not end with status 0")
        .says("is written");
    let file = bed.source().join("buildspec.yml");
    let new = SPEC.replace("exit 3 #", "touch /tmp/three\n      - echo 2 #");
    assert_eq!(fs::read_to_string(&file).unwrap(), new);
    bed.runner(["patch", "--evals"]).code(0).says("contains the change already");
    bed.runner(["patch"]).code(0).says("contains the change already");
}

fn what_cannot_go_back() {
    let bed = Bed::new();
    let spec = "version: 0.2\nenv:\n  variables:\n    MINE: a secret of mine\nphases:\n  pre_build:\n    commands: \
                [&x 'exit 3']\n  build:\n    commands: [*x, 'exit 4']\n";
    let running = bed.start(spec, &["--break-on", "failure", "--mask", "MINE"]);
    wait_for_stop(&running, "pre_build:1");
    bed.runner(["retry", "--text", "true"]).code(0);
    wait_for_stop(&running, "build:1");
    bed.runner(["patch"]).code(2).says("buildspec.yml:7:").says("`--all`");
    bed.runner(["patch", "--all"]).code(0);
    bed.runner(["patch", "--run", "1"]).code(2).says("run 1 did not run an edited text");
    bed.runner(["skip"]).code(0);
    wait_for_stop(&running, "build:2");
    bed.runner(["retry", "--text", "echo a secret of mine"]).code(0);
    running.ends(1);
    bed.runner(["patch", "--all"]).code(2).says("in place of a secret");
    // Someone else has changed the file.
    bed.write("buildspec.yml", format!("{spec}  post_build:\n    commands: x\n"));
    bed.runner(["patch", "--run", "2", "--all"]).code(2).says("has changed since");
}

fn a_walk_without_a_container() {
    a_walk(&Bed::host(), &["--engine", "process"]);
}

fn a_walk_with_docker() {
    a_walk(&Engine::Docker.bed(), &Engine::Docker.options(&[]));
}

fn a_walk_with_podman() {
    a_walk(&Engine::Podman.bed(), &Engine::Podman.options(&[]));
}

/// The walk in docs/debugging.md.
fn a_walk(bed: &Bed, engine: &[&str]) {
    let spec = build(&["echo hello > greeting", "export A=1; grep hallo greeting", "echo $A"]);
    let options = [engine, &["--break-on", "failure"]].concat();
    let running = bed.start(&spec, &options);
    wait_for_stop(&running, "build:2");
    assert_eq!(bed.runner(["diff"]).code(0).stdout, "A  greeting\n");
    assert_eq!(bed.runner(["env", "--changed"]).code(0).stdout, "A=1  # new\n");
    assert_eq!(bed.runner(["exec", "--", "cat", "greeting"]).code(0).stdout, "hello\n");
    bed.runner(["retry", "--text", "grep hello greeting && false"]).code(0);
    running.stderr.wait_until("a second stop", |said| {
        let said = String::from_utf8_lossy(said);
        said.split("is paused because build:2").nth(2).is_some_and(|rest| rest.contains("  stop "))
    });
    bed.runner(["eval", "touch evaluated"]).code(0);
    bed.runner(["set", "A=2"]).code(0);
    bed.runner(["retry", "--text", "test -e evaluated"]).code(0);
    let stdout = running.stdout.clone();
    running.ends(0);
    stdout.wait_for("\n2\n");
    bed.runner(["patch", "--write"]).code(0);
    let text = fs::read_to_string(bed.source().join("buildspec.yml")).unwrap();
    assert_eq!(text, spec.replace("export A=1; grep hallo greeting", "test -e evaluated"));
}

/// Everything below a directory except git's files: names, kinds, relevant mode bits, contents.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let script = "find . -path ./.git -prune -o ! -type d -printf '%P %y %m %l ' \
                  -exec sh -c 'test -L \"$0\" || md5sum < \"$0\"; echo' {} ';' | sed 's/ 66[0-9]/ 644/' | sort";
    let found = outcome(Command::new("sh").current_dir(dir).args(["-c", script])).code(0);
    found.stdout.lines().map(|line| (line.to_owned(), String::new())).collect()
}

fn changes_are_shown_and_applied() {
    let bed = Bed::new();
    let source = bed.source();
    let text: String = (1..=30).map(|n| format!("line {n}\n")).collect();
    bed.write("kept", "kept\n");
    bed.write("changed", &text);
    bed.write("gone/x", "gone\n");
    bed.write("no end", "a");
    bed.write("binary", b"\0\x01\x02");
    bed.write("run.sh", "echo\n");
    symlink("kept", source.join("link")).unwrap();
    bed.write("touched", "same\n");
    let git = |args: &[&str]| outcome(bed.other("git").args(args)).code(0);
    git(&["init", "-q"]);
    let change = "sed -i 's/line 7$/LINE 7/; s/line 25$/line 25 and more/' changed; rm -r gone; \
                  printf b >> 'no end'; head -c 3000 /dev/urandom > binary; chmod 755 run.sh; \
                  ln -sf changed link; touch -d 2001-01-01 touched; mkdir -p new; echo new > new/ä; \
                  : > new/empty; printf 'q' > 'new/a \"q\"'; mkfifo new/fifo; echo x > .git/mine";
    let running = bed.paused(&build(&[change, "codebuild-breakpoint"]), &[]);
    let names = bed.runner(["diff"]).code(3).says("new/fifo: it is a FIFO");
    let wanted = "M  binary\nM  changed\nD  gone/x\nM  link\nA  new/a \"q\"\nA  new/empty\nA  new/ä\n\
                  M  no end\nM  run.sh\n";
    assert_eq!(names.stdout, wanted);
    assert_eq!(
        bed.runner(["diff", "--", "gone", "./run.sh"]).code(0).stdout,
        "D  gone/x\nM  run.sh\n"
    );
    let stat = bed.runner(["diff", "--stat", "--", "changed", "binary"]).code(0).stdout;
    assert_eq!(
        stat,
        " binary  |   Bin 3 -> 3000 bytes\n changed |     4 ++--\n \
         2 file(s) changed, 2 line(s) added, 2 removed\n"
    );
    let patch = bed.runner(["diff", "--patch"]).code(3).stdout;
    assert!(patch.contains("@@ -4,7 +4,7 @@\n line 4\n"), "{patch}");
    bed.runner(["cp", "demo:.", bed.path("there").to_str().unwrap()]).code(3);
    let file = bed.path("patch");
    fs::write(&file, patch).unwrap();
    bed.resume(running);
    git(&["apply", file.to_str().unwrap()]);
    // Except for what no patch can contain.
    fs::remove_file(bed.path("there/new/fifo")).ok();
    fs::remove_file(bed.source().join("buildspec.yml")).unwrap();
    fs::remove_file(bed.path("there/buildspec.yml")).unwrap();
    assert_eq!(tree(&source), tree(&bed.path("there")));
    bed.runner(["diff"]).code(2).says("are removed when it ends");
}

fn events_are_lines() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["echo out", "codebuild-breakpoint"]), &[]);
    let follower = Running::spawn(bed.command(["events", "-f"]));
    follower.stdout.wait_for("\"type\":\"paused\"");
    bed.resume(running);
    follower.ends(0);
    let shown = bed.runner(["events"]).code(0).stdout;
    let events: Vec<Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], *types.last().unwrap()), ("build_started", "build_ended"));
    let output = events.iter().find(|event| event["type"] == "output").unwrap();
    assert_eq!(output["data"]["text"], "out\n");
    bed.runner(["events", "--schema", "-f"]).code(2);
}

fn the_schema_fits_every_line() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    bed.runner(["break", "add", "before:build:3"]).code(0);
    bed.runner(["retry", "--text", "kill -9 $$"]).code(0);
    running.stderr.wait_until("a second stop", |said| {
        let said = String::from_utf8_lossy(said);
        said.split("is paused because build:2").nth(2).is_some_and(|rest| rest.contains("  stop "))
    });
    bed.runner(["skip"]).code(0);
    running.stderr.wait_for("is paused before build:3");
    bed.runner(["exec", "--", "true"]).code(0);
    bed.runner(["abort"]).code(0);
    running.ends(5);
    let (schema, lines) = (bed.path("schema.json"), bed.path("lines"));
    fs::write(&schema, bed.runner(["events", "--schema"]).code(0).stdout).unwrap();
    let mut all = bed.runner(["events"]).code(0).stdout;
    // As stored on disk, too.
    all.push_str(&fs::read_to_string(bed.only().join("events.jsonl")).unwrap());
    fs::write(&lines, all).unwrap();
    let program = "import json, sys, jsonschema\n\
                   schema = json.load(open(sys.argv[1]))\n\
                   validator = jsonschema.Draft202012Validator(schema)\n\
                   validator.check_schema(schema)\n\
                   for line in open(sys.argv[2]): validator.validate(json.loads(line))\n";
    let mut command = Command::new(python("python"));
    outcome(command.args(["-c", program]).args([&schema, &lines])).code(0);
}

/// The last line of the output, and the build's id in it.
fn last_line(stderr: &str) -> (String, String) {
    let line = stderr.lines().last().unwrap().strip_prefix("runner: ").expect(stderr);
    let (id, rest) = line.split_once(' ').expect(line);
    (id.to_owned(), rest.to_owned())
}

fn a_script_comes_back() {
    let bed = Bed::new();
    let done = bed.build(SPEC, &["--break-on", "failure", "--on-stop", "exit"]).code(77);
    assert!(done.stdout.contains("Running command exit 3"), "{}", done.stdout);
    assert!(done.stderr.contains("is paused because build:2 has failed"), "{}", done.stderr);
    let (id, rest) = last_line(&done.stderr);
    assert!(rest.starts_with("is paused until 20") && rest.ends_with('Z'), "{}", done.stderr);
    let row = bed.runner(["wait", &id, "--for", "paused", "--format", "json"]).code(0).stdout;
    let row: Value = serde_json::from_str(&row).unwrap();
    assert_eq!((&row["id"], &row["state"]), (&Value::from(id.clone()), &"paused".into()), "{row}");
    let left = row["pauseLeftS"].as_u64().unwrap();
    assert!((1..=900).contains(&left), "{row}");
    assert!(bed.runner(["ps"]).code(0).stdout.contains(" (pause)"), "{row}");
    // The clock stops while someone is connected.
    let inside = Running::spawn(bed.command(["exec", "--", "sh", "-c", "echo in; exec sleep 600"]));
    inside.stdout.wait_for("in\n");
    let rows = bed.runner(["ps", "--format", "json"]).code(0).stdout;
    assert!(!rows.contains("pauseLeftS"), "{rows}");
    drop(inside);
    bed.runner(["retry", "--text", "touch /tmp/three"]).code(0);
    bed.runner(["wait", &id, "--for", "ended", "--exit-code"]).code(0);
    // Nothing else is left of it.
    let done = bed.build(SPEC, &["--step", "--on-stop", "exit"]).code(77);
    let (id, _) = last_line(&done.stderr);
    bed.runner(["stop", "--all"]).code(0);
    bed.runner(["wait", &id, "--for", "ended", "--exit-code"]).code(5);
}

fn a_script_that_meets_no_stop() {
    let bed = Bed::new();
    let exits = ["--break-on", "failure", "--on-stop", "exit"];
    let done = bed.build(&build(&["echo fine"]), &exits).code(0);
    assert!(done.output() == "fine\n" && done.stderr.contains("SUCCEEDED"), "{}", done.stderr);
    bed.build("version: 0.2\n", &exits).code(2);
    bed.build(&build(&["true"]), &["--on-stop", "exit"]).code(2).says("nothing pauses this build");
    // A build that has not begun.
    bed.build(&build(&["true"]), &[&exits[..], &["--mask", "NONE"]].concat())
        .code(2)
        .says("--mask");
    let running = bed.start(&build(&["echo runs; sleep 600"]), &exits);
    running.stdout.wait_for("runs\n");
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.ends(5);
    // Nobody connects.
    let options = [&exits[..], &["--break-timeout", "1s"]].concat();
    let done = bed.build(&build(&["exit 3"]), &options).code(77);
    let (id, _) = last_line(&done.stderr);
    bed.runner(["wait", &id, "--for", "ended", "--exit-code"]).code(5);
}

fn prompt(bed: &Bed) -> Terminal {
    let terminal = bed.terminal(bed.command(["debug"]), 24, 100);
    terminal.wait_for("to decide");
    terminal
}

fn a_prompt() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    let terminal = prompt(&bed);
    let type_in = |line: &str, says: &str| {
        terminal.send(&format!("{line}\r"));
        terminal.wait_for(says);
    };
    type_in("history", "build:2  exit status 3");
    type_in("nothing", "there is no `nothing` here");
    type_in("re", "may be `resume` or `retry`");
    type_in("skip --to build:1", "error: at a failure");
    // Completing a word, and recalling an earlier line.
    type_in("hel\t", "VERB --help has more");
    type_in("break add before:build:2", "cli  before:build:2");
    type_in("rerun build:1", "paused before build:2");
    terminal.send("\u{1b}[A\u{1b}[A");
    terminal.wait_for_after("paused before build:2", "break add before:build:2");
    terminal.send("\u{15}");
    terminal.send("set A=b c\r");
    running.stderr.wait_for("(cli): set: A");
    type_in("eval echo \"now $A\"", "now b c");
    // Ctrl-C ends what a line has started, not the prompt. Until then the started program reads the
    // input.
    type_in("eval echo be''gun; exec sleep 600", "begun");
    terminal.send("\u{3}");
    terminal.wait_for_after("begun", "(build:2)");
    type_in("exec -- sh -c 'echo in''side; exec sleep 600'", "inside");
    terminal.send("\u{3}");
    terminal.wait_for_after("inside", "(build:2)");
    let waits = "retry --text 'echo at wo''rk; while ! test -e go; do sleep 0.01; done'";
    type_in(waits, "at work\r\n");
    terminal.send("\u{3}");
    terminal.wait_for("no longer followed");
    type_in("pause", "stands still");
    terminal.wait_for_after("stands still", "(build:2)");
    type_in("exec -- sh -c 'touch go /tmp/three; echo ma''de'", "made");
    terminal.wait_for_after("made", "(build:2)");
    type_in("resume", "SUCCEEDED");
    terminal.ends(0);
    running.ends(0);
}

fn a_prompt_reads_a_script() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    let file = bed.path("script");
    fs::write(&file, b"no \xff text\nhistory more words\nwhere\ndiff\nquit\n").unwrap();
    let mut command = bed.command(["debug"]);
    command.stdin(fs::File::open(&file).unwrap());
    let done =
        outcome(&mut command).code(0).says("this line is not UTF-8").says("Usage: runner history");
    assert!(done.stdout.contains("paused because build:2 has failed"), "{}", done.stdout);
    fs::write(&file, "abort\n").unwrap();
    let mut command = bed.command(["debug"]);
    command.stdin(fs::File::open(&file).unwrap());
    outcome(&mut command).code(0).says("FAILED");
    running.ends(1);
}

fn keys_decide() {
    let bed = Bed::new();
    let spec = build(&["true", "exit 3", "echo last"]);
    let editor = bed.path("editor");
    crate::common::write_program(&editor, "#!/bin/sh\nsed -i 's/exit 3/echo edit''ed/' \"$1\"\n");
    let mut command =
        bed.build_command(&spec, &["--step", "--break-on", "failure", "--log-format", "pretty"]);
    command.env("EDITOR", &editor);
    let terminal = bed.terminal(command, 40, 120);
    let menu = " · r resume · q stop";
    terminal.wait_for(&format!("s shell · e edit · k skip · n step{menu}"));
    terminal.send("n");
    terminal.wait_for("is paused before build:2");
    terminal.wait_for_after("is paused before build:2", menu);
    terminal.send("n");
    terminal.wait_for("is paused because build:2 has failed");
    terminal
        .wait_for_after("build:2 has failed", &format!("t retry · e edit · k skip · n step{menu}"));
    terminal.send("t");
    terminal.wait_for("(key): retry");
    // Not the menu of the stop that is ending.
    terminal.stream.wait_until("the second failure, and its menu", |said| {
        let said = String::from_utf8_lossy(said);
        let failures = said.split("is paused because build:2 has failed").skip(2);
        failures.last().is_some_and(|rest| rest.contains(menu))
    });
    terminal.send("e");
    terminal.wait_for("edited");
    terminal.wait_for("(key): retry --edit");
    terminal.wait_for("is paused before build:3");
    terminal.wait_for_after("is paused before build:3", menu);
    terminal.send("r");
    terminal.wait_for("SUCCEEDED");
    terminal.ends(0);
    let by: Vec<Value> =
        bed.events("intervened").iter().map(|done| done["by"]["client"].clone()).collect();
    assert!(by.iter().all(|client| client == "key"), "{by:?}");
}

fn a_shell_decides_outside_of_it() {
    let bed = Bed::new();
    let running = stopped(&bed, SPEC, "build:2");
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("PS1='rea''dy> '\r");
    terminal.wait_for("ready> ");
    terminal.send("~?");
    terminal.wait_for("~T retry");
    terminal.send("~T");
    running.stderr.wait_for("(shell): retry\n");
    running.stderr.wait_until("a second stop", |said| {
        String::from_utf8_lossy(said).matches("is paused because build:2").count() == 2
    });
    terminal.send("~K");
    wait_for_stop(&running, "build:3");
    terminal.send("touch /tmp/thr''ee; echo mend''ed\r");
    terminal.wait_for("mended");
    terminal.send("~T");
    running.ends(1);
    terminal.ends(0);
}

fn variables_are_shown() {
    let bed = Bed::new();
    let spec = build(&["export A=1 B=old S=hush", "export B='new one' C=2; unset A; false"]);
    let running = bed.start(&spec, &["--break-on", "failure", "-e", "S=first", "--mask", "S"]);
    wait_for_stop(&running, "build:2");
    let changed = bed.runner(["env", "--changed"]).code(0).stdout;
    assert_eq!(changed, "A  # unset, was 1\nB='new one'  # was old\nC=2  # new\n");
    let all = bed.runner(["env"]).code(0).stdout;
    assert!(all.contains("\nC=2\n") && all.contains("\nS=") && !all.contains("\nA="), "{all}");
    let json = bed.runner(["env", "--changed", "--format", "json"]).code(0).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[0]["value"], &json[0]["before"]), (&Value::Null, &"1".into()), "{json}");
    bed.runner(["abort"]).code(0);
    running.ends(1);
}

/// As people type them: each with its own terminal, which shows some things that appear nowhere
/// else.
fn every_verb_at_a_terminal() {
    let bed = Bed::new();
    let commands = ["echo one > made", "export A=1; test -e go", "exit 3", "false", "echo last"];
    let running = bed.start(&build(&commands), &["--break-on", "start"]);
    let stop = |at: &str, times: usize| {
        running.stderr.wait_until(at, |said| {
            let said = String::from_utf8_lossy(said);
            said.split(&format!("is paused {at}"))
                .nth(times)
                .is_some_and(|rest| rest.contains("  stop "))
        });
    };
    let typed = |words: &[&str], code: i32, shows: &str| {
        let shown = bed.terminal(bed.command(words), 24, 100).ends(code);
        assert!(shown.contains(shows), "{words:?}: {shown}");
    };
    stop("before its first command", 1);
    typed(&["break", "add", "failure"], 0, "2  cli  failure");
    typed(&["break", "ls"], 0, "1  cli  start");
    typed(&["step"], 0, "");
    stop("before build:2", 1);
    typed(&["break", "rm", "1"], 0, "cli  failure");
    typed(&["diff"], 0, "A  made");
    typed(&["resume"], 0, "");
    stop("because build:2 has failed", 1);
    typed(&["env", "--changed"], 0, "A=1  # new");
    typed(&["set", "B=b"], 0, "");
    typed(&["eval", "echo is-$B; touch go"], 0, "is-b");
    typed(&["retry"], 0, "");
    stop("because build:3 has failed", 1);
    typed(&["retry", "--text", "echo at work; while ! test -e on; do sleep 0.01; done"], 0, "");
    running.stdout.wait_for("\nat work\n");
    typed(&["pause"], 0, "stands still");
    stop("in the middle of build:3", 1);
    typed(&["exec", "--", "touch", "on"], 0, "");
    typed(&["resume"], 0, "");
    stop("because build:4 has failed", 1);
    typed(&["history"], 0, "build:4  exit status 1");
    typed(&["patch"], 0, "+      - ");
    typed(&["patch", "--write"], 0, "buildspec.yml is written");
    typed(&["rerun", "build:1"], 0, "");
    stop("because build:3 has failed", 2);
    typed(&["skip"], 0, "");
    stop("because build:4 has failed", 2);
    typed(&["events"], 0, "\"type\":\"intervened\"");
    typed(&["abort"], 0, "");
    running.ends(1);
}
