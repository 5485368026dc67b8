//! Ends that depend on nobody: whatever is stopped, lost, full or silent, the time limit and
//! signals end the runner, and its clients.

use crate::common::engines::Engine;
use crate::common::{Bed, Running, build, cases, outcome, runner, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

cases! {
    [Containers, Image("busybox")] => the_first_process_is_stopped, a_session_of_a_container_that_is_stopped,
        a_runner_that_is_stopped, more_clients_than_a_stopped_runner_takes, nobody_reads_the_output,
        images_that_are_no_files;
    [] => the_reaper_is_stopped;
    [Program("prlimit")] => too_few_descriptors;
    [Root, Program("prlimit"), Program("setpriv")] => too_few_threads;
    [Root, Image("busybox"), Fuse] => disks_that_do_not_answer;
    [Containers, Image("busybox"), Pasta] => pasta_is_stopped;
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] => docker_the_first_process_is_stopped;
}

const WAITS: &str = "echo ready; sleep 86400";

/// Actions on a build whose container does not respond, and the resulting exit codes.
const ENDS: [(&[Signal], &[&str], i32); 3] = [
    (&[Signal::SIGTERM], &[], 5),
    (&[Signal::SIGINT, Signal::SIGINT], &[], 5),
    // Long enough for the container to exist and be stopped on a slow machine.
    (&[], &["--timeout", "20s"], 4),
];

/// PID 1 of the only live build, as this machine sees it.
fn first_process(bed: &Bed) -> Pid {
    let text = fs::read(bed.live().join("container.json")).unwrap();
    let container: serde_json::Value = serde_json::from_slice(&text).unwrap();
    Pid::from_raw(i32::try_from(container["process"]["pid"].as_i64().unwrap()).unwrap())
}

/// A process's state from /proc; `None` if it does not exist.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[track_caller]
fn stop(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    until("stopped", || state(pid) == Some('T'));
}

#[track_caller]
fn is_gone(pid: Pid) {
    // A dead orphan may not have been reaped yet.
    until("gone", || matches!(state(pid), None | Some('Z')));
}

/// Sends signals, the second after the first was handled.
fn send(running: &Running, signals: &[Signal]) {
    for signal in signals {
        running.signal(*signal);
        running.stderr.wait_for("once more ends it at once");
    }
}

fn the_first_process_is_stopped() {
    for (signals, options, code) in ENDS {
        let bed = Bed::new();
        let running = bed.start(&build(&[WAITS]), options);
        running.stdout.wait_for("ready\n");
        let first = first_process(&bed);
        stop(first);
        send(&running, signals);
        running.ends(code);
        assert_eq!(state(first), None);
        let status = if code == 4 { "TIMED_OUT" } else { "STOPPED" };
        assert_eq!(bed.record()["buildStatus"], status);
    }
}

/// Without a container everything depends on the reaper; its processes are ended all the same.
fn the_reaper_is_stopped() {
    for (signals, options, code) in ENDS {
        let bed = Bed::host();
        let mut options = options.to_vec();
        options.extend(["--engine", "process"]);
        let script = "setsid sh -c 'echo own:$$:; sleep 86400' & sleep 86400";
        let running = bed.start(&build(&[script]), &options);
        let own = Pid::from_raw(running.stdout.number_after("own:"));
        let reaper = first_process(&bed);
        stop(reaper);
        send(&running, signals);
        running.ends(code);
        is_gone(reaper);
        is_gone(own);
    }
}

fn docker_the_first_process_is_stopped() {
    let engine = Engine::Docker;
    let bed = engine.bed();
    let running = bed.start(&build(&[WAITS]), &engine.options(&[]));
    running.stdout.wait_for("ready\n");
    let [name] = engine.containers(&bed).try_into().unwrap();
    let asked = ["inspect", "--format", "{{.State.Pid}}", &name];
    let pid = outcome(&mut engine.command(&asked)).code(0).stdout.trim().parse().unwrap();
    stop(Pid::from_raw(pid));
    send(&running, &[Signal::SIGTERM]);
    running.ends(5);
    engine.has_nothing_left(&bed);
}

