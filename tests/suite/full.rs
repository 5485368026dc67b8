//! Standard output that accepts nothing: full, or without a reader; and standard error shared with
//! other writers.

use super::service_faults::Disk;
use crate::common::{Bed, Outcome, build, cases};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

cases! {
    [Containers, Image("busybox")] => a_full_output_of_builds, a_full_output_of_sessions,
        an_output_without_a_reader, notices_are_one_write_a_line;
    [Containers, Root] => a_state_folder_on_a_full_disk;
    [] => a_full_output_of_every_verb;
}

/// Runs a command whose standard output is full.
fn full(command: &mut Command) -> Outcome {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let child = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The message says where there is no space.
fn a_state_folder_on_a_full_disk() {
    let bed = Bed::host();
    let disk = Disk::for_home(&bed, 16);
    bed.build(&build(&["true"]), &[]).code(0);
    let filler = bed.home().join("filler");
    let mut text = Vec::new();
    for size in [1 << 18, 4096, 512] {
        loop {
            text.resize(text.len() + size, b'x');
            if fs::write(&filler, &text).is_err() {
                break;
            }
        }
    }
    let full = bed.runner(["run"]).code(3).says(bed.home().to_str().unwrap());
    full.says("No space left on device").says("hint: ");
    drop(disk);
}

const SAID: &str = "cannot write to standard output: No space left on device";

fn a_full_output_of_every_verb() {
    let bed = Bed::host();
    let spec = build(&["true"]);
    bed.write("buildspec.yml", &spec);
    bed.write("bad.yml", "version: 0.2\nphases: {build: {nonsense: 1}}\n");
    for verb in [
        &["check"][..],
        &["check", "bad.yml"],
        &["check", "--format", "json"],
        &["check", "--format", "sarif"],
        &["check", "--schema"],
        &["ps"],
        &["ps", "--format", "json"],
        &["image", "ls"],
        &["image", "prune"],
        &["cache", "ls"],
        &["cache", "ls", "--format", "json"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        full(&mut bed.command(verb)).code(3).says(SAID);
    }
    full(&mut bed.command(["doctor"])).code(3).says(SAID);
    // Output to standard error is a usage error as usual.
    full(&mut bed.command(["nonsense"])).code(2);
}

/// Reported at the end, which is reached all the same; the record shows the build's own result.
fn a_full_output_of_builds() {
    for format in ["codebuild", "json", "pretty"] {
        for (command, code, status) in [("true", 3, "SUCCEEDED"), ("false", 3, "FAILED")] {
            let bed = Bed::new();
            let spec = build(&[command]);
            let run = full(&mut bed.build_command(&spec, &["--log-format", format]));
            run.code(code).says(SAID).says(&format!("the build itself: {status}"));
            assert_eq!(bed.record()["buildStatus"], status);
            full(&mut bed.command(["logs"])).code(3).says(SAID);
        }
    }
}

fn a_full_output_of_sessions() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    full(&mut bed.command(["exec", "--", "echo", "x"])).code(125).says(SAID);
    full(&mut bed.command(["port-forward", ":80"])).code(3).says(SAID);
    full(&mut bed.command(["logs", "-f"])).code(3).says(SAID);
    let mut shell = bed.other("sh");
    shell.args(["-c", "\"$0\" attach > /dev/full"]).arg(crate::common::runner());
    let text = bed.terminal(shell, 24, 80).ends(125);
    assert!(text.contains(SAID), "{text}");
    bed.resume(running);
}

/// `| head`
fn an_output_without_a_reader() {
    let closed = |command: &mut Command| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        Outcome { code: output.status.code().unwrap(), stdout: String::new(), stderr }
    };
    for (command, code) in [("seq 100000", 0), ("seq 100000; false", 1)] {
        let bed = Bed::new();
        let run = closed(&mut bed.build_command(&build(&[command]), &[])).code(code);
        assert!(!run.stderr.contains("standard output"), "{}", run.stderr);
        for verb in [&["logs"][..], &["ps", "--all"], &["check"], &["image", "ls"], &["--help"]] {
            let said = closed(&mut bed.command(verb)).code(0).stderr;
            assert_eq!(said, "", "{verb:?}");
        }
    }
}

/// Lines of several programs on one standard error are not split.
fn notices_are_one_write_a_line() {
    let bed = Bed::new();
    let artifacts = "artifacts: {files: [x]}\n";
    let good = build(&["exit 3"]) + artifacts;
    bed.write("bad.yml", "version: 0.2\nphases: 3\nenv: 4\n");
    let mut failing = bed.build_command(&good, &[]);
    for (command, said) in [
        (&mut bed.command(["run", "bad.yml"]), "errors in"),
        (&mut failing, "FAILED"),
        (&mut bed.command(["exec", "nosuch", "--", "true"]), "hint: "),
        (&mut bed.command(["resume"]), "no build is live"),
        (&mut bed.command(["nonsense"]), "unrecognized subcommand 'nonsense'"),
        (&mut bed.command(["run", "--timeout", "soon"]), "invalid value 'soon'"),
        (&mut bed.command([""; 0]), "Usage: "),
    ] {
        // Each write is a separate message here.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut child =
            command.stdout(Stdio::null()).stderr(OwnedFd::from(theirs)).spawn().unwrap();
        // The command holds the other end, too.
        command.stderr(Stdio::null());
        child.wait().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut all = String::new();
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length) = ours.recv(&mut buffer) {
            let write = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(write.ends_with('\n') && write.lines().count() == 1, "{write:?}");
            all.push_str(write);
        }
        assert!(all.contains(said), "{all}");
    }
}
