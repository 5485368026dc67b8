//! Typical projects of other people (`tests/strangers`): run unchanged, and with what the messages
//! suggest.

use crate::common::{Bed, Outcome, cases, list, outcome, project};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => an_image_is_built_and_pushed, secrets_come_from_aws, a_project_of_the_console,
        an_image_of_the_console, a_batch_of_builds;
    [Containers, Program("make"), Program("gcc")] => a_library_in_c;
    [Containers] => a_directory_of_a_monorepo, commands_for_bash, a_test_in_python, variables_of_every_kind;
}

/// The bed with a copy of the project.
fn with(bed: Bed, name: &str) -> Bed {
    let from = project().join("tests/strangers").join(name);
    let mut copy = Command::new("cp");
    outcome(copy.args(["-R", "--"]).arg(from.join(".")).arg(bed.source())).code(0);
    // No AWS, even if this user has credentials.
    bed.with_variables(vec![("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned())])
}

fn run(bed: &Bed, options: &[&str]) -> Outcome {
    outcome(&mut bed.command([&["run"], options].concat()))
}

/// An option that names a root file system of the tests.
fn busybox() -> String {
    format!("rootfs:{}", project().join("target/images/busybox").display())
}

fn an_image_is_built_and_pushed() {
    let bed = with(Bed::new(), "image-push");
    let image = busybox();
    run(&bed, &["--image", &image])
        .code(1)
        .says("nothing sets AWS_ACCOUNT_ID (lines 7, 8), IMAGE_REPO_NAME (line 8)")
        .says("--env-file FILE")
        .says("failed: pre_build:2 (buildspec.yml:7)");
    let out = bed.path("out");
    let options = [
        &["--image", &image, "--skip", "docker *", "--skip", "* docker login *", "--artifacts"],
        &[out.to_str().unwrap(), "-e", "AWS_ACCOUNT_ID=1", "-e", "IMAGE_REPO_NAME=shop"][..],
        &["-e", "AWS_DEFAULT_REGION=eu-west-1"],
    ]
    .concat();
    run(&bed, &options).code(0).says("SUCCEEDED (4 skipped)");
    let images = fs::read_to_string(out.join("imagedefinitions.json")).unwrap();
    assert!(images.contains("1.dkr.ecr.eu-west-1.amazonaws.com/shop:latest"), "{images}");
}

fn a_library_in_c() {
    let bed = with(Bed::host(), "c-library");
    let (out, cache) = (bed.path("out"), bed.path("cache"));
    let told = run(&bed, &[]).code(0);
    told.says("artifacts (name a place: --artifacts DIR), cache (name a place: --cache DIR)");
    let places = ["--artifacts", out.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    for _ in 0..2 {
        run(&bed, &places).code(0);
        assert_eq!(list(&out), ["add.tar.gz"]);
    }
}

fn a_directory_of_a_monorepo() {
    let bed = with(Bed::host(), "monorepo");
    run(&bed, &[]).code(2).says("runner run services/api/buildspec.yaml");
    assert_eq!(run(&bed, &["services/api/buildspec.yaml"]).code(0).output(), "the api is fine\n");
}

fn secrets_come_from_aws() {
    let bed = with(Bed::new(), "secrets");
    let image = busybox();
    run(&bed, &["--image", &image]).code(1).says("--secrets FILE");
    let options = ["--image", &image, "--secrets", "local.yml"];
    run(&bed, &options).code(2).says("chmod 600 local.yml");
    let file = bed.source().join("local.yml");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    let told = run(&bed, &options).code(0);
    assert_eq!(told.output(), "connecting as *** with ***\n");
}

fn a_project_of_the_console() {
    let bed = with(Bed::new(), "project");
    let map = format!("aws/codebuild/standard:7.0={}", busybox());
    let out = bed.path("out");
    let options = ["--project-json", "project.json", "--image-map", &map, "--artifacts"];
    let told = run(&bed, &[&options[..], &[out.to_str().unwrap()]].concat()).code(0);
    told.says("--upload does");
    assert_eq!(list(&out), ["site.zip"]);
    let record = bed.record();
    assert_eq!(record["projectName"], "website", "{record}");
}

fn an_image_of_the_console() {
    let bed = with(Bed::new(), "console-image");
    let mut alone = bed.command(["run"]);
    // A port where nobody listens, whatever this machine can reach.
    alone.env("HTTPS_PROXY", "http://127.0.0.1:9");
    outcome(&mut alone).code(3).says("--image-map FROM=TO");
    let map = format!("aws/codebuild/amazonlinux2-x86_64-standard:5.0={}", busybox());
    assert_eq!(run(&bed, &["--image-map", &map]).code(0).output(), "built in somewhere\n");
}

fn commands_for_bash() {
    let bed = with(Bed::host(), "bashisms");
    let told = run(&bed, &["-e", "CODEBUILD_INITIATOR=a-webhook"]);
    // If sh is bash it runs.
    if told.code != 0 {
        told.says("set `shell: bash` under `env:` in the buildspec");
        let text = fs::read_to_string(bed.source().join("buildspec.yml")).unwrap();
        bed.write("buildspec.yml", text.replace("phases:", "env:\n  shell: bash\nphases:"));
        run(&bed, &["-e", "CODEBUILD_INITIATOR=a-webhook"]).code(0);
    }
}

fn variables_of_every_kind() {
    let bed = with(Bed::host(), "shell");
    let told = run(&bed, &[]).code(0);
    assert!(!told.stderr.contains("nothing in the buildspec sets"), "{}", told.stderr);
}

fn a_test_in_python() {
    let bed = with(Bed::host(), "python");
    let told = run(&bed, &[]);
    if told.code != 0 {
        told.says("python");
    }
}

fn a_batch_of_builds() {
    let bed = with(Bed::new(), "batch");
    let image = busybox();
    run(&bed, &["--image", &image])
        .code(0)
        .says("not run: batch (all of its builds: runner batch)");
    let told = outcome(&mut bed.command(["batch", "--image", &image, "--log-format", "codebuild"]));
    let told = told.code(0);
    for step in ["doing compile", "doing test"] {
        assert!(told.stdout.contains(step) || told.stderr.contains(step), "{step}");
    }
}