fn a_session_of_a_container_that_is_stopped() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let first = first_process(&bed);
    let exec = |script: &str| Running::spawn(bed.command(["exec", "--", "sh", "-c", script]));
    let runs = exec("echo runs; sleep 86400");
    runs.stdout.wait_for("runs\n");
    stop(first);
    let signalled = |client: Running, signal: Signal| {
        // It listens for signals before it does anything else.
        let status = format!("/proc/{}/status", client.pid());
        until("listens", || {
            fs::read_to_string(&status).unwrap().contains("SigBlk:\t0000000000004007")
        });
        client.signal(signal);
        client
    };
    // One that was already running, and two that are requested only now. They end by themselves,
    // too, if no signal comes.
    for mut client in [
        signalled(runs, Signal::SIGTERM),
        signalled(exec("echo runs"), Signal::SIGINT),
        signalled(exec("true"), Signal::SIGHUP),
    ] {
        assert_eq!(client.wait(), 125);
        let said = client.stderr.text();
        assert!(said.contains("the build's container does not answer"), "{said}");
    }
    let attached = bed.terminal(bed.command(["attach"]), 24, 80);
    let text = attached.ends(125);
    assert!(text.contains("the build's container does not answer"), "{text}");
    bed.runner(["cp", ":/etc/passwd", "."]).code(3).says("the build's container does not answer");
    kill(first, Signal::SIGCONT).unwrap();
    // It handles signals again, as before.
    let mut client = exec("trap 'echo told; exit 7' TERM; echo runs; while :; do sleep 0.01; done");
    client.stdout.wait_for("runs\n");
    client.signal(Signal::SIGTERM);
    assert_eq!((client.wait(), client.stdout.text().as_str()), (7, "runs\ntold\n"));
    bed.resume(running);
}

fn a_runner_that_is_stopped() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut ran = Running::spawn(bed.command(["exec", "--", "sh", "-c", "echo runs; sleep 86400"]));
    ran.stdout.wait_for("runs\n");
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap());
    stop(pid);
    let said = format!("the build's runner, process {pid}, is stopped");
    let listed = bed.runner(["ps"]).code(0).stdout;
    assert!(
        listed.contains("unreachable") && listed.contains("the build's runner, process"),
        "{listed}"
    );
    for (verb, code) in [
        (&["stop"][..], 3),
        (&["resume"], 3),
        (&["exec", "--", "true"], 125),
        (&["cp", ":/etc/passwd", "."], 3),
        (&["port-forward", ":80"], 3),
    ] {
        bed.runner(verb).code(code).says(&said).says(&format!("kill -CONT {pid}"));
    }
    // The wait for the build and for its endpoint is short.
    let seen = bed.runner(["doctor", "demo"]).code(3).stdout;
    assert_eq!(seen.matches(&format!("kill -CONT {pid}")).count(), 2, "{seen}");
    ran.signal(Signal::SIGTERM);
    assert_eq!(ran.wait(), 125);
    assert!(ran.stderr.text().contains(&said), "{}", ran.stderr.text());
    kill(pid, Signal::SIGCONT).unwrap();
    bed.resume(running);
}

/// The queue of connections is full; the kernel would keep the next one waiting.
fn more_clients_than_a_stopped_runner_takes() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap());
    stop(pid);
    let socket = bed.live().join("control.sock");
    let waiting: Vec<UnixStream> = std::iter::from_fn(|| connect(&socket)).collect();
    assert!(!waiting.is_empty());
    bed.runner(["resume"]).code(3).says("is stopped");
    kill(pid, Signal::SIGCONT).unwrap();
    drop(waiting);
    bed.resume(running);
}

/// A connection, unless the queue is full.
fn connect(path: &Path) -> Option<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    match connect(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()) {
        Ok(()) => Some(socket.into()),
        Err(errno) => {
            assert_eq!(errno, nix::errno::Errno::EAGAIN);
            None
        }
    }
}

/// For example a pager that stands still. The log contains what it has not read.
fn nobody_reads_the_output() {
    let bed = Bed::new();
    let mut command = bed.build_command(&build(&["seq 100000; touch done; sleep 86400"]), &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let log = || {
        let builds = crate::common::list(&bed.home().join("builds"));
        let log =
            builds.first().map(|build| bed.home().join("builds").join(build).join("output.log"));
        log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default()
    };
    until("all is written", || log().ends_with("\n100000\n"));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the build's output is not read"), "{said}");
    assert_eq!(bed.record()["buildStatus"], "STOPPED");
}

fn too_few_descriptors() {
    let bed = Bed::host();
    bed.write("buildspec.yml", build(&["true"]));
    for verb in [&["run", "--engine", "process"][..], &["serve"], &["cache", "ls"], &["doctor"]] {
        let mut limited = bed.other("prlimit");
        limited.arg("--nofile=8").arg(runner()).args(verb);
        outcome(&mut limited).code(3).says("Too many open files").says("ulimit -n");
    }
    // Not in the middle of a build that has begun.
    for most in (12..=72).step_by(4) {
        let mut limited = bed.other("prlimit");
        limited.arg(format!("--nofile={most}")).arg(runner()).args(["run", "--engine", "process"]);
        let ended = outcome(&mut limited);
        let is_told = ended.code == 3 && ended.stderr.contains("ulimit -n");
        assert!(ended.code == 0 || is_told, "{most}: {ended:?}");
    }
}

/// A user used only by this test, so that the number of their threads is known.
fn too_few_threads() {
    const USER: &str = "54321";
    let bed = Bed::host();
    let program = bed.open_to_others();
    bed.write("buildspec.yml", build(&["echo it ran"]));
    for name in ["source", "home", "state"] {
        let _ = fs::create_dir(bed.path(name));
        outcome(Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).arg(bed.path(name)))
            .code(0);
    }
    let (mut refused, mut ran) = (0, 0);
    for threads in 1..=14 {
        let mut limited = bed.other("setpriv");
        limited.args(["--reuid", USER, "--regid", USER, "--clear-groups", "prlimit"]);
        limited.arg(format!("--nproc={threads}")).arg(&program);
        limited.args(["run", "--engine", "process", "--timeout", "20s"]);
        let ended = outcome(&mut limited);
        let what = format!("{threads}: {}\n{}\n{}", ended.code, ended.stdout, ended.stderr);
        assert!(matches!(ended.code, 0 | 3 | 4), "{what}");
        assert!(!ended.stderr.contains("panicked"), "{what}");
        refused += i32::from(ended.stderr.contains("ulimit -u"));
        ran += i32::from(ended.code == 0);
        let mut swept = bed.other("setpriv");
        swept.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(&program).arg("ps");
        outcome(&mut swept).code(0);
    }
    assert!(refused > 0 && ran > 0, "{refused} {ran}");
}

