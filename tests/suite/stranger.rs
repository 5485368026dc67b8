//! Other people's pipelines: obstacles are reported with the option that removes them.

use crate::common::{
    Bed, build, cases, corpus, image, is_root, list, outcome, project, write_program,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

cases! {
    [] => check_names_variables_that_nothing_sets, a_buildspec_elsewhere_is_named,
        own_buildspecs_raise_no_false_alarm;
    [] => an_image_at_hand_is_named;
    [Containers, Image("busybox"), Program("openssl")] => certificates_of_the_caller_are_trusted_in_a_build;
    [Containers] => runtimes_are_held_against_what_is_asked_for, tools_of_the_home_are_shown_without_secrets,
        a_tool_of_the_home_is_named_once_it_is_missed, a_mount_is_changed_in_the_build_only;
    [Corpus] => real_buildspecs_raise_no_false_alarm;
    [Containers, Image("busybox")] => a_build_names_what_nothing_sets, commands_are_skipped, phases_are_skipped,
        another_image_takes_its_place, one_command_needs_no_buildspec,
        a_project_of_aws_writes_nothing_there, programs_are_stubbed, parts_are_left_out_with_trust_only, a_known_failure_gets_its_hint_once,
        what_a_build_lacks_is_named;
}

const PUSH: &str =
    "docker push $AWS_ACCOUNT_ID.dkr.ecr.$AWS_REGION.amazonaws.com/$IMAGE_REPO_NAME:${TAG:-x}";

fn check_names_variables_that_nothing_sets() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&[PUSH, "echo $IMAGE_REPO_NAME; A=1", "echo $A $1 '$B'"]));
    let report = bed.runner(["check"]).code(0).stdout;
    let told: Vec<&str> = report.lines().filter(|line| line.starts_with("warning[")).collect();
    assert_eq!(
        told,
        [
            "warning[unset-variable]: nothing in the buildspec sets AWS_ACCOUNT_ID",
            "warning[unset-variable]: nothing in the buildspec sets IMAGE_REPO_NAME; used also on line 6",
        ],
        "{report}"
    );
    assert!(report.contains("--env-file") && report.contains("--project-json"), "{report}");
    let sarif = bed.runner(["check", "--format", "sarif"]).code(0).stdout;
    assert!(!sarif.contains("\"level\": \"error\""), "{sarif}");
    bed.runner(["check", "--allow", "unset-variable"]).code(0);
}

