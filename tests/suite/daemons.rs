//! The engines `docker` and `podman`: the same build, sessions and ends as in containers of our
//! own.
//!
//! Both engines must pass each test. Podman runs as the user who runs the tests: as root with
//! root's containers, otherwise with that user's.

use super::debugger::{WALK, whole_walk};
use crate::common::docker::Docker;
use crate::common::engines::Engine::{self, Docker as D, Podman as P};
use crate::common::podman::Podman;
use crate::common::registry::{Layout, Registry};
use crate::common::{Running, build, cases, image, is_root, list, outcome, until};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;

cases! {
    [Root, Image("busybox"), Program("dockerd"), Program("docker")] =>
        docker_the_walk, docker_limits, docker_network, docker_the_source_is_copied, docker_mounts, docker_users, docker_ctrl_c,
        docker_kill_9, docker_debugs, docker_files_of_images, docker_copies_and_ports, docker_a_lost_shell, docker_what_it_has_not,
        docker_for_a_user_who_is_not_root, auto_takes_docker_where_namespaces_are_closed,
        a_daemon_that_is_not_there, a_daemon_on_the_network;
    [Root, Image("busybox"), Program("dockerd"), Program("docker"), Program("docker-registry"),
        Program("skopeo"), Program("umoci")] => docker_pulls, docker_pulls_as_the_caller;
    [Root, Image("debian"), Program("dockerd"), Program("docker")] => docker_git_and_sudo;
    [Root, Image("busybox"), Program("dockerd"), Program("docker"), Program("gcc")] => docker_walls;
    [Users, Image("busybox"), Program("podman"), Program("runc"), Program("gcc")] => podman_walls;
    [Users, Image("busybox"), Program("podman"), Program("runc")] =>
        podman_the_walk, podman_limits, podman_network, podman_the_source_is_copied, podman_mounts, podman_users, podman_ctrl_c,
        podman_kill_9, podman_debugs, podman_files_of_images, podman_copies_and_ports, podman_a_lost_shell, podman_what_it_has_not, podman_with_a_service_that_runs;
    [Users, Image("busybox"), Program("podman"), Program("runc"), Program("docker-registry"),
        Program("skopeo"), Program("umoci")] => podman_pulls, podman_pulls_as_the_caller;
}

fn docker_the_walk() {
    the_walk(D);
}
fn podman_the_walk() {
    the_walk(P);
}

fn docker_debugs() {
    debugs(D);
}
fn podman_debugs() {
    debugs(P);
}

fn debugs(engine: Engine) {
    let bed = engine.bed();
    whole_walk(&bed, bed.start(&build(&WALK), &engine.options(&["--break-on", "failure"])));
    engine.has_nothing_left(&bed);
}

fn docker_a_lost_shell() {
    a_lost_shell(D);
}
fn podman_a_lost_shell() {
    a_lost_shell(P);
}

/// The build waits where it cannot continue, and programs of the image can be run.
fn a_lost_shell(engine: Engine) {
    let bed = engine.bed();
    let spec = build(&["cd /tmp; rm /bin/sh", "true"]);
    let running = bed.start(&spec, &engine.options(&["--enable-session"]));
    running.stderr.wait_for("is paused and cannot go on: the image has no `/bin/sh`");
    running.stderr.wait_for("  stop ");
    assert_eq!(bed.runner(["exec", "--", "busybox", "pwd"]).code(0).stdout, "/tmp\n");
    bed.runner(["resume"]).code(0);
    running.ends(3);
    engine.has_nothing_left(&bed);
}

