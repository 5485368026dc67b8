//! `--privileged`: what it opens, for whom, and a Docker daemon in a build.

use super::debugger::wait_for_stops;
use crate::common::crafted::{Crafted, entry, shell, tar};
use crate::common::{Bed, Running, build, cases, is_root, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => all_rights_in_there, sessions_have_the_same_rights;
    [Root, Image("busybox")] => devices_and_groups_of_the_machine, a_list_of_its_own_without;
    [Containers, Image("busybox"), Pasta] => a_network_of_its_own;
    [Containers, Image("busybox")] => without_pasta, an_entrypoint_comes_first, without_privileges_no_entrypoint,
        an_entrypoint_comes_again, an_entrypoint_that_ends, an_entrypoint_that_is_not_there, an_entrypoint_is_stopped;
    [Root, Pasta, Program("dockerd"), Program("docker"), Program("busybox"), Program("iptables")] =>
        a_docker_daemon_in_a_build, a_docker_daemon_when_the_runner_is_killed;
    [] => nothing_for_a_process;
}

const ON_HOST_NETWORK: [&str; 3] = ["--privileged", "--network", "host"];

/// All capabilities that this process could have.
fn all_capabilities() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:\t"));
    bounding.unwrap().to_owned()
}

fn all_rights_in_there() {
    let bed = Bed::new();
    let commands = [
        "grep -E 'CapEff|Seccomp:' /proc/self/status | cut -f 2",
        "mkdir /m && mount -t tmpfs none /m && echo mounted && umount /m",
        "unshare -m true && echo unshared",
        "ls -d /var/lib/docker /var/lib/containerd",
        "grep -c ' /var/lib/docker .* overlay ' /proc/mounts || true",
    ];
    let outcome = bed.build(&build(&commands), &ON_HOST_NETWORK).code(0);
    // A user namespace has all capabilities; root has those that it has not lost itself.
    let all = if is_root() { all_capabilities() } else { full_set() };
    assert_eq!(
        outcome.output(),
        format!("{all}\n0\nmounted\nunshared\n/var/lib/containerd\n/var/lib/docker\n0\n")
    );
    assert_eq!(bed.record()["environment"]["privilegedMode"], true);
    let told = "runner: --privileged without root: the build has all rights within its own user \
                namespace and none outside of it";
    assert_eq!(outcome.stderr.contains(told), !is_root(), "{}", outcome.stderr);
}

/// All capabilities of this kernel.
fn full_set() -> String {
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last: u32 = last.trim().parse().unwrap();
    format!("{:016x}", (1_u64 << (last + 1)) - 1)
}

fn sessions_have_the_same_rights() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &ON_HOST_NETWORK);
    let seen = bed.runner(["exec", "--", "unshare", "-m", "echo", "unshared"]).code(0).stdout;
    assert_eq!(seen, "unshared\n");
    bed.resume(running);
}

fn devices_and_groups_of_the_machine() {
    let bed = Bed::new();
    // In the layer, where a build without privileges has only files.
    let commands = [
        "mknod /zero c 1 5 && head -c 3 /zero | od -An -tx1",
        "ls /dev/full /dev/mem; test ! -e /dev/vda || test -b /dev/vda",
        "head -c 1 /proc/sys/kernel/core_pattern | wc -c; grep -q . /proc/timer_list && echo unmasked",
        "d=$(find /sys/fs/cgroup -name cgroup.procs | head -n 1 | xargs dirname); mkdir $d/mine && echo divided",
        "awk '$2 == \"/sys\" {print $4}' /proc/mounts | cut -d, -f1",
    ];
    let output = bed.build(&build(&commands), &ON_HOST_NETWORK).code(0).output();
    let has_mem = PathBuf::from("/dev/mem").exists();
    let devices = if has_mem { "/dev/full\n/dev/mem\n" } else { "/dev/full\n" };
    let output = output.replace("ls: /dev/mem: No such file or directory\n", "");
    assert_eq!(output, format!(" 00 00 00\n{devices}1\nunmasked\ndivided\nrw\n"));
    let meta = fs::read(bed.only().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    for group in meta["groups"].as_array().unwrap() {
        assert!(!PathBuf::from(group.as_str().unwrap()).exists(), "{group}");
    }
}

/// The same commands without privileges, to prove that the test above is meaningful.
fn a_list_of_its_own_without() {
    let bed = Bed::new();
    let commands = [
        "mknod /zero c 1 5 2>&1 | grep -o 'not permitted'; ls /dev | grep -c loop || true",
        "awk '$2 == \"/sys\" {print $4}' /proc/mounts | cut -d, -f1; grep -q . /proc/timer_list || echo masked",
    ];
    let output = bed.build(&build(&commands), &[]).code(0).output();
    assert_eq!(output, "not permitted\n0\nro\nmasked\n");
}

/// A daemon's changes to its firewall affect nobody else.
fn a_network_of_its_own() {
    let bed = Bed::new();
    let commands = ["ls /sys/class/net | grep -c .", "ip link add type bridge && echo added"];
    let output = bed.build(&build(&commands), &["--privileged"]).code(0).output();
    assert_eq!(output, "2\nadded\n");
}

fn without_pasta() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["true"]), &["--privileged"]);
    outcome(command.env("PATH", bed.path("home")))
        .code(3)
        .says("there is no program `pasta`")
        .says("--privileged --network host");
}

