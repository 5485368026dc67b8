//! Which cases count, and which files are doubted.

use super::{ReportFormat, covered, letters, place, read, sound};

/// Why a file may be incomplete.
fn doubts(format: ReportFormat, text: &str) -> Vec<String> {
    let contents = read(format, text.as_bytes());
    assert_eq!(contents.problem, None, "{text}");
    contents.doubts.iter().map(ToString::to_string).collect()
}

#[test]
fn simplecov_from_its_first_version_on_has_other_keys() {
    let text = r#"{"$schema": "https://example.org/coverage-v1.1.schema.json", "meta": {"schema_version": "1.1"},
        "total": {"lines": {"covered": 2, "missed": 1}}, "coverage": {"lib/a.rb": {
        "lines": [1, null, 1, 0, "ignored"], "source": ["a", "b", "c", "d", "e"], "covered_lines": 2,
        "branches": [{"type": "then", "start_line": 1, "end_line": 1, "coverage": 0},
        {"type": "then", "start_line": 1, "end_line": 1, "coverage": 4},
        {"type": "else", "start_line": 2, "end_line": 2, "coverage": "ignored"}]}},
        "groups": {"Models": {"coverage": 5}}, "errors": {}, "contexts": []}"#;
    assert_eq!(covered(&sound(ReportFormat::Simplecov, text)), [("lib/a.rb", [2, 1, 1, 1])]);
    let text = text.replace("\"missed\": 1}", "\"missed\": 8}");
    assert_eq!(doubts(ReportFormat::Simplecov, &text), ["lines announced: 10, found: 3"]);
}

#[test]
fn branches_of_several_runs_unite() {
    let text = r#"{"RSpec": {"coverage": {"/a.rb": {"lines": [1, 0], "branches": {"[:if, 0]":
        {"[:then, 1]": 2, "[:else, 2]": 0}}}}, "timestamp": 1}, "Minitest": {"coverage": {"/a.rb":
        {"lines": [0, 1], "branches": {"[:if, 0]": {"[:then, 1]": 0, "[:else, 2]": 1}}}}}, "version": 2}"#;
    assert_eq!(covered(&sound(ReportFormat::Simplecov, text)), [("/a.rb", [2, 0, 2, 0])]);
}

#[test]
fn test_code_is_no_source() {
    let text = "<coverage generated='1' clover='4.4.1'><project name='x'><metrics statements='4' coveredstatements='1'/>\
        <package name='p.q'><file name='A.java'><line num='2' count='1' type='stmt'/><line num='3' count='0' \
        type='stmt'/><line num='4' count='0' type='stmt'/><line num='5' count='0' type='stmt'/></file></package>\
        </project><testproject name='x'><metrics statements='2' coveredstatements='2'/><package name='p'>\
        <file name='ATest.java' path='/w/ATest.java'><line num='2' count='1' type='stmt'/></file></package>\
        </testproject></coverage>";
    assert_eq!(covered(&sound(ReportFormat::CloverXml, text)), [("p/q/A.java", [1, 3, 0, 0])]);
    // A condition also counts as a statement on the same line.
    let text = "<coverage clover='4' generated='1'><project><file path='/a'><metrics statements='1' \
        coveredstatements='1' conditionals='2' coveredconditionals='1'/><line num='2' count='3' type='stmt'/>\
        <line num='2' truecount='3' falsecount='0' type='cond'/></file></project></coverage>";
    assert_eq!(covered(&sound(ReportFormat::CloverXml, text)), [("/a", [1, 0, 1, 1])]);
}

#[test]
fn lines_of_methods_alone_are_counted() {
    let text = "<coverage line-rate='0.5' lines-valid='3' lines-covered='2'><packages><package><classes>\
        <class name='A' filename='a.py'><methods><method name='f'><lines><line number='1' hits='1'/>\
        <line number='2' hits='0' branch='true' condition-coverage='50% (1/2)'/></lines></method></methods><lines/>\
        </class><class name='B'><lines><line number='1' hits='1'/></lines></class>\
        </classes></package></packages></coverage>";
    let contents = sound(ReportFormat::CoberturaXml, text);
    assert_eq!(covered(&contents), [("a.py", [1, 1, 1, 1]), ("B", [1, 0, 0, 0])]);
}