/// Pause, inspect with a shell and with single commands, fix, resume.
fn the_walk(engine: Engine) {
    let bed = engine.bed();
    let commands = ["export A=1; cd /tmp; B=2 codebuild-breakpoint", "cat mended; echo $A $PWD"];
    let running = bed.paused(&build(&commands), &engine.options(&[]));
    let name = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(engine.containers(&bed), [format!("runner-{name}")]);
    let script = "echo $A $B $PWD; echo to stderr >&2; cat; exit 7";
    let seen = bed.runner(["exec", "--", "sh", "-c", script]).code(7);
    assert_eq!((seen.stdout.as_str(), seen.stderr.as_str()), ("1 2 /tmp\n", "to stderr\n"));
    let shell = bed.terminal(bed.command(["attach"]), 24, 80);
    shell.send("tty; stty size; id -u; echo by hand > mended; exit 9\r");
    shell.wait_for("/dev/pts/");
    shell.wait_for("24 80");
    assert!(shell.ends(9).contains("\r\n0\r\n"));
    bed.runner(["resume"]).code(0);
    running.ends(0);
    let log = fs::read_to_string(bed.only().join("output.log")).unwrap();
    assert_eq!(log, "by hand\n1 /tmp\n");
    engine.has_nothing_left(&bed);
}

fn docker_the_source_is_copied() {
    the_source_is_copied(D);
}
fn podman_the_source_is_copied() {
    the_source_is_copied(P);
}

