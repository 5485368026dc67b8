//! Guards: protections around a build, each with a test that fails if it is missing.
//!
//! Topics with their own suite are tested there; here are the rest of `engine`'s pitfalls and of
//! protective decisions.

use crate::common::{Bed, Running, build, cases, image, list, runner};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner_core::debug::DecisionClient;
use runner_wire::control::{ControlRequest, ControlResponse, OpenProgram, PROTOCOL, encode};
use runner_wire::frame::FrameDecoder;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

cases! {
    [Containers, Image("busybox"), Program("gcc")] => system_calls_and_the_way_out;
    [Containers, Image("busybox")] => one_root, descriptors_of_the_caller_stay_out_of_exec,
        no_terminal_of_the_caller, everybody_hears_sigterm,
        five_seconds_and_no_more, a_fifo_for_accounts, a_directory_that_is_gone,
        a_large_environment_at_a_breakpoint, arguments_that_are_too_long, a_script_without_its_line,
        an_image_with_a_shell_only, numbers_are_given_once, another_protocol, more_jobs_than_places,
        a_number_of_somebody_else, the_terminal_when_the_runner_is_killed;
    [] => descriptors_of_the_caller_without_a_container;
    [Users, Image("busybox")] => terminals_belong_to_tty;
    [Root, Image("busybox")] => devices_on_mounts, the_null_device_is_its_own;
    [Root, Program("unshare"), Image("busybox")] => propagation, mounts_below_the_tools,
        secrets_of_the_machine;
    [Root, Image("debian")] => directories_can_be_renamed;
}

fn busybox() -> String {
    format!("rootfs:{}", image("busybox").display())
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn system_calls_and_the_way_out() {
    let bed = Bed::new();
    super::confinement::compile(&bed, "probe");
    let marker = bed.path("marker");
    fs::write(&marker, "").unwrap();
    use std::os::linux::net::SocketAddrExt;
    let name = format!("runner-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _outside = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let command = format!("./probe {} {name}", marker.display());
    assert_eq!(
        bed.build(&build(&[&command]), &[]).code(0).output(),
        "unshare EPERM\nclone3 ENOSYS\nsetns EPERM\nmount EPERM\nkeyctl EPERM\nbpf EPERM\n\
         perf_event_open EPERM\nuserfaultfd EPERM\nopen_by_handle_at EPERM\nio_uring_setup ENOSYS\n\
         old unshare EPERM\nold mount EPERM\nold getpid allowed\nx32 getpid ENOSYS\nabstract socket EPERM\nescape 0\n"
    );
}

/// Nothing is left of the root that the set-up came from.
fn one_root() {
    let spec = build(&["awk '$5 == \"/\" {print $6}' /proc/self/mountinfo"]);
    for bed in [Bed::new(), Bed::host()] {
        let output = bed.build(&spec, &[]).code(0).output();
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains("nodev"), "{output}");
    }
}

fn descriptors_of_the_caller_stay_out_of_exec() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let secret = bed.path("secret");
    fs::write(&secret, "").unwrap();
    let script = format!(
        "exec 7<{0} 250<{0} < {0}; exec {1} exec -- ls -l /proc/self/fd",
        secret.display(),
        runner().display()
    );
    let output = bed.other("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let open: Vec<&str> =
        text.lines().filter_map(|line| line.split(" -> ").nth(1)).take(3).collect();
    assert!(open.len() == 3 && open.iter().all(|target| target.starts_with("pipe:")), "{text}");
    // The fourth is the directory that ls reads.
    assert_eq!(text.lines().count(), 5, "{text}");
    bed.resume(running);
}

fn descriptors_of_the_caller_without_a_container() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["ls -l /proc/self/fd"]));
    let secret = bed.path("secret");
    fs::write(&secret, "").unwrap();
    let script = format!(
        "exec 7<{0} 250<{0}; exec {1} run --engine process",
        secret.display(),
        runner().display()
    );
    let output = bed.other("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("/secret"), "{text}");
    assert!(text.contains("0 -> /dev/null"), "{text}");
}

fn terminals_belong_to_tty() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("echo $(stat -c '%g-%a' $(tty))-told; exit 0\r");
    let text = terminal.ends(0);
    assert!(text.contains("5-620-told"), "{text}");
    bed.resume(running);
}