#[test]
fn status_comes_from_children_as_well() {
    let two = "<test-results total='3' failures='2'><test-suite name='T'><results>\
        <test-case name='N.Ok' executed='True'/><test-case name='N.Bad' executed='True'><failure>\
        <message>m</message></failure></test-case><test-case name='N.Odd' result='Success'><failure/></test-case>\
        </results></test-suite></test-results>";
    assert_eq!(letters(&sound(ReportFormat::NunitXml, two)), "SFF");
    // A failed tear-down of a suite. A suite around a failed case repeats the failure.
    let three = "<test-run total='2' failed='1'><test-suite name='All' result='Failed'><failure><message>One or more \
        child tests had errors</message></failure><test-suite name='Down' result='Failed' site='TearDown'><failure>\
        <message>TearDown: no</message></failure><test-case name='a' result='Passed'/></test-suite>\
        <test-suite name='In' result='Failed' site='Child'><failure><message>One or more</message></failure>\
        <test-case name='b' result='Failed'/></test-suite></test-suite></test-run>";
    let contents = sound(ReportFormat::Nunit3Xml, three);
    assert_eq!(letters(&contents), "SFF");
    assert_eq!(
        (contents.cases[1].name.as_str(), contents.cases[1].message.as_str()),
        ("Down", "TearDown: no")
    );

    let junit = "<testsuite name='s'><testcase name='a' status='failed'/><testcase name='b' result='error'/>\
        <testcase name='c' status='passed'><error/></testcase></testsuite>";
    assert_eq!(letters(&sound(ReportFormat::JunitXml, junit)), "FEE");
    let junit = "<testsuites><testsuite name='s'><error message='cannot begin'>at a.js:3:1</error></testsuite></testsuites>";
    let contents = sound(ReportFormat::JunitXml, junit);
    assert_eq!(
        (letters(&contents), place(&contents.cases[0])),
        ("E".to_owned(), "a.js:3".to_owned())
    );

    let testng = "<testng-results><suite name='S'><class name='C'><test-method name='a'><exception class='x'/>\
        </test-method><test-method name='b' status='PASS'><exception class='expected'/></test-method></class>\
        </suite></testng-results>";
    assert_eq!(letters(&sound(ReportFormat::TestngXml, testng)), "FS");

    // A failed test whose rows have passed.
    let trx = "<TestRun><Results><UnitTestResult testId='1' testName='Rows' outcome='Failed'><InnerResults>\
        <UnitTestResult testId='1' testName='Rows (1)' outcome='Passed'/></InnerResults></UnitTestResult></Results>\
        </TestRun>";
    assert_eq!(letters(&sound(ReportFormat::VisualStudioTrx, trx)), "SF");
}