/// Unchanged, but owned by root; the build's changes stay in the container.
fn the_source_is_copied(engine: Engine) {
    let bed = engine.bed();
    bed.write("dir/file", "as it was\n");
    bed.write("dir/deep/er/empty", "");
    bed.write("big", vec![7; 300_000]);
    let script = bed.write("script", "#!/bin/sh\necho it runs\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("dir/file", bed.source().join("link")).unwrap();
    symlink("nowhere", bed.source().join("dangling")).unwrap();
    nix::unistd::mkfifo(&bed.source().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::set_permissions(bed.source().join("dir/deep"), fs::Permissions::from_mode(0o700)).unwrap();
    let time = fs::metadata(bed.source().join("big")).unwrap().modified().unwrap();
    let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // The state folder within the source is hidden.
    let mut command = bed.build_command(
        &build(&[
            "stat -c '%u:%g %a %n' dir dir/deep script; stat -c '%s %Y' big; ./script; readlink link; \
             readlink dangling; cat link; ls",
            "rm -r dir big; echo new > file; ls",
        ]),
        &engine.options(&[]),
    );
    command.env("RUNNER_HOME", bed.source().join("own state"));
    let outcome = outcome(&mut command).code(0);
    let wanted = format!(
        "0:0 755 dir\n0:0 700 dir/deep\n0:0 755 script\n300000 {time}\nit runs\ndir/file\nnowhere\nas \
         it was\nbig\nbuildspec.yml\ndangling\ndir\nlink\nscript\nbuildspec.yml\ndangling\nfile\nlink\n\
         script\n"
    );
    assert_eq!(outcome.output(), wanted);
    let mut left = list(&bed.source());
    left.sort();
    let wanted = ["big", "buildspec.yml", "dangling", "dir", "fifo", "link", "own state", "script"];
    assert_eq!(left, wanted);
    assert_eq!(fs::read_to_string(bed.source().join("dir/file")).unwrap(), "as it was\n");
}

fn docker_mounts() {
    mounts(D);
}
fn podman_mounts() {
    mounts(P);
}

fn mounts(engine: Engine) {
    let bed = engine.bed();
    for name in ["shown", "shared"] {
        fs::create_dir(bed.path(name)).unwrap();
        fs::write(bed.path(name).join("file"), format!("{name}\n")).unwrap();
    }
    let mount = |name: &str, rest: &str| format!("{}:{rest}", bed.path(name).display());
    let (shown, shared) = (mount("shown", "/a/b"), mount("shared", "/c:rw"));
    let spec = build(&[
        "cat /a/b/file /c/file; touch /a/b/new 2>/dev/null || echo not here; echo changed > /c/file",
    ]);
    let options = [&engine.options(&[])[..], &["--mount", &shown, "--mount", &shared]].concat();
    assert_eq!(bed.build(&spec, &options).code(0).output(), "shown\nshared\nnot here\n");
    assert_eq!(fs::read_to_string(bed.path("shared/file")).unwrap(), "changed\n");
    assert_eq!(list(&bed.path("shown")), ["file"]);
}

fn docker_walls() {
    walls(D);
}
fn podman_walls() {
    walls(P);
}

/// A build may call and see the same as in our own containers, whatever the daemon's version.
fn walls(engine: Engine) {
    let bed = engine.bed();
    super::confinement::compile(&bed, "calls");
    let state = format!("{}:/x:rw", bed.path("").display());
    let commands = [
        "./calls | grep -E '^(unix|routes|vsock|alg|audit|quotactl_fd|kcmp|swapon|traced):'",
        "for f in interrupts timer_list keys; do test ! -e /proc/$f || wc -c < /proc/$f; done | sort -u; ls -A \
         /sys/devices/virtual/powercap /sys/kernel/debug 2> /dev/null | grep -v -e ':$' -e '^$'; ls -A /x/state; ls /x | grep \
         source",
    ];
    let options = engine.options(&["--network", "none", "--mount"]);
    let options: Vec<&str> = options.into_iter().chain([&*state]).collect();
    let output = bed.build(&build(&commands), &options).code(0).output();
    assert_eq!(
        output,
        "unix: allowed\nroutes: allowed\nvsock: EPERM\nalg: EPERM\naudit: EPROTONOSUPPORT\n\
         quotactl_fd: EPERM\nkcmp: EPERM\nswapon: EPERM\ntraced: allowed\n0\nsource\n"
    );
}

fn docker_users() {
    users(D);
}
fn podman_users() {
    users(P);
}

/// Commands of users other than root, and a container's rights.
fn users(engine: Engine) {
    let bed = engine.bed();
    let spec = "version: 0.2\nphases:\n  build:\n    run-as: builder\n    commands:\n      - id -un; id \
                -G; export KEPT=1; cd /tmp\n      - echo $KEPT $PWD; touch /tmp/mine\n  post_build:\n    \
                commands:\n      - id -un; echo $KEPT; stat -c %U /tmp/mine; grep CapEff \
                /proc/self/status | cut -f 2; mknod /tmp/d b 7 0 2>/dev/null || echo no devices\n";
    let outcome = bed.build(spec, &engine.options(&[])).code(0);
    let wanted = "builder\n1000 2000\n1 /tmp\nroot\n1\nbuilder\n00000000800405fb\nno devices\n";
    assert_eq!(outcome.output(), wanted);
}

const POLITE: &str = "trap 'echo told to end; exit' TERM; echo ready; while :; do sleep 0.05; done";

fn docker_ctrl_c() {
    ctrl_c(D);
}
fn podman_ctrl_c() {
    ctrl_c(P);
}

fn ctrl_c(engine: Engine) {
    let bed = engine.bed();
    let mut running = bed.start(&build(&[POLITE]), &engine.options(&[]));
    running.stdout.wait_for("ready\n");
    assert_eq!(engine.containers(&bed).len(), 1);
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 5);
    assert!(running.stdout.text().contains("told to end"), "{}", running.stdout.text());
    engine.has_nothing_left(&bed);
    // While the container is being created: the runner waits for it and removes it.
    let mut running = bed.start(&build(&["echo ready; sleep 60"]), &engine.options(&[]));
    let builds = || list(&bed.home().join("live"));
    until("the container is being made", || {
        let build = builds().first().map(|uuid| bed.home().join("builds").join(uuid));
        build.is_some_and(|dir| dir.join("container.json").exists())
    });
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait(), 5);
    let label = ["ps", "--all", "--quiet", "--filter", "label=runner.build"];
    let uuids: Vec<String> = list(&bed.home().join("builds"));
    let names = outcome(&mut engine.command(&[&label[..], &["--format", "{{.Names}}"]].concat()));
    for uuid in uuids {
        assert!(!names.stdout.contains(&uuid), "{}", names.stdout);
    }
}

