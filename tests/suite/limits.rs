//! `--memory`, `--cpus`, `--pids-limit`: limits on the machine's resources, and the messages when a
//! limit was reached.

use crate::common::{Bed, Outcome, build, cases, is_root};
use nix::sys::signal::Signal;
use std::path::PathBuf;

cases! {
    [Containers, Image("busybox")] => limits_hold_or_are_said_not_to, limits_of_a_process;
    [Root, Image("busybox")] => killed_for_want_of_memory, a_command_that_goes_on_without,
        killed_in_the_background, no_room_for_another_process, no_room_for_the_command,
        the_container_sees_its_limits, without_limits_no_groups,
        nothing_is_left_after_kill_9;
    [] => values_that_are_none;
}

/// A process that takes more memory than allowed and is the kernel's first choice to be killed. The
/// kernel may kill others too.
const GREEDY: &str =
    "(echo 1000 > /proc/self/oom_score_adj; exec tail -c 150m /dev/zero > /dev/null)";

/// Processes that the kernel kills rather than the shell of a command.
const OTHERS: &str = "for i in 1 2 3 4; do (echo 500 > /proc/self/oom_score_adj; \
    exec sleep 600) & done";

/// The context of the phase BUILD.
fn reason(bed: &Bed) -> String {
    let record = bed.record();
    let phases = record["phases"].as_array().unwrap();
    let phase = phases.iter().find(|phase| phase["phaseType"] == "BUILD").unwrap();
    phase["contexts"][0]["message"].as_str().unwrap().to_owned()
}

/// Directories of the control groups that the only build may have had.
fn groups(bed: &Bed) -> Vec<PathBuf> {
    let meta = std::fs::read(bed.only().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    let groups = meta["groups"].as_array().unwrap();
    groups.iter().map(|group| PathBuf::from(group.as_str().unwrap())).collect()
}

#[track_caller]
fn no_group_is_left(bed: &Bed) {
    let left: Vec<PathBuf> = groups(bed).into_iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn killed_for_want_of_memory() {
    let bed = Bed::new();
    bed.build(&build(&[GREEDY]), &["--memory", "32M"]).code(1);
    let reason = reason(&bed);
    assert!(reason.contains("killed for want of memory"), "{reason}");
    assert!(reason.ends_with("at the limit of --memory 32M)"), "{reason}");
    no_group_is_left(&bed);
}

/// A kill that a command ignores is reported all the same.
fn a_command_that_goes_on_without() {
    let bed = Bed::new();
    let command = format!("{OTHERS}; {GREEDY} || true; echo on");
    let outcome = bed.build(&build(&[&command]), &["--memory", "32M"]).code(0);
    assert!(outcome.output().ends_with("on\n"), "{outcome:?}");
    outcome.says("warning: the command has succeeded, but ").says("killed for want of memory");
}

/// A command is not blamed for what happened in another.
fn killed_in_the_background() {
    let bed = Bed::new();
    let first = format!(
        "{OTHERS}; ({GREEDY}; touch /over) >/dev/null 2>&1 & while [ ! -e /over ]; do :; done"
    );
    let outcome = bed.build(&build(&[&first, "exit 7"]), &["--memory", "32M"]).code(1);
    outcome.says("for want of memory");
    let reason = reason(&bed);
    assert!(reason.ends_with("Reason: exit status 7"), "{reason}");
}

fn no_room_for_another_process() {
    let bed = Bed::new();
    let command = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done";
    bed.build(&build(&[command]), &["--pids-limit", "10"]).code(1);
    let reason = reason(&bed);
    assert!(reason.contains("at the limit of --pids-limit 10"), "{reason}");
    no_group_is_left(&bed);
}

/// PID 1 itself cannot start it: the build has used up its own limit, which is no fault of the
/// runner.
fn no_room_for_the_command() {
    let bed = Bed::new();
    let fill = "sleep 600 & sleep 600 & sleep 600 & sleep 600 & sleep 600 &";
    bed.build(&build(&[fill, "echo never"]), &["--pids-limit", "6"]).code(1);
    let reason = reason(&bed);
    assert!(reason.contains("at the limit of --pids-limit 6"), "{reason}");
}

/// Virtual machines and thread pools size themselves by these values.
fn the_container_sees_its_limits() {
    let bed = Bed::new();
    let read = |one: &str, two: &str| {
        format!("cat /sys/fs/cgroup/{one} 2>/dev/null || cat /sys/fs/cgroup/{two}")
    };
    let commands = [
        read("memory/memory.limit_in_bytes", "memory.max"),
        read("cpu/cpu.cfs_quota_us", "cpu.max"),
        read("pids/pids.max", "pids.max"),
        "cut -d: -f3 /proc/self/cgroup | sort -u".to_owned(),
        "mkdir $(find /sys/fs/cgroup -name pids.max | head -n 1 | xargs dirname)/x 2>&1 | grep -o \
         'Read-only.*'"
            .to_owned(),
    ];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let options = ["--memory", "64M", "--cpus", "0.5", "--pids-limit", "77"];
    let output = bed.build(&build(&commands), &options).code(0).output();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0] == "67108864" && lines[1].starts_with("50000"), "{output}");
    // The rest is in the runner's own groups, which are the root as well.
    assert_eq!(lines[2..], ["77", "/", "Read-only file system"], "{output}");
    no_group_is_left(&bed);
}

