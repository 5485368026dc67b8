//! Somebody else's pipeline: what stands in its way is named with the option that clears it.

use crate::common::{Bed, build, cases, corpus, list, write_program};

cases! {
    [] => check_names_variables_that_nothing_sets, a_buildspec_elsewhere_is_named;
    [Corpus] => real_buildspecs_raise_no_false_alarm;
    [Containers, Image("busybox")] => a_build_names_what_nothing_sets, commands_are_skipped, phases_are_skipped,
        programs_are_stubbed, parts_are_left_out_with_trust_only, a_known_failure_gets_its_hint_once;
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

/// Each of these was looked up by hand: its buildspec sets it nowhere.
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
    let outcome = outcome.says("stand-ins take the place of: docker, mine\n");
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

fn a_buildspec_elsewhere_is_named() {
    let bed = Bed::new();
    bed.write("ci/buildspec.yml", "");
    bed.runner(["run"]).code(2).says("runner run ci/buildspec.yml");
    bed.write("buildspec.yaml", "");
    bed.runner(["run"]).code(2).says("runner run buildspec.yaml; there are also ci/buildspec.yml");
}