fn docker_kill_9() {
    kill_9(D);
}
fn podman_kill_9() {
    kill_9(P);
}

fn kill_9(engine: Engine) {
    let bed = engine.bed();
    let running: Running = bed.start(&build(&["echo ready; sleep 600"]), &engine.options(&[]));
    running.stdout.wait_for("ready\n");
    running.signal(Signal::SIGKILL);
    drop(running);
    // Its first process notices the end of its runner, and the daemon the end of that process.
    until("the container is gone", || engine.containers(&bed).is_empty());
    // A container that was created but not started notices nothing.
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    let (name, label) = (format!("runner-{uuid}"), format!("runner.build={uuid}"));
    let image = engine.image("busybox");
    let create = ["create", "--name", &name, "--label", &label, &image, "sleep", "600"];
    outcome(&mut engine.command(&create)).code(0);
    let ps = bed.runner(["ps", "--all"]).code(0);
    assert!(ps.stdout.contains("FAULT"), "{}", ps.stdout);
    engine.has_nothing_left(&bed);
    assert_eq!(bed.record()["buildStatus"], "FAULT");
    // A Podman service does not outlive it for long.
    until("no service is left", || !is_there(&format!("{uuid}/layer/")));
}

/// Whether a process with such an argument exists.
fn is_there(argument: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(argument)
    })
}

fn docker_files_of_images() {
    files_of_images(D);
}
fn podman_files_of_images() {
    files_of_images(P);
}

/// Root file systems and archives are imported into the daemon.
fn files_of_images(engine: Engine) {
    let tree = image("busybox");
    let spec = build(&["busybox | head -n 1 | cut -d ' ' -f 1; ls -d /etc/passwd"]);
    let wanted = "BusyBox\n/etc/passwd\n";
    let bed = engine.bed_with(&format!("rootfs:{}", tree.display()));
    let running =
        bed.paused(&(spec.clone() + "      - codebuild-breakpoint\n"), &engine.options(&[]));
    let uuid = bed.live().file_name().unwrap().to_str().unwrap().to_owned();
    let name = format!("localhost/runner-rootfs-{uuid}:latest");
    let is_kept = || outcome(&mut engine.command(&["image", "inspect", &name])).code == 0;
    assert!(is_kept());
    bed.resume(running);
    assert_eq!(fs::read_to_string(bed.only().join("output.log")).unwrap(), wanted);
    // A directory may have changed the next time.
    assert!(!is_kept());
    let bed = engine.bed_with(&format!("rootfs:{}", tree.with_extension("tar").display()));
    for _ in 0..2 {
        assert_eq!(bed.build(&spec, &engine.options(&[])).code(0).output(), wanted);
    }
    let archive = bed.path("busybox.archive");
    let save = ["save", "--output", archive.to_str().unwrap(), &engine.image("busybox")];
    outcome(&mut engine.command(&save)).code(0);
    let bed = engine.bed_with(&format!("docker-archive:{}", archive.display()));
    assert_eq!(bed.build(&spec, &engine.options(&[])).code(0).output(), wanted);
}

fn docker_copies_and_ports() {
    copies_and_ports(D);
}
fn podman_copies_and_ports() {
    copies_and_ports(P);
}