/// Each of these was checked by hand: its buildspec does not set it.
fn real_buildspecs_raise_no_false_alarm() {
    let bed = Bed::new();
    let mut told: Vec<String> = Vec::new();
    for name in list(&corpus()).into_iter().filter(|name| name.contains(".y")) {
        let path = corpus().join(name);
        let report = bed.runner(["check", path.to_str().unwrap(), "--format", "json"]).stdout;
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let problems = report["problems"].as_array().unwrap().iter();
        let unset = problems.filter(|problem| problem["code"] == "unset-variable");
        told.extend(unset.map(|problem| {
            let message = problem["message"].as_str().unwrap();
            let name = message.strip_prefix("nothing in the buildspec sets ").unwrap();
            name.split(';').next().unwrap().to_owned()
        }));
    }
    let known: Vec<&str> = UNSET.split_whitespace().collect();
    let unknown: Vec<&String> =
        told.iter().filter(|told| !known.contains(&told.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(told.len() >= 20, "{told:?}");
}

/// The same for this project's buildspecs, which are always available.
fn own_buildspecs_raise_no_false_alarm() {
    let bed = Bed::new();
    let mut ahead = vec![project().join("buildspecs"), project().join("tests/strangers")];
    let (mut told, mut looked_at) = (BTreeSet::new(), 0);
    while let Some(dir) = ahead.pop() {
        for name in list(&dir) {
            let path = dir.join(&name);
            if path.is_dir() && name != "invalid" {
                ahead.push(path);
            } else if name.contains(".y") && name != "local.yml" {
                looked_at += 1;
                let report = bed.runner(["check", path.to_str().unwrap()]).code(0).stdout;
                let names = report.split("nothing in the buildspec sets ").skip(1);
                told.extend(names.map(|rest| rest.split([';', '\n']).next().unwrap().to_owned()));
            }
        }
    }
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    assert_eq!(told, ["AWS_ACCOUNT_ID", "IMAGE_REPO_NAME", "STAGE"], "of {looked_at}");
    assert!(looked_at >= 30, "{looked_at}");
}

const UNSET: &str = "WAIT_FOR_IDS_FILE_PATH PROJECT_NAME REGION AWS_ACCOUNT_ID IMAGE_REPO_NAME IMAGE_TAG REPOSITORY_URI \
                     TASK_ROLE_ARN EXECUTION_ROLE_ARN TASK_DEFINITION_ARN tag ecr RESULTS_BUCKET_URI GIT_COMMIT_SHA \
                     GITHUB_SOURCE_BRANCH_NAME AGENT_VERSION GIT_COMMIT_SHORT_SHA GITHUB_EVENT_NAME \
                     JAVA_NUMERIC_VERSION AWS_ACCOUNT REGION_TO_PUSH VERIFY_ROLE_ARN COMPILER S2N_LIBCRYPTO \
                     LIBCRYPTO_ROOT";

fn a_build_names_what_nothing_sets() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["echo $NAME $GIVEN $TAG"]), &["-e", "GIVEN=x"]).code(0);
    let outcome = outcome.says("warning: nothing sets NAME (line 5), TAG (line 5)");
    outcome.says("--env-file");
    let notices = bed.record()["notices"].clone();
    assert_eq!(notices[0]["text"], "nothing sets NAME (line 5), TAG (line 5)", "{notices}");
}

fn commands_are_skipped() {
    let bed = Bed::new();
    let commands = ["echo one", "docker push x", "echo two"];
    let outcome = bed.build(&build(&commands), &["--skip", "docker *", "--skip", "nosuch"]).code(0);
    let outcome = outcome.says("skipped: docker push x\n").says("SUCCEEDED (1 skipped)\n");
    let outcome = outcome.says("--skip: no command is like nosuch");
    assert_eq!(outcome.output(), "one\ntwo\n");
    let skipped = bed.events("command_skipped");
    assert_eq!((skipped.len(), &skipped[0]["index"]), (1, &1.into()));
    assert_eq!(bed.record()["skipped"], 1);
}

const TWO: &str = "version: 0.2\nphases:\n  pre_build:\n    commands: [echo pre]\n    finally: [echo \
                   finally]\n  build:\n    commands: [echo build]\n";

fn phases_are_skipped() {
    for (options, output, verdict) in [
        (["--skip-phase", "pre_build"], "build\n", "SUCCEEDED (2 skipped)\n"),
        (["--only-phase", "pre_build"], "pre\nfinally\n", "SUCCEEDED (1 skipped)\n"),
    ] {
        let bed = Bed::new();
        let outcome = bed.build(TWO, &options).code(0).says(verdict);
        assert_eq!(outcome.output(), output, "{options:?}");
    }
    Bed::new().build(TWO, &["--skip-phase", "nosuch"]).code(2).says("post_build");
}

