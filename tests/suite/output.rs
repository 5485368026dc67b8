//! Output: nothing is lost, nothing blocks, and each format is correct.

use crate::common::{Bed, Stream, build, cases, screen_of};
use std::fs;
use std::process::Stdio;

cases! {
    [Containers, Image("busybox")] => nothing_is_lost, a_slow_reader_does_not_slow_the_build,
        a_closed_standard_output_does_not_end_the_build, memory_stays_bounded, json_lines,
        background_children_are_heard, logs_equal_what_was_shown, masked_values, a_torn_log, quiet_is_quiet;
    [Containers, Image("busybox")] => pretty_on_a_terminal, pretty_without_colour,
        pretty_when_the_window_changes;
}

fn nothing_is_lost() {
    let bed = Bed::new();
    bed.write("binary", (0..=255_u8).cycle().take(100_000).collect::<Vec<_>>());
    let commands = [
        "cat binary",
        "head -c 5000000 /dev/zero | tr '\\0' x",
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
        "printf 'no line break'",
        "exec printf last",
        "seq 100000",
    ];
    let mut running = bed.start(&build(&commands), &[]);
    assert_eq!(running.wait(), 0, "{}", running.stderr.text());
    let mut wanted: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
    wanted.extend(vec![b'x'; 5_000_000]);
    wanted.extend((0..3000).flat_map(|i| format!("line {i}\n").into_bytes()));
    wanted.extend(b"no line breaklast");
    wanted.extend((1..=100_000).flat_map(|i| format!("{i}\n").into_bytes()));
    let log = fs::read(bed.only().join("output.log")).unwrap();
    assert!(log == wanted, "{} bytes instead of {}", log.len(), wanted.len());
    // The displayed output contains every byte as well.
    let shown = running.stdout.bytes();
    let position = |part: &[u8]| shown.windows(part.len()).position(|window| window == part);
    assert!(position(&wanted[..100_000]).is_some());
    assert!(position(b"\nno line break\n\n[Container]").is_some());
}

fn a_slow_reader_does_not_slow_the_build() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["head -c 20000000 /dev/zero | tr '\\0' x"]), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Nobody reads standard output; standard error still shows that the build is over.
    let stderr = Stream::gather(child.stderr.take().unwrap());
    stderr.wait_for("SUCCEEDED");
    let mut shown = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(shown.len() > 20_000_000);
}

fn a_closed_standard_output_does_not_end_the_build() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["seq 100000", "echo end > /dev/null"]), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let stderr = Stream::gather(child.stderr.take().unwrap());
    stderr.wait_for("SUCCEEDED");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(bed.record()["buildStatus"], "SUCCEEDED");
}

fn memory_stays_bounded() {
    let bed = Bed::new();
    let commands = ["head -c 300000000 /dev/zero | tr '\\0' x; codebuild-breakpoint"];
    let mut command = bed.build_command(&build(&commands), &["--enable-session"]);
    let out = fs::File::create(bed.path("out")).unwrap();
    let mut child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = Stream::gather(child.stderr.take().unwrap());
    stderr.wait_for("is paused");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap();
    // Much of it is this program with its debug information.
    assert!(peak < 64_000, "{peak} KiB");
    bed.runner(["resume"]).code(0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn json_lines() {
    let bed = Bed::new();
    let commands = ["printf 'caf\\303'; sleep 0.05; printf '\\251\\n'", "printf '\\377\\376'"];
    let outcome = bed.build(&build(&commands), &["--log-format", "json"]).code(0);
    let mut output = Vec::new();
    for (index, line) in outcome.stdout.lines().enumerate() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["schemaVersion"], 2);
        assert!(event["seq"].as_u64().unwrap() > index as u64, "{line}");
        assert!(event["buildId"].as_str().unwrap().starts_with("demo:"));
        assert!(event["time"].as_str().unwrap().ends_with('Z'));
        if event["type"] == "output" {
            let data = &event["data"];
            output.push(data["text"].as_str().or(data["base64"].as_str()).unwrap().to_owned());
        }
    }
    assert_eq!(output.concat(), "café\n//4=");
    assert!(outcome.stdout.lines().last().unwrap().contains("\"build_ended\""));
}

fn background_children_are_heard() {
    let bed = Bed::new();
    // The child writes only when the third command tells it to.
    let commands = [
        "mkfifo /tmp/go; (read x < /tmp/go; echo from the background; echo y > /tmp/went) & echo \
         first",
        "mkfifo /tmp/went",
        "echo x > /tmp/go; read y < /tmp/went; echo third",
    ];
    let outcome = bed.build(&build(&commands), &[]).code(0);
    // The time of its output is not fixed, but it must appear.
    for line in ["first", "from the background", "third"] {
        assert_eq!(outcome.stdout.lines().filter(|found| *found == line).count(), 1, "{line}");
    }
}

fn logs_equal_what_was_shown() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["seq 1000", "printf x", "false"]), &[]).code(1);
    assert_eq!(bed.runner(["logs"]).code(0).stdout, outcome.stdout);
}

