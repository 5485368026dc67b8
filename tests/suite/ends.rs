//! Ends: however a build ends, nothing of it remains, and the record tells the truth.

use crate::common::{Bed, Running, cases, until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

cases! {
    [Containers, Image("busybox")] => ctrl_c_once, ctrl_c_twice, other_signals, a_timeout,
        a_stop_from_outside, kill_9_at_any_moment, kill_9_while_paused, kill_9_in_the_middle_of_a_line,
        kill_9_while_the_folder_is_made, kill_9_while_pid_1_is_stopped, the_container_is_killed,
        the_clock_stands_still_while_stopped, nobody_could_continue_an_orphan,
        signals_that_were_ignored_from_the_start;
    [Containers, Image("busybox"), Program("prlimit")] => trees_that_are_hard_to_remove;
}

fn build(commands: &[&str]) -> String {
    crate::common::build(commands) + "  post_build:\n    commands: [echo never]\n"
}

const WAITS: &str = "mkfifo /tmp/go; echo ready; read x < /tmp/go; echo $x";
const POLITE: &str = "trap 'echo told to end; exit' TERM; echo ready; while :; do sleep 0.05; done";
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";

fn last_phases(bed: &Bed) -> Vec<String> {
    let record = bed.record();
    let phases = record["phases"].as_array().unwrap();
    phases[phases.len() - 2..]
        .iter()
        .map(|phase| {
            let status = phase["phaseStatus"].as_str().unwrap_or("-");
            format!("{} {status}", phase["phaseType"].as_str().unwrap())
        })
        .collect()
}

fn ctrl_c_once() {
    let bed = Bed::new();
    let mut running = bed.start(&build(&[POLITE]), &[]);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 5);
    assert!(running.stdout.text().contains("told to end"), "{}", running.stdout.text());
    assert!(running.stderr.text().contains("STOPPED"), "{}", running.stderr.text());
    assert_eq!(last_phases(&bed), ["BUILD STOPPED", "COMPLETED -"]);
    let record = bed.record();
    assert_eq!(record["buildStatus"], "STOPPED");
    let phases = record["phases"].as_array().unwrap();
    assert_eq!(phases[phases.len() - 2].get("contexts"), None);
}

fn ctrl_c_twice() {
    let bed = Bed::new();
    let running = bed.start(&build(&[STUBBORN]), &[]);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGINT);
    running.stderr.wait_for("once more ends it at once");
    running.signal(Signal::SIGINT);
    running.ends(5);
    // Not after the five seconds that one Ctrl-C allows.
    let record = bed.record();
    let build = record["phases"].as_array().unwrap().iter().rev().nth(1).unwrap().clone();
    assert!(build["durationInSeconds"].as_u64().unwrap() < 5, "{build}");
}

fn other_signals() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let bed = Bed::new();
        let running = bed.start(&build(&[POLITE]), &[]);
        running.stdout.wait_for("ready\n");
        running.signal(signal);
        running.ends(5);
        assert_eq!(bed.record()["buildStatus"], "STOPPED");
    }
}

fn a_timeout() {
    let bed = Bed::new();
    // Long enough to reach the command on any machine: the time runs from the beginning of the
    // build.
    let outcome = bed.build(&build(&[POLITE]), &["--timeout", "5s"]).code(4).says("TIMED_OUT");
    assert!(
        outcome.stdout.contains("status code: BUILD_TIMED_OUT Message: Build has timed out. \n"),
        "{}",
        outcome.stdout
    );
    assert_eq!(last_phases(&bed), ["BUILD TIMED_OUT", "COMPLETED -"]);
}

fn a_stop_from_outside() {
    let bed = Bed::new();
    let running = bed.start(&build(&[POLITE]), &[]);
    running.stdout.wait_for("ready\n");
    bed.runner(["stop"]).code(0);
    // When it returns, the build is over.
    assert_eq!(bed.record()["buildStatus"], "STOPPED");
    running.ends(5);
    let id = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    bed.runner(["stop", &id]).code(2).says("has ended");
    bed.runner(["wait", &id, "--for", "paused"]).code(1).says("ended without pausing");
}

/// Whether a process of the container with this PID 1 is left.
fn is_left(container: &serde_json::Value) -> bool {
    let pid = container["process"]["pid"].as_u64().unwrap();
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => false,
        Ok(stat) => {
            let rest = stat.rsplit_once(')').unwrap().1;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let same = fields[19].parse::<u64>().unwrap()
                == container["process"]["startTime"].as_u64().unwrap();
            same && fields[0] != "Z"
        }
    }
}