/// `cp` both ways, and a server on the container's own loopback interface.
fn copies_and_ports(engine: Engine) {
    use std::io::{Read, Write};
    let bed = engine.bed();
    bed.write("sent/file", "sent\n");
    let serve = "nc -ll -p 9000 -e cat & until nc 127.0.0.1 9000 < /dev/null; do :; done";
    let running = bed.paused(&build(&[serve, "codebuild-breakpoint"]), &engine.options(&[]));
    bed.runner(["cp", "sent", ":/tmp"]).code(0);
    let seen = bed.runner(["exec", "--", "sh", "-c", "cat /tmp/sent/file; stat -c %u /tmp/sent"]);
    assert_eq!(seen.code(0).stdout, "sent\n0\n");
    bed.runner(["cp", ":/tmp/sent", "back"]).code(0);
    assert_eq!(fs::read(bed.source().join("back/file")).unwrap(), b"sent\n");
    let forward = Running::spawn(bed.command(["port-forward", ":9000"]));
    forward.stdout.wait_for(" -> localhost:9000\n");
    let text = forward.stdout.text();
    let mut stream = std::net::TcpStream::connect(text.split(" -> ").next().unwrap()).unwrap();
    stream.write_all(b"there and back").unwrap();
    let mut same = [0; 14];
    stream.read_exact(&mut same).unwrap();
    assert_eq!(&same, b"there and back");
    drop(stream);
    bed.resume(running);
    forward.ends(0);
}

fn docker_what_it_has_not() {
    what_it_has_not(D);
}
fn podman_what_it_has_not() {
    what_it_has_not(P);
}

fn what_it_has_not(engine: Engine) {
    for (image, says) in [
        ("docker-daemon:nowhere:none", "has no image nowhere:none"),
        // Nothing listens there.
        ("127.0.0.1:1/nowhere:none", "cannot pull 127.0.0.1:1/nowhere:none"),
        ("rootfs:/nonexistent", "No such file"),
        ("docker-archive:/nonexistent", "No such file"),
        ("host", "name an image"),
    ] {
        let bed = engine.bed_with(image);
        let outcome = bed.build(&build(&["echo never"]), &engine.options(&[])).code(3).says(says);
        assert_eq!(outcome.output(), "");
        let record = bed.record();
        let context = &record["phases"][2]["contexts"][0]["statusCode"];
        assert_eq!(context, "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE", "{record:#}");
    }
}

fn docker_pulls() {
    pulls(D);
}
fn podman_pulls() {
    pulls(P);
}

/// A missing image is pulled, once.
fn pulls(engine: Engine) {
    let layout = Layout::of_image("busybox");
    layout.config(&["--config.env=COLOUR=blue"]);
    let name = format!("daemons/{}-{}:one", engine.name(), is_root());
    let reference = Registry::open().push(&layout, &name);
    let bed = engine.bed_with(&reference);
    // The image's own variables apply, as everywhere.
    let spec = build(&["echo pulled $COLOUR"]);
    let first = bed.build(&spec, &engine.options(&[])).code(0);
    assert!(first.stderr.contains(&format!("pulls {reference}")), "{}", first.stderr);
    assert_eq!(first.output(), "pulled blue\n");
    let second = bed.build(&spec, &engine.options(&[])).code(0);
    assert!(!second.stderr.contains("pulls"), "{}", second.stderr);
    let there = engine.bed_with(&format!("docker-daemon:{reference}"));
    there.build(&spec, &engine.options(&[])).code(0);
    // Our own container pulls from there as well, and pulls once.
    let first =
        there.build(&spec, &["--engine", "namespaces"]).code(0).says("getting docker-daemon:");
    assert_eq!(first.output(), "pulled blue\n");
    let second = there.build(&spec, &["--engine", "namespaces"]).code(0);
    assert!(!second.stderr.contains("getting"), "{}", second.stderr);
    let images = list(&there.home().join("images"));
    assert!(!images.iter().any(|name| name.starts_with(".saved")), "{images:?}");
}

fn docker_pulls_as_the_caller() {
    pulls_as_the_caller(D);
}
fn podman_pulls_as_the_caller() {
    pulls_as_the_caller(P);
}