fn nothing_for_a_process() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["true"]));
    bed.runner(["run", "--engine", "process", "--privileged"])
        .code(0)
        .says("--privileged changes nothing with the engine process");
}

/// A subnet that no other daemon on this machine uses.
const SUBNET: &str = "10.213.77";

/// Commands that start a daemon as custom images do, and use it.
fn daemon(mark: &str) -> Vec<String> {
    vec![
        format!(
            "nohup dockerd --bip {SUBNET}.1/24 --label test={mark} > /var/log/docker.log 2>&1 & echo $! \
             > /tmp/dockerd"
        ),
        // As long as it takes; a daemon that ends prints why.
        "until docker info > /dev/null 2>&1; do kill -0 $(cat /tmp/dockerd) || { cat \
         /var/log/docker.log; exit 1; }; sleep 0.2; done"
            .to_owned(),
        "mkdir /image; cp /bin/busybox /image; tar -C /image -c . | docker import - tools > \
         /dev/null"
            .to_owned(),
    ]
}

/// Whether anything of the build's daemon is left on this machine.
#[track_caller]
fn nothing_is_left(bed: &Bed, mark: &str) {
    let runs = fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(mark)
    });
    assert!(!runs, "a process of {mark} is left");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = bed.only().display().to_string();
    assert!(!mounts.contains(&own), "{mounts}");
    no_rules();
    let meta = fs::read(bed.only().join("meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    for group in meta["groups"].as_array().unwrap() {
        assert!(!PathBuf::from(group.as_str().unwrap()).exists(), "{group}");
    }
}

/// The daemon's bridge and its rules are not on this machine.
#[track_caller]
fn no_rules() {
    for program in [["iptables-save", "-c"], ["ip", "addr"], ["ip", "route"]] {
        let output = Command::new(program[0]).arg(program[1]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!text.contains(SUBNET), "{program:?}: {text}");
    }
}

fn a_docker_daemon_in_a_build() {
    let bed = Bed::host();
    let mark = format!("runner-test-{}-a", std::process::id());
    let mut commands = daemon(&mark);
    commands.extend([
        "docker run --rm tools /busybox echo from the inside".to_owned(),
        // On its own network, limited, and in a group below the build's.
        format!("docker run --rm tools /busybox ip addr | grep -c {SUBNET}"),
        format!("ip -4 addr show docker0 | grep -c {SUBNET}; iptables-save | grep -q {SUBNET}; echo $?"),
        "docker run --rm --memory 64m tools /busybox find /sys/fs/cgroup -maxdepth 2 -name \
         memory.limit_in_bytes -exec /busybox cat {} + -o -name memory.max -exec /busybox cat {} + 2> \
         /dev/null"
            .to_owned(),
        "docker info --format '{{.Driver}}' 2> /dev/null".to_owned(),
    ]);
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let outcome = bed.build(&build(&commands), &["--privileged"]).code(0);
    let output = outcome.output();
    assert_eq!(output, "from the inside\n1\n1\n0\n67108864\noverlay2\n", "{outcome:?}");
    nothing_is_left(&bed, &mark);
}

fn a_docker_daemon_when_the_runner_is_killed() {
    let bed = Bed::host();
    let mark = format!("runner-test-{}-b", std::process::id());
    let mut commands = daemon(&mark);
    let run =
        format!("docker run -d tools /busybox sh -c ': {mark}; sleep 600'; codebuild-breakpoint");
    commands.push(run);
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let mut running: Running = bed.paused(&build(&commands), &["--privileged"]);
    no_rules();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    // pasta ends by itself, without the sweep.
    let network = bed.only().join("network").display().to_string();
    until("pasta is gone", || {
        !fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&network)
        })
    });
    nothing_is_left(&bed, &mark);
}