/// A container has no controlling terminal, least of all the caller's.
fn no_terminal_of_the_caller() {
    let bed = Bed::new();
    let command = bed.build_command(&build(&["codebuild-breakpoint"]), &["--enable-session"]);
    let terminal = bed.terminal(command, 24, 80);
    terminal.wait_for("paused at a breakpoint");
    let container = fs::read(bed.live().join("container.json")).unwrap();
    let container: serde_json::Value = serde_json::from_slice(&container).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", container["process"]["pid"])).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(fields[4], "0", "tty_nr in {stat}");
    bed.runner(["resume"]).code(0);
    terminal.ends(0);
}

/// Also those in their own sessions.
fn everybody_hears_sigterm() {
    let bed = Bed::new();
    let command = "setsid sh -c \"trap 'echo heard; exit' TERM; echo ready; while :; do sleep 0.05; done\" & wait";
    let running = bed.start(&build(&[command]), &[]);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGINT);
    running.stdout.wait_for("heard\n");
    running.ends(5);
}

/// What does not end by itself is killed.
fn five_seconds_and_no_more() {
    let bed = Bed::new();
    let command = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let running = bed.start(&build(&[command]), &[]);
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGINT);
    running.ends(5);
}

/// The host opens it without blocking, and never reads it.
fn a_fifo_for_accounts() {
    let commands = [
        "rm /etc/passwd; mkfifo /etc/passwd",
        "(while :; do echo evil:x:7:7::/:/bin/sh > /etc/passwd; done) & true",
        "codebuild-breakpoint",
    ];
    let bed = Bed::new();
    let running = bed.paused(&build(&commands), &[]);
    bed.runner(["exec", "--user", "evil", "--", "id"]).code(125);
    bed.resume(running);
    // Without a writer.
    let spec =
        format!("{}  post_build:\n    run-as: evil\n    commands: [id]\n", build(&commands[..1]));
    Bed::new().build(&spec, &[]).code(1).says("no user `evil`");
}

fn a_directory_that_is_gone() {
    let bed = Bed::new();
    let spec = build(&["mkdir x; cd x; rmdir ../x; codebuild-breakpoint"]);
    let running = bed.paused(&spec, &[]);
    assert_eq!(bed.runner(["exec", "--", "pwd"]).code(0).stdout, "/\n");
    bed.resume(running);
}

/// More than a breakpoint sends: it pauses all the same.
fn a_large_environment_at_a_breakpoint() {
    let bed = Bed::new();
    let spec = build(&[
        "ulimit -s unlimited; x=$(head -c 120000 /dev/zero | tr '\\0' x); for i in $(seq 42); do export \
         BIG_$i=$x; done; codebuild-breakpoint; echo went on",
    ]);
    let running = bed.paused(&spec, &[]);
    assert_eq!(bed.runner(["exec", "--", "echo", "in"]).code(0).stdout, "in\n");
    bed.runner(["resume"]).code(0);
    // The command's own text contains this as well.
    running.stdout.wait_for("\nwent on\n");
    running.ends(0);
}

/// More than the kernel passes to any program: reported, without affecting anything else.
fn arguments_that_are_too_long() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let (mut talk, mut answer) = Talk::open(&bed, &["true", &"x".repeat(200_000)]);
    if let ControlResponse::Opened { .. } = answer {
        answer = talk.hear();
    }
    assert!(matches!(answer, ControlResponse::Refused { code: 126, .. }), "{answer:?}");
    bed.runner(["exec", "--", "true"]).code(0);
    bed.resume(running);
}

/// A script without `#!` is run by a shell, as everywhere.
fn a_script_without_its_line() {
    let bed = Bed::new();
    let path = bed.write("script", "echo by the shell $1\n");
    executable(&path);
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let place = bed.runner(["exec", "--", "pwd"]).code(0).stdout;
    let script = format!("{}/script", place.trim());
    assert_eq!(bed.runner(["exec", "--", &script, "x"]).code(0).stdout, "by the shell x\n");
    bed.resume(running);
}

/// Our own lines around a command call no program.
fn an_image_with_a_shell_only() {
    let bed = Bed::new();
    let root = bed.path("image");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::copy(image("busybox").join("bin/busybox"), root.join("bin/sh")).unwrap();
    let spec = build(&["cd /etc; A=kept", "echo $A in $PWD"]);
    let image = format!("rootfs:{}", root.display());
    assert_eq!(bed.build(&spec, &["--image", &image]).code(0).output(), "kept in /etc\n");
}

