//! The buildspec language: what commands find, what they leave to the next, and what follows a
//! failure.

use crate::common::{Bed, cases};

cases! {
    [Containers, Image("busybox")] => state_carries_over, version_0_1_starts_afresh,
        a_build_that_fails, env_shell_is_missing, retries, variables, the_record,
        what_is_not_carried_out_is_named, a_state_that_is_destroyed_is_put_back,
        state_files_that_are_replaced;
    [Containers, Image("debian")] => state_carries_over_in_bash_and_dash;
    [Containers] => the_build_fails_but_goes_on;
    [Users, Image("busybox")] => run_as;
}

/// The parts of a shell's state that carry over to the next command.
const STATE: &str = r#"
    - cd /tmp; export A=1; B=2; C=3 true; unset GOPATH; D="it's
      two \"lines\""; f() { :; }; alias g=true; umask 077; readonly E=5; set -- x
    - echo $PWD $A $B [$C] [$GOPATH] [$1] $(umask) $E $-; printf '%s\n' "$D"
    - f 2>/dev/null; echo $?
    - export LOST=1; exit 0
    - echo [$LOST] $CODEBUILD_LAST_EXIT $?
    - sh -c 'echo child $A $B'; cd /; echo $OLDPWD
"#;

const STATE_OUTPUT: &str =
    "/tmp 1 2 [] [] [] 0022 5 a\nit's two \"lines\"\n127\n[] 0 0\nchild 1 2\n/tmp\n";

fn state_spec(shell: &str) -> String {
    let (first, rest) = STATE.split_at(STATE.find("    - sh -c").unwrap());
    format!(
        "version: 0.2\nenv: {{shell: {shell}}}\nphases:\n  install:\n    commands:{first}  \
         build:\n    commands:\n{rest}"
    )
}

fn state_carries_over() {
    let outcome = Bed::new().build(&state_spec("sh"), &[]).code(0);
    assert_eq!(outcome.output(), STATE_OUTPUT);
}

fn state_carries_over_in_bash_and_dash() {
    for shell in ["sh", "bash"] {
        let image = crate::common::image("debian");
        let bed = Bed::with_image(&format!("rootfs:{}", image.display()));
        let output = bed.build(&state_spec(shell), &[]).code(0).output();
        // bash also reports its own mode.
        assert_eq!(output.replace("5 ahB\n", "5 a\n"), STATE_OUTPUT, "{shell}");
    }
}

fn version_0_1_starts_afresh() {
    let outcome = Bed::new()
        .build(
            "version: 0.1\nenvironment_variables:\n  plaintext:\n    A: '1'\nphases:\n  build:\n    \
             commands:\n      - cd /tmp; export B=2; echo $A\n      - echo ${PWD##*/} [$B]\n      - \
             nosuch\n",
            &[],
        )
        .code(1);
    assert_eq!(
        outcome.output(),
        "1\nsrc []\n/codebuild/output/tmp/script.sh: line 4: nosuch: not found\n"
    );
}

fn run_as() {
    let outcome = Bed::new()
        .build(
            "version: 0.2\nrun-as: builder\nphases:\n  install:\n    run-as: root\n    commands: [id \
             -u]\n  build:\n    commands:\n      - id; cd /tmp; export A=1; touch mine\n      - stat \
             -c %u mine; echo $A $HOME\n  post_build:\n    run-as: nosuch\n    commands: [id]\n",
            &[],
        )
        .code(1)
        .says("no user `nosuch`");
    assert_eq!(
        outcome.output(),
        "0\nuid=1000(builder) gid=1000(builder) groups=1000(builder),2000(extra)\n1000\n1 /root\n"
    );
}