/// An image whose entrypoint is this script.
fn with_entrypoint(bed: &Bed, script: &str) -> String {
    let crafted = Crafted::new(bed.path("layout"));
    let config = crafted.config(&serde_json::json!({
        "Env": ["PATH=/bin", "FROM_IMAGE=yes", "DROPPED=1"], "WorkingDir": "/tools",
        "Entrypoint": ["/tools/entry", "word"]}));
    let script = format!("#!/bin/sh\n{script}\n");
    let layer = crafted.blob(&tar(&[shell(), entry("tools/entry", b'0', "", script.as_bytes())]));
    crafted.image(&config, &[layer]);
    crafted.reference()
}

fn with_image<'a>(image: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["--image", image], options].concat()
}

/// Like CodeBuild's own images: the entrypoint starts something, and finally runs its arguments.
/// The build finds what the entrypoint has set up and started.
fn an_entrypoint_comes_first() {
    let bed = Bed::new();
    let script = "pwd > /began; echo $1 >> /began; shift\n\
                  while :; do :; done & echo $! > /daemon\n\
                  echo to nobody; export FROM_ENTRY='a b' PATH=/tools:$PATH; unset DROPPED\n\
                  eval \"$@\"";
    let image = with_entrypoint(&bed, script);
    let commands = [
        "cat /began; ls -d /proc/$(cat /daemon) > /dev/null && echo lives",
        "echo $FROM_ENTRY $FROM_IMAGE ${DROPPED-dropped} $PATH",
    ];
    let options = with_image(&image, &ON_HOST_NETWORK);
    let outcome = bed.build(&build(&commands), &options).code(0);
    assert_eq!(
        outcome.output(),
        "/tools\nword\nlives\na b yes dropped /tools:/bin:/codebuild/user/bin\n"
    );
    assert!(!outcome.stdout.contains("to nobody"), "{}", outcome.stdout);
}

/// A rewind kills the processes it has started, and starts them again.
fn an_entrypoint_comes_again() {
    let bed = Bed::new();
    let script = "shift; while :; do :; done & echo $! > /daemon; eval \"$@\"";
    let image = with_entrypoint(&bed, script);
    let options = [&with_image(&image, &ON_HOST_NETWORK)[..], &["--break-on", "failure"]].concat();
    let running = bed.start(&build(&["true", "false"]), &options);
    wait_for_stops(&running, "because build:2 has failed", 1);
    bed.runner(["rewind"]).code(0);
    let look = "ls -d /proc/$(cat /daemon) > /dev/null && echo lives";
    assert_eq!(bed.runner(["eval", look]).code(0).stdout, "lives\n");
    bed.runner(["abort"]).code(0);
    running.ends(5);
}

fn without_privileges_no_entrypoint() {
    let bed = Bed::new();
    let image = with_entrypoint(&bed, "touch /began; exit 1");
    let commands = ["test -e /began || echo never $DROPPED"];
    let output = bed.build(&build(&commands), &with_image(&image, &[])).code(0).output();
    assert_eq!(output, "never 1\n");
}

fn an_entrypoint_that_ends() {
    let bed = Bed::new();
    let image = with_entrypoint(&bed, "echo no daemon to be had; exit 4");
    let options = with_image(&image, &ON_HOST_NETWORK);
    let outcome = bed.build(&build(&["echo never"]), &options).code(3);
    assert_eq!(outcome.output(), "");
    outcome
        .says("Build container found dead before completing the build")
        .says("the image's entrypoint /tools/entry word ended without running what it was given (exit \
               status 4); its last words: no daemon to be had")
        .says("hint: with --privileged the image's entrypoint has to run what it is given");
}

fn an_entrypoint_that_is_not_there() {
    let bed = Bed::new();
    let crafted = Crafted::new(bed.path("layout"));
    let config = crafted.config(&serde_json::json!({"Entrypoint": ["/nowhere"]}));
    crafted.image(&config, &[crafted.blob(&tar(&[shell()]))]);
    let image = crafted.reference();
    bed.build(&build(&["echo never"]), &with_image(&image, &ON_HOST_NETWORK))
        .code(3)
        .says("Build container found dead before completing the build")
        .says("the image's entrypoint /nowhere");
}

fn an_entrypoint_is_stopped() {
    let bed = Bed::new();
    let mark = format!("{}.7", std::process::id());
    let image = with_entrypoint(&bed, &format!("while :; do sleep {mark}; done"));
    let crafted = with_image(&image, &ON_HOST_NETWORK);
    let running = bed.start(&build(&["echo never"]), &crafted);
    running.stdout.wait_for("Phase is DOWNLOAD_SOURCE");
    running.signal(Signal::SIGINT);
    running.signal(Signal::SIGINT);
    running.ends(5);
}
