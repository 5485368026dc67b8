//! The engine `process`: the same build, sessions and ends without a container.

use super::debugger::{WALK, whole_walk};
use crate::common::{Bed, Running, build, cases, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

cases! {
    [] => the_walk, the_debuggers_walk, a_terminal, descendants_end_with_the_build, a_stop_ends_them,
        kill_9_of_the_runner, the_source_is_copied, repositories_are_copied, two_at_once, no_image_and_no_mounts;
    [Root] => another_user_can_pause;
}

const ENGINE: [&str; 2] = ["--engine", "process"];

fn start(bed: &Bed, commands: &[&str], options: &[&str]) -> Running {
    let mut command = bed.command(["run", "--project", "demo"]);
    bed.write("buildspec.yml", build(commands));
    Running::spawn_from(command.args(ENGINE).args(options))
}

fn paused(bed: &Bed, commands: &[&str]) -> Running {
    let running = start(bed, commands, &["--enable-session"]);
    running.stderr.wait_for("stop ");
    running
}

/// Someone else's process, which must not be affected.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Bystander(Command::new("sleep").arg("600").spawn().unwrap())
    }

    #[track_caller]
    fn lives(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None);
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A number of seconds to sleep that is unique on this machine.
fn seconds(whole: u32) -> String {
    format!("{whole}.{}", std::process::id())
}

/// Whether a process with this name exists.
fn is_there(name: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(name)
    })
}

fn layer(bed: &Bed) -> PathBuf {
    let name = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    PathBuf::from(format!("/var/tmp/runner-{name}"))
}

#[track_caller]
fn nothing_is_left(bed: &Bed) {
    assert!(!layer(bed).exists());
    if let Ok(target) = fs::read_link("/codebuild") {
        assert!(!target.starts_with(layer(bed)), "{}", target.display());
    }
}

fn the_debuggers_walk() {
    let bed = Bed::host();
    let bystander = Bystander::new();
    whole_walk(&bed, start(&bed, &WALK, &["--break-on", "failure"]));
    bystander.lives();
}

fn the_walk() {
    let bed = Bed::new();
    let commands =
        ["cd ..; export WHAT=inside; echo $CODEBUILD_SRC_DIR", "codebuild-breakpoint; echo after"];
    let mut running = paused(&bed, &commands);
    assert!(running.stderr.text().contains("nothing is isolated"));
    let own = nix::unistd::geteuid().to_string();
    let seen = bed.runner(["exec", "--", "sh", "-c", "echo $WHAT; id -u; exit 9"]).code(9);
    assert_eq!(seen.stdout, format!("inside\n{own}\n"));
    bed.runner(["resume"]).code(0);
    assert_eq!(running.wait(), 0);
    assert!(running.stdout.text().contains("\nafter\n"), "{}", running.stdout.text());
    nothing_is_left(&bed);
}

fn a_terminal() {
    let bed = Bed::new();
    let running = paused(&bed, &["codebuild-breakpoint"]);
    let shell = bed.terminal(bed.command(["attach"]), 31, 101);
    shell.send("stty size; echo in-$((1+1))\r");
    shell.wait_for("31 101");
    shell.wait_for("in-2");
    shell.send("codebuild-resume\r");
    assert!(shell.ends(0).contains("the build has ended: SUCCEEDED"));
    running.ends(0);
}

fn descendants_end_with_the_build() {
    let bed = Bed::new();
    let bystander = Bystander::new();
    let long = seconds(601);
    let command =
        format!("setsid sh -c 'while :; do sleep {long}; done' & (sleep {long} &) ; echo started");
    start(&bed, &[&command], &[]).ends(0);
    assert!(!is_there(&long));
    nothing_is_left(&bed);
    bystander.lives();
}

fn a_stop_ends_them() {
    let bed = Bed::new();
    let bystander = Bystander::new();
    // It ignores SIGTERM and has to be killed.
    let long = seconds(602);
    let command = format!("trap '' TERM; (trap '' TERM; sleep {long}) & echo ready; sleep {long}");
    let running = start(&bed, &[&command], &[]);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGINT);
    running.ends(5);
    assert!(!is_there(&long));
    nothing_is_left(&bed);
    bystander.lives();
}