fn programs_are_stubbed() {
    let bed = Bed::new();
    write_program(&bed.path("mine"), "#!/bin/sh\necho mine \"$@\"\n");
    let mine = format!("mine={}", bed.path("mine").display());
    let commands = [
        "export PATH=$PATH:/x",
        "echo secret | docker login --password-stdin",
        "mine a 'b c' > out; cat out",
        "test -z \"$(docker ps)\"",
    ];
    let options = ["--stub", "docker", "--stub", &mine, "-e", "PATH=/bin"];
    let outcome = bed.build(&build(&commands), &options).code(0);
    let outcome = outcome.says("replaced by stubs: docker, mine\n");
    let outcome = outcome.says("SUCCEEDED (2 stubbed)\n");
    assert_eq!(
        outcome.output(),
        "stub: docker login --password-stdin\nmine a b c\nstub: docker ps\n"
    );
    assert_eq!(bed.record()["stubs"], serde_json::json!(["docker", "mine"]));
    bed.build(&build(&commands), &["--stub", "a/b"]).code(2).says("is not the name of a program");
    bed.build(&build(&commands), &["--stub", "a=/nosuch"]).code(2).says("/nosuch");
}

fn parts_are_left_out_with_trust_only() {
    for (text, code) in [
        ("skip = [\"echo *\"]\n", 2),
        ("skip-phase = [\"build\"]\n", 2),
        ("only-phase = [\"install\"]\n", 2),
        ("stub = [\"docker=mine\"]\n", 2),
        ("stub = [\"docker\"]\n", 0),
    ] {
        let bed = Bed::new();
        bed.write("mine", "#!/bin/sh\n");
        bed.write("runner.toml", text);
        let outcome = bed.build(&build(&["echo x"]), &[]).code(code);
        if code == 2 {
            outcome.says("--trust-project");
            bed.build(&build(&["echo x"]), &["--trust-project"]).code(0);
        }
    }
}

fn a_known_failure_gets_its_hint_once() {
    let text = "echo 'Unable to locate credentials. You can configure credentials.' >&2; false";
    let spec = format!("{}    finally:\n      - {text:?}\n", build(&[text]));
    let bed = Bed::new();
    let outcome = bed.build(&spec, &[]).code(1).says("hint: --aws-profile NAME");
    assert_eq!(outcome.stderr.matches("hint: ").count(), 1, "{}", outcome.stderr);
    let notices = bed.record()["notices"].clone();
    assert!(
        notices[0]["hint"].as_str().is_some_and(|hint| hint.contains("--stub aws")),
        "{notices}"
    );
    let quiet = Bed::new();
    let outcome = quiet.build(&spec, &["--no-hints"]).code(1);
    assert!(!outcome.stderr.contains("hint:"), "{}", outcome.stderr);
}

fn what_a_build_lacks_is_named() {
    let bed = Bed::new();
    let run_as =
        "version: 0.2\nphases:\n  build:\n    run-as: codebuild-user\n    commands: [id]\n";
    bed.build(run_as, &[])
        .code(1)
        .says("hint: images from CodeBuild have that user: --image public.ecr.aws/codebuild/");
    bed.build(&build(&["frobnicate now"]), &[]).code(1).says("--stub frobnicate");
    let lost = bed.build(&build(&["go_on() { echo on; }", "go_on"]), &[]).code(1);
    let lost = lost.says(
        "hint: line 5 of the buildspec defines `go_on`, and each command runs in a separate shell",
    );
    assert!(!lost.stderr.contains("--stub"), "{}", lost.stderr);
    bed.build(&build(&["frobnicate now"]), &["--stub", "frobnicate"]).code(0).says("(1 stubbed)");
    let unreached = build(&["echo \"wget: bad address 'x.example'\"; exit 1"]);
    let unreached = |options: &[&str]| {
        let mut command = bed.build_command(&unreached, options);
        outcome(command.env("HTTPS_PROXY", "http://proxy:3128")).code(1)
    };
    unreached(&[]).says("hint: you use a proxy that the build does not know about: --proxy");
    let known = unreached(&["--proxy"]);
    assert!(!known.stderr.contains("hint:"), "{}", known.stderr);
}

