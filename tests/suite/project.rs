//! Project settings in files: `runner.toml` and CodeBuild's own format.

use crate::common::aws::{bucket, keys, with_aws};
use crate::common::{Bed, build, cases, list, write_program};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

cases! {
    [Containers, Image("busybox")] => settings_of_a_file, the_command_line_wins, outputs_of_a_file, a_file_beside_the_buildspec,
        what_reaches_beyond_the_build, a_project_of_codebuild, variables_of_a_project_go_between,
        what_is_not_heeded_is_told, a_project_that_sets_limits, places_that_a_build_has_made,
        a_clone_leaves_no_hook, files_that_a_file_names_are_trusted_as_they_are;
    [Containers, Image("busybox"), Python] => outputs_of_a_project;
    [] => everything_wrong_at_once, a_project_that_is_wrong, a_file_that_is_no_file,
        places_that_came_with_the_source, git_is_never_written, links_to_images_are_followed;
}

const SPEC: &str = "version: 0.2\nenv: {variables: {A: buildspec, B: buildspec}}\nphases:\n  build:\n    commands:\n      - echo \
                    \"$A $B $CODEBUILD_BUILD_ID\"\n";

/// Runs without options, so that all of them come from files.
fn run(bed: &Bed, options: &[&str]) -> crate::common::Outcome {
    bed.runner([&["run"], options].concat())
}

fn image() -> String {
    format!("rootfs:{}", crate::common::image("busybox").display())
}

fn settings_of_a_file() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write(
        "runner.toml",
        format!(
            "# x\nimage = \"{}\"\nproject = 'of-file'\ntimeout = \"90m\"\nmask = [\"B\"]\nlog-format = \"codebuild\"\n[env]\nB \
             = \"value of file\"\n",
            image()
        ),
    );
    // The image is outside the source.
    let outcome = run(&bed, &["--trust-project"])
        .code(0)
        .says("runner.toml sets image, project, timeout, mask");
    assert!(outcome.output().starts_with("buildspec *** of-file:"), "{}", outcome.output());
    assert_eq!(bed.record()["timeoutInMinutes"], 90);
    // Remembered until the file changes.
    run(&bed, &[]).code(0);
    let text = fs::read_to_string(bed.source().join("runner.toml")).unwrap();
    bed.write("runner.toml", text + "# changed\n");
    run(&bed, &[])
        .code(2)
        .says("`image` shows a file or directory of this machine")
        .says("--trust-project");
}

/// Files named by the file, such as stand-ins and variables, are trusted with their current
/// content.
fn files_that_a_file_names_are_trusted_as_they_are() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["say; echo $WORD"]));
    bed.write("runner.toml", "stub = ['say=say.sh']\nenv-file = ['vars']\n");
    bed.write("vars", "WORD=one\n");
    write_program(&bed.source().join("say.sh"), "#!/bin/sh\necho hello\n");
    let image = image();
    let run = |options: &[&str]| run(&bed, &[&["--image", &image], options].concat());
    run(&[]).code(2).says("`stub` shows a file of this machine to the build");
    assert_eq!(run(&["--trust-project"]).code(0).output(), "hello\none\n");
    run(&[]).code(0);
    bed.write("vars", "WORD=two\n");
    let refused = run(&[]).code(2).says("/vars has changed since that was trusted");
    assert!(!refused.stderr.contains("/say.sh has changed"), "{}", refused.stderr);
    assert_eq!(run(&["--trust-project"]).code(0).output(), "hello\ntwo\n");
    fs::remove_file(bed.source().join("say.sh")).unwrap();
    write_program(&bed.source().join("say.sh"), "#!/bin/sh\necho other\n");
    run(&[]).code(2).says("/say.sh has changed since that was trusted");
}

