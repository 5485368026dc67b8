//! Test and coverage reports: read from the container, displayed, written, recorded.

use crate::common::{Bed, Outcome, cases, list, node, project, python};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

cases! {
    [Containers, Image("busybox")] => recorded_reports, what_is_malformed_fails_the_phase, files_that_are_not_there,
        a_failed_build_has_its_reports, found_without_being_named, the_search_can_be_steered,
        what_is_named_is_read_whoever_wants_it, what_aws_refuses_fails_the_phase, what_yields_nothing_is_told,
        numbers_of_others, failed_cases_are_annotated, hostile_report_files, secrets_in_reports, names_of_groups,
        reports_that_cannot_be_written, raw_files;
    [] => without_a_container, a_directory_that_cannot_be_made;
    [Python] => pytest_and_its_coverage;
    [Node] => jest_and_its_coverage;
    [Rust] => rust_test_programs;
    [Rust, Program("cargo-nextest")] => nextest;
}

/// A buildspec with these reports and one command.
fn buildspec(command: &str, reports: &str) -> String {
    let command = serde_json::json!(command);
    format!(
        "version: 0.2\nphases:\n  build:\n    commands:\n      - {command}\nreports:\n{reports}"
    )
}

/// A source with output of pytest, jest and nextest.
fn with_recorded() -> Bed {
    let bed = Bed::new();
    for name in list(&project().join("tests/reports/recorded")) {
        let bytes = fs::read(project().join("tests/reports/recorded").join(&name)).unwrap();
        bed.write(&format!("out/{name}"), bytes);
    }
    bed
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .unwrap()
}

/// A report's counts: succeeded, failed, errors, skipped.
fn counts(report: &Value) -> [u64; 4] {
    let counts = &report["testSummary"]["statusCounts"];
    ["SUCCEEDED", "FAILED", "ERROR", "SKIPPED"].map(|name| counts[name].as_u64().unwrap())
}

fn run(bed: &Bed, buildspec: &str, options: &[&str]) -> Outcome {
    let dir = bed.path("reports");
    let all = [&["--reports", dir.to_str().unwrap()], options].concat();
    bed.build(buildspec, &all)
}