/// The daemon gets the caller's credentials, and nobody else can pull.
fn pulls_as_the_caller(engine: Engine) {
    let name = format!("daemons/secret-{}-{}:one", engine.name(), is_root());
    let registry = Registry::closed();
    let reference = registry.push(&Layout::of_image("busybox"), &name);
    let bed = engine.bed_with(&reference);
    let spec = build(&["echo pulled"]);
    bed.build(&spec, &engine.options(&[])).code(3).says("cannot pull").says("docker login");
    let login = registry.docker_config();
    fs::create_dir_all(bed.path("home/.docker")).unwrap();
    fs::write(bed.path("home/.docker/config.json"), login).unwrap();
    let outcome = bed.build(&spec, &engine.options(&[])).code(0);
    assert_eq!(outcome.output(), "pulled\n");
    // The daemon now has it: for its user, not for a file that came with a source.
    bed.write("runner.toml", format!("image = '{reference}'\n"));
    let run =
        |option: &[&'static str]| bed.runner([&["run"], &engine.options(option)[..]].concat());
    run(&[]).code(3).says("as you").says("--trust-project");
    assert_eq!(run(&["--trust-project"]).code(0).output(), "pulled\n");
}

fn docker_limits() {
    limits(D);
}
fn podman_limits() {
    limits(P);
}

/// Limits apply and are shown, or a message says that they do not apply.
fn limits(engine: Engine) {
    let bed = engine.bed();
    let options = engine.options(&["--memory", "32M", "--pids-limit", "64", "--cpus", "0.5"]);
    if is_root() {
        // The kernel decides which processes to kill, and how many.
        let spec = build(&["head -c 200m /dev/zero | tail -n 1 >/dev/null"]);
        let outcome = bed.build(&spec, &options).code(1);
        assert!(!outcome.stderr.contains("not enforced"), "{}", outcome.stderr);
        outcome.says("for want of memory, at the limit of --memory 32M");
    } else {
        // Here Podman has no control groups without root.
        let outcome = bed.build(&build(&["true"]), &options).code(0);
        outcome.says("--memory 32M is not enforced by Podman");
    }
}

fn docker_network() {
    network(D);
}
fn podman_network() {
    network(P);
}

fn network(engine: Engine) {
    let bed = engine.bed();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let spec = build(&[&format!(
        "nc -w 2 127.0.0.1 {port} </dev/null 2>/dev/null && echo reached || echo not"
    )]);
    let answer = std::thread::spawn(move || listener.accept().map(drop));
    assert_eq!(bed.build(&spec, &engine.options(&[])).code(0).output(), "reached\n");
    answer.join().unwrap().unwrap();
    let none = engine.options(&["--network", "none"]);
    assert_eq!(bed.build(&spec, &none).code(0).output(), "not\n");
}

fn docker_git_and_sudo() {
    let bed = D.bed_with(&D.image("debian"));
    let git = |arguments: &[&str]| {
        let mut command = bed.other("git");
        outcome(command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments)).code(0)
    };
    bed.write("file", "one\n");
    git(&["init", "--quiet"]);
    git(&["add", "file"]);
    git(&["commit", "--quiet", "-m", "first"]);
    // A work tree's repository lies elsewhere.
    git(&["worktree", "add", "--quiet", bed.path("tree").to_str().unwrap()]);
    let tree = bed.path("tree");
    let spec =
        build(&["git log --format=%s; git status --short; sudo -u nobody git log --format=%s"]);
    fs::write(tree.join("buildspec.yml"), spec).unwrap();
    let mut command = bed.command(["run", "--image", &D.image("debian"), "--project", "demo"]);
    command.args(["--engine", "docker", "--source"]).arg(&tree);
    let seen = outcome(&mut command).code(0);
    assert_eq!(seen.output(), "first\n?? buildspec.yml\nfirst\n");
    assert!(!seen.stderr.contains("unable to resolve host"), "{}", seen.stderr);
}