fn the_command_line_wins() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write(
        "runner.toml",
        "image = 'nosuch:1'\nproject = 'of-file'\nquiet = true\n[env]\nA = 'file'\nB = 'file'\n",
    );
    let options = ["--image", &image(), "-e", "A=typed", "--project", "typed", "--no-quiet"];
    let outcome = run(&bed, &options).code(0).says("build typed:");
    assert!(outcome.output().starts_with("typed file typed:"), "{}", outcome.output());
    assert_eq!(run(&bed, &options[..6]).code(0).stderr, "");
}

fn outputs_of_a_file() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases:\n  build:\n    commands: ['echo \"<testsuite><testcase name=a /></testsuite>\" | sed s/=a/=\\\"a\\\"/ > r.xml']\nartifacts: {files: \
         r.xml}\ncache: {paths: [r.xml]}\nreports: {unit: {files: r.xml}}\n",
    );
    bed.write(
        "runner.toml",
        "project = 'demo'\nartifacts = 'made/artifacts'\nreports = 'made/reports'\ncache = 'made/cache'\nlog-file = \
         'build.log'\nbuild-json = 'made.json'\n",
    );
    run(&bed, &["--image", &image()]).code(0).says("report demo-unit  SUCCEEDED  1 test: 1 passed");
    let mut made = list(&bed.source().join("made"));
    made.sort();
    assert_eq!(made, ["artifacts", "cache", "reports"]);
    assert!(bed.source().join("made/artifacts/r.xml").is_file());
    assert!(bed.source().join("build.log").is_file() && bed.source().join("made.json").is_file());
}

fn a_file_beside_the_buildspec() {
    let bed = Bed::new();
    bed.write("ci/build.yml", SPEC);
    bed.write("ci/runner.toml", "project = 'of-ci'\nreports = 'here'\n");
    bed.write("runner.toml", "project = 'of-source'\n");
    let outcome = run(&bed, &["--image", &image(), "ci/build.yml"])
        .code(0)
        .says("ci/runner.toml sets project");
    assert!(outcome.output().contains(" of-ci:"), "{}", outcome.output());
    // A relative path is relative to the file.
    assert!(bed.source().join("ci/here").is_dir());
}

fn what_reaches_beyond_the_build() {
    for (text, what) in [
        ("mount = '/home:/x'", "`mount` shows"),
        ("engine = 'process'", "`engine` runs the build on this machine itself"),
        ("aws-profile = 'default'", "`aws-profile` gives"),
        ("artifacts = '../elsewhere'", "`artifacts` writes outside"),
        ("artifacts = '.git/hooks'", "`artifacts` writes outside"),
        ("mount = 'sub:/x'", "`mount` shows"),
        ("cache = 's3://bucket'", "`cache` uses your AWS credentials"),
        ("env = ['HOME']", "`env` passes a variable of yours"),
        ("proxy = true", "`proxy` passes"),
        ("secrets = 's.yml'", "`secrets` reads a file"),
    ] {
        let bed = Bed::new();
        bed.write("buildspec.yml", SPEC);
        bed.write("sub/file", "");
        bed.write("runner.toml", text);
        let mut command = bed.command(["run", "--image", &image()]);
        let outcome = crate::common::outcome(command.env("HTTP_PROXY", "http://x"));
        outcome.code(2).says("runner.toml:1:").says(what);
        assert_eq!(list(&bed.home().join("builds")), [""; 0], "{text}");
    }
}

