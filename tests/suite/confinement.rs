//! Which system calls a build may use, and which parts of the machine it never sees, however it
//! tries.

use crate::common::{Bed, Running, build, cases, image, list, outcome, runner};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

cases! {
    [Containers, Image("busybox"), Program("gcc")] => calls_that_builds_make;
    [Users, Image("busybox"), Program("gcc")] => old_sockets_of_other_users;
    [Containers, Image("busybox")] => state_below_a_mount;
    [Root, Program("unshare"), Image("busybox")] => file_systems_below_sys, state_mounted_once_more;
    [Root, Program("unshare")] => secrets_that_appear_later;
}

fn busybox() -> String {
    format!("rootfs:{}", image("busybox").display())
}

/// A program of `tests/guards`, in the source.
pub(super) fn compile(bed: &Bed, name: &str) {
    let source = crate::common::project().join("tests/guards").join(name).with_extension("c");
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-pthread", "-O1", "-w", "-o"]).args([&bed.source().join(name), &source]);
    outcome(&mut gcc).code(0);
}

/// Sockets that reach past every namespace, by each way to create one; calls newer than this
/// program; and calls that builds need.
fn calls_that_builds_make() {
    let bed = Bed::new();
    compile(&bed, "calls");
    for network in ["host", "none"] {
        let output = bed.build(&build(&["./calls"]), &["--network", network]).code(0).output();
        assert_eq!(
            output,
            "unix: allowed\nroutes: allowed\nvsock: EPERM\nalg: EPERM\ntipc: EPERM\nqipcrtr: EPERM\n\
             audit: EPROTONOSUPPORT\nold vsock: EPERM\nold audit: EPROTONOSUPPORT\n\
             call of vsock: EPERM\ncall of audit: EPROTONOSUPPORT\ncall of nothing: EFAULT\n\
             call of unix: allowed\nbits: 1 1\nnothing to read: EAGAIN\ncall of inet: allowed\n\
             race: none but what was judged\nquotactl_fd: EPERM\nmbind: EPERM\nset_mempolicy: EPERM\n\
             lsm_list_modules: EPERM\nstatmount: ENOSYS\nlistmount: ENOSYS\nkcmp: EPERM\n\
             process_madvise: EPERM\npidfd_getfd: EPERM\nfanotify_init: EPERM\nsyslog: EPERM\nswapon: EPERM\n\
             file_getattr: ENOSYS\na call to come: ENOSYS\nanother: ENOSYS\nold call to come: ENOSYS\n\
             old nice: allowed\nno random addresses: EPERM\nas 32-bit: allowed\nunshared files: allowed\n\
             traced: allowed\n",
            "{network}"
        );
        let _ = fs::remove_dir_all(bed.home().join("builds"));
    }
}

/// PID 1 creates them, with no more rights than the requester has.
fn old_sockets_of_other_users() {
    let bed = Bed::new();
    compile(&bed, "calls");
    let spec = "version: 0.2\nphases:\n  build:\n    run-as: builder\n    commands:\n      - ./calls user\n  \
                post_build:\n    commands:\n      - ./calls user | grep raw\n";
    let output = bed.build(spec, &["--network", "none"]).code(0).output();
    assert_eq!(
        output,
        "call of unix: allowed\nbits: 1 1\nnothing to read: EAGAIN\ncall of inet: allowed\n\
         hidden: call of inet: allowed\ncall of raw: EPERM\ncall of vsock: EPERM\ncall of raw: allowed\n"
    );
}