fn a_buildspec_elsewhere_is_named() {
    let bed = Bed::new();
    bed.write("ci/buildspec.yml", "");
    bed.runner(["run"]).code(2).says("runner run ci/buildspec.yml");
    let others = Bed::new();
    others.write("codebuild/lint.yml", "");
    others.runner(["run"]).code(2).says("hint: runner run codebuild/lint.yml\n");
    others.write("ci.buildspec.yml", "");
    others.write("other/lint.yml", "");
    others
        .runner(["run"])
        .code(2)
        .says("hint: runner run ci.buildspec.yml; there are also codebuild/lint.yml\n");
    bed.write("buildspec.yaml", "");
    bed.write("services/api/buildspec.yml", "");
    bed.write("node_modules/x/buildspec.yml", "");
    bed.runner(["run"]).code(2).says(
        "runner run buildspec.yaml; there are also ci/buildspec.yml, services/api/buildspec.yml\n",
    );
}

/// A project in the console's format, with places in AWS that a build there writes to.
fn project_of_aws() -> String {
    let text = json!({
        "name": "shop", "source": {"type": "NO_SOURCE"},
        "artifacts": {"type": "S3", "location": "shop-artifacts", "name": "out"},
        "cache": {"type": "S3", "location": "shop-cache/of"},
        "logsConfig": {"cloudWatchLogs": {"status": "ENABLED", "groupName": "/shop"},
            "s3Logs": {"status": "ENABLED", "location": "shop-logs/builds"}},
        "environment": {"type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL"}
    });
    text.to_string()
}

const SHOP: &str = "version: 0.2\nphases: {build: {commands: ['mkdir -p c; echo a | tee a.txt c/b']}}\nartifacts: \
                    {files: a.txt}\ncache: {paths: [c]}\n";

fn another_image_takes_its_place() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SHOP);
    bed.write("p.json", project_of_aws());
    let at_hand = format!("rootfs:{}", image("busybox").display());
    let map = format!("aws/codebuild/standard:7.0={at_hand}");
    let outcome = bed.runner(["run", "--project-json", "p.json", "--image-map", &map]).code(0);
    outcome.says(&format!(
        "image public.ecr.aws/codebuild/standard:7.0: {at_hand} is in its place (--image-map)"
    ));
    assert_eq!(bed.record()["environment"]["image"], at_hand.as_str());
    bed.write("runner.toml", format!("image-map = [{map:?}]\n"));
    bed.runner(["run", "--image", "aws/codebuild/standard:7.0"])
        .code(2)
        .says("`image-map` puts another image in the place of yours")
        .says("--trust-project");
}