fn without_limits_no_groups() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    assert!(groups(&bed).is_empty());
}

fn nothing_is_left_after_kill_9() {
    let bed = Bed::new();
    let options = ["--memory", "64M", "--cpus", "2", "--pids-limit", "50"];
    let mut running = bed.paused(&build(&["sleep 600 & codebuild-breakpoint"]), &options);
    assert!(groups(&bed).iter().any(|group| group.exists()));
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    no_group_is_left(&bed);
}

/// If control groups are unavailable, a build runs without; each requested limit is reported
/// separately.
#[track_caller]
fn held_or_said(outcome: Outcome) {
    let outcome = outcome.code(0);
    for option in ["--memory 64M", "--cpus 0.5", "--pids-limit 100"] {
        let said = format!("warning: {option} is not enforced: ");
        assert_eq!(outcome.stderr.contains(&said), !is_root(), "{outcome:?}");
    }
}

fn limits_hold_or_are_said_not_to() {
    let bed = Bed::new();
    let options = ["--memory", "64M", "--cpus", "0.5", "--pids-limit", "100"];
    held_or_said(bed.build(&build(&["true"]), &options));
    no_group_is_left(&bed);
}

fn limits_of_a_process() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["true"]));
    let engine = ["run", "--engine", "process"];
    let options = ["--memory", "64M", "--cpus", "0.5", "--pids-limit", "100"];
    held_or_said(bed.runner(engine.iter().chain(&options)));
    no_group_is_left(&bed);
    if is_root() {
        let bed = Bed::new();
        // Whatever programs this machine has.
        let greedy = "head -c 200000000 /dev/zero | tail -c 150000000 > /dev/null";
        bed.write("buildspec.yml", build(&[greedy]));
        bed.runner(engine.iter().chain(&["--memory", "32M"])).code(1);
        let reason = reason(&bed);
        assert!(reason.contains("at the limit of --memory 32M"), "{reason}");
        no_group_is_left(&bed);
    }
}

fn values_that_are_none() {
    let bed = Bed::new();
    for (option, value, said) in [
        ("--memory", "5M", "a build needs at least 6M"),
        ("--memory", "much", "write a size like 512M"),
        ("--memory", "-1G", "write a size like 512M"),
        ("--cpus", "0", "a number from 0.01 up"),
        ("--cpus", "inf", "a number of processors"),
        ("--pids-limit", "0", "0 is not in 1.."),
    ] {
        bed.build(&build(&["true"]), &[&format!("{option}={value}")]).code(2).says(said);
    }
}