#[test]
fn cucumber_hooks_and_steps_without_a_result() {
    let scenario = |name: &str, rest: &str| format!(r#"{{"name": "{name}", "line": 3, {rest}}}"#);
    let passed = r#"{"name": "a", "line": 4, "result": {"status": "passed", "duration": 5}"#;
    let failed = r#"[{"result": {"status": "failed", "duration": 7, "error_message": "boom"}, "match":
        {"location": "Hooks.x()"}}]"#;
    let scenarios = [
        scenario("after a step", &format!(r#""steps": [{passed}, "after": {failed}}}]"#)),
        scenario("before a step", &format!(r#""steps": [{passed}, "before": {failed}}}]"#)),
        scenario("empty", r#""before": [{"result": {"status": "passed"}}], "steps": []"#),
        scenario("no result", &format!(r#""steps": [{passed}}}, {{"name": "p", "match": {{}}}}]"#)),
        scenario("fine", &format!(r#""before": [{{"match": {{}}}}], "steps": [{passed}}}]"#)),
    ];
    let text =
        format!(r#"[{{"uri": "f.feature", "name": "F", "elements": [{}]}}]"#, scenarios.join(","));
    let contents = sound(ReportFormat::CucumberJson, &text);
    assert_eq!(letters(&contents), "FFUUS");
    assert_eq!(contents.cases[0].message, "failed: hook after the step Hooks.x()\nboom");
    assert_eq!(
        (contents.cases[0].duration_ns, place(&contents.cases[0])),
        (12, "f.feature:4".to_owned())
    );
    assert_eq!(contents.cases[2].message, "it has no steps");
    assert_eq!(contents.cases[3].message, "without a result: p");
    assert_eq!(contents.warnings, []);
}

#[test]
fn fractions_of_nanoseconds_are_read_and_told() {
    let text = r#"[{"uri": "f", "elements": [{"name": "s", "steps": [{"result": {"status": "passed",
        "duration": 253118.99999999997}}, {"result": {"status": "passed", "duration": 1.5}}]}]}]"#;
    let contents = sound(ReportFormat::CucumberJson, text);
    assert_eq!(contents.cases[0].duration_ns, 253_119);
    let told: Vec<String> = contents.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("253118.99999999997"), "{told:?}");
}

#[test]
fn a_suite_whose_totals_make_no_sense_is_refused() {
    let text = "<testsuites>\n<testsuite name='img' tests='1' failures='3' time=''><testcase name='a'><failure/></testcase>\
        <testcase name='b'><failure/></testcase><testcase name='c'><failure/></testcase></testsuite></testsuites>";
    let contents = read(ReportFormat::JunitXml, text.as_bytes());
    let problem = contents.problem.as_ref().expect("is refused");
    assert_eq!((problem.line, problem.column), (2, 1));
    assert_eq!(
        problem.aws.as_deref(),
        Some("InvalidInputException: Test summary: status count cannot be negative")
    );
    assert_eq!(letters(&contents), "FFF", "what is there is shown all the same");
    // Some tools have no test count, or include skipped tests.
    for fine in ["<testsuite failures='1'>", "<testsuite tests='2' failures='1' skipped='1'>"] {
        let text = format!(
            "{fine}<testcase><failure/></testcase><testcase><skipped/></testcase></testsuite>"
        );
        assert_eq!(read(ReportFormat::JunitXml, text.as_bytes()).problem, None, "{fine}");
    }
}

#[test]
fn what_yields_nothing_is_doubted() {
    for (format, text, doubt) in [
        (ReportFormat::JunitXml, "<testsuite/>", "there is no test in it"),
        (ReportFormat::JunitXml, "<testsuites tests='0'/>", "there is no test in it"),
        (
            ReportFormat::JunitXml,
            "<testsuites>\n<testsuite tests='2'/></testsuites>",
            "2:1: tests announced: 2, found: 0",
        ),
        (
            ReportFormat::JunitXml,
            "<testsuites tests='3'><testsuite><testcase/></testsuite><testcase/></testsuites>",
            "1:1: tests announced: 3, found: 2",
        ),
        (
            ReportFormat::JunitXml,
            "<testsuite tests='1' failures='1'><testcase/></testsuite>",
            "1:1: failures announced: 1, found: none",
        ),
        (ReportFormat::CucumberJson, "[]", "there is no test in it"),
        (ReportFormat::CucumberJson, r#"[{"uri": "a", "elements": []}]"#, "there is no test in it"),
        (ReportFormat::NunitXml, "<test-results total='1'/>", "1:1: tests announced: 1, found: 0"),
        (
            ReportFormat::Nunit3Xml,
            "<test-run total='1' failed='1'><test-case result='Passed'/></test-run>",
            "1:1: failures announced: 1, found: none",
        ),
        (
            ReportFormat::TestngXml,
            "<testng-results passed='1' skipped='1'><suite><class><test-method status='PASS'/></class></suite>\
             </testng-results>",
            "1:1: tests announced: 2, found: 1",
        ),
        (
            ReportFormat::VisualStudioTrx,
            "<TestRun><ResultSummary outcome='Completed'><Counters total='4'/></ResultSummary></TestRun>",
            "1:1: results announced: 4, found: 0",
        ),
        (
            ReportFormat::VisualStudioTrx,
            "<TestRun><Results><UnitTestResult outcome='Passed'/></Results><ResultSummary outcome='Failed'>\
             <RunInfos><RunInfo><Text>The run was aborted</Text></RunInfo></RunInfos></ResultSummary></TestRun>",
            "the run as a whole has failed: The run was aborted",
        ),
        (ReportFormat::CloverXml, "<coverage generated='1'/>", "there is no line in it"),
        (
            ReportFormat::CloverXml,
            "<coverage><project><metrics statements='4'/></project></coverage>",
            "statements announced: 4, found: 0",
        ),
        (ReportFormat::CoberturaXml, "<coverage line-rate='1'/>", "there is no line in it"),
        (
            ReportFormat::CoberturaXml,
            "<coverage lines-valid='9'><packages><package><classes><class filename='a'><lines>\
             <line number='1' hits='1'/></lines></class></classes></package></packages></coverage>",
            "1:1: lines announced: 9, found: 1",
        ),
        (ReportFormat::JacocoXml, "<report><package name='p'/></report>", "debug information"),
        (
            ReportFormat::JacocoXml,
            "<report><counter type='LINE' missed='1' covered='1'/></report>",
            "lines announced: 2, found: 0",
        ),
        (ReportFormat::Simplecov, r#"{"coverage": {}}"#, "there is no line in it"),
    ] {
        let found = doubts(format, text);
        assert!(found.len() == 1 && found[0].contains(doubt), "{text}: {found:?}");
    }
    // Catch2 counts assertions, Surefire only the last run, and an inner suite's cases count for
    // the outer one.
    for text in [
        "<testsuites><testsuite tests='9' hostname='tbd'><testcase/></testsuite></testsuites>",
        "<testsuite tests='1'><testcase/><testcase/></testsuite>",
        "<testsuites tests='1'><testsuite tests='1' failures='1'><testsuite tests='1'><testcase><failure/></testcase>\
         </testsuite></testsuite></testsuites>",
    ] {
        assert_eq!(doubts(ReportFormat::JunitXml, text), Vec::<String>::new(), "{text}");
    }
}