/// There is no AWS here: an attempt to write there would fail.
fn a_project_of_aws_writes_nothing_there() {
    let bed = Bed::new();
    bed.write("p.json", project_of_aws());
    let outcome = bed.build(SHOP, &["--project-json", "p.json"]).code(0);
    outcome.says(
        "not written to AWS, as the project has it: artifacts (s3://shop-artifacts), the cache \
         (s3://shop-cache/of), the log (CloudWatch Logs /shop), the log (s3://shop-logs/builds); --upload does",
    );
    let record = bed.record();
    assert_eq!(record["artifacts"]["location"].as_str().unwrap_or_default(), "", "{record}");
    let bed = Bed::new();
    bed.write("p.json", project_of_aws());
    let (out, cache) = (bed.path("out"), bed.path("cache"));
    let options = ["--artifacts", out.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    let outcome = bed.build(SHOP, &[&["--project-json", "p.json"], &options[..]].concat()).code(0);
    outcome.says(
        "not written to AWS, as the project has it: the log (CloudWatch Logs /shop), the log (",
    );
    assert_eq!(list(&out), ["out"]);
    // Artifacts without a destination are named.
    let secondary = json!({"name": "shop", "source": {"type": "S3"}, "artifacts": {"type": "NO_ARTIFACTS"},
        "secondaryArtifacts": [{"type": "S3", "location": "shop-more", "artifactIdentifier": "more"}]});
    bed.write("none.json", secondary.to_string());
    bed.build(SHOP, &["--project-json", "none.json", "--upload"]).code(0).says(
        "not uploaded, since the project has no primary artifacts (NO_ARTIFACTS): the secondary artifacts \
         more (s3://shop-more)",
    );
    // A person has to agree: the file that comes with the source is not enough.
    bed.write("runner.toml", "upload = true\n");
    bed.runner(["run", "--project-json", "p.json"])
        .code(2)
        .says("`upload` writes to AWS with your credentials");
}

fn an_image_at_hand_is_named() {
    let storage = "containers/storage/overlay-images";
    let bed = Bed::host();
    let data = bed.path("data").display().to_string();
    let variables = [("HTTPS_PROXY", "http://127.0.0.1:9"), ("XDG_DATA_HOME", &data)];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let bed = bed.with_variables(variables.into());
    fs::create_dir_all(bed.path("data").join(storage)).unwrap();
    let names = json!([{"id": "1", "names": ["localhost/aws/codebuild/standard:7.0"]}]);
    fs::write(bed.path("data").join(storage).join("images.json"), names.to_string()).unwrap();
    bed.write("buildspec.yml", SHOP);
    let mut command = bed.command(["run", "--image", "aws/codebuild/standard:7.0"]);
    let outcome =
        outcome(&mut command).code(3).says("image public.ecr.aws/codebuild/standard:7.0: ");
    if !is_root() {
        outcome.says("hint: Podman has an image of that name: --image docker-daemon:localhost/aws/codebuild/");
    }
}

fn runtimes_are_held_against_what_is_asked_for() {
    let bed = Bed::host();
    let runtimes = "version: 0.2\nphases:\n  install:\n    runtime-versions: {python: 3.99, nodejs: latest, golang: \
                    $GO}\n  build:\n    commands: [true]\n";
    let path = bed.source().join("bin");
    fs::create_dir(&path).unwrap();
    write_program(&path.join("python3"), "#!/bin/sh\necho Python 3.11.2\n");
    write_program(&path.join("go"), "#!/bin/sh\necho go version go1.19.8 linux/amd64\n");
    write_program(&path.join("node"), "#!/bin/sh\necho v18.19.0\n");
    let path = format!("PATH={}:/usr/bin:/bin", path.display());
    let options =
        ["-e", &path, "-e", "GO=1.21", "--mount", &format!("{0}:{0}", bed.source().display())];
    let outcome = bed.build(runtimes, &options).code(0);
    outcome
        .says("warning: runtime-versions asks for python 3.99, golang 1.21; here is python 3.11.2, golang 1.19.8\n")
        .says("hint: an image of CodeBuild's installs");
}

/// A home with tools, and secrets wherever tools and people leave them.
fn home_with_canaries(bed: &Bed) {
    let home = bed.path("home");
    let canaries = [
        ".cargo/credentials.toml",
        ".cargo/credentials",
        ".nvm/.git/config",
        ".nvm/.npmrc",
        ".nvm/versions/node/v20.1.0/etc/npmrc",
        ".pyenv/.python_history",
        ".pyenv/versions/3.12/pip.conf",
        ".sdkman/.ssh/id_rsa",
        "go/pkg/mod/cache/vcs/0a.git/config",
        ".local/share/keyring",
        ".ssh/id_ed25519",
        ".aws/credentials",
        "notes.txt",
    ];
    for (name, text) in canaries.map(|name| (name, "canary")).into_iter().chain([
        (".cargo/config.toml", "[registry]\ntoken = 'canary'\n"),
        (".sdkman/etc/config", "proxy=https://me:canary@proxy\n"),
        (".rustup/settings.toml", "version = '12'\n"),
        (".pyenv/versions/3.12/lib/botocore/credentials.py", "source"),
    ]) {
        fs::create_dir_all(home.join(name).parent().unwrap()).unwrap();
        fs::write(home.join(name), text).unwrap();
    }
    for (dir, name) in
        [(".cargo/bin", "cargo"), (".local/bin", "poetry"), ("go/bin", "staticcheck")]
    {
        fs::create_dir_all(home.join(dir)).unwrap();
        write_program(&home.join(dir).join(name), &format!("#!/bin/sh\necho {name} of the home\n"));
    }
    symlink(home.join("notes.txt"), home.join(".cargo/bin/notes")).unwrap();
    symlink(home.join(".aws"), home.join(".volta")).unwrap();
    symlink(home.join(".ssh"), home.join(".nvm/versions/keys")).unwrap();
}

fn tools_of_the_home_are_shown_without_secrets() {
    let bed = Bed::host();
    home_with_canaries(&bed);
    let home = bed.path("home").display().to_string();
    let commands = [
        "cargo; poetry; staticcheck; cat $RUSTUP_HOME/settings.toml",
        &format!("cat {home}/.pyenv/versions/3.12/lib/botocore/credentials.py; echo"),
        &format!("grep -r canary {home} && exit 7; ls -A {home} {home}/.local"),
        &format!("! test -e {home}/.cargo/bin/notes && ! test -e {home}/.volta"),
        "echo mine > $CARGO_HOME/bin/cargo; rm -r $RUSTUP_HOME/settings.toml",
    ];
    let outcome = bed.build(&build(&commands), &["--home-tools"]).code(0);
    let outcome = outcome
        .says("tools of your home, copy-on-write: ~/.cargo ")
        .says("not shown, and not followed: ");
    let outcome = outcome.says(".volta (leads to ").says(".cargo/bin/notes (leads to ");
    let outcome = outcome.says(".nvm/versions/keys (leads to ");
    let output = outcome.output();
    assert!(output.starts_with("cargo of the home\npoetry of the home\nstaticcheck of the home\nversion = '12'\nsource\n"), "{output}");
    assert!(
        !output.contains(".ssh") && !output.contains("notes") && !output.contains("share"),
        "{output}"
    );
    let cargo = fs::read_to_string(bed.path("home/.cargo/bin/cargo")).unwrap();
    assert!(cargo.contains("of the home") && bed.path("home/.rustup/settings.toml").is_file());
    // The state folder is hidden by itself, even within a hidden place.
    let mut command = bed.build_command(&build(&[commands[2]]), &["--home-tools"]);
    command.env("RUNNER_HOME", bed.path("home/.sdkman/.ssh/state"));
    crate::common::outcome(&mut command).code(0);
    bed.write("runner.toml", "home-tools = true\n");
    bed.runner(["run"]).code(2).says("`home-tools` shows the tools of your home to the build");
    fs::remove_file(bed.source().join("runner.toml")).unwrap();
    bed.runner(["run", "--home-tools", "--engine", "docker", "--image", "x"])
        .code(2)
        .says("--engine docker shows nothing copy-on-write");
}

/// The hint for a missing program mentions the option, and is not given before.
fn a_tool_of_the_home_is_named_once_it_is_missed() {
    let bed = Bed::host();
    home_with_canaries(&bed);
    let path = format!("{}/go/bin:/usr/bin:/bin", bed.path("home").display());
    let run = |text: &str, options: &[&str]| {
        outcome(bed.build_command(&build(&[text]), options).env("PATH", &path))
    };
    let quiet = run("true", &[]).code(0);
    assert!(!quiet.stderr.contains("home"), "{}", quiet.stderr);
    let missed = run("staticcheck", &[]).code(1);
    missed.says("which the build does not see; --home-tools shows the tools of your home");
    assert_eq!(run("staticcheck", &["--home-tools"]).code(0).output(), "staticcheck of the home\n");
    // It need not be on the PATH.
    run("poetry", &[])
        .code(1)
        .says("/.local/bin/poetry, which the build does not see; --home-tools");
    let again = run("staticcheck-nosuch", &["--home-tools"]).code(1);
    assert!(!again.stderr.contains("--home-tools"), "{}", again.stderr);
    let again = again.says("--stub staticcheck-nosuch");
    drop(again);
    let stood_in = run("staticcheck-nosuch", &["--stub", "staticcheck-nosuch"]).code(0);
    stood_in.says("SUCCEEDED");
}

fn a_mount_is_changed_in_the_build_only() {
    let bed = Bed::host();
    fs::create_dir(bed.path("kept")).unwrap();
    fs::write(bed.path("kept/a"), "as it was\n").unwrap();
    let kept = bed.path("kept").display().to_string();
    let (dir, file) = (format!("{kept}:/mine:cow"), format!("{kept}/a:/one:cow"));
    let commands =
        ["cat /mine/a /one", "echo x > /mine/a; echo y > /one; touch /mine/b; cat /mine/a /one"];
    let outcome = bed.build(&build(&commands), &["--mount", &dir, "--mount", &file]).code(0);
    assert_eq!(outcome.output(), "as it was\nas it was\nx\ny\n");
    assert_eq!(list(&bed.path("kept")), ["a"]);
    assert_eq!(fs::read_to_string(bed.path("kept/a")).unwrap(), "as it was\n");
}

fn one_command_needs_no_buildspec() {
    let bed = Bed::new();
    bed.write("a.txt", "");
    let image = format!("rootfs:{}", image("busybox").display());
    let words = [
        "sh",
        "-c",
        "echo \"$CODEBUILD_CI|$A|$1|$2\"; ls; exit $3",
        "sh",
        "it's 'one'",
        "$A *",
        "0",
    ];
    let run = |last: &str| {
        let words = [&["run", "--image", &image, "-e", "A=b", "--"], &words[..6], &[last]].concat();
        bed.runner(words)
    };
    assert_eq!(run("0").code(0).output(), "true|b|it's 'one'|$A *\na.txt\n");
    run("3").code(1).says("exit status 3");
    bed.runner(["run", "buildspec.yml", "--", "true"]).code(2).says("cannot be used with");
}

/// A CA that nobody trusts.
const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUQo0Uu0f3QXc0Xc0AAAAAAAAAAAAwCgYIKoZIzj0EAwIw
-----END CERTIFICATE-----
";

fn certificates_of_the_caller_are_trusted_in_a_build() {
    let bed = Bed::owned();
    for (text, said) in
        [("", "there is no certificate in it"), (CA, "it has a certificate in it that is none")]
    {
        bed.write("ca.pem", text);
        bed.build(&build(&["true"]), &["--ca-file", "ca.pem"])
            .code(2)
            .says("--ca-file: ")
            .says(said);
    }
    bed.runner(["run", "--ca-file", "nosuch.pem"])
        .code(2)
        .says("--ca-file: cannot read nosuch.pem");
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout \
                  ca.key -out ca.pem";
    outcome(bed.other("sh").args(["-c", script])).code(0);
    let pem = fs::read_to_string(bed.source().join("ca.pem")).unwrap();
    let line = pem.lines().nth(1).unwrap();
    let commands = [
        &format!(
            "grep -cF {line} $SSL_CERT_FILE $CURL_CA_BUNDLE $NODE_EXTRA_CA_CERTS $GIT_SSL_CAINFO | cut -d: -f2"
        ) as &str,
        &format!("! grep -F {line} /etc/ssl/certs/ca-certificates.crt"),
    ];
    let outcome = bed.build(&build(&commands[..1]), &["--ca-file", "ca.pem"]).code(0);
    assert_eq!(outcome.output(), "1\n1\n1\n1\n");
    // The machine's own tools use a trust store.
    if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").is_file() {
        let host = Bed::host();
        host.write("ca.pem", &pem);
        host.build(&build(&commands[1..]), &["--ca-file", "ca.pem"]).code(1);
        host.build(&build(&commands[1..]), &[]).code(0);
        host.write("runner.toml", "ca-file = 'ca.pem'\n");
        host.runner(["run"]).code(2).says("`ca-file` trusts certificates for your connections");
    }
}