fn kill_9_at_any_moment() {
    // From before the container exists to after the last command, wherever the machine is at that
    // moment.
    for round in 0..24_u32 {
        let bed = Bed::new();
        let commands = ["echo one", "sleep 0.01; echo two", "seq 1000", "codebuild-breakpoint"];
        let mut running: Running = bed.start(&build(&commands), &["--enable-session"]);
        let wanted = 100 * round as usize;
        running.stdout.wait_until("some output", |bytes| bytes.len() >= wanted.min(4500));
        let dir = crate::common::list(&bed.home().join("builds"));
        let container = dir
            .first()
            .and_then(|name| {
                fs::read(bed.home().join("builds").join(name).join("container.json")).ok()
            })
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        running.signal(Signal::SIGKILL);
        assert_eq!(running.wait(), 137);
        let said = bed.runner(["ps"]).code(0);
        assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
        if let Some(container) = container {
            assert!(!is_left(&container), "round {round}");
        }
        for name in crate::common::list(&bed.home().join("builds")) {
            assert!(!name.starts_with(".new"), "{name}");
            assert_eq!(bed.record()["buildStatus"], "FAULT", "round {round}");
        }
        // A second command changes nothing.
        assert_eq!(bed.runner(["ps"]).code(0).stderr, "");
    }
}

/// What a kill leaves of a build's folder while it is being created.
fn kill_9_while_the_folder_is_made() {
    let bed = Bed::new();
    bed.runner(["ps"]).code(0);
    let uuid = "01234567-89ab-4cde-8f01-23456789abcd";
    let (live, new) =
        (bed.home().join("live").join(uuid), bed.home().join(format!("builds/.new-{uuid}")));
    for (is_begun, has_lock) in [(false, false), (true, false), (true, true)] {
        fs::write(&live, "").unwrap();
        if is_begun {
            fs::create_dir(&new).unwrap();
        }
        if has_lock {
            fs::write(new.join("lock"), "").unwrap();
        }
        bed.runner(["ps"]).code(0);
        assert!(!live.exists() && !new.exists(), "{is_begun} {has_lock}");
    }
    // Complete, but without a log or with an empty one; the build's directories may exist by then.
    let (whole, layer) = (bed.home().join("builds").join(uuid), bed.path("layer"));
    let meta = serde_json::json!({
        "uuid": uuid, "project": "demo", "number": 1, "runnerPid": 1, "layers": [&layer],
    });
    for has_log in [false, true] {
        fs::write(&live, "").unwrap();
        fs::create_dir(&whole).unwrap();
        fs::create_dir(&layer).unwrap();
        fs::write(whole.join("lock"), "").unwrap();
        fs::write(whole.join("meta.json"), meta.to_string()).unwrap();
        if has_log {
            fs::write(whole.join("events.jsonl"), "").unwrap();
        }
        let said = bed.runner(["ps"]).code(0).stderr;
        assert!(!said.contains("cannot"), "{said}");
        assert!(!live.exists() && !whole.exists() && !layer.exists(), "{has_log}");
    }
    // A build being created right now is left alone.
    let making = fs::File::create(&live).unwrap();
    making.lock().unwrap();
    fs::create_dir(&new).unwrap();
    bed.runner(["ps"]).code(0);
    assert!(live.exists() && new.exists());
    drop(making);
    bed.runner(["ps"]).code(0);
    assert!(!live.exists() && !new.exists());
}

fn kill_9_while_paused() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["echo before; codebuild-breakpoint"]), &[]);
    let attached = bed.terminal(bed.command(["attach"]), 24, 80);
    attached.send("echo in-$((1+1))\r");
    attached.wait_for("in-2");
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    let text = attached.ends(125);
    assert!(text.contains("connection to the build is lost"), "{text}");
    bed.runner(["ps", "--all"]).code(0).says("left by a runner that was killed");
    let record = bed.record();
    assert_eq!(record["buildStatus"], "FAULT");
    assert_eq!(record["currentPhase"], "COMPLETED");
    let log = bed.runner(["logs"]).code(0).stdout;
    assert!(log.contains("\nbefore\n") && log.contains("State: FAULT"), "{log}");
}

/// A partial line does not count; the log is completed after the last whole line.
fn kill_9_in_the_middle_of_a_line() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    let log = bed.live().join("events.jsonl");
    let mut text = fs::read(&log).unwrap();
    text.extend_from_slice(b"{\"schemaVersion\":1,\"seq\":99999,\"ti");
    fs::write(&log, text).unwrap();
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().zip(1..).all(|(event, seq): (_, u64)| event["seq"] == seq), "{text}");
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(types.ends_with(&["phase_ended", "phase_started", "build_ended"]), "{types:?}");
}

