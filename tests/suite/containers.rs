//! Inside Docker containers, as on CI workers: it works, or exit code 3 comes with the reason and a
//! fix.

use crate::common::docker::Docker;
use crate::common::{Outcome, Running, cases, outcome, project, runner};
use std::process::Command;

cases! {
    [Root, Image("debian"), Program("dockerd"), Program("docker")] => in_docker_containers;
}

/// Runs a shell script in a Docker container with the runner and the examples.
fn run(options: &[&str], script: &str) -> Outcome {
    outcome(&mut run_command(options, script))
}

fn run_command(options: &[&str], script: &str) -> Command {
    let docker = Docker::shared();
    let program = format!("{}:/usr/local/bin/runner:ro", runner().display());
    let source = format!("{}:/src:ro", project().join("buildspecs").display());
    let mut command = docker.command(&["run", "--rm", "--network", "none"]);
    command
        .args(["-v", &program, "-v", &source, "-w", "/src", "-e", "RUNNER_HOME=/tmp/state"])
        .args(options)
        .args([&docker.image("debian"), "sh", "-c", script]);
    command
}

const HELLO: &str = "runner run hello-world.yml";
const HELLO_THERE: &str = "runner run";
const OPEN: [&str; 4] =
    ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"];

fn in_docker_containers() {
    let docker = Docker::shared();
    for user in [["--user", "0"], ["--user", "1000"]] {
        // As containers are by default.
        let refused = run(&user, HELLO).code(3);
        assert!(refused.stderr.contains("--security-opt seccomp=unconfined"), "{}", refused.stderr);
        assert!(refused.stderr.contains("--engine process"), "{}", refused.stderr);
        let plain = run(&user, &format!("{HELLO} --engine process")).code(0);
        assert!(plain.output().contains("Hello World\n"), "{}", plain.stdout);
        plain.says("nothing is isolated");
        // Namespaces are allowed, but not a new /proc.
        let options = [&user[..], &OPEN[..2]].concat();
        run(&options, HELLO).code(3).says("--security-opt systempaths=unconfined");
        // With the options from the hint.
        let options = [&user[..], &OPEN[..]].concat();
        let works = run(&options, HELLO).code(0).says("stored in memory");
        assert!(works.output().contains("Hello World\n"), "{}", works.stdout);
    }
    // Job containers of GitHub Actions and GitLab: with their own work folders and homes, which may
    // not exist, and no additional rights.
    for (folder, home) in [("/__w/repo/repo", "/github/home"), ("/builds/group/project", "/root")] {
        let home = format!("HOME={home}");
        let options = ["-w", folder, "-e", &home, "-e", "CI=true", "-e", "RUNNER_HOME="];
        let script = format!("cp /src/hello-world.yml buildspec.yml; {HELLO_THERE}");
        run(&options, &script).code(3).says("--engine process");
        let plain = run(&options, &format!("{script} --engine process")).code(0);
        assert!(plain.output().contains("Hello World\n"), "{}", plain.stdout);
    }
    // With the rights of a privileged container, and its state on an overlay.
    let options = [&OPEN[..2], &["--cap-add", "SYS_ADMIN"]].concat();
    run(&options, HELLO).code(0).says("stored in memory");

    // The walk as in a CI job: no terminal, a second process in the same container.
    let name = ["--name", "walk"];
    let options = [&OPEN[..], &name[..]].concat();
    let mut command = run_command(&options, "runner run hello-world.yml --enable-session");
    let mut build = Running::spawn_from(&mut command);
    build.stderr.wait_for("stop ");
    let exec = ["exec", "walk", "runner", "exec", "--", "cat", "/tmp/hello-world"];
    let seen = outcome(&mut docker.command(&exec)).code(0);
    assert_eq!(seen.stdout, "Hello World\n");
    resume(docker, "walk");
    assert_eq!(build.wait(), 0);

    // The same without our own container.
    let mut command = run_command(
        &["--name", "plain"],
        "runner run hello-world.yml --enable-session --engine process",
    );
    let mut build = Running::spawn_from(&mut command);
    build.stderr.wait_for("stop ");
    let exec = ["exec", "plain", "runner", "exec", "--", "sh", "-c", "pwd; cat /tmp/hello-world"];
    let seen = outcome(&mut docker.command(&exec)).code(0);
    assert!(seen.stdout.starts_with("/codebuild/output/src"), "{}", seen.stdout);
    assert!(seen.stdout.ends_with("/src\nHello World\n"), "{}", seen.stdout);
    resume(docker, "plain");
    assert_eq!(build.wait(), 0);
}

/// Resumes the build in a container. The command's result is ignored: Docker kills it when the
/// container ends, perhaps before it has reported success.
fn resume(docker: &Docker, container: &str) {
    outcome(&mut docker.command(&["exec", container, "runner", "resume"]));
}
