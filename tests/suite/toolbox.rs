//! `--toolbox`: programs for sessions, whatever the image contains; none for the build.

use crate::common::{Bed, Running, build, cases};

cases! {
    [Containers, Image("busybox"), Program("busybox")] => an_image_that_has_lost_its_programs,
        the_build_does_not_see_it, what_it_goes_with;
    [Users, Image("busybox"), Program("busybox")] => other_users_have_it;
}

/// A paused build that has removed everything.
fn bare(bed: &Bed, options: &[&str]) -> Running {
    bed.paused(&build(&["rm -rf /bin/* /usr/bin /usr/local/bin; codebuild-breakpoint"]), options)
}

fn an_image_that_has_lost_its_programs() {
    let bed = Bed::owned();
    let running = bare(&bed, &["--toolbox"]);
    assert_eq!(bed.runner(["exec", "--", "cat", "/etc/hostname"]).code(0).stdout.trim().len(), 12);
    bed.runner(["exec", "--", "sh", "-c", "ls /proc/self/exe | grep -q self && exit 7"]).code(7);
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.send("ls -d /etc && echo done-$((6 * 7))\r");
    terminal.wait_for("done-42");
    terminal.send("codebuild-resume\r");
    terminal.wait_for("the build has ended");
    terminal.ends(0);
    running.ends(0);
    // Without it, a hint says what to do.
    let bed = Bed::owned();
    let running = bare(&bed, &[]);
    bed.runner(["exec", "--", "ls"]).code(127);
    let terminal = bed.terminal(bed.command(["attach"]), 24, 80);
    terminal.wait_for("the image has no shell");
    terminal.wait_for("--toolbox");
    terminal.ends(127);
    bed.resume(running);
}

fn the_build_does_not_see_it() {
    let bed = Bed::new();
    let look = "test ! -e /proc/self/fd/200 && ! grep -q 'busybox\\|toolbox' /proc/self/mountinfo && \
                echo $PATH";
    let running = bed.paused(&build(&[look, "codebuild-breakpoint", look]), &["--toolbox"]);
    // An image with its own programs: these come first.
    let out = bed.runner(["exec", "--", "sh", "-c", "which ls; echo $PATH"]).code(0).stdout;
    assert!(out.starts_with("/bin/ls\n") && out.contains(":/proc/self/fd/200\n"), "{out}");
    // It cannot be changed, by its path or through its descriptor.
    let write = "echo x > /proc/self/fd/200/new || rm /proc/self/fd/200/busybox";
    bed.runner(["exec", "--", "sh", "-c", write]).code(1).says("Read-only file system");
    // Its parent directory cannot be reached through it either.
    let out = bed.runner(["exec", "--", "ls", "/proc/self/fd/200/.."]).code(0).stdout;
    assert!(out.contains("busybox\n"), "{out}");
    running.stdout.wait_for("codebuild-breakpoint");
    bed.runner(["resume"]).code(0);
    let mut running = running;
    assert_eq!(running.wait(), 0);
    assert!(!running.stdout.text().contains("/proc/self/fd/200\n"), "{}", running.stdout.text());
}

fn other_users_have_it() {
    let bed = Bed::new();
    let running = bare(&bed, &["--toolbox"]);
    let out = bed.runner(["exec", "--user", "1000", "--", "id", "-u"]).code(0).stdout;
    assert_eq!(out, "1000\n");
    bed.resume(running);
}

fn what_it_goes_with() {
    let bed = Bed::host();
    bed.write("buildspec.yml", build(&["true"]));
    bed.runner(["run", "--engine", "process", "--toolbox"])
        .code(2)
        .says("--engine namespaces only");
}