/// A member of the group docker: files written by the container's root are not theirs.
fn docker_for_a_user_who_is_not_root() {
    let bed = D.bed();
    let program = bed.open_to_others();
    bed.write(
        "buildspec.yml",
        build(&["id -u; echo $PWD > /codebuild/output/x; export A=1", "echo $A"]),
    );
    bed.write("secret", "not theirs\n");
    fs::set_permissions(bed.source().join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    for dir in ["state", "home"] {
        let _ = fs::create_dir(bed.path(dir));
        std::os::unix::fs::chown(bed.path(dir), Some(65534), Some(65534)).unwrap();
    }
    let mut command = bed.other("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(program)
        .args(["run", "--project", "demo", "--engine", "docker", "--image", &D.image("busybox")]);
    let outcome = outcome(&mut command).code(0).says("you may not read it").says("/secret");
    assert_eq!(outcome.output(), "0\n1\n");
    D.has_nothing_left(&bed);
    use std::os::unix::fs::MetadataExt;
    for file in list(&bed.only()) {
        assert_eq!(fs::metadata(bed.only().join(&file)).unwrap().uid(), 65534, "{file}");
    }
}

fn auto_takes_docker_where_namespaces_are_closed() {
    let bed = D.bed();
    bed.write("buildspec.yml", build(&["echo hello"]));
    // A namespace that allows no nested ones.
    let closed = |arguments: &[&str]| {
        let mut command = bed.other("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        command.arg("echo 0 > /proc/sys/user/max_mnt_namespaces; exec \"$@\"").arg("sh");
        command.arg(crate::common::runner()).args(["run", "--project", "demo"]).args(arguments);
        command
    };
    let tree = format!("rootfs:{}", image("busybox").display());
    let there = outcome(&mut closed(&["--image", &tree])).code(0);
    assert_eq!(there.output(), "hello\n");
    assert_eq!(there.stderr.matches("engine docker, because").count(), 1, "{}", there.stderr);
    let made = bed.events("container_started").remove(0);
    assert_eq!(made["engine"], "docker");
    assert!(made["image"].as_str().is_some_and(|id| id.starts_with("sha256:")), "{made}");
    // If no daemon responds either, the first reason is reported.
    let mut command = closed(&["--image", &tree]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("PATH", "/bin");
    outcome(&mut command)
        .code(3)
        .says("neither Docker nor Podman answers")
        .says("--engine process");
    // With an explicit engine, no other is used.
    outcome(&mut closed(&["--image", &tree, "--engine", "namespaces"])).code(3);
}

fn a_daemon_that_is_not_there() {
    let bed = D.bed();
    for (host, says) in [
        ("unix:///nonexistent", "no such socket"),
        ("tcp://127.0.0.1:1", "refused"),
        ("ssh://somewhere", "ssh"),
    ] {
        let mut command = bed.build_command(&build(&["echo never"]), &D.options(&[]));
        command.env("DOCKER_HOST", host);
        let outcome = outcome(&mut command).code(3).says("Docker does not answer").says(says);
        assert!(outcome.stderr.contains("is DOCKER_HOST right?"), "{}", outcome.stderr);
    }
}

/// The caller's own service, wherever it listens.
fn podman_with_a_service_that_runs() {
    let podman = Podman::shared();
    podman.image("busybox");
    let bed = P.bed();
    let address = format!("unix://{}", bed.path("podman.sock").display());
    let service = ["--runtime", "runc", "system", "service", "--time", "0", &address];
    let service = Running::spawn(podman.command(&service));
    // The socket exists before anyone listens on it.
    until("it listens", || UnixStream::connect(bed.path("podman.sock")).is_ok());
    let mut command = bed.build_command(&build(&["echo hello"]), &P.options(&[]));
    command.env("CONTAINER_HOST", &address);
    let seen = outcome(&mut command).code(0);
    assert_eq!(seen.output(), "hello\n");
    assert!(!seen.stderr.contains("runc"), "{}", seen.stderr);
    service.signal(Signal::SIGTERM);
}

/// As on a worker whose daemon listens on a port.
fn a_daemon_on_the_network() {
    let bed = D.bed();
    let mut command = bed.build_command(&build(&["echo hello"]), &D.options(&[]));
    command.env("DOCKER_HOST", Docker::shared().tcp());
    assert_eq!(outcome(&mut command).code(0).output(), "hello\n");
}