fn recorded_reports() {
    let bed = with_recorded();
    let reports = "  unit:\n    files: ['out/pytest.xml', '**/jest.xml', './out/next*.xml']\n  coverage:\n    base-directory: o?t\n    \
                   file-format: coberturaxml\n    files: ['*.py.xml', jest-cobertura.xml]\n  clover:\n    files: \
                   out/jest-clover.xml\n    file-format: CLOVERXML\n";
    let outcome = run(&bed, &buildspec("true", reports), &[]).code(0);
    assert!(
        outcome.stdout.contains("Preparing to copy TEST report arn:aws:codebuild:"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("Found 3 file(s)"), "{}", outcome.stdout);
    let outcome = outcome
        .says(
            "report demo-unit      FAILED     13 tests: 3 passed, 7 failed, 1 in error, 2 skipped",
        )
        .says("✗ test_shop › test_small_prices[5]  test_shop.py:12")
        .says("      AssertionError: assert '0.05' == '0.5'")
        .says("✗ shop › tests::of_less_than_nothing  src/lib.rs:4");
    outcome
        .says("report demo-coverage  SUCCEEDED  lines 81.8% (9 of 11), branches 100.0% (4 of 4)");

    let record = bed.record();
    assert_eq!(record["buildStatus"], "SUCCEEDED");
    assert_eq!(record["reportArns"].as_array().unwrap().len(), 3);
    let report = &record["reports"][0];
    assert_eq!(counts(report), [3, 7, 1, 2]);
    assert_eq!((&report["type"], &report["status"]), (&"TEST".into(), &"FAILED".into()));
    assert_eq!(report["arn"], record["reportArns"][0]);
    assert_eq!(report["executionId"], record["arn"]);
    assert!(
        report["reportGroupArn"].as_str().unwrap().ends_with(":report-group/demo-unit"),
        "{report}"
    );
    assert_eq!(record["reports"][1]["codeCoverageSummary"]["linesCovered"], 9);

    let details = json(&bed.path("reports/demo-unit/report.json"));
    assert_eq!(&details["report"], report);
    let mut cases = details["testCases"].as_array().unwrap().iter();
    let case = cases.find(|case| case["name"] == "test_price").unwrap();
    assert_eq!(case["testRawDataPath"], "out/pytest.xml");
    assert_eq!(case["durationInNanoSeconds"], 1_000_000);
    // For other tools.
    let xml = fs::read(bed.path("reports/demo-unit/junit.xml")).unwrap();
    let again = runner_core::report::read(runner_core::report::ReportFormat::JunitXml, &xml);
    assert_eq!((again.cases.len(), again.problem), (13, None));
    let coverage = json(&bed.path("reports/demo-coverage/report.json"));
    assert_eq!(coverage["codeCoverages"][0]["filePath"], "shop.py");
    assert!(!bed.path("reports/demo-coverage/junit.xml").exists());
    assert_eq!(list(&bed.path("reports")).len(), 3, "{:?}", list(&bed.path("reports")));
}

/// Status code and message of the failed UPLOAD_ARTIFACTS.
fn refusal(bed: &Bed) -> String {
    let record = bed.record();
    let upload = &record["phases"][8];
    assert_eq!(
        (&upload["phaseType"], &upload["phaseStatus"]),
        (&"UPLOAD_ARTIFACTS".into(), &"FAILED".into())
    );
    assert_eq!(record["buildStatus"], "FAILED");
    assert_eq!(upload["contexts"][0]["statusCode"], "CLIENT_ERROR");
    upload["contexts"][0]["message"].as_str().unwrap().to_owned()
}

fn what_is_malformed_fails_the_phase() {
    let bed = with_recorded();
    bed.write(
        "out/broken.xml",
        "<testsuite name='x'>\n  <testcase name='fine'/>\n  <testcase name='cut'",
    );
    let reports = "  unit:\n    files: [out/pytest.xml, out/broken.xml]\n  other:\n    base-directory: out\n    files: pytest.xml\n    \
                   file-format: NUNITXML\n";
    let outcome = run(&bed, &buildspec("true", reports), &[]).code(1);
    let outcome = outcome
        .says("report demo-unit   INCOMPLETE  7 tests: 2 passed, 3 failed, 1 in error, 1 skipped")
        .says("  out/broken.xml:3:3: ");
    // The path is relative to the source, whatever the base directory.
    outcome.says("  out/pytest.xml:1:39: <testsuites> stands where <test-results> was looked for; this looks like JUNITXML");
    let message = refusal(&bed);
    assert!(
        message.starts_with(
            "Error in UPLOAD_ARTIFACTS phase: [unit: [error processing report: [/codebuild/output/"
        ),
        "{message}"
    );
    assert!(message.contains("/src/out/broken.xml:3:3: "), "{message}");
    assert!(
        message.contains("]] other: [error processing report: [/codebuild/output/")
            && message.ends_with(
                "/src/out/pytest.xml: expected element type <test-results> but have <testsuites>]]]"
            ),
        "{message}"
    );
    let record = bed.record();
    assert_eq!(record["reports"][0]["status"], "INCOMPLETE");
    let details = json(&bed.path("reports/demo-other/report.json"));
    assert!(
        details["problems"][0].as_str().unwrap().starts_with("out/pytest.xml:1:39: "),
        "{details}"
    );
    assert_eq!(details["testCases"].as_array().unwrap().len(), 0);
}

fn files_that_are_not_there() {
    let bed = Bed::new();
    let reports = "  unit:\n    files: ['nosuch/*.xml']\n  other:\n    base-directory: nosuch\n    files: ['**/*']\n";
    let outcome = run(&bed, &buildspec("true", reports), &[]).code(1);
    outcome
        .says("no matching report paths found: unit, other")
        .says("report demo-unit   INCOMPLETE");
    assert_eq!(refusal(&bed), "no matching report paths found");
}

fn a_failed_build_has_its_reports() {
    let bed = with_recorded();
    let outcome =
        run(&bed, &buildspec("exit 1", "  unit:\n    files: out/pytest.xml\n"), &[]).code(1);
    outcome.says("report demo-unit  FAILED  6 tests");
    assert_eq!(counts(&bed.record()["reports"][0]), [1, 3, 1, 1]);
}

fn found_without_being_named() {
    let bed = with_recorded();
    bed.write("pom.xml", "<project/>");
    bed.write("node_modules/x/junit.xml", "<testsuite/>");
    let outcome = run(&bed, &crate::common::build(&["true"]), &[]).code(0);
    for line in [
        "Set report auto-discover timeout to 5 seconds",
        "Expanding base directory path:  .",
        "Expanding **/*",
        "Report auto-discover file discovery took ",
    ] {
        assert!(outcome.stdout.contains(line), "{line}\n{}", outcome.stdout);
    }
    let outcome = outcome.says("report demo-JUNITXML-AutoDiscovered");
    outcome
        .says("report demo-COBERTURAXML-AutoDiscovered")
        .says("report demo-CLOVERXML-AutoDiscovered");
    let record = bed.record();
    let reports = record["reports"].as_array().unwrap();
    assert_eq!(reports.len(), 3);
    let junit = reports.iter().find(|report| report["type"] == "TEST").unwrap();
    assert_eq!(counts(junit), [3, 7, 1, 2]);
}

fn the_search_can_be_steered() {
    let bed = with_recorded();
    let outcome =
        run(&bed, &crate::common::build(&["export CODEBUILD_CONFIG_AUTO_DISCOVER=false"]), &[])
            .code(0);
    assert!(!outcome.stdout.contains("auto-discover"), "{}", outcome.stdout);
    let command = "CODEBUILD_CONFIG_AUTO_DISCOVER_DIR='out/*.py.xml'";
    let outcome = run(&Bed::new(), &crate::common::build(&[command]), &[]).code(0);
    assert!(
        outcome.stdout.contains("No matching auto-discover report paths found"),
        "{}",
        outcome.stdout
    );
    let bed = with_recorded();
    run(&bed, &crate::common::build(&[command]), &[]).code(0);
    assert_eq!(bed.record()["reports"].as_array().unwrap().len(), 1);
}

/// The verdict does not depend on an option that only sets the place of a copy.
fn what_is_named_is_read_whoever_wants_it() {
    let bed = with_recorded();
    let spec = buildspec("true", "  unit:\n    files: out/pytest.xml\n");
    let outcome = bed.build(&spec, &[]).code(0).says("report demo-unit  FAILED  6 tests");
    assert!(!outcome.stderr.contains("not collected"), "{}", outcome.stderr);
    let kept = bed.only().join("reports/demo-unit");
    let details = json(&kept.join("report.json"));
    assert_eq!(details["report"], bed.record()["reports"][0]);
    assert_eq!(details["testCases"].as_array().unwrap().len(), 6);
    let mut names = list(&kept);
    names.sort();
    assert_eq!(names, ["junit.xml", "report.json"], "raw copies are for who asks for them");

    let bed = with_recorded();
    run(&bed, &spec, &[]).code(0);
    for file in ["report.json", "junit.xml"] {
        let kept = fs::read(bed.only().join("reports/demo-unit").join(file)).unwrap();
        assert_eq!(kept, fs::read(bed.path("reports/demo-unit").join(file)).unwrap());
    }

    let bed = Bed::new();
    let missing = "  prowler:\n    files: ['**/*']\n    base-directory: junit-reports\n    file-format: JunitXml\n";
    bed.build(&buildspec("echo ok", missing), &[])
        .code(1)
        .says("no matching report paths found: prowler");
    assert_eq!(refusal(&bed), "no matching report paths found");
    let bed = Bed::new();
    bed.write("a.xml", "<testsuite>");
    bed.build(&buildspec("true", "  unit:\n    files: a.xml\n"), &[]).code(1);
    assert!(refusal(&bed).contains("a.xml:1:12: the file ends within <testsuite>"));
}

/// With AWS's messages, as its users have published them.
fn what_aws_refuses_fails_the_phase() {
    let bed = Bed::new();
    bed.write(
        "scan.xml",
        "<testsuites>\n<testsuite tests='1' failures='3' name='img'><testcase name='a'><failure/></testcase>\
         <testcase name='b'><failure/></testcase><testcase name='c'><failure/></testcase></testsuite></testsuites>",
    );
    let outcome = bed.build(&buildspec("true", "  scan:\n    files: scan.xml\n"), &[]).code(1);
    outcome
        .says("scan.xml:2:1: the suite's own totals make no sense: tests=1, failures and errors=3");
    assert_eq!(
        refusal(&bed),
        "Error in UPLOAD_ARTIFACTS phase: [scan: [error processing report: [InvalidInputException: Test summary: \
         status count cannot be negative]]]"
    );
    // What AWS rejects for no good reason is read, with a notice.
    let bed = Bed::new();
    bed.write(
        "c.json",
        r#"[{"uri": "f", "elements": [{"name": "s", "steps": [{"result": {"status": "passed", "duration": 1.5}}]}]}]"#,
    );
    let reports = "  system:\n    files: c.json\n    file-format: CUCUMBERJSON\n";
    bed.build(&buildspec("true", reports), &[])
        .code(0)
        .says("report demo-system  SUCCEEDED  1 test: 1 passed")
        .says("  warning: c.json: a duration is not a whole number, 1.5: ");
    let kept = json(&bed.only().join("reports/demo-system/report.json"));
    assert_eq!(kept["warnings"].as_array().unwrap().len(), 1);
}

fn what_yields_nothing_is_told() {
    let bed = Bed::new();
    bed.write("empty.xml", "<testsuite name='x' tests='0'/>");
    bed.write("said.xml", "<testsuite tests='5' failures='1'><testcase name='a'/></testsuite>");
    let reports = "  none:\n    files: empty.xml\n  less:\n    files: said.xml\n";
    let outcome = bed.build(&buildspec("true", reports), &[]).code(0);
    let outcome = outcome.says("report demo-none  INCOMPLETE  0 tests");
    let outcome = outcome.says("  empty.xml: there is no test in it");
    let outcome = outcome.says("report demo-less  INCOMPLETE  1 test: 1 passed");
    let outcome = outcome.says("  said.xml:1:1: tests announced: 5, found: 1");
    outcome.says("  said.xml:1:1: failures announced: 1, found: none");
}

/// Totals as displayed by the tools themselves.
fn numbers_of_others() {
    let bed = Bed::new();
    let module = |name: &str, missed: u32, covered: u32| {
        format!(
            "<group name='{name}'><package name='com/acme'><sourcefile name='App.java'><line nr='3' mi='{missed}' \
             ci='{covered}'/><counter type='LINE' missed='{missed}' covered='{covered}'/></sourcefile></package></group>"
        )
    };
    bed.write(
        "j.xml",
        format!("<report name='all'>{}{}</report>", module("a", 0, 4), module("b", 10, 0)),
    );
    bed.write(
        "c.xml",
        "<coverage generated='1'><project><file path='/w/A.java'><line num='2' count='1' type='stmt'/><line num='3' \
         count='0' type='stmt'/></file></project><testproject><file path='/w/ATest.java'><line num='2' count='1' \
         type='stmt'/></file></testproject></coverage>",
    );
    bed.write(
        "coverage.json",
        r#"{"$schema": "s", "meta": {}, "total": {"lines": {"covered": 2, "missed": 1}}, "coverage": {"lib/a.rb":
        {"lines": [1, null, 1, 0, "ignored"]}}, "groups": {}, "errors": {}, "contexts": []}"#,
    );
    let reports = "  jacoco:\n    files: j.xml\n    file-format: JACOCOXML\n  clover:\n    files: c.xml\n    file-format: CLOVERXML\n  \
                   ruby:\n    files: coverage.json\n    file-format: SIMPLECOV\n";
    let outcome = bed.build(&buildspec("true", reports), &[]).code(0);
    let outcome = outcome.says("report demo-jacoco  SUCCEEDED  lines 28.6% (4 of 14)");
    let outcome = outcome.says("report demo-clover  SUCCEEDED  lines 50.0% (1 of 2)");
    outcome.says("report demo-ruby    SUCCEEDED  lines 66.7% (2 of 3)");
    let details = json(&bed.only().join("reports/demo-jacoco/report.json"));
    let files = details["codeCoverages"].as_array().unwrap();
    let paths: Vec<_> = files.iter().map(|file| file["filePath"].as_str().unwrap()).collect();
    assert_eq!(paths, ["a/com/acme/App.java", "b/com/acme/App.java"]);
}