/// The last line of a log whose writer was killed in the middle of it does not count.
fn a_torn_log() {
    let bed = Bed::new();
    let build = "version: 0.2\nphases:\n  build:\n    commands: [echo whole]\n";
    let whole = bed.build(build, &[]).code(0).stdout;
    let events = bed.only().join("events.jsonl");
    let mut text = fs::read(&events).unwrap();
    text.extend_from_slice(b"{\"seq\":99999,\"type\":\"comm");
    fs::write(&events, text).unwrap();
    assert_eq!(bed.runner(["logs"]).code(0).stdout, whole);
}

fn masked_values() {
    let bed = Bed::new();
    let commands = [
        "echo the $TOKEN; printf %s \"$TOKEN\" | head -c 5; sleep 0.02; printf %s \"$TOKEN\" | tail \
         -c +6; echo; echo $SHORT",
    ];
    let options =
        ["-e", "TOKEN=hunter2-and-more", "-e", "SHORT=abc", "--mask", "TOKEN", "--mask", "SHORT"];
    let outcome = bed
        .build(&build(&commands), &options)
        .code(0)
        .says("shorter than 4 characters: the value of SHORT");
    assert_eq!(outcome.output(), "the ***\n***\nabc\n");
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert!(!log.contains("hunter2"), "{log}");

    // The text of a command and the reason of a failure are displayed, too.
    let bed = Bed::new();
    let commands = ["echo hunter2-and-more", "false hunter2-and-more"];
    let outcome = bed.build(&build(&commands), &options).code(1).says("command: false ***.");
    assert!(outcome.stdout.contains("Running command echo ***\n***\n"), "{}", outcome.stdout);
    for file in ["output.log", "events.jsonl", "record.json"] {
        let text = fs::read_to_string(bed.only().join(file)).unwrap();
        assert!(!text.contains("hunter2"), "{file}: {text}");
    }

    let bed = Bed::new();
    bed.build(&build(&["true"]), &["--mask", "NOSUCH"]).code(2).says("no such variable");
    // That one never had its own folder that could be left behind.
    assert_eq!(crate::common::list(&bed.home().join("live")), [""; 0]);
}

fn quiet_is_quiet() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["true"]), &["--quiet"]).code(0);
    assert_eq!(outcome.stderr, "");
    let outcome = bed.build(&build(&["false"]), &["--quiet"]).code(1);
    assert!(outcome.stderr.contains("FAILED"), "{}", outcome.stderr);
}

const PRETTY: [&str; 3] = ["echo first; printf partial", "seq 3", "codebuild-breakpoint"];

fn pretty_on_a_terminal() {
    let bed = Bed::new();
    let terminal = bed.terminal(bed.build_command(&build(&PRETTY), &["--enable-session"]), 40, 80);
    // Between two redraws there is no status line.
    let mut screen = String::new();
    terminal.stream.wait_until("the status line", |bytes| {
        screen = screen_of(bytes, 40, 80);
        screen.contains("q stop")
    });
    let lines: Vec<&str> = screen.lines().collect();
    for wanted in ["── BUILD", "first", "partial", "1", "2", "3", "$ codebuild-breakpoint"] {
        assert!(
            lines
                .iter()
                .any(|line| line.trim_end() == wanted || line.contains(&format!("$ {wanted}"))),
            "{wanted}:\n{screen}"
        );
    }
    // The status line is last, alone, and no longer than the terminal's width.
    let status: Vec<_> = lines.iter().filter(|line| line.contains("s shell · r resume")).collect();
    assert_eq!(status.len(), 1, "{screen}");
    assert!(status[0].contains("BUILD ") && status[0].chars().count() <= 80, "{screen}");
    terminal.send("r");
    let text = terminal.ends(0);
    assert!(text.contains("\u{1b}["), "colour");
    let screen = screen_of(text.as_bytes(), 60, 80);
    assert!(screen.trim_end().ends_with("SUCCEEDED"), "{screen}");
    assert!(!screen.contains("s shell"), "{screen}");
}

fn pretty_without_colour() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["echo plain", "false"]), &[]);
    command.env("NO_COLOR", "1");
    let text = bed.terminal(command, 24, 80).ends(1);
    assert!(text.contains("✗ exit status 1"), "{text}");
    // Cursor movements of the status line remain; colours and font weights do not.
    let styles = text.split("\u{1b}[").skip(1).filter(|part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(0);
        part[end..].starts_with('m')
    });
    assert_eq!(styles.count(), 0, "{text:?}");
}

fn pretty_when_the_window_changes() {
    let bed = Bed::new();
    let long = format!("echo {}; codebuild-breakpoint", "long ".repeat(60));
    let terminal = bed.terminal(bed.build_command(&build(&[&long]), &["--enable-session"]), 24, 80);
    terminal.wait_for("q stop");
    terminal.resize(24, 40);
    // Redrawn for the new width: cut before its end.
    terminal.stream.wait_until("a line cut at 40 columns", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        text.rsplit('\r').take(3).any(|line| {
            line.contains("BUILD") && line.contains("paused") && !line.contains("q stop")
        })
    });
    terminal.send("q");
    terminal.ends(5);
}