/// Files added to /etc while a build runs are visible to the next one, and secrets to none.
fn secrets_that_appear_later() {
    let bed = Bed::host();
    let etc = bed.path("etc");
    outcome(Command::new("cp").args(["-a", "/etc"]).arg(&etc)).code(0);
    let seen = "cat /etc/runner-late /etc/runner-d/k /etc/runner-public; stat -c %a /etc/runner-d";
    let spec = bed.write("b.yml", build(&["codebuild-breakpoint", seen]));
    let run = |spec: &Path| {
        let script = format!(
            "mount --bind {} /etc; exec {} run --enable-session {}",
            etc.display(),
            runner().display(),
            spec.display()
        );
        let mut command = bed.other("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
        Running::spawn_from(&mut command)
    };
    let running = run(&spec);
    running.stderr.wait_for("stop ");
    fs::create_dir(etc.join("runner-d")).unwrap();
    for (name, mode) in [("runner-late", 0o600), ("runner-d/k", 0o644), ("runner-public", 0o644)] {
        fs::write(etc.join(name), format!("secret of {name}\n")).unwrap();
        fs::set_permissions(etc.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(etc.join("runner-d"), fs::Permissions::from_mode(0o700)).unwrap();
    let found = bed.runner(["exec", "--", "sh", "-c", "ls -d /etc/runner-*"]);
    assert_eq!(found.stdout, "", "{found:?}");
    let copies =
        |bed: &Bed| list(&bed.home().join("etc")).into_iter().filter(|name| name != "lock").count();
    assert_eq!(copies(&bed), 1);
    // The next build, while the first still runs.
    bed.write("c.yml", build(&[seen]));
    let next = run(Path::new("c.yml"));
    let text = next.stdout.clone();
    next.ends(0);
    let text = text.text();
    assert!(text.contains("secret of runner-public\n"), "{text}");
    assert!(
        !text.contains("secret of runner-late") && !text.contains("secret of runner-d"),
        "{text}"
    );
    assert_eq!(copies(&bed), 2, "the first one's is in use");
    running.signal(Signal::SIGINT);
    running.ends(5);
}

/// File systems mounted below /sys on this machine, often debugfs and tracefs, are hidden from the
/// build.
fn file_systems_below_sys() {
    let bed = Bed::new();
    let spec = bed.write(
        "b.yml",
        build(&["ls -A /sys/kernel/debug /sys/kernel/tracing | grep secret; ls /sys/kernel | grep -c -e debug -e tracing"]),
    );
    let script = |run: &str| {
        format!(
            "for d in debug tracing; do mount -t tmpfs x /sys/kernel/$d; echo y > /sys/kernel/$d/secret; done; \
             {run} {} run {} --image {}",
            runner().display(),
            spec.display(),
            busybox()
        )
    };
    for run in ["", "unshare --user --map-root-user"] {
        for network in ["host", "none"] {
            let script = format!("{} --network {network}", script(run));
            let output = bed.in_own_mounts(&script).code(0).output();
            assert_eq!(output, "2\n", "{run} {network}");
        }
    }
}

/// No path leads to the state folder.
fn state_below_a_mount() {
    let bed = Bed::new();
    bed.write("inner/file", "shown");
    symlink(bed.path(""), bed.path("home/link")).unwrap();
    let commands = [
        "ls -A /x/state /y/state; cat /x/source/inner/file; echo",
        "(echo x > /x/state/f) 2>/dev/null || echo closed; mv /x/state /x/moved 2>/dev/null || echo fixed; ls -A /x/state",
    ];
    let mounts = [
        format!("{}:/x:rw", bed.path("").display()),
        format!("{}:/y", bed.path("home/link").display()),
    ];
    let options: Vec<&str> = mounts.iter().flat_map(|mount| ["--mount", mount]).collect();
    let output = bed.build(&build(&commands), &options).code(0).output();
    assert_eq!(output, "/x/state:\n\n/y/state:\nshown\nclosed\nfixed\n");
    let itself = format!("{}:/x", bed.home().display());
    bed.build(&build(&["true"]), &["--mount", &itself])
        .code(2)
        .says("is the runner's state folder");
    let state = bed.home().display().to_string();
    bed.build(&build(&["true"]), &["--source", &state])
        .code(2)
        .says("is the runner's state folder");
}

/// Its file system is mounted at another place as well.
fn state_mounted_once_more() {
    let bed = Bed::new();
    for dir in ["again", "around/inner"] {
        fs::create_dir_all(bed.path(dir)).unwrap();
    }
    let spec =
        bed.write("b.yml", build(&["ls -A /x/inner/state; ls -A state; ls /x/inner/source"]));
    let script = format!(
        "mount --bind {bed} {bed}/around/inner; mount --bind {bed} {bed}/again; cd {bed}/again; mkdir -p state; \
         {} run {} --source . --image {} --mount {bed}/around:/x",
        runner().display(),
        spec.display(),
        busybox(),
        bed = bed.path("").display().to_string().trim_end_matches('/'),
    );
    let output = bed.in_own_mounts(&script).code(0).output();
    assert_eq!(output, "b.yml\n");
}
