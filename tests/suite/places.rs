//! Unusual conditions: unusable state folders, full file systems, hosts without rights.

use crate::common::{Bed, cases, image, runner};
use std::process::Output;

cases! {
    [Root, Image("busybox"), Program("unshare")] => state_on_an_overlay, state_on_an_overlay_and_no_var_tmp,
        a_full_disk, a_state_folder_that_is_read_only;
    [Containers, Image("busybox")] => a_very_long_state_path, state_inside_the_source;
    [Root, Image("busybox"), Program("setpriv")] => root_without_the_right_to_mount;
    [Containers, Image("busybox"), Program("unshare")] => root_of_a_user_namespace, without_namespaces;
}

const BUILD: &str = "version: 0.2\nphases: {build: {commands: [touch /x; echo hello]}}\n";

/// Runs a shell script in its own mount namespace.
fn in_own_mounts(bed: &Bed, script: &str) -> Output {
    let mut command = bed.other("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .env("RUNNER", runner())
        .env("IMAGE", format!("rootfs:{}", image("busybox").display()))
        .env("BED", bed.path(""));
    command.output().unwrap()
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

const OVERLAY: &str = "mkdir -p $BED/o/l $BED/o/u $BED/o/w $BED/state && mount -t overlay overlay -o \
                       lowerdir=$BED/o/l,upperdir=$BED/o/u,workdir=$BED/o/w $BED/state && ";

fn state_on_an_overlay() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    let script = format!("{OVERLAY} $RUNNER run --image $IMAGE");
    let (code, stdout, stderr) = texts(&in_own_mounts(&bed, &script));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\nhello\n"), "{stdout}");
    assert!(
        stderr.contains("stored in /var/tmp/runner-") && stderr.contains("on an overlay"),
        "{stderr}"
    );
    let left = crate::common::list(std::path::Path::new("/var/tmp"));
    let layer = stderr.split("/var/tmp/").nth(1).unwrap().split(',').next().unwrap();
    assert!(!left.contains(&layer.to_owned()), "{layer}");
}

fn state_on_an_overlay_and_no_var_tmp() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    // The state folder, and other files of this test, may be below /var/tmp.
    let script = "mount -t tmpfs none /run && mkdir /run/u /run/w && mount -t overlay overlay -o \
                  lowerdir=/var/tmp,upperdir=/run/u,workdir=/run/w /var/tmp && $RUNNER run --image \
                  $IMAGE --source $BED/source";
    let (code, stdout, stderr) = texts(&in_own_mounts(&bed, script));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("\nhello\n"), "{stdout}");
    assert!(stderr.contains("stored in memory (at most "), "{stderr}");
}

fn a_full_disk() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases:\n  build:\n    commands:\n      - echo before\n      - head -c 100000000 \
         /dev/zero\n",
    );
    // A command that has not yet run when the disk fills up, and one that never runs.
    let script = "mkdir -p $BED/state && mount -t tmpfs -o mode=700,size=8m none $BED/state && $RUNNER run \
                  --image $IMAGE --build-json $BED/record.json > $BED/out; code=$?; tail -c 200 $BED/out; \
                  $RUNNER ps --all; ls -A $BED/state/builds/*; tail -n 1 \
                  $BED/state/builds/*/events.jsonl; exit $code";
    let (code, stdout, stderr) = texts(&in_own_mounts(&bed, script));
    assert_eq!(code, 3, "{stdout}\n{stderr}");
    assert!(stderr.contains("FAULT: the build's log cannot be written: No space left"), "{stderr}");
    assert!(stdout.contains("FAULT") && stdout.contains("record.json"), "{stdout}");
    // There was room for the last events, too.
    assert!(stdout.contains("\"type\":\"build_ended\""), "{stdout}");
    assert!(!stdout.contains("layer"), "{stdout}");
    let record = std::fs::read_to_string(bed.path("record.json")).unwrap();
    assert!(record.contains("\"buildStatus\": \"FAULT\""), "{record}");

    // A layer that fills the disk fills it for the log as well.
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases:\n  build:\n    commands:\n      - head -c 100000000 /dev/zero > /big\n",
    );
    let (code, stdout, stderr) = texts(&in_own_mounts(&bed, script));
    assert_eq!(code, 3, "{stdout}\n{stderr}");
    assert!(stdout.contains("FAULT") && stdout.contains("record.json"), "{stdout}");
}

fn a_state_folder_that_is_read_only() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    let script = "mkdir -p $BED/state && mount --bind $BED/state $BED/state && mount -o remount,bind,ro \
                  $BED/state && $RUNNER run --image $IMAGE";
    let (code, _, stderr) = texts(&in_own_mounts(&bed, script));
    assert_eq!(code, 3, "{stderr}");
    assert!(
        stderr.contains("Read-only file system") && stderr.contains("set RUNNER_HOME"),
        "{stderr}"
    );
}

/// Socket addresses are limited to 107 bytes, mount options to 255; paths are not.
fn a_very_long_state_path() {
    let bed = Bed::new();
    let long = bed.path(&format!("{0}/{0}/it's, a:long\\path", "d".repeat(150)));
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases: {build: {commands: [codebuild-breakpoint]}}\n",
    );
    let image = format!("rootfs:{}", image("busybox").display());
    let mut command = bed.command(["run", "--enable-session", "--image", &image]);
    command.env("RUNNER_HOME", &long);
    let running = crate::common::Running::spawn(command);
    running.stderr.wait_for("stop ");
    let outcome = crate::common::outcome(
        bed.command(["exec", "--", "echo", "through"]).env("RUNNER_HOME", &long),
    );
    assert_eq!(outcome.code(0).stdout, "through\n");
    crate::common::outcome(bed.command(["resume"]).env("RUNNER_HOME", &long)).code(0);
    running.ends(0);
}

fn state_inside_the_source() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases: {build: {commands: [ls -A .state | wc -l]}}\n",
    );
    let image = format!("rootfs:{}", image("busybox").display());
    let mut command = bed.command(["run", "--image", &image]);
    command.env("RUNNER_HOME", bed.source().join(".state"));
    assert_eq!(crate::common::outcome(&mut command).code(0).output(), "0\n");
}

/// Like root in a container around the runner.
fn root_without_the_right_to_mount() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    let mut command = bed.other("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-all"]).arg(runner());
    let outcome = crate::common::outcome(command.args(["run", "--image", &busybox()])).code(0);
    assert_eq!(outcome.output(), "hello\n");
}

fn root_of_a_user_namespace() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    for image in ["host", &busybox()] {
        let mut command = bed.other("unshare");
        command.args(["--user", "--map-root-user"]).arg(runner());
        let outcome = crate::common::outcome(command.args(["run", "--image", image])).code(0);
        assert_eq!(outcome.output(), "hello\n");
    }
}

fn without_namespaces() {
    let bed = Bed::new();
    bed.write("buildspec.yml", BUILD);
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces; exec $RUNNER run --image $IMAGE \
                  --project demo";
    let mut command = bed.other("unshare");
    command
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .env("RUNNER", runner())
        .env("IMAGE", busybox());
    crate::common::outcome(&mut command)
        .code(3)
        .says("cannot make new namespaces")
        .says("user.max_*_namespaces");
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

fn busybox() -> String {
    format!("rootfs:{}", image("busybox").display())
}