/// A file system that never responds, until it is dropped.
struct Silent {
    dir: PathBuf,
    _device: fs::File,
}

impl Silent {
    fn over(dir: &Path) -> Self {
        let device = fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let none = Some("silent");
        mount(none, dir, Some("fuse"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Silent { dir: dir.to_path_buf(), _device: device }
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        umount2(&self.dir, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH).unwrap();
    }
}

fn disks_that_do_not_answer() {
    // The destination of artifacts.
    let bed = Bed::new();
    let out = bed.path("out");
    fs::create_dir(&out).unwrap();
    let spec = build(&["echo x > a; codebuild-breakpoint"]) + "artifacts: {files: [a]}\n";
    let running = bed.paused(&spec, &["--artifacts", out.to_str().unwrap()]);
    let silent = Silent::over(&out);
    bed.runner(["resume"]).code(0);
    running.stdout.wait_for("Assembling file list");
    // Whether it still reports the signal depends on which thread used the disk first.
    running.signal(Signal::SIGTERM);
    running.ends(5);
    drop(silent);
    // Its record, if that could not be written, and what it had begun there.
    bed.runner(["ps"]).code(0);
    assert!(["STOPPED", "FAULT"].contains(&bed.record()["buildStatus"].as_str().unwrap()));

    // The state folder itself: not even the loop continues.
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let first = first_process(&bed);
    let silent = Silent::over(&bed.live());
    send(&running, &[Signal::SIGINT, Signal::SIGINT]);
    running.ends(5);
    drop(silent);
    is_gone(first);
    bed.runner(["ps"]).code(0).says("it is ended now (FAULT)");
}

fn pasta_is_stopped() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &["--network", "pasta"]);
    let children = |pid: u32| {
        let tasks = crate::common::list(Path::new(&format!("/proc/{pid}/task")));
        let of = |task: &String| {
            fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default()
        };
        let all: String = tasks.iter().map(of).collect();
        all.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let is_supervisor = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("\0pasta\0")
    };
    let supervisor = children(running.pid()).into_iter().find(is_supervisor).unwrap();
    let pasta = children(supervisor);
    assert!(!pasta.is_empty());
    for pid in std::iter::once(supervisor).chain(pasta.iter().copied()) {
        stop(Pid::from_raw(i32::try_from(pid).unwrap()));
    }
    bed.resume(running);
    for pid in pasta {
        is_gone(Pid::from_raw(i32::try_from(pid).unwrap()));
    }
}

/// FIFOs and the like in the place of image files: nothing blocks.
fn images_that_are_no_files() {
    let bed = Bed::new();
    let fifo = |path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap();
    let layout = |name: &str| {
        let dir = bed.path(name);
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        dir
    };
    let index = layout("index");
    fifo(&index.join("index.json"));
    let blob = layout("blob");
    let digest = "0".repeat(64);
    let manifest = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": format!("sha256:{digest}"),
    });
    let text = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(blob.join("index.json"), text.to_string()).unwrap();
    fifo(&blob.join("blobs/sha256").join(&digest));
    let linked = layout("linked");
    std::os::unix::fs::symlink("/dev/zero", linked.join("index.json")).unwrap();
    let plain = bed.path("fifo");
    fifo(&plain);
    for name in [
        "oci:../index",
        "oci:../blob",
        "oci:../linked",
        "oci-archive:../fifo",
        "docker-archive:../fifo",
    ] {
        let build = bed.build(&build(&["true"]), &["--image", name]).code(3);
        assert!(build.stderr.contains(name.split('/').next_back().unwrap()), "{}", build.stderr);
        bed.runner(["image", "import", name]).code(3);
    }
    bed.build(&build(&["true"]), &["--image", "rootfs:../fifo"])
        .code(3)
        .says("neither a directory nor a tar");
}