/// A clone may contain links, files and caches where its file makes the build write.
fn places_that_came_with_the_source() {
    let files = ["log-file", "build-json"];
    for option in ["artifacts", "cache", "reports", "session-log", "log-file", "build-json"] {
        for place in ["out", "."] {
            let bed = Bed::new();
            let secret = bed.path("secret");
            fs::create_dir(&secret).unwrap();
            bed.write("buildspec.yml", SPEC);
            match files.contains(&option) {
                true => drop(bed.write("out", "of the source")),
                false => {
                    fs::create_dir(bed.source().join("out")).unwrap();
                    symlink(&secret, bed.source().join("out/link")).unwrap();
                }
            }
            bed.write("runner.toml", format!("project = 'xx'\n{option} = '{place}'\n"));
            run(&bed, &[])
                .code(2)
                .says(&format!(": `{option}` writes to what is there already"))
                .says("--trust-project");
            assert_eq!(list(&bed.home().join("builds")), [""; 0], "{option} = {place}");
        }
    }
    // Also a ZIP, and a broken link.
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write("app.zip", "of the source");
    bed.write("runner.toml", "artifacts = 'app.zip'\n");
    run(&bed, &[]).code(2).says("`artifacts` writes to what is there already");
    symlink("nowhere", bed.source().join("out")).unwrap();
    bed.write("runner.toml", "artifacts = 'out'\n");
    run(&bed, &[]).code(2).says("`artifacts` writes outside");
}

/// What an earlier build has created there needs no trust, even after the file has changed.
fn places_that_a_build_has_made() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases:\n  build:\n    commands: [date > x]\nartifacts: {files: x}\ncache: {paths: [x]}\n",
    );
    let settings = "artifacts = 'made/artifacts'\ncache = 'made/cache'\nlog-file = 'build.log'\n";
    bed.write("runner.toml", settings);
    for _ in 0..2 {
        run(&bed, &["--image", &image()]).code(0);
    }
    bed.write("runner.toml", format!("timeout = '5m'\n{settings}"));
    run(&bed, &["--image", &image()]).code(0);
    // Someone else's file is unchanged.
    bed.write("more/file", "");
    bed.write("runner.toml", format!("reports = 'more'\n{settings}"));
    let refused = run(&bed, &["--image", &image()]).code(2).says("`reports` writes to what is");
    assert!(!refused.stderr.contains("`artifacts`"), "{}", refused.stderr);
    run(&bed, &["--image", &image(), "--trust-project"]).code(0);
    run(&bed, &["--image", &image()]).code(0);
}

/// Hooks are programs that git runs on this machine: no option leads there, trusted or typed.
fn git_is_never_written() {
    let options = ["artifacts", "cache", "reports", "session-log", "log-file", "build-json"];
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write(".git/hooks/x", "");
    fs::create_dir(bed.source().join("sub")).unwrap();
    symlink("../.git/hooks", bed.source().join("sub/link")).unwrap();
    let other = bed.path("other");
    fs::create_dir_all(other.join(".git")).unwrap();
    let secondary = format!("other={}", other.display());
    let beyond = other.join(".git/config").display().to_string();
    for option in options {
        for place in [".git/hooks/y", ".GIT/y", "sub/link/y", "sub/.git/y.zip", &beyond] {
            let option = format!("--{option}={place}");
            run(&bed, &[&option, "--secondary-source", &secondary])
                .code(2)
                .says("lies in what git keeps of the source");
        }
    }
    bed.write("runner.toml", "artifacts = '.git/hooks'\n");
    run(&bed, &["--trust-project"]).code(2).says("--artifacts: ").says("lies in what git keeps");
    assert_eq!(list(&bed.source().join(".git/hooks")), ["x"]);
    assert_eq!(list(&other.join(".git")), [""; 0]);
    assert!(!bed.source().join(".GIT").exists() && !bed.source().join("sub/.git").exists());
}

/// A clone whose file writes a hook where git runs it: rejected, and even when trusted it creates
/// none.
fn a_clone_leaves_no_hook() {
    let bed = Bed::new();
    bed.write(".git/hooks/sample", "");
    bed.write(
        "buildspec.yml",
        "version: 0.2\nphases:\n  build:\n    commands:\n      - mkdir -p made/.git/hooks; echo '#!/bin/sh' > \
         made/.git/hooks/post-checkout\n      - chmod 755 made/.git/hooks/post-checkout; echo x > made/x\n\
         artifacts: {base-directory: made, files: ['**/*']}\n",
    );
    bed.write("runner.toml", "artifacts = '.'\n");
    run(&bed, &["--image", &image()]).code(2).says("--trust-project");
    run(&bed, &["--image", &image(), "--trust-project"]).code(0);
    assert_eq!(list(&bed.source().join(".git/hooks")), ["sample"]);
    assert!(bed.source().join("x").is_file());
}