fn failed_cases_are_annotated() {
    let bed = with_recorded();
    let spec = buildspec("true", "  unit:\n    files: [out/nextest.xml, out/broken.xml]\n");
    bed.write("out/broken.xml", "<testsuite>");
    let mut command = bed.build_command(&spec, &["--annotations", "github"]);
    command.env("GITHUB_WORKSPACE", bed.path(""));
    let outcome = crate::common::outcome(&mut command).code(1);
    let outcome = outcome.says("::error file=source/src/lib.rs,line=19,col=9,title=shop › tests%3A%3Aof_few_cents::thread ");
    let outcome = outcome.says("assertion `left == right` failed%0A  left: \"0.05\"%0A");
    outcome.says("::warning title=report demo-unit is incomplete::out/broken.xml:1:12: ");
}

/// What a build may put in the place of a report.
fn hostile_report_files() {
    let bed = Bed::new();
    let command = "mkdir out; mkfifo out/fifo.xml; ln -s /etc/passwd out/link.xml; ln -s loop.xml out/loop.xml; \
                   ln -s / out/root; truncate -s 70M out/large.xml; printf '\\0\\1' > out/zero.xml; \
                   printf '<testsuite><testcase name=\"\\033[31m::error::\"><failure>\\033]0;x\\007</failure></testcase>\
                   </testsuite>' > out/tty.xml; printf '<testsuite/>' > \"$(printf 'out/a\\nb\\377.xml')\"";
    let outcome =
        run(&bed, &buildspec(command, "  unit:\n    files: ['out/*.xml']\n"), &[]).code(1);
    let outcome = outcome.says("INCOMPLETE").says("larger than 64 MiB").says("out/zero.xml:1:1: ");
    assert!(
        !outcome.stderr.contains('\u{1b}') && !outcome.stderr.contains('\u{7}'),
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.lines().any(|line| line.starts_with("::")), "{}", outcome.stderr);
    // A file larger than our limit is not the build's fault, an invalid report is.
    let message = refusal(&bed);
    assert!(message.contains("/out/zero.xml:1:1: ") && !message.contains("large.xml"), "{message}");
    assert!(!message.contains(char::is_control), "{message}");
}

