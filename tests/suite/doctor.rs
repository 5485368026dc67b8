//! `runner doctor`: each row is something that was tried, and its result changes if that does not
//! work.

use crate::common::docker::Docker;
use crate::common::endpoint::Endpoint;
use crate::common::podman::Podman;
use crate::common::{Bed, Outcome, build, cases, is_root, list, outcome, runner, write_program};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

cases! {
    [Containers] => what_works_is_said, leaves_nothing, users_of_a_container, a_network_without_its_program,
        a_podman_that_is_not_there;
    [Containers, Program("gcc")] => a_machine_without_filters;
    [Containers, Program("setarch")] => an_old_kernel;
    [Root] => closed_namespaces, closed_user_namespaces, a_state_folder_on_an_overlay,
        a_machine_without_control_groups, a_full_disk, a_store_that_cannot_be_written;
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] => docker_answers;
    [Users, Program("podman"), Program("runc")] => podman_answers;
    [Users, Program("podman"), Program("runc"), Program("python3")] => podman_leaves_nothing;
    [Root, Program("podman"), Program("runc")] => podman_leaves_nothing_on_a_new_machine;
    [Containers, Image("busybox")] => a_build_with_sessions, a_build_without_sessions,
        a_build_that_has_ended, a_build_that_does_not_answer, awss_programs, keys_of_awss_clients,
        an_endpoint_that_does_not_answer;
}

/// The report and the exit code.
fn report(command: &mut Command) -> (Value, i32) {
    let Outcome { code, stdout, stderr } = outcome(command);
    let report = serde_json::from_str(&stdout);
    (report.unwrap_or_else(|error| panic!("{error}:\n{stdout}\n{stderr}")), code)
}