/// A stopped PID 1 cannot notice that its runner is gone; the next command handles it.
fn kill_9_while_pid_1_is_stopped() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let text = fs::read(bed.live().join("container.json")).unwrap();
    let container: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let pid = i32::try_from(container["process"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    assert!(is_left(&container));
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    assert!(!is_left(&container));
}

/// A build that creates trees that are hard to remove leaves nothing, either.
fn trees_that_are_hard_to_remove() {
    let bed = Bed::new();
    let commands = [
        "cd /tmp; i=0; while [ $i -lt 1500 ]; do mkdir deep; cd deep; i=$((i+1)); done; cd /",
        "mkdir -p /closed/in; touch /closed/in/file; chmod 0 /closed/in /closed",
    ];
    let command = bed.build_command(&crate::common::build(&commands), &[]);
    let mut limited = bed.other("prlimit");
    limited.arg("--nofile=256").arg(command.get_program()).args(command.get_args());
    let outcome = crate::common::outcome(&mut limited).code(0);
    assert!(!outcome.stderr.contains("cannot"), "{}", outcome.stderr);
}

fn the_container_is_killed() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["echo before; codebuild-breakpoint"]), &[]);
    let text = fs::read(bed.live().join("container.json")).unwrap();
    let container: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let pid = i32::try_from(container["process"]["pid"].as_i64().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(running.wait(), 3);
    assert!(
        running.stderr.text().contains("Build container found dead"),
        "{}",
        running.stderr.text()
    );
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

/// Ctrl-Z: the runner does not count the time until the shell continues it.
fn the_clock_stands_still_while_stopped() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&[WAITS]), &["--timeout", "1h"]);
    // A job of a shell is a process group. One that is orphaned is not stopped.
    let mut running = Running::spawn_from(command.process_group(0));
    running.stdout.wait_for("ready\n");
    let seconds_left = || {
        let rows = bed.runner(["ps", "--format", "json"]).code(0).stdout;
        let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
        rows[0]["timeLeftS"].as_u64().unwrap()
    };
    let begin = Instant::now();
    let before = seconds_left();
    running.signal(Signal::SIGTSTP);
    let stat = format!("/proc/{}/stat", running.pid());
    until("stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
    let stopped = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let stopped = stopped.elapsed();
    running.signal(Signal::SIGCONT);
    let after = seconds_left();
    // No more than has passed otherwise, however slow this machine is, plus what is lost by
    // rounding to seconds.
    let counted = (begin.elapsed() - stopped).as_secs() + 1;
    assert!(before - after <= counted, "{before} {after} {counted}");
    bed.runner(["exec", "--", "sh", "-c", "echo in time > /tmp/go"]).code(0);
    assert_eq!(running.wait(), 0, "{}", running.stderr.text());
}

/// Ctrl-Z without a shell, in a container for one: a build that stopped would never go on.
fn nobody_could_continue_an_orphan() {
    let bed = Bed::new();
    let started = bed.build_command(&build(&[WAITS]), &[]);
    let mut command = bed.other("setsid");
    let mut running =
        Running::spawn_from(command.arg(started.get_program()).args(started.get_args()));
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGTSTP);
    let status = format!("/proc/{}/status", running.pid());
    until("handled", || {
        let text = fs::read_to_string(&status).unwrap();
        let pending = text.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).unwrap();
        u64::from_str_radix(pending, 16).unwrap() == 0
    });
    bed.runner(["exec", "--", "sh", "-c", "echo in time > /tmp/go"]).code(0);
    assert_eq!(running.wait(), 0, "{}", running.stderr.text());
}

/// `nohup runner run`, and programs that a script's shell starts in the background.
fn signals_that_were_ignored_from_the_start() {
    let is_ignored = |running: &Running, signal: Signal| {
        let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        u64::from_str_radix(bits, 16).unwrap() & (1 << (signal as i32 - 1)) != 0
    };
    let bed = Bed::new();
    // Ignored by the program but not by the build, whose processes start with default signals.
    let spec = build(&["grep SigIgn /proc/self/status; codebuild-breakpoint"]);
    let command = bed.build_command(&spec, &["--enable-session"]);
    let mut shell = bed.other("sh");
    shell.args(["-c", "trap '' HUP INT; exec \"$@\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    let mut running = Running::spawn(shell);
    running.stderr.wait_for("is paused at a breakpoint");
    running.stderr.wait_for("  stop ");
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        assert!(is_ignored(&running, signal), "{signal}");
        running.signal(signal);
    }
    assert!(!is_ignored(&running, Signal::SIGTERM));
    bed.runner(["resume"]).code(0);
    assert_eq!(running.wait(), 0, "{}", running.stderr.text());
    assert!(
        running.stdout.text().contains("SigIgn:\t0000000000000000\n"),
        "{}",
        running.stdout.text()
    );
    assert_eq!(bed.record()["buildStatus"], "SUCCEEDED");
}