fn secrets_in_reports() {
    let bed = Bed::new();
    let command = "mkdir out; echo \"<testsuite><testcase name='$TOKEN'><failure>is $TOKEN</failure></testcase></testsuite>\" > out/a.xml";
    let options = ["-e", "TOKEN=t0ken-of-app", "--mask", "TOKEN"];
    run(&bed, &buildspec(command, "  unit:\n    files: out/a.xml\n"), &options)
        .code(0)
        .says("✗ ***");
    for file in ["report.json", "junit.xml"] {
        let text = fs::read_to_string(bed.path("reports/demo-unit").join(file)).unwrap();
        assert!(text.contains("***") && !text.contains("t0ken"), "{text}");
    }
    let events = fs::read_to_string(bed.only().join("events.jsonl")).unwrap();
    assert!(!events.contains("t0ken"), "{events}");
}

fn names_of_groups() {
    let bed = with_recorded();
    let arn = "arn:aws:codebuild:eu-west-1:123456789012:report-group/mine";
    let reports = format!(
        "  $GROUP:\n    files: out/pytest.xml\n  {arn}:\n    files: out/pytest.xml\n  ../../up:\n    files: out/pytest.xml\n  \
         .._.._up:\n    files: out/pytest.xml\n"
    );
    run(&bed, &buildspec("export GROUP=from-variable", &reports), &[]).code(0);
    let mut names = list(&bed.path("reports"));
    names.sort();
    // Two names that map to the same folder name get separate folders.
    assert_eq!(names, ["demo-.._.._up", "demo-.._.._up-2", "demo-from-variable", "mine"]);
    assert_eq!(bed.record()["reports"][1]["reportGroupArn"], arn);
}

