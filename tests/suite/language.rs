//! What the language offers beyond commands: variables and their sources, source directories,
//! runtimes.

use crate::common::{Bed, cases, image, outcome};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => variables_from_files_and_from_the_caller, proxy_variables,
        secondary_sources, files_are_hashed, exported_variables, runtimes, runtimes_that_fail,
        an_image_without_runtimes, advice_is_for_check,
        scalars_keep_their_face, what_is_left_empty_is_absent;
}

fn build(commands: &[&str]) -> String {
    crate::common::build(commands)
}

fn variables_from_files_and_from_the_caller() {
    let bed = Bed::new();
    let file = bed.path("vars.env");
    fs::write(&file, "# of AWS's own form\nA=\"quoted\"\n\nB=from the file\nC=x=y\n").unwrap();
    let spec = "version: 0.2\nenv:\n  variables: {A: spec, B: spec, D: spec}\nphases:\n  build:\n    \
                commands:\n      - echo \"$A|$B|$C|$D|$E\"\n";
    let file = file.to_str().unwrap();
    let mut command = bed.build_command(spec, &["--env-file", file, "-e", "B=typed", "-e", "E"]);
    let output = outcome(command.env("E", "callers").env("D", "not asked for")).code(0).output();
    assert_eq!(output, "\"quoted\"|typed|x=y|spec|callers\n");

    fs::write(file, "A=1\nnonsense\n").unwrap();
    bed.build(spec, &["--env-file", file]).code(2).says("vars.env:2: a line is NAME=VALUE");
    fs::write(file, "A-B=1\n").unwrap();
    bed.build(spec, &["--env-file", file]).code(2).says("`A-B` cannot be the name");
    bed.build(spec, &["--env-file", "nosuch"]).code(2).says("cannot read nosuch");
}

fn proxy_variables() {
    let spec = build(&["env | grep -i _proxy | sort"]);
    let bed = Bed::new();
    let proxied = |bed: &Bed, options: &[&str]| {
        let mut command = bed.build_command(&spec, options);
        command.env("HTTPS_PROXY", "http://me:s3cret-pw@proxy:3128").env("no_proxy", "localhost");
        outcome(&mut command)
    };
    assert_eq!(
        proxied(&bed, &["--proxy"]).code(0).output(),
        "HTTPS_PROXY=http://me:***@proxy:3128\nno_proxy=localhost\n"
    );
    assert_eq!(proxied(&bed, &[]).code(0).output(), "", "nothing is inherited");
    bed.build(&spec, &["--proxy"]).code(2).says("no proxy variables");
}

fn secondary_sources() {
    let bed = Bed::new();
    let (one, two) = (bed.path("one"), bed.path("two"));
    for (dir, text) in [(&one, "first"), (&two, "second")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), text).unwrap();
    }
    let git = |arguments: &[&str]| {
        let who =
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "-C", two.to_str().unwrap()];
        let output = Command::new("git").args(who).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "-b", "trunk"]);
    git(&["remote", "add", "origin", "https://example.com/two.git"]);
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    let head = git(&["rev-parse", "HEAD"]);
    let spec = build(&[
        "cat $CODEBUILD_SRC_DIR_one/file $CODEBUILD_SRC_DIR_two/file; echo; pwd; echo \
         $CODEBUILD_SRC_DIR_one $CODEBUILD_SRC_DIR_two",
        "echo $CODEBUILD_SOURCE_VERSION_two $CODEBUILD_SOURCE_REPO_URL_two; echo new > \
         $CODEBUILD_SRC_DIR_one/file",
    ]);
    let (of_one, of_two) = (format!("one={}", one.display()), format!("two={}", two.display()));
    let options = ["--secondary-source", &of_one, "--secondary-source", &of_two];
    let output = bed.build(&spec, &options).code(0).output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "firstsecond");
    let places: Vec<&str> = lines[1..3].iter().flat_map(|line| line.split(' ')).collect();
    assert!(places.iter().all(|place| place.starts_with("/codebuild/output/src")), "{places:?}");
    assert!(places[0] != places[1] && places[1] != places[2] && places[0] != places[2]);
    assert_eq!(lines[3], "trunk https://example.com/two.git");
    assert_eq!(fs::read_to_string(one.join("file")).unwrap(), "first", "a source is never written");
    let record = bed.record();
    assert_eq!(record["secondarySources"][1]["sourceIdentifier"], "two");
    assert_eq!(record["secondarySourceVersions"][0]["sourceVersion"], head.as_str());
    bed.build(&spec, &["--secondary-source", "a-b=."]).code(2).says("identifier of a source");
    bed.build(&spec, &["--secondary-source", "x=nosuch"]).code(2).says("nosuch");
    bed.build(&spec, &["--secondary-source", "x=/"]).code(2).says("cannot be /");
    let twice = ["--secondary-source", "x=.", "--secondary-source", "x=."];
    bed.build(&spec, &twice).code(2).says("`x` is named twice");
}

