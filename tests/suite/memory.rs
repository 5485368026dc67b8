//! Secrets stay in the runner's memory: no other program of its user can read it, and it is never
//! written to a file.

use crate::common::{Bed, Running, build, cases, outcome};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use std::fs;
use std::process::Command;

cases! {
    [Containers, Image("busybox"), Program("setpriv")] => nobody_looks_into_a_runner;
    [Containers, Image("busybox"), Program("setpriv"), Program("gcore")] => a_debugger_gets_nothing;
    [Containers, Image("busybox")] => a_runner_that_dies_leaves_nothing, builds_look_into_their_own;
    [Program("setpriv")] => without_a_container;
}

const CANARY: &str = "c4nary-of-the-runner";

/// A paused build whose runner knows a secret.
fn paused(bed: &Bed, options: &[&str]) -> Running {
    let token = format!("TOKEN={CANARY}");
    let secret = ["--enable-session", "-e", &token, "--mask", "TOKEN"];
    let spec = build(&["codebuild-breakpoint; echo $TOKEN"]);
    let running =
        Running::spawn(plain(bed, bed.build_command(&spec, &[&secret, options].concat())));
    running.stderr.wait_for("is paused at a breakpoint");
    running
}

/// The same command with the rights of an ordinary user: root without the right to trace every
/// process.
fn plain(bed: &Bed, command: Command) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return command;
    }
    let mut plain = bed.other("setpriv");
    plain.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]);
    plain.arg(command.get_program()).args(command.get_args()).current_dir(bed.source());
    plain
}

/// Opens a process's files in /proc, and prints which could be opened. A process that may observe
/// the whole machine (CAP_PERFMON, CAP_SYS_ADMIN) may read the first two of every process, and root
/// needs that to create containers.
const LOOK: &str = "for file in environ maps mem; do (exec 3< /proc/$1/$file) 2> /dev/null && echo $file; done; true";

/// Whether a runner is hidden from everyone else.
fn hidden(seen: &str) -> bool {
    seen.is_empty() || nix::unistd::geteuid().is_root() && !seen.contains("mem\n")
}

fn seen_of(bed: &Bed, pid: u32) -> String {
    let mut look = bed.other("sh");
    look.args(["-c", LOOK, "sh", &pid.to_string()]);
    outcome(&mut plain(bed, look)).code(0).stdout
}

fn nobody_looks_into_a_runner() {
    let bed = Bed::new();
    let running = paused(&bed, &[]);
    let seen = seen_of(&bed, running.pid());
    assert!(hidden(&seen), "{seen}");
    // Other processes can be read this way.
    let mut sleep = bed.other("sleep");
    sleep.arg("600");
    let mut other = plain(&bed, sleep).spawn().unwrap();
    let seen = seen_of(&bed, other.id());
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(seen, "environ\nmaps\nmem\n");
    bed.resume(running);
}

fn a_debugger_gets_nothing() {
    let bed = Bed::new();
    let running = paused(&bed, &[]);
    let file = bed.path("core");
    let mut gcore = bed.other("gcore");
    gcore.arg("-o").arg(&file).arg(running.pid().to_string());
    let refused = outcome(&mut plain(&bed, gcore));
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(!file.with_extension(running.pid().to_string()).exists(), "{}", refused.stdout);
    bed.resume(running);
}

fn a_runner_that_dies_leaves_nothing() {
    let bed = Bed::new();
    let spec = build(&["codebuild-breakpoint"]);
    let runner = bed.build_command(&spec, &["--enable-session"]);
    // With an unlimited core size.
    let mut command = bed.other("sh");
    command.args(["-c", "ulimit -S -c $(ulimit -H -c); exec \"$@\"", "sh"]);
    command.arg(runner.get_program()).args(runner.get_args()).current_dir(bed.source());
    let mut running = Running::spawn(command);
    running.stderr.wait_for("is paused at a breakpoint");
    running.signal(Signal::SIGABRT);
    assert!(!running.dumps_core());
    let left = fs::read_dir(bed.source()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["buildspec.yml"]);
    // Ends what the runner has left.
    bed.runner(["ps"]).code(0);
}

/// A build's processes behave like the caller's: with the same limit, and open to each other.
fn builds_look_into_their_own() {
    let (core, _) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    let core = if core == u64::MAX { "unlimited".to_owned() } else { (core / 512).to_string() };
    let look = format!("sleep 600 & set -- $!; {LOOK}; kill $1; ulimit -c");
    for options in [&[][..], &["--engine", "process"]] {
        let bed = Bed::new();
        let spec = build(&[&look]);
        let output = match options {
            [] => bed.build(&spec, &[]),
            _ => {
                bed.write("buildspec.yml", &spec);
                bed.runner([&["run", "--project", "demo"], options].concat())
            }
        };
        assert_eq!(output.code(0).output(), format!("environ\nmaps\nmem\n{core}\n"), "{options:?}");
    }
}

fn without_a_container() {
    let bed = Bed::new();
    let running = paused(&bed, &["--engine", "process", "--image", "host"]);
    let seen = seen_of(&bed, running.pid());
    assert!(hidden(&seen), "{seen}");
    bed.resume(running);
}