fn reports_that_cannot_be_written() {
    let bed = with_recorded();
    // A file where a group's folder should be.
    fs::create_dir(bed.path("reports")).unwrap();
    fs::write(bed.path("reports/demo-unit"), "mine").unwrap();
    let outcome =
        run(&bed, &buildspec("true", "  unit:\n    files: out/pytest.xml\n"), &[]).code(0);
    outcome.says("warning: reports are not written").says("report demo-unit  FAILED");
    assert_eq!(fs::read_to_string(bed.path("reports/demo-unit")).unwrap(), "mine");
    assert_eq!(list(&bed.path("reports")), ["demo-unit"]);
}

fn raw_files() {
    let bed = with_recorded();
    let reports = "  plain:\n    files: ['**/pytest.xml']\n  flat:\n    discard-paths: yes\n    files: ['**/pytest.xml']\n";
    run(&bed, &buildspec("true", reports), &[]).code(0);
    let recorded = fs::read(project().join("tests/reports/recorded/pytest.xml")).unwrap();
    for path in ["demo-plain/raw/out/pytest.xml", "demo-flat/raw/pytest.xml"] {
        assert_eq!(fs::read(bed.path("reports").join(path)).unwrap(), recorded, "{path}");
    }
    // A second build replaces what the first has left.
    run(&bed, &buildspec("true", reports), &[]).code(0);
}