fn a_build_that_fails() {
    let bed = Bed::new();
    let outcome = bed
        .build(
            "version: 0.2\nphases:\n  build:\n    commands:\n      - echo one; exit 42\n      - echo \
             never\n    finally:\n      - echo $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT\n      \
             - kill -9 $$\n      - echo never\n  post_build:\n    commands:\n      - echo post \
             $CODEBUILD_BUILD_SUCCEEDING $CODEBUILD_LAST_EXIT\n",
            &[],
        )
        .code(1);
    assert_eq!(outcome.output(), "one\n0 42\npost 0 137\n");
    let text = "Error while executing command: echo one; exit 42. Reason: exit status 42";
    for line in [
        "Command did not exit successfully echo one; exit 42 exit status 42\n",
        "Command did not exit successfully kill -9 $$ signal: killed\n",
        &format!("Phase context status code: COMMAND_EXECUTION_ERROR Message: {text}\n"),
    ] {
        assert!(outcome.stdout.contains(line), "{line}\n{}", outcome.stdout);
    }
    let record = bed.record();
    let phases: Vec<String> = record["phases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| {
            let status = phase["phaseStatus"].as_str().unwrap_or("-");
            format!("{} {status}", phase["phaseType"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        phases[5..],
        [
            "PRE_BUILD SUCCEEDED",
            "BUILD FAILED",
            "POST_BUILD SUCCEEDED",
            "UPLOAD_ARTIFACTS SUCCEEDED",
            "FINALIZING SUCCEEDED",
            "COMPLETED -"
        ]
    );
    assert_eq!(record["phases"][6]["contexts"][0]["message"], text);
    assert_eq!(record["phases"][0].get("contexts"), None);
}

fn env_shell_is_missing() {
    let bed = Bed::new();
    bed.build("version: 0.2\nenv: {shell: bash}\nphases: {build: {commands: [echo hi]}}\n", &[])
        .code(3)
        .says("no `bash` to run commands with");
    assert_eq!(bed.record()["buildStatus"], "FAULT");
}

fn retries() {
    let outcome = Bed::new()
        .build(
            "version: 0.2\nphases:\n  build:\n    on-failure: RETRY-2-exit status 9\n    commands:\n      \
             - echo try; n=$((n+1)); echo x >> /tmp/tries; test $(wc -l < /tmp/tries) -eq 3 || exit \
             9\n      - echo done\n    finally: [echo finally once]\n",
            &[],
        )
        .code(0)
        .says("on-failure retries it, 2 of 2");
    assert_eq!(outcome.output(), "try\ntry\ntry\ndone\nfinally once\n");
}

fn variables() {
    let bed = Bed::new();
    let outcome = bed
        .build_command(
            "version: 0.2\nenv:\n  variables:\n    A: 010\n    B: $A:x\n    AWS_REGION: eu-west-1\n    \
             C: from the buildspec\nphases:\n  build:\n    commands:\n      - echo $A $B $AWS_REGION \
             $C $THROUGH [$HOME] [$CALLER]\n      - env | cut -d= -f1 | sort | tr '\\n' ' '\n      - \
             umask; ulimit -n > /dev/null; read x; echo read $?; test -t 1; echo tty $?\n",
            &["-e", "C=from the command line", "--env", "THROUGH"],
        )
        .env("THROUGH", "passed on")
        .env("CALLER", "not passed on")
        .output()
        .unwrap();
    let outcome = crate::common::Outcome {
        code: outcome.status.code().unwrap(),
        stdout: String::from_utf8(outcome.stdout).unwrap(),
        stderr: String::from_utf8(outcome.stderr).unwrap(),
    }
    .code(0);
    assert_eq!(
        outcome.output(),
        "010 $A:x us-east-1 from the command line passed on [/root] []\n\
         A AWS_DEFAULT_REGION AWS_REGION B C CODEBUILD_BUILD_ARN CODEBUILD_BUILD_ID \
         CODEBUILD_BUILD_IMAGE CODEBUILD_BUILD_NUMBER CODEBUILD_BUILD_SUCCEEDING \
         CODEBUILD_BUILD_URL CODEBUILD_CI CODEBUILD_CONTAINER_NAME CODEBUILD_GOPATH CODEBUILD_INITIATOR \
         CODEBUILD_KMS_KEY_ID CODEBUILD_LAST_EXIT CODEBUILD_LOCAL_BUILD CODEBUILD_LOG_PATH CODEBUILD_SOURCE_REPO_URL \
         CODEBUILD_SOURCE_VERSION CODEBUILD_SRC_DIR CODEBUILD_START_TIME GOPATH HOME HOSTNAME \
         OLDPWD PATH PWD SHLVL THROUGH \n0022\nread 1\ntty 1\n"
    );
}

fn the_record() {
    let bed = Bed::new();
    let file = bed.path("build.json");
    let options = ["--enable-session", "--build-json", file.to_str().unwrap(), "--timeout", "90s"];
    bed.build("version: 0.2\nphases: {build: {commands: [echo hi]}}\n", &options).code(0);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut kept = bed.record();
    // The state folder's version of the format is not part of AWS's record.
    assert_eq!(kept.as_object_mut().unwrap().remove("schemaVersion"), Some(1.into()));
    assert_eq!(written, kept);
    let uuid = bed.only().file_name().unwrap().to_str().unwrap().to_owned();
    for (key, value) in [
        ("id", format!("demo:{uuid}")),
        ("arn", format!("arn:aws:codebuild:us-east-1:000000000000:build/demo:{uuid}")),
        ("buildStatus", "SUCCEEDED".to_owned()),
        ("currentPhase", "COMPLETED".to_owned()),
        ("projectName", "demo".to_owned()),
    ] {
        assert_eq!(written[key], value, "{key}");
    }
    assert_eq!(written["buildNumber"], 1);
    assert_eq!(written["buildComplete"], true);
    assert_eq!(written["timeoutInMinutes"], 2);
    assert_eq!(written["debugSession"]["sessionTarget"], format!("codebuild:{uuid}"));
    assert_eq!(written["phases"].as_array().unwrap().len(), 11);
}

fn what_is_not_carried_out_is_named() {
    Bed::new()
        .build(
            "version: 0.2\nproxy:\n  logs: yes\nbatch:\n  build-list:\n    - identifier: a\nphases:\n  \
             build:\n    commands: [echo hi]\n    artefacts: x\nartifacts:\n  files: [a]\n",
            &[],
        )
        .code(0)
        .says("buildspec.yml:2:1")
        .says("not run: batch (all of its builds: runner batch)")
        .says("not collected: artifacts (name a place: --artifacts DIR)")
        .says("`artefacts` is not a key of phases.build");
    let nothing = "version: 0.2\nphases: {build: {on-failure: ABORT}}\n";
    Bed::new().build(nothing, &[]).code(0).says("nothing was run: no command of the buildspec");
}

/// A command that dies while its state is being saved does not lose the state.
fn a_state_that_is_destroyed_is_put_back() {
    let outcome = Bed::new()
        .build(
            "version: 0.2\nphases:\n  build:\n    on-failure: CONTINUE\n    commands:\n      - export \
             KEPT=1; cd /tmp\n      - echo 'export HALF=' > /codebuild/output/tmp/env.sh; kill -9 \
             $$\n  post_build:\n    commands:\n      - echo $KEPT $PWD [$HALF]\n",
            &[],
        )
        .code(1);
    assert_eq!(outcome.output(), "1 /tmp []\n");
}

fn state_files_that_are_replaced() {
    let outcome = Bed::new()
        .build(
            "version: 0.2\nphases:\n  build:\n    commands:\n      - export A=1; rm \
             /codebuild/output/tmp/*\n      - echo $A; rm -r /codebuild/output/tmp/script.sh; ln -s \
             /etc/passwd /codebuild/output/tmp/script.sh\n      - echo never\n",
            &[],
        )
        .code(3)
        .says("cannot write /codebuild/output/tmp/script.sh in the container");
    assert_eq!(outcome.output(), "1\n");
}

fn the_build_fails_but_goes_on() {
    let bed = Bed::host();
    let buildspec = "version: 0.2\nphases:\n  install:\n    on-failure: CONTINUE\n    commands: [exit \
                     3]\n  build:\n    on-failure: ABORT\n    commands: ['echo \
                     build $CODEBUILD_BUILD_SUCCEEDING; exit 4']\n  post_build:\n    commands: [echo \
                     never]\n";
    let outcome = bed.build(buildspec, &[]).code(1);
    assert_eq!(outcome.output(), "build 0\n");
    assert!(!outcome.stdout.contains("POST_BUILD State"), "{}", outcome.stdout);
}