/// A tag after a path does not hide a link.
fn links_to_images_are_followed() {
    let bed = Bed::new();
    let elsewhere = bed.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    bed.write("buildspec.yml", SPEC);
    symlink(&elsewhere, bed.source().join("layout")).unwrap();
    for image in ["oci:layout", "oci:layout:latest", "rootfs:layout"] {
        bed.write("runner.toml", format!("image = '{image}'\n"));
        run(&bed, &[]).code(2).says("`image` shows a file or directory of this machine");
    }
}

fn everything_wrong_at_once() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write(
        "runner.toml",
        "tmeout = '5m'\ntimeout = 'soon'\nmask = [['x']]\nsource = '.'\n[env]\n'A-B' = 'x'\n[logs]\ns4 = 'x'\n",
    );
    let outcome = run(&bed, &[]).code(2);
    let outcome = outcome
        .says("error[unknown-key]: `tmeout` is not a key of runner.toml\n --> runner.toml:1:1")
        .says("did you mean `timeout`?")
        .says(
            "error[bad-value]: invalid value 'soon' for '--timeout <TIME>': write a time like 90s",
        )
        .says(" --> runner.toml:2:11")
        .says(" --> runner.toml:3:9")
        .says("error[unknown-key]: `source` is not a key of runner.toml")
        .says("`A-B` cannot be the name of a variable");
    outcome
        .says("error[unknown-key]: `s4` is not a key of logs\n --> runner.toml:8:1")
        .says("6 errors in runner.toml");
    bed.write("runner.toml", "a = \n");
    run(&bed, &[]).code(2).says("error[syntax]: this is not TOML").says(" --> runner.toml:1:5");
}