fn without_a_container() {
    let bed = with_recorded();
    bed.write("buildspec.yml", buildspec("true", "  unit:\n    files: out/pytest.xml\n"));
    let options = ["run", "--engine", "process", "--project", "demo", "--reports", "../reports"];
    bed.runner(options).code(0).says("report demo-unit  FAILED  6 tests");
    assert_eq!(
        json(&bed.path("reports/demo-unit/report.json"))["testCases"].as_array().unwrap().len(),
        6
    );
}

fn a_directory_that_cannot_be_made() {
    let bed = Bed::new();
    bed.write("file", "");
    bed.write("buildspec.yml", crate::common::build(&["true"]));
    bed.runner(["run", "--reports", "file/below"])
        .code(2)
        .says("--reports: cannot write to file/below: ")
        .says("source/file is a file");
    // The check whether it is writable leaves no trace.
    fs::create_dir(bed.path("there")).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(bed.path("there")).unwrap().set_modified(long_ago).unwrap();
    let there = bed.path("there").display().to_string();
    bed.runner(["run", "--reports", &there, "--build-json", "no/such.json"])
        .code(2)
        .says("--build-json: cannot write no/such.json");
    assert_eq!(fs::metadata(&there).unwrap().modified().unwrap(), long_ago);
}

/// Copies a project of `tests/reports` to the source and runs one of its commands in a build
/// without a container: the tools are those of this machine.
fn live(folder: &str, command: &str, reports: &str) -> Bed {
    let bed = Bed::new();
    let from = project().join("tests/reports").join(folder);
    let in_src = list(&from.join("src")).into_iter().map(|name| format!("src/{name}"));
    for name in list(&from).into_iter().filter(|name| name != "src").chain(in_src) {
        bed.write(&name, fs::read(from.join(&name)).unwrap());
    }
    bed.write("buildspec.yml", buildspec(&format!("{command} || true"), reports));
    let options = ["run", "--engine", "process", "--project", "demo", "--reports", "../reports"];
    bed.runner(options).code(0);
    bed
}