/// SHA-256, computed by sha256sum.
fn sha256(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let text = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// The digest covers the digests of the files, sorted by path.
fn files_are_hashed() {
    let bed = Bed::new();
    let files = [("a.lock", "one"), ("deep/er/b.lock", "two"), ("other", "three")];
    for (name, text) in files {
        bed.write(name, text);
    }
    let output = bed
        .build(
            &build(&[
                "codebuild-hash-files '**/*.lock'; cd /; codebuild-hash-files a.lock",
                "codebuild-hash-files deep; codebuild-hash-files 'deep/**/*' ./nosuch",
                "echo more >> $CODEBUILD_SRC_DIR/deep/er/b.lock; codebuild-hash-files deep",
                "codebuild-hash-files nosuch 2>&1 || echo status $?; codebuild-hash-files 2>&1 || echo status \
                 $?",
            ]),
            &[],
        )
        .code(0)
        .output();
    let wanted = |texts: &[&str]| {
        let digests: Vec<u8> = texts.iter().flat_map(|text| sha256(text.as_bytes())).collect();
        sha256(&digests).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], [wanted(&["one", "two"]), wanted(&["one"])]);
    assert_eq!(lines[2..5], [wanted(&["two"]), wanted(&["two"]), wanted(&["twomore\n"])]);
    assert!(output.contains("no file of the source matches\nstatus 1\n"), "{output}");
    assert!(output.ends_with("GLOB...\nstatus 2\n"), "{output}");
}

fn exported_variables() {
    let bed = Bed::new();
    let spec = "version: 0.2\nenv:\n  variables: {A: begin}\n  exported-variables: [A, B, NOSUCH, AWS_X]\n\
                phases:\n  build:\n    commands:\n      - A=changed; B=\"two\n        lines\"\n  post_build:\n    \
                commands:\n      - B=\"$B and more\"\n";
    bed.build(spec, &[]).code(0).says("`AWS_X`: variables whose names start with AWS_");
    let record = bed.record();
    let exported = &record["exportedEnvironmentVariables"];
    assert_eq!(exported.as_array().unwrap().len(), 2, "{exported}");
    assert_eq!(exported[0]["value"], "changed");
    assert!(exported[1]["value"].as_str().unwrap().ends_with("lines and more"), "{exported}");
}

const CATALOG: &str = "version: 0.1
runtimes:
  java:
    versions:
      corretto8:
        commands:
          - export JAVA_HOME=/opt/java8
      corretto11:
        commands:
          - echo \"Installing corretto 11\"
          - export JAVA_HOME=/opt/java11
  python:
    default:
      commands:
        - echo \"Installing custom python $VERSION\"; PYTHON=custom-$VERSION
    versions:
      3.9:
        commands: ['PYTHON=3.9']
      3.10:
        commands: ['PYTHON=3.10']
  broken:
    versions:
      1: {commands: ['echo breaking; exit 7', 'echo never']}
";

/// An image like busybox, with a catalog.
fn with_catalog() -> Bed {
    let bed = Bed::new();
    let root = bed.path("image");
    let copied = Command::new("cp").arg("-a").arg(image("busybox")).arg(&root).status().unwrap();
    assert!(copied.success());
    fs::create_dir_all(root.join("codebuild/image/config")).unwrap();
    fs::write(root.join("codebuild/image/config/runtimes.yml"), CATALOG).unwrap();
    bed
}

fn selecting(versions: &str) -> String {
    format!(
        "version: 0.2\nenv:\n  variables: {{WANTED: 3.9}}\nphases:\n  install:\n    \
         runtime-versions:\n{versions}  build:\n    commands:\n      - echo $JAVA_HOME $PYTHON\n"
    )
}