fn a_file_that_is_no_file() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    // Nothing blocks on it.
    nix::unistd::mkfifo(&bed.source().join("runner.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    run(&bed, &[]).code(2).says("cannot read ./runner.toml: it is a FIFO and no regular file");
}

/// A project in the CLI's format.
fn printed(change: impl FnOnce(&mut Value)) -> String {
    let mut project = json!({
        "name": "of-aws",
        "arn": "arn:aws:codebuild:eu-west-1:123456789012:project/of-aws",
        "source": {"type": "GITHUB", "location": "https://github.com/a/b", "gitCloneDepth": 1, "insecureSsl": false},
        "artifacts": {"type": "NO_ARTIFACTS"},
        "cache": {"type": "NO_CACHE"},
        "environment": {
            "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_2XLARGE",
            "environmentVariables": [{"name": "A", "value": "of project", "type": "PLAINTEXT"}],
            "privilegedMode": false, "imagePullCredentialsType": "CODEBUILD"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/x",
        "timeoutInMinutes": 45, "queuedTimeoutInMinutes": 480,
        "encryptionKey": "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3",
        "tags": [], "created": "2024-03-01T10:00:00+01:00", "lastModified": 1709283600.5,
        "badge": {"badgeEnabled": false},
        "logsConfig": {"cloudWatchLogs": {"status": "DISABLED"}, "s3Logs": {"status": "DISABLED", "encryptionDisabled": false}},
        "projectVisibility": "PRIVATE"
    });
    change(&mut project);
    format!("{:#}", json!({"projects": [project], "projectsNotFound": []}))
}

fn a_project_of_codebuild() {
    let bed = Bed::new();
    bed.write("ci/b.yml", SPEC);
    bed.write("p.json", printed(|project| project["source"]["buildspec"] = "ci/b.yml".into()));
    let outcome = run(&bed, &["--project-json", "p.json", "--image", &image()]).code(0);
    assert!(outcome.output().starts_with("of project buildspec of-aws:"), "{}", outcome.output());
    let record = bed.record();
    assert_eq!(
        (&record["timeoutInMinutes"], &record["source"]["buildspec"]),
        (&45.into(), &"ci/b.yml".into())
    );

    // It may contain its buildspec.
    let bed = Bed::new();
    bed.write("p.json", printed(|project| project["source"]["buildspec"] = SPEC.into()));
    let outcome = run(&bed, &["--project-json", "p.json", "--image", &image()]).code(0);
    assert!(
        outcome.stdout.contains("YAML location is /codebuild/readonly/buildspec.yml"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.output().starts_with("of project buildspec of-aws:"), "{}", outcome.output());

    // What no Linux container is.
    let of_type = |kind: &str| {
        let bed = Bed::new();
        bed.write("p.json", printed(|project| project["environment"]["type"] = kind.into()));
        bed.write("buildspec.yml", SPEC);
        run(&bed, &["--project-json", "p.json", "--image", &image()])
    };
    of_type("WINDOWS_SERVER_2022_CONTAINER")
        .code(2)
        .says("this machine has no WINDOWS_SERVER_2022_CONTAINER")
        .says("p.json:");
    of_type("ARM_LAMBDA_CONTAINER").code(0).says("ignored: environment.type");

    // Without an option, its own image is looked up.
    let mut command = bed.command(["run", "--project-json", "p.json", "--network", "none"]);
    let proxied = command.env("HTTPS_PROXY", "http://127.0.0.1:9");
    crate::common::outcome(proxied).code(3).says("public.ecr.aws/codebuild/standard:7.0");
}

/// Between the command line and the buildspec; fetched values are not exported.
fn variables_of_a_project_go_between() {
    let bed = Bed::new();
    bed.write(
        "buildspec.yml",
        "version: 0.2\nenv:\n  variables: {A: buildspec, P: buildspec, S: buildspec}\n  exported-variables: [A, P]\nphases:\n  \
         build:\n    commands:\n      - test \"$P\" = value-of-parameter && test \"$S\" = value-of-secret\n      - echo \"$A|$T\"\n",
    );
    bed.write(
        "p.json",
        printed(|project| {
            project["environment"]["environmentVariables"] = json!([
                {"name": "A", "value": "project"}, {"name": "T", "value": "project"},
                {"name": "P", "value": "/app/p", "type": "PARAMETER_STORE"},
                {"name": "S", "value": "app/s:key", "type": "SECRETS_MANAGER"}
            ]);
        }),
    );
    let secrets = bed.write("s.yml", "/app/p: value-of-parameter\napp/s: {key: value-of-secret}\n");
    fs::set_permissions(&secrets, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options =
        ["--project-json", "p.json", "--image", &image(), "--secrets", "s.yml", "-e", "T=typed"];
    assert_eq!(run(&bed, &options).code(0).output(), "project|typed\n");
    assert_eq!(
        bed.record()["exportedEnvironmentVariables"],
        json!([{"name": "A", "value": "project"}])
    );
}

fn what_is_not_heeded_is_told() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    bed.write(
        "p.json",
        printed(|project| {
            project["vpcConfig"] =
                json!({"vpcId": "vpc-1", "subnets": ["s"], "securityGroupIds": ["g"]});
            project["secondarySources"] =
                json!([{"type": "S3", "location": "b/k", "sourceIdentifier": "more"}]);
        }),
    );
    let outcome = run(&bed, &["--project-json", "p.json", "--image", &image()]).code(0);
    outcome
        .says("ignored: vpcConfig")
        .says("ignored: secondarySources (give their directories: --secondary-source");
}

/// A limit above the machine's capacity is none; a lower one applies, if possible.
fn a_project_that_sets_limits() {
    let bed = Bed::new();
    bed.write("buildspec.yml", build(&["cat /sys/fs/cgroup/memory.max 2> /dev/null; true"]));
    bed.write(
        "p.json",
        printed(|project| {
            project["environment"]["computeType"] = "ATTRIBUTE_BASED_COMPUTE".into();
            project["environment"]["computeConfiguration"] =
                json!({"vCpu": 1, "memory": 1, "disk": 64});
        }),
    );
    run(&bed, &["--project-json", "p.json", "--image", &image()]).code(0);
}

fn a_project_that_is_wrong() {
    let bed = Bed::new();
    bed.write("buildspec.yml", SPEC);
    let text = printed(|project| {
        project["enviroment"] = json!({});
        project["cache"]["type"] = "S4".into();
        project["environment"]["environmentVariables"][0]["name"] = "A-B".into();
    });
    bed.write("p.json", &text);
    let line = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let outcome = run(&bed, &["--project-json", "p.json"]).code(2);
    let outcome = outcome
        .says(&format!(
            "`enviroment` is not a key of projects[0]\n  --> p.json:{}:7",
            line("enviroment\"")
        ))
        .says("did you mean `environment`?")
        .says(&format!(" --> p.json:{}:", line("S4")));
    outcome.says("2 errors in p.json");
    run(&bed, &["--project-json", "nosuch.json"])
        .code(2)
        .says("--project-json: cannot read nosuch.json");
    bed.write("p.json", "{\"projects\": [{\"name\": \"one\"}, {\"name\": \"two\"}]}");
    run(&bed, &["--project-json", "p.json"]).code(2).says("choose one with --project: one, two");
}

/// Artifacts and cache go where the project says, in its layout; a typed place uses the same
/// layout.
fn outputs_of_a_project() {
    let (outputs, caches) = (bucket("project-outputs"), bucket("project-caches"));
    let spec = "version: 0.2\nphases: {build: {commands: ['mkdir -p c; date > c/x; echo a > a.txt']}}\nartifacts: {files: a.txt}\ncache: {paths: [c]}\n";
    let text = printed(|project| {
        project["artifacts"] = json!({
            "type": "S3", "location": outputs, "path": "p", "namespaceType": "BUILD_ID", "name": "out.zip",
            "packaging": "ZIP", "overrideArtifactName": false, "encryptionDisabled": false
        });
        project["cache"] = json!({"type": "S3", "location": format!("{caches}/of/project")});
    });
    let bed = Bed::new();
    bed.write("p.json", &text);
    with_aws(&bed, spec, &["--project-json", "p.json", "--upload"]).code(0);
    let record = bed.record();
    let uuid = record["id"].as_str().unwrap().split(':').next_back().unwrap().to_owned();
    assert_eq!(keys(&outputs), [format!("p/{uuid}/out.zip")]);
    assert_eq!(record["artifacts"]["location"], format!("arn:aws:s3:::{outputs}/p/{uuid}/out.zip"));
    assert_eq!(record["cache"], json!({"type": "S3", "location": format!("{caches}/of/project")}));
    assert!(
        keys(&caches).iter().all(|key| key.starts_with("of/project/")) && !keys(&caches).is_empty()
    );

    let bed = Bed::new();
    bed.write(
        "p.json",
        text.replace(
            "\"S3\",\n        \"location\": \"project-caches",
            "\"S3\",\n        \"location\": \"x",
        ),
    );
    let (dir, cache) = (bed.path("artifacts"), bed.path("cache"));
    let options = ["--artifacts", dir.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    bed.build(spec, &[&["--project-json", "p.json"], &options[..]].concat()).code(0);
    let uuid = list(&dir.join("p")).remove(0);
    assert_eq!(list(&dir.join("p").join(uuid)), ["out.zip"]);
    assert!(!list(&cache).is_empty());
}
