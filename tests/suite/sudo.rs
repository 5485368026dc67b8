//! `sudo runner run`: the build belongs to root, its outputs to the caller.

use crate::common::{Bed, cases, list, outcome};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

cases! {
    [Root, Image("busybox"), Program("setpriv")] => sudo_and_its_caller_meet, state_is_the_callers;
}

/// Any user who is not root and has no name.
const CALLER: &str = "65534";

fn as_sudo(command: &mut Command) -> &mut Command {
    command.env("SUDO_UID", CALLER).env("SUDO_GID", CALLER)
}

/// The program, run by the caller without sudo.
fn as_caller(bed: &Bed, arguments: &[&str]) -> Command {
    let mut command = bed.other("setpriv");
    command
        .args(["--reuid", CALLER, "--regid", CALLER, "--clear-groups", "--"])
        .arg(bed.path("runner"))
        .args(arguments);
    command
}

fn sudo_and_its_caller_meet() {
    let bed = Bed::new();
    bed.open_to_others();
    let spec = "version: 0.2\nphases: {build: {commands: [codebuild-breakpoint]}}\n";
    let mut command = bed.build_command(spec, &["--enable-session"]);
    let mut build = crate::common::Running::spawn_from(as_sudo(&mut command));
    build.stderr.wait_for("stop ");
    let ps = outcome(&mut as_caller(&bed, &["ps"])).code(0);
    assert!(ps.stdout.contains("paused"), "{}", ps.stdout);
    let id = outcome(&mut as_caller(&bed, &["exec", "--", "id", "-u"])).code(0);
    assert_eq!(id.stdout, "0\n");
    let shell = bed.terminal(as_caller(&bed, &["attach"]), 24, 80);
    shell.send("codebuild-resume\r");
    shell.ends(0);
    assert_eq!(build.wait(), 0);
}

fn state_is_the_callers() {
    let bed = Bed::new();
    bed.open_to_others();
    let record = bed.path("state/build.json");
    let mut command = bed.build_command(
        "version: 0.2\nphases: {build: {commands: [touch /x, echo hello]}}\n",
        &["--build-json", record.to_str().unwrap()],
    );
    outcome(as_sudo(&mut command)).code(0);
    let mut pending = vec![bed.home()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.uid().to_string(), CALLER, "{}", path.display());
        pending.extend(list(&path).into_iter().map(|name| path.join(name)));
    }
    let log = outcome(&mut as_caller(&bed, &["logs"])).code(0);
    assert!(log.stdout.contains("\nhello\n"), "{}", log.stdout);
    let all = outcome(&mut as_caller(&bed, &["ps", "--all"])).code(0);
    assert!(all.stdout.contains("SUCCEEDED"), "{}", all.stdout);
}