fn runtimes() {
    let bed = with_catalog();
    let image = format!("rootfs:{}", bed.path("image").display());
    for (versions, wanted) in [
        ("      java: latest\n      python: 3.x\n", "/opt/java11 3.10\n"),
        ("      java: corretto8\n      python: $WANTED\n", "/opt/java8 3.9\n"),
        ("      python: 3.13.1\n", "custom-3.13.1\n"),
    ] {
        let outcome = bed.build(&selecting(versions), &["--image", &image]).code(0);
        assert!(outcome.output().ends_with(wanted), "{}", outcome.stdout);
        let log = &outcome.stdout;
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log}"));
        assert!(at("Processing environment variables") < at("Selecting '"));
        assert!(at("Selecting '") < at("Running command"));
        assert!(at("Running command") < at("Moving to directory"));
        assert!(at("Moving to directory") < at("Entering phase INSTALL"));
    }
    let none = "version: 0.2\nphases: {build: {commands: [echo hi]}}\n";
    let outcome = bed.build(none, &["--image", &image]).code(0);
    assert!(outcome.stdout.contains("No runtime version selected in buildspec."));
    // An unreadable catalog differs from a missing one.
    let catalog = bed.path("image/codebuild/image/config/runtimes.yml");
    fs::remove_file(&catalog).unwrap();
    symlink("elsewhere.yml", &catalog).unwrap();
    bed.build(&selecting("      java: latest\n"), &["--image", &image]).says(
        "the image's catalog of runtimes, /codebuild/image/config/runtimes.yml, cannot be read: ",
    );
}

fn runtimes_that_fail() {
    let bed = with_catalog();
    let image = format!("rootfs:{}", bed.path("image").display());
    for (versions, code, message) in [
        (
            "      java: corretto8\n      ruby: 3.2\n",
            "YAML_FILE_ERROR",
            "Unknown runtime named 'ruby'. This build image has the following runtimes: broken, java, \
             python",
        ),
        (
            "      java: corretto9\n",
            "YAML_FILE_ERROR",
            "Unknown runtime version named 'corretto9' of java. This build image has the following \
             versions: corretto8, corretto11",
        ),
        (
            "      broken: 1\n",
            "COMMAND_EXECUTION_ERROR",
            "Error while executing command: echo breaking; exit 7. Reason: exit status 7",
        ),
    ] {
        let outcome = bed.build(&selecting(versions), &["--image", &image]).code(1);
        assert!(!outcome.stdout.contains("Entering phase"), "{}", outcome.stdout);
        let newest = bed.runner(["ps", "--all", "--format", "json"]).code(0).stdout;
        let rows: serde_json::Value = serde_json::from_str(&newest).unwrap();
        assert_eq!(rows[0]["state"], "FAILED", "{rows}");
        let wanted = format!("Phase context status code: {code} Message: {message}");
        assert!(outcome.stdout.contains(&wanted), "{}", outcome.stdout);
    }
}

fn an_image_without_runtimes() {
    let bed = Bed::new();
    let outcome = bed.build(&selecting("      python: 3.9\n"), &[]).code(0);
    assert!(outcome.stdout.contains("Skipping install of runtimes."), "{}", outcome.stdout);
    outcome.says("runtime-versions asks for python 3.9; here is no python");
}

/// Style warnings appear in `check`, not in every run.
fn advice_is_for_check() {
    let bed = Bed::new();
    let outcome = bed.build(&build(&["set -e", "true"]), &[]).code(0);
    assert!(!outcome.stderr.contains("lost-state"), "{}", outcome.stderr);
    let report = bed.runner(["check"]).code(0).stdout;
    assert!(
        report.contains("warning[lost-state]") && report.contains("buildspec.yml:"),
        "{report}"
    );
    let report = bed.runner(["check", "--allow", "lost-state"]).code(0).stdout;
    assert!(report.ends_with("no errors, no warnings\n"), "{report}");
}

/// A commit hash may look like a number that no machine can represent.
fn scalars_keep_their_face() {
    let bed = Bed::new();
    let spec = "version: 0.2\nenv:\n  variables: {SHA: 12e4567, N: .nan, T: !!int \"5\"}\nphases:\n  build:\n    \
                commands:\n      - echo \"$SHA $N $T\"; echo x > 1e999\nartifacts: {files: 1e999}\n---\nx: [\n";
    let to = bed.path("out");
    let outcome = bed.build(spec, &["--artifacts", to.to_str().unwrap()]).code(0);
    assert_eq!(outcome.output(), "12e4567 .nan 5\n");
    assert_eq!(crate::common::list(&to), ["1e999"]);
    outcome.says("warning[more-documents]");
}

fn what_is_left_empty_is_absent() {
    let bed = Bed::new();
    let spec = "version: 0.2\nrun-as:\nphases:\n  build:\n    commands:\n      - touch a\n      -\nartifacts:\n  \
                files:\n    - a\n  name:\n  base-directory:\ncache:\nreports:\n";
    let to = bed.path("out");
    let outcome = bed.build(spec, &["--artifacts", to.to_str().unwrap()]).code(0);
    assert_eq!(crate::common::list(&to), ["a"]);
    outcome.says("warning[empty]: `base-directory` of artifacts has no value");
}