/// The position of each case that has one, from the JUnit file below `--reports`; sorted, because
/// these programs run their cases in parallel.
fn places(bed: &Bed) -> Vec<String> {
    let xml = fs::read_to_string(bed.path("reports/demo-unit/junit.xml")).unwrap();
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        rest.split('"').next().map(str::to_owned)
    };
    let cases = xml.lines().filter(|line| line.trim_start().starts_with("<testcase"));
    let mut places: Vec<_> = cases
        .filter_map(|line| {
            Some(format!("{}:{}", attribute(line, "file")?, attribute(line, "line")?))
        })
        .collect();
    places.sort();
    places
}

fn pytest_and_its_coverage() {
    let command = format!(
        "{} -q --junitxml=out/unit.xml --cov=shop --cov-branch --cov-report=xml:out/coverage.xml",
        python("pytest").display()
    );
    let reports = "  unit:\n    files: out/unit.xml\n  coverage:\n    files: out/coverage.xml\n    file-format: COBERTURAXML\n";
    let bed = live("pytest", &command, reports);
    let record = bed.record();
    assert_eq!(counts(&record["reports"][0]), [1, 3, 1, 1]);
    assert_eq!(
        places(&bed),
        ["shop.py:3", "test_shop.py:12", "test_shop.py:12", "test_shop.py:21"]
    );
    let coverage = &record["reports"][1]["codeCoverageSummary"];
    assert_eq!((&coverage["linesCovered"], &coverage["linesMissed"]), (&5.into(), &1.into()));
}

fn jest_and_its_coverage() {
    // Its modules are found where they are installed.
    let modules = node("node_modules");
    let command = format!(
        "ln -s {} node_modules && JEST_JUNIT_OUTPUT_NAME=unit.xml node node_modules/.bin/jest --cache=false",
        modules.display()
    );
    let reports = "  unit:\n    files: unit.xml\n  coverage:\n    files: coverage/clover.xml\n    file-format: CLOVERXML\n  \
                   cobertura:\n    files: coverage/cobertura-coverage.xml\n    file-format: COBERTURAXML\n";
    let bed = live("jest", &command, reports);
    let record = bed.record();
    assert_eq!(counts(&record["reports"][0]), [1, 2, 0, 1]);
    assert_eq!(places(&bed), ["shop.js:3", "shop.test.js:9"]);
    for report in [1, 2] {
        let coverage = &record["reports"][report]["codeCoverageSummary"];
        assert_eq!((&coverage["linesCovered"], &coverage["linesMissed"]), (&4.into(), &1.into()));
    }
}

/// The directory of the Rust programs that built this one; those on PATH may differ.
fn rust() -> String {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap();
    format!("{}/bin", String::from_utf8(sysroot.stdout).unwrap().trim())
}

/// The output that every Rust test program can write.
fn rust_test_programs() {
    let command = format!(
        "{}/rustc --test --edition 2024 -o unit src/lib.rs && RUSTC_BOOTSTRAP=1 ./unit -Z unstable-options \
         --format junit > unit.xml",
        rust()
    );
    let bed = live("nextest", &command, "  unit:\n    files: unit.xml\n");
    assert_eq!(counts(&bed.record()["reports"][0]), [1, 2, 0, 0]);
    assert_eq!(places(&bed), ["src/lib.rs:19", "src/lib.rs:4"]);
}

fn nextest() {
    let command = format!(
        "mkdir .config && printf '[profile.default.junit]\\npath = \"unit.xml\"\\n' > .config/nextest.toml && \
         PATH={}:$PATH cargo-nextest nextest run --offline --no-fail-fast",
        rust()
    );
    let bed = live("nextest", &command, "  unit:\n    files: target/nextest/default/unit.xml\n");
    assert_eq!(counts(&bed.record()["reports"][0]), [1, 2, 0, 0]);
    assert_eq!(places(&bed), ["src/lib.rs:19", "src/lib.rs:4"]);
}