fn numbers_are_given_once() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["true"]));
    let start = |_| {
        let mut command = bed.command(["run", "--image", &busybox(), "--project", "demo"]);
        Running::spawn_from(&mut command)
    };
    let running: Vec<Running> = (0..12).map(start).collect();
    running.into_iter().for_each(|running| running.ends(0));
    let builds = bed.home().join("builds");
    let number = |name: String| {
        let record = fs::read(builds.join(name).join("record.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        record["buildNumber"].as_u64().unwrap()
    };
    let mut numbers: Vec<u64> = list(&builds).into_iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
}

/// A connection to the control socket, without a client program.
pub(super) struct Talk(UnixStream, FrameDecoder);

impl Talk {
    pub(super) fn new(bed: &Bed) -> Self {
        Talk(UnixStream::connect(bed.live().join("control.sock")).unwrap(), FrameDecoder::default())
    }

    pub(super) fn say(&mut self, request: &ControlRequest) {
        self.0.write_all(&encode(request).unwrap()).unwrap();
    }

    pub(super) fn hear(&mut self) -> ControlResponse {
        let mut buffer = [0; 4096];
        loop {
            if let Some(body) = self.1.next_frame().unwrap() {
                return serde_json::from_slice(&body).unwrap();
            }
            // Received descriptors are closed.
            let got = self.0.read(&mut buffer).unwrap();
            assert!(got > 0, "hung up");
            self.1.feed(&buffer[..got]);
        }
    }

    fn open(bed: &Bed, argv: &[&str]) -> (Self, ControlResponse) {
        let mut talk = Talk::new(bed);
        talk.say(&ControlRequest::hello("test"));
        let ControlResponse::Hello { .. } = talk.hear() else { panic!("no hello") };
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        talk.say(&ControlRequest::Open(OpenProgram { argv, ..OpenProgram::default() }));
        let answer = talk.hear();
        (talk, answer)
    }
}

fn another_protocol() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut talk = Talk::new(&bed);
    talk.say(&ControlRequest::Hello {
        protocol: PROTOCOL + 1,
        version: "9".to_owned(),
        client: DecisionClient::default(),
    });
    let answer = talk.hear();
    assert!(matches!(answer, ControlResponse::Refused { .. }), "{answer:?}");
    bed.resume(running);
}

/// PID 1 has a limited number of places; one more is refused, and nothing else is affected.
fn more_jobs_than_places() {
    let bed = Bed::new();
    let spec = bed.write("jobs.yml", build(&["codebuild-breakpoint"]));
    let mut command = bed.other("sh");
    command.args([
        "-c",
        "ulimit -n 16384 2>/dev/null || ulimit -n $(ulimit -H -n); exec \"$@\"",
        "sh",
    ]);
    command.arg(runner()).args(["run", "--enable-session", "--image", &busybox()]).arg(spec);
    let running = Running::spawn_from(&mut command);
    running.stderr.wait_for("stop ");
    let most = runner_wire::abi::MAX_JOBS;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    // Files that other tests have open at the same time count as well.
    let wanted = (most as u64 + 4096).min(limit.1);
    nix::sys::resource::setrlimit(
        nix::sys::resource::Resource::RLIMIT_NOFILE,
        limit.0.max(wanted),
        limit.1,
    )
    .unwrap();
    // The command that waits at the breakpoint has one place.
    let mut open = Vec::new();
    for number in 1..most + 20 {
        let (mut talk, answer) = Talk::open(&bed, &["sleep", "1000"]);
        if number < most {
            assert!(matches!(answer, ControlResponse::Opened { .. }), "{number}: {answer:?}");
            open.push(talk);
            continue;
        }
        // It may have been opened before PID 1 had to refuse.
        talk.0.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
        let last = if let ControlResponse::Opened { .. } = answer { talk.hear() } else { answer };
        assert!(matches!(last, ControlResponse::Refused { .. }), "{number}: {last:?}");
    }
    drop(open);
    // When their programs end there is room again.
    crate::common::until("room again", || bed.runner(["exec", "--", "true"]).code == 0);
    bed.resume(running);
}

/// A pid noted by a dead build that now belongs to another process.
fn a_number_of_somebody_else() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let path = bed.live().join("container.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut container: serde_json::Value = serde_json::from_str(&text).unwrap();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait(), 137);
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    container["process"]["pid"] = bystander.id().into();
    // Processes' start times have a resolution of a hundredth of a second only.
    container["process"]["startTime"] = 1.into();
    fs::write(&path, container.to_string()).unwrap();
    bed.runner(["ps"]).code(0).says("left by a runner that was killed");
    assert!(bystander.try_wait().unwrap().is_none(), "somebody else was ended");
    kill(Pid::from_raw(i32::try_from(bystander.id()).unwrap()), Signal::SIGKILL).unwrap();
    bystander.wait().unwrap();
}