fn kill_9_of_the_runner() {
    let bed = Bed::new();
    let bystander = Bystander::new();
    let long = seconds(603);
    let command = format!("setsid sleep {long} & codebuild-breakpoint");
    let mut running = paused(&bed, &[&command]);
    // `setsid` forks: it may not have started when the build pauses.
    until("the child has started", || is_there(&long));
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    assert!(!is_there(&long));
    assert_eq!(bed.record()["buildStatus"], "FAULT");
    nothing_is_left(&bed);
    bystander.lives();
}

fn the_source_is_copied() {
    let bed = Bed::new();
    bed.write("dir/file", "as it was\n");
    std::os::unix::fs::symlink("file", bed.source().join("dir/link")).unwrap();
    let commands = ["cat dir/link; echo new > dir/link; rm -r dir; ls"];
    start(&bed, &commands, &[]).ends(0);
    assert_eq!(fs::read_to_string(bed.source().join("dir/file")).unwrap(), "as it was\n");
}

/// A source whose repository is elsewhere: the build's commits stay its own.
fn repositories_are_copied() {
    let bed = Bed::new();
    let git = |arguments: &[&str]| {
        let who = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        let output = bed.other("git").args(who).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    git(&["init", "-q", "-b", "trunk"]);
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    let (around, tree) = (bed.path("around"), bed.path("tree"));
    let (around, tree) = (around.to_str().unwrap(), tree.to_str().unwrap());
    git(&["worktree", "add", "-q", tree]);
    git(&["init", "-q", around]);
    let source = bed.source();
    let add = ["-c", "protocol.file.allow=always", "-C", around, "submodule", "add", "-q"];
    git(&[&add[..], &[source.to_str().unwrap(), "sub"]].concat());
    let spec = bed.write(
        "commit.yml",
        build(&[
            "git -c user.name=b -c user.email=b@example.com commit -q --allow-empty -m second; git \
                 log --format=%s; git rev-parse --show-toplevel",
        ]),
    );
    for source in [tree.to_owned(), format!("{around}/sub")] {
        let run = ["run", spec.to_str().unwrap(), "--engine", "process", "--source", &source];
        let output = bed.runner(run).code(0).output();
        assert!(output.starts_with("second\nfirst\n/var/tmp/runner-"), "{output}");
        assert_eq!(git(&["-C", &source, "log", "--format=%s"]), "first\n");
    }
}

/// Only one has the usual name for its directories; both know their own.
fn two_at_once() {
    let (one, two) = (Bed::new(), Bed::new());
    let commands = ["codebuild-breakpoint; ls $CODEBUILD_SRC_DIR; pwd -P"];
    let (mut first, mut second) = (paused(&one, &commands), paused(&two, &commands));
    for (bed, running) in [(&one, &mut first), (&two, &mut second)] {
        bed.runner(["resume"]).code(0);
        assert_eq!(running.wait(), 0);
        let own = layer(bed).join("codebuild/output/src");
        let shown = running.stdout.text();
        assert!(
            shown.contains(own.to_str().unwrap()) && shown.contains("buildspec.yml"),
            "{shown}"
        );
        nothing_is_left(bed);
    }
}

fn another_user_can_pause() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nrun-as: nobody\nphases:\n  build:\n    commands:\n      - id -un; cd /tmp\n      - \
         codebuild-breakpoint; pwd\n",
    );
    let mut command = bed.command(["run", "--enable-session"]);
    let mut running = Running::spawn_from(command.args(ENGINE));
    running.stderr.wait_for("stop ");
    bed.runner(["resume"]).code(0);
    assert_eq!(running.wait(), 0);
    let shown = running.stdout.text();
    assert!(shown.contains("\nnobody\n") && shown.contains("\n/tmp\n"), "{shown}");
}

fn no_image_and_no_mounts() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["true"]));
    for option in [["--image", "rootfs:/x"], ["--mount", "/tmp:/mnt"]] {
        let mut command = bed.command(["run"]);
        outcome(command.args(ENGINE).args(option)).code(2).says("no image and no mounts");
    }
}