fn doctor(bed: &Bed) -> Command {
    // No daemon of this machine.
    let mut command = bed.command(["doctor", "--format", "json"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("CONTAINER_HOST", "unix:///nonexistent");
    command
}

/// The same as a shell command in new mounts and namespaces.
fn doctor_within(bed: &Bed, unshare: &[&str], script: &str) -> Command {
    let mut command = bed.other("unshare");
    command.args(unshare).args(["sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]);
    command.arg(runner()).args(["doctor", "--format", "json"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("CONTAINER_HOST", "unix:///nonexistent");
    command
}

#[track_caller]
fn row<'r>(report: &'r Value, name: &str) -> &'r Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

#[track_caller]
fn is(report: &Value, name: &str, state: &str) {
    let row = row(report, name);
    assert_eq!(row["state"], state, "{report:#}");
    // Every failed row comes with its consequence and a fix.
    assert_eq!(row["mend"].is_string(), state != "ok", "{row:#}");
    assert_eq!(row["consequence"].is_string(), state != "ok", "{row:#}");
}

fn what_works_is_said() {
    let bed = Bed::new();
    let (report, code) = report(&mut doctor(&bed));
    assert_eq!((code, &report["works"]), (0, &Value::Bool(true)), "{report:#}");
    for name in
        ["kernel", "user namespaces", "container", "overlay", "seccomp", "image store", "disk"]
    {
        is(&report, name, "ok");
    }
    is(&report, "docker", "limited");
    let mut command = bed.command(["doctor"]);
    let table = outcome(command.env("DOCKER_HOST", "unix:///nonexistent")).code(0).stdout;
    assert!(table.contains("container        ok       started"), "{table}");
    assert!(table.contains("fix: "), "{table}");
    assert!(table.ends_with("a build can run, with the engine namespaces\n"), "{table}");
}

fn leaves_nothing() {
    let bed = Bed::new();
    report(&mut doctor(&bed));
    let mut left = list(&bed.home());
    left.sort();
    assert_eq!(left, ["builds", "counters", "images", "live"]);
}

fn users_of_a_container() {
    let bed = Bed::new();
    let has_users = crate::common::missing(&[crate::common::Need::Users]).is_none();
    let (first, _) = report(&mut doctor(&bed));
    is(&first, "users", if has_users { "ok" } else { "limited" });
    if !is_root() {
        // Without newuidmap there are no other users.
        let programs = bed.path("programs");
        fs::create_dir(&programs).unwrap();
        symlink("/bin/sh", programs.join("sh")).unwrap();
        let (second, code) = report(doctor(&bed).env("PATH", &programs));
        is(&second, "users", "limited");
        assert_eq!(code, 0);
    }
}

fn a_network_without_its_program() {
    let bed = Bed::new();
    let (report, code) = report(doctor(&bed).env("PATH", "/nonexistent"));
    is(&report, "pasta", "limited");
    assert_eq!(code, 0, "{report:#}");
}

fn a_podman_that_is_not_there() {
    let bed = Bed::new();
    let mut command = doctor(&bed);
    let (report, _) = report(command.env("PATH", "/nonexistent").env_remove("CONTAINER_HOST"));
    is(&report, "podman", "limited");
    assert!(row(&report, "podman")["mend"].as_str().unwrap().contains("install"), "{report:#}");
}

/// The system call that installs a filter does not exist for this program.
fn a_machine_without_filters() {
    let bed = Bed::new();
    let without = bed.path("without");
    let source = crate::common::project().join("tests/guards/without_seccomp.c");
    let built = Command::new("gcc").args(["-O1", "-o"]).args([&without, &source]).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let mut command = bed.other(without.to_str().unwrap());
    command.arg(runner()).args(["doctor", "--format", "json"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("CONTAINER_HOST", "unix:///nonexistent");
    let (report, code) = report(&mut command);
    is(&report, "seccomp", "missing");
    // No container is better than an open one.
    is(&report, "container", "missing");
    assert_eq!(code, 3, "{report:#}");
}

fn an_old_kernel() {
    let bed = Bed::new();
    let mut command = bed.other("setarch");
    command.arg("--uname-2.6").arg(runner()).args(["doctor", "--format", "json"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("CONTAINER_HOST", "unix:///nonexistent");
    let (report, code) = report(&mut command);
    is(&report, "kernel", "limited");
    assert!(row(&report, "kernel")["found"].as_str().unwrap().starts_with("Linux 2.6."));
    // Only this row reports it, and everything works.
    assert_eq!(code, 0, "{report:#}");
}

fn closed_namespaces() {
    let bed = Bed::new();
    let close = "echo 0 > /proc/sys/user/max_mnt_namespaces";
    let (report, code) = report(&mut doctor_within(&bed, &["--user", "--map-root-user"], close));
    is(&report, "container", "missing");
    assert_eq!((code, &report["works"]), (3, &Value::Bool(false)), "{report:#}");
    assert!(report["verdict"].as_str().unwrap().contains("--engine process"), "{report:#}");
}

fn closed_user_namespaces() {
    let bed = Bed::new();
    let close = "echo 0 > /proc/sys/user/max_user_namespaces";
    let within = ["--user", "--map-root-user"];
    let (report, _) = report(&mut doctor_within(&bed, &within, close));
    is(&report, "user namespaces", "limited");
    let mend = row(&report, "user namespaces")["mend"].as_str().unwrap();
    assert_eq!(mend, "sudo sysctl user.max_user_namespaces=10000");
}

fn a_state_folder_on_an_overlay() {
    let bed = Bed::new();
    let dir = bed.path("over");
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let at = dir.display();
    let mount = format!(
        "mount -t overlay overlay -o lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work \
         {at}/merged"
    );
    let mut command = doctor_within(&bed, &["--mount"], &mount);
    command.env("RUNNER_HOME", dir.join("merged"));
    let (report, code) = report(&mut command);
    is(&report, "overlay", "limited");
    assert_eq!(code, 0, "{report:#}");
}

fn a_machine_without_control_groups() {
    let bed = Bed::new();
    let unmount = "umount -R -l /sys/fs/cgroup";
    let (report, code) = report(&mut doctor_within(&bed, &["--mount"], unmount));
    is(&report, "limits", "limited");
    assert_eq!(code, 0, "{report:#}");
}

fn a_full_disk() {
    let bed = Bed::new();
    fs::create_dir(bed.home()).unwrap();
    let small = |size: &str| {
        let mount = format!("mount -t tmpfs -o mode=700,size={size} none {}", bed.home().display());
        report(&mut doctor_within(&bed, &["--mount"], &mount))
    };
    let (little, code) = small("500m");
    is(&little, "disk", "limited");
    assert_eq!(code, 0, "{little:#}");
    let (full, code) = small("20m");
    is(&full, "disk", "missing");
    assert_eq!(code, 3, "{full:#}");
}

fn a_store_that_cannot_be_written() {
    let bed = Bed::new();
    fs::create_dir_all(bed.home().join("images")).unwrap();
    let images = bed.home().join("images");
    let mount = format!("mount -t tmpfs -o mode=700,ro none {}", images.display());
    let (report, code) = report(&mut doctor_within(&bed, &["--mount"], &mount));
    is(&report, "image store", "limited");
    assert_eq!(code, 0, "{report:#}");
}

fn docker_answers() {
    let bed = Bed::new();
    let mut command = doctor(&bed);
    let (seen, _) = report(command.env("DOCKER_HOST", Docker::shared().host()));
    is(&seen, "docker", "ok");
    // If there is nothing else, a build can still run.
    let close = "echo 0 > /proc/sys/user/max_mnt_namespaces";
    let mut command = doctor_within(&bed, &["--user", "--map-root-user"], close);
    let (seen, code) = report(command.env("DOCKER_HOST", Docker::shared().host()));
    is(&seen, "container", "missing");
    assert_eq!(code, 0, "{seen:#}");
    assert_eq!(seen["verdict"], "a build can run, with the engine docker");
    // The daemon responds but does not see a build's files, which takes longer to find out.
    fs::create_dir_all(bed.home()).unwrap();
    let mount = format!("mount -t tmpfs -o mode=700 none {}", bed.home().display());
    let mut command = doctor_within(&bed, &["--mount"], &mount);
    let (seen, _) = report(command.env("DOCKER_HOST", Docker::shared().host()));
    is(&seen, "docker", "limited");
    let consequence = row(&seen, "docker")["consequence"].as_str().unwrap();
    assert!(consequence.contains("exec API"), "{consequence}");
    let ours = |arguments: &[&str]| {
        let listed = outcome(&mut Docker::shared().command(arguments)).code(0).stdout;
        assert!(!listed.contains("doctor"), "{listed}");
    };
    ours(&["ps", "--all"]);
    ours(&["images", "--all"]);
}

/// The shared folders of Podman, its runtimes and its networks, if they exist.
fn podman_leaves_nothing_on_a_new_machine() {
    let bed = Bed::new();
    let empty =
        "mount -t tmpfs none /run; mount -t tmpfs none /var/lib/containers 2>/dev/null || true
        for dir in /etc/cni/net.d /etc/containers/networks; do
            test ! -d $dir || mount -t tmpfs none $dir
        done
        \"$@\" > ../report || true
        rm -rf /run/mount
        find /run /var/lib/containers /etc/cni/net.d /etc/containers/networks -mindepth 1 || true
        exit";
    let mut command = doctor_within(&bed, &["--mount"], empty);
    command.env_remove("CONTAINER_HOST");
    let Outcome { stdout, stderr, .. } = outcome(&mut command);
    let report = fs::read_to_string(bed.path("report")).unwrap();
    let report = serde_json::from_str(&report).unwrap_or_else(|_| panic!("{report}\n{stderr}"));
    is(&report, "podman", "ok");
    assert_eq!(stdout, "", "the doctor has left these");
}

/// Runs a command and waits until none of its descendants is left.
const TO_THE_LAST_CHILD: &str = "
import ctypes, os, signal, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
subprocess.run(sys.argv[1:], check=True)
signal.alarm(60)
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
";

/// Also without a runtime directory.
fn podman_leaves_nothing() {
    let bed = Bed::new();
    let mut command = bed.other("python3");
    command.args(["-c", TO_THE_LAST_CHILD]).arg(runner()).args(["doctor", "--format", "json"]);
    fs::create_dir(bed.path("tmp")).unwrap();
    command.env("DOCKER_HOST", "unix:///nonexistent").env("TMPDIR", bed.path("tmp"));
    let (seen, code) = report(&mut command);
    is(&seen, "podman", "ok");
    assert_eq!(code, 0);
    assert_eq!(list(&bed.path("home")), Vec::<String>::new());
    assert_eq!(list(&bed.path("tmp")), Vec::<String>::new());
    let mut left = list(&bed.home());
    left.sort();
    assert_eq!(left, ["builds", "counters", "images", "live"]);
}

fn podman_answers() {
    let bed = Bed::new().with_variables(Podman::shared().variables());
    let mut command = doctor(&bed);
    let (seen, _) = report(command.env_remove("CONTAINER_HOST"));
    is(&seen, "podman", "ok");
    // The service responds, but the program that creates its containers does not.
    let variables = Podman::shared().variables();
    let (_, conf) = variables.iter().find(|(name, _)| name == "CONTAINERS_CONF").unwrap();
    let broken = "runtime = \"broken\"\n[engine.runtimes]\nbroken = [\"/bin/false\"]\n";
    let text = fs::read_to_string(conf).unwrap() + broken;
    fs::write(bed.path("broken.conf"), text).unwrap();
    let mut command = doctor(&bed);
    command.env_remove("CONTAINER_HOST").env("CONTAINERS_CONF", bed.path("broken.conf"));
    let (seen, _) = report(&mut command);
    is(&seen, "podman", "limited");
    let found = row(&seen, "podman")["found"].as_str().unwrap();
    assert!(found.contains("makes no container"), "{seen:#}");
    for arguments in [["ps", "--all"], ["images", "--all"]] {
        let listed = outcome(&mut Podman::shared().command(&arguments)).code(0).stdout;
        assert!(!listed.contains("doctor"), "{listed}");
    }
}

fn of_build(bed: &Bed, build: &str) -> (Value, i32) {
    report(&mut bed.command(["doctor", build, "--format", "json"]))
}

fn a_build_with_sessions() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let (report, code) = of_build(&bed, &uuid[..8]);
    for name in
        ["build", "node", "sessions", "agent", "shell", "endpoint", "credentials", "users", "AWS"]
    {
        is(&report, name, "ok");
    }
    let node = row(&report, "node")["found"].as_str().unwrap();
    assert!(node.contains("mi-") && node.ends_with("of cluster default"), "{node}");
    let checks = report["DiagnosticsOutput"].as_array().unwrap();
    let of =
        |check: &str| checks.iter().find(|one| one["Check"] == check).unwrap()["Status"].clone();
    assert_eq!((of("node"), of("EC2 IMDS")), (Value::from("Success"), Value::from("Skipped")));
    // Calls to AWS would reach its own endpoint.
    let found = row(&report, "endpoint")["found"].as_str().unwrap().to_owned();
    let url = found.split_whitespace().next().unwrap();
    let mut command = bed.command(["doctor", &uuid, "--format", "json"]);
    let (looped, _) = self::report(command.env("AWS_ENDPOINT_URL", url));
    is(&looped, "loop", "limited");
    let iam = bed.home().join("iam.json");
    fs::write(&iam, "{").unwrap();
    fs::set_permissions(&iam, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    is(&of_build(&bed, &uuid).0, "users", "missing");
    assert_eq!(code, 0, "{report:#}");
    bed.resume(running);
}

fn a_build_without_sessions() {
    let bed = Bed::new();
    let running = bed.start(&build(&["mkfifo /tmp/go; echo ready; read x < /tmp/go"]), &[]);
    running.stdout.wait_for("ready\n");
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let (report, code) = of_build(&bed, &uuid);
    is(&report, "sessions", "limited");
    is(&report, "agent", "ok");
    // No endpoint was ever opened, and no key pair created.
    is(&report, "endpoint", "missing");
    is(&report, "credentials", "missing");
    // Its owner can connect all the same.
    assert_eq!(code, 0, "{report:#}");
    bed.runner(["exec", "--", "sh", "-c", "echo > /tmp/go"]).code(0);
    running.ends(0);
}

fn a_build_that_has_ended() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let (report, code) = of_build(&bed, &uuid);
    is(&report, "build", "missing");
    assert_eq!(code, 3, "{report:#}");
    bed.runner(["doctor", "nothing-like-it"]).code(2);
}

/// Its socket is gone, or the process is stopped.
fn a_build_that_does_not_answer() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let (socket, aside) = (bed.live().join("control.sock"), bed.live().join("aside.sock"));
    fs::rename(&socket, &aside).unwrap();
    let (report, code) = of_build(&bed, &uuid);
    for name in ["build", "agent"] {
        is(&report, name, "missing");
    }
    assert_eq!(code, 3, "{report:#}");
    fs::rename(&aside, &socket).unwrap();
    bed.resume(running);
}

/// The calls are rejected as a client's would be.
fn keys_of_awss_clients() {
    let bed = Bed::new();
    let running = bed.paused(&build(&["codebuild-breakpoint"]), &[]);
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let keys = bed.home().join("aws-credentials");
    let seen = |endpoint: &str, credentials: &str, wanted: &str| {
        let (report, code) = of_build(&bed, &uuid);
        is(&report, "endpoint", endpoint);
        is(&report, "credentials", credentials);
        let found = row(&report, "credentials")["found"].as_str().unwrap();
        assert!(found.contains(wanted), "{report:#}");
        // runner attach needs none of it.
        assert_eq!(code, 0, "{report:#}");
    };
    seen("ok", "ok", "(profile runner)");
    let mode = |mode| {
        fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o644);
    seen("limited", "missing", "others may read it");
    mode(0o600);
    let text = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, text.replace("aws_secret_access_key = ", "aws_secret_access_key = 0"))
        .unwrap();
    seen("ok", "missing", "refused: ");
    fs::rename(&keys, bed.path("aside")).unwrap();
    seen("limited", "missing", "none yet");
    bed.resume(running);
}

/// The endpoint of `runner serve`: its process stopped, and gone.
fn an_endpoint_that_does_not_answer() {
    let bed = Bed::new();
    let running = bed.start(&build(&["mkfifo /tmp/go; echo ready; read x < /tmp/go"]), &[]);
    running.stdout.wait_for("ready\n");
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let (_, server) = Endpoint::serve(&bed, &[]);
    let seen = |state: &str, wanted: &str| {
        let (report, _) = of_build(&bed, &uuid);
        is(&report, "endpoint", state);
        is(&report, "credentials", "ok");
        let found = row(&report, "endpoint")["found"].as_str().unwrap();
        assert!(found.contains(wanted), "{report:#}");
    };
    seen("ok", "answers signed calls");
    server.signal(Signal::SIGSTOP);
    seen("missing", "does not answer");
    server.signal(Signal::SIGCONT);
    server.signal(Signal::SIGTERM);
    server.ends(0);
    seen("missing", "none is open");
    bed.runner(["exec", "--", "sh", "-c", "echo > /tmp/go"]).code(0);
    running.ends(0);
}

fn awss_programs() {
    let bed = Bed::new();
    bed.build(&build(&["true"]), &[]).code(0);
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let programs = bed.path("programs");
    fs::create_dir(&programs).unwrap();
    let ask = || {
        let mut command = bed.command(["doctor", &uuid, "--format", "json"]);
        report(command.env("PATH", &programs)).0
    };
    let without = ask();
    for (name, file) in [("AWS CLI", "aws"), ("session-manager-plugin", "session-manager-plugin")] {
        is(&without, name, "missing");
        write_program(&programs.join(file), "#!/bin/sh\necho version 1.2.3\n");
        let with = ask();
        is(&with, name, "ok");
        assert_eq!(row(&with, name)["found"], "version 1.2.3");
    }
}