fn the_terminal_when_the_runner_is_killed() {
    let bed = Bed::new();
    let mut running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let mut terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("echo at-$((40+2))\r");
    terminal.wait_for("at-42");
    assert!(!terminal.is_cooked());
    running.signal(Signal::SIGKILL);
    running.wait();
    assert_eq!(terminal.wait(), 125);
    assert!(terminal.is_cooked());
    bed.runner(["ps"]).code(0);
}

fn devices_on_mounts() {
    let bed = Bed::new();
    let dir = bed.path("devices");
    fs::create_dir(&dir).unwrap();
    let made = Command::new("mknod").arg(dir.join("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(made.success());
    let mount = format!("{}:/m:rw", dir.display());
    let spec = build(&["head -c 1 /m/zero 2>&1 || echo refused"]);
    let output = bed.build(&spec, &["--mount", &mount]).code(0).output();
    assert!(output.ends_with("refused\n"), "{output}");
}

/// On a machine with shared mounts, no mount of the container gets out, and none gets in.
fn propagation() {
    let bed = Bed::new();
    let spec = bed.write("b.yml", build(&["codebuild-breakpoint"]));
    let mut command = bed.other("unshare");
    command.args(["--mount", "--propagation", "shared"]).arg(runner());
    command.args(["run", "--enable-session", "--image", &busybox()]).arg(spec);
    let running = Running::spawn_from(&mut command);
    running.stderr.wait_for("stop ");
    let target = bed.path("later");
    fs::create_dir(&target).unwrap();
    let pid = running.pid().to_string();
    let mount = ["--target", &pid, "--mount", "mount", "-t", "tmpfs", "later"];
    let mounted = Command::new("nsenter").args(mount).arg(&target).status().unwrap();
    assert!(mounted.success());
    let outside = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(outside.contains("later") && !outside.contains("codebuild"), "{outside}");
    let inside = bed.runner(["exec", "--", "cat", "/proc/self/mountinfo"]).code(0).stdout;
    assert!(inside.contains("codebuild") && !inside.contains("later"), "{inside}");
    bed.resume(running);
}

/// A mount below a directory of tools is visible and read-only.
fn mounts_below_the_tools() {
    let bed = Bed::host();
    let spec = bed.write(
        "b.yml",
        build(&["cat /opt/runner-test/file; echo new > /opt/runner-test/file; cat /opt/runner-test/file"]),
    );
    let script = format!(
        "mount -t tmpfs opt /opt; mkdir /opt/runner-test; mount -t tmpfs inner /opt/runner-test; echo old > \
         /opt/runner-test/file; {} run {}; cat /opt/runner-test/file",
        runner().display(),
        spec.display()
    );
    let outcome = bed.in_own_mounts(&script).code(0);
    assert_eq!(outcome.output(), "old\nnew\n");
    assert!(outcome.stdout.ends_with("\nold\n"), "the machine's own: {}", outcome.stdout);
}

/// Files that others may read in these directories are hidden all the same.
fn secrets_of_the_machine() {
    let bed = Bed::host();
    let add = |etc: &Path| {
        for name in ["sudoers.d/t", "kubernetes/t", "ssl/private/t", "NetworkManager/t"] {
            let path = etc.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            executable(path.parent().unwrap());
            fs::write(&path, "for nobody's eyes").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        symlink("sudoers.d/t", etc.join("link-to-t")).unwrap();
    };
    let spec = build(&["grep -rl 'for nobody.s eyes' /etc || echo nothing"]);
    assert_eq!(bed.build_with_etc(&spec, add).code(0).output(), "nothing\n");
}

fn directories_can_be_renamed() {
    let bed = Bed::with_image(&format!("rootfs:{}", image("debian").display()));
    let command = "perl -e 'rename(\"/usr/share\", \"/usr/share2\") or die $!'; ls -d /usr/share2";
    assert_eq!(bed.build(&build(&[command]), &[]).code(0).output(), "/usr/share2\n");
}

fn the_null_device_is_its_own() {
    use std::os::unix::fs::MetadataExt;
    let before = fs::metadata("/dev/null").unwrap();
    let command = "chmod 600 /proc/self/fd/0; chown 1234 /proc/self/fd/0; stat -c %a-%u /dev/null";
    let output = Bed::new().build(&build(&[command]), &[]).code(0).output();
    assert_eq!(output, "600-1234\n");
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
}
