//! Inside Docker containers, as on CI workers: it works, or exit 3 says why and what would mend it.

use crate::common::docker::Docker;
use crate::common::{Outcome, Running, cases, outcome, project, runner};
use std::process::Command;

cases! {
    [Root, Image("debian"), Program("dockerd"), Program("docker")] => in_docker_containers;
}

/// A shell script in a container of Docker's that has the runner and the examples.
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
        // Namespaces, and no /proc of their own.
        let options = [&user[..], &OPEN[..2]].concat();
        run(&options, HELLO).code(3).says("--security-opt systempaths=unconfined");
        // What the hint says.
        let options = [&user[..], &OPEN[..]].concat();
        let works = run(&options, HELLO).code(0).says("kept in memory");
        assert!(works.output().contains("Hello World\n"), "{}", works.stdout);
    }
    // Job containers as GitHub Actions and GitLab's runner make them: their own work folders and
    // homes, not always there, and nothing opened up.
    for (folder, home) in [("/__w/repo/repo", "/github/home"), ("/builds/group/project", "/root")] {
        let home = format!("HOME={home}");
        let options = ["-w", folder, "-e", &home, "-e", "CI=true", "-e", "RUNNER_HOME="];
        let script = format!("cp /src/hello-world.yml buildspec.yml; {HELLO_THERE}");
        run(&options, &script).code(3).says("--engine process");
        let plain = run(&options, &format!("{script} --engine process")).code(0);
        assert!(plain.output().contains("Hello World\n"), "{}", plain.stdout);
    }
    // As much as a privileged container has, and its state on an overlay.
    let options = [&OPEN[..2], &["--cap-add", "SYS_ADMIN"]].concat();
    run(&options, HELLO).code(0).says("kept in memory");

    // The walk, as a CI job has it: no terminal, a second process in the same container.
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

    // The same without a container of its own.
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

/// Lets the build in a container go on. How this command ends is not looked at: Docker kills it when the
/// container is over, which may be before it has told that it was heard.
fn resume(docker: &Docker, container: &str) {
    outcome(&mut docker.command(&["exec", container, "runner", "resume"]));
}
