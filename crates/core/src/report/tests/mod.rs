//! All formats, the limits, the writer.

mod counts;
mod union;

use super::*;
use crate::mask::Secrets;

const PYTEST: &str = include_str!("../../../../../tests/reports/recorded/pytest.xml");
const JEST: &str = include_str!("../../../../../tests/reports/recorded/jest.xml");
const NEXTEST: &str = include_str!("../../../../../tests/reports/recorded/nextest.xml");

/// The first letters of the statuses, in order.
fn letters(contents: &Contents) -> String {
    contents.cases.iter().map(|case| case.status.name().chars().next().unwrap_or('?')).collect()
}

fn sound(format: ReportFormat, text: &str) -> Contents {
    let contents = read(format, text.as_bytes());
    assert_eq!(contents.problem, None, "{format}");
    assert_eq!(contents.doubts, [], "{format}");
    assert_eq!(detect(text), Some(format));
    contents
}

fn place(case: &Case) -> String {
    case.place.as_ref().map_or_else(String::new, |place| format!("{}:{}", place.file, place.line))
}

#[test]
fn junit_as_pytest_jest_and_nextest_write_it() {
    let contents = sound(ReportFormat::JunitXml, PYTEST);
    assert_eq!(letters(&contents), "SFFFES", "errors are no failures");
    let places: Vec<String> = contents.cases.iter().map(place).collect();
    let wanted = ["", "test_shop.py:12", "test_shop.py:12", "shop.py:3", "test_shop.py:21", ""];
    assert_eq!(places, wanted);
    let case = &contents.cases[4];
    assert_eq!((case.title().as_str(), case.suite.as_str()), ("test_shop › test_stock", "pytest"));
    assert!(case.message.contains("no stock <today> & \"tomorrow\""), "{}", case.message);

    let contents = sound(ReportFormat::JunitXml, JEST);
    assert_eq!(letters(&contents), "SFFS");
    assert_eq!(place(&contents.cases[1]), "/tmp/beta/reports/jest/shop.test.js:9");
    assert_eq!(place(&contents.cases[2]), "/tmp/beta/reports/jest/shop.js:3");
    assert_eq!(contents.cases[1].title(), "price of few cents");
    assert_eq!(contents.cases[0].duration_ns, 2_000_000);

    let contents = sound(ReportFormat::JunitXml, NEXTEST);
    assert_eq!(letters(&contents), "SFF");
    assert_eq!(place(&contents.cases[2]), "src/lib.rs:4");
    assert_eq!(contents.cases[2].class, "shop");
}

#[test]
fn a_failure_without_words_is_told_by_what_the_case_has_written() {
    // As a Rust test program with `--format junit` writes it.
    let text = "<testsuites><testsuite name='test' package='test' id='0'><testcase classname='tests' \
                name='few' time='0'><failure type='assert'/><system-out><![CDATA[]]>&#xA;<![CDATA[thread \
                'tests::few' (12425) panicked at src/lib.rs:19:9:]]>&#xA;<![CDATA[assertion failed]]>\
                </system-out></testcase><testcase classname='tests' name='fine' time='0'><system-out>talk\
                </system-out></testcase><system-out/></testsuite></testsuites>";
    let contents = sound(ReportFormat::JunitXml, text);
    assert_eq!(letters(&contents), "FS");
    assert_eq!(place(&contents.cases[0]), "src/lib.rs:19");
    assert!(contents.cases[0].message.contains("assertion failed"), "{:?}", contents.cases[0]);
    assert_eq!(contents.cases[1].message, "");
}

#[test]
fn dialects_of_junit() {
    let text = "<testsuite name='s'><testcase name='a' classname='C' time='1,234.5' file='a.py' line='7'>\
                <rerunFailure message='once'>x</rerunFailure></testcase>\
                <testcase name='b' status='notrun'/><testcase name='c'><failure/></testcase>\
                <testcase name='d'><skipped>why</skipped></testcase>\
                <testcase name='e' file='e.py'><error message='m'>m\nat e.py:9: no</error><failure>f</failure></testcase>\
                <system-out>noise</system-out></testsuite>";
    let contents = sound(ReportFormat::JunitXml, text);
    assert_eq!(letters(&contents), "SSFSF");
    assert_eq!(contents.cases[0].duration_ns, 1_234_500_000_000);
    assert_eq!(contents.cases[0].status, CaseStatus::Succeeded);
    assert_eq!(place(&contents.cases[0]), "a.py:7");
    assert_eq!(contents.cases[1].status, CaseStatus::Skipped);
    assert_eq!(contents.cases[3].message, "why");
    assert_eq!(contents.cases[4].message, "m\nat e.py:9: no\nf");
    assert_eq!(place(&contents.cases[4]), "e.py:9");
}

#[test]
fn nunit_in_both_generations() {
    let two = "<?xml version=\"1.0\"?><test-results name=\"a.dll\" total=\"5\"><test-suite name=\"Suite\"><results>\
        <test-case name=\"N.C.Good(1.5,&quot;a.b&quot;)\" executed=\"True\" result=\"Success\" time=\"0.25\"/>\
        <test-case name=\"N.C.Bad\" result=\"Failure\"><failure><message><![CDATA[  Expected: 1]]></message>\
        <stack-trace><![CDATA[at N.C.Bad() in /w/C.cs:line 12]]></stack-trace></failure></test-case>\
        <test-case name=\"N.C.Worse\" result=\"Error\"/><test-case name=\"N.C.Not\" executed=\"False\"><reason>\
        <message>later</message></reason></test-case><test-case name=\"N.C.What\" result=\"Inconclusive\"/>\
        </results></test-suite></test-results>";
    let contents = sound(ReportFormat::NunitXml, two);
    assert_eq!(letters(&contents), "SFESU");
    assert_eq!(contents.cases[0].name, "Good(1.5,\"a.b\")");
    assert_eq!(
        (contents.cases[0].class.as_str(), contents.cases[0].duration_ns),
        ("N.C", 250_000_000)
    );
    assert_eq!(contents.cases[1].message, "Expected: 1\nat N.C.Bad() in /w/C.cs:line 12");
    assert_eq!(place(&contents.cases[1]), "/w/C.cs:12");
    assert_eq!(contents.cases[3].message, "later");

    let three = "<test-run id='2'><test-suite type='TestFixture' name='C'><test-case id='1' name='Good' \
        fullname='N.C.Good' classname='N.C' result='Passed' duration='0.5'/><test-case name='Bad' classname='N.C' \
        result='Failed'><failure><message>m</message></failure></test-case><test-case name='Worse' classname='N.C' \
        result='Failed' label='Error'/><test-case name='Not' classname='N.C' result='Skipped' label='Ignored'>\
        <reason><message>r</message></reason></test-case><test-case fullname='N.C.What' result='Inconclusive'/>\
        </test-suite></test-run>";
    let contents = sound(ReportFormat::Nunit3Xml, three);
    assert_eq!(letters(&contents), "SFESU");
    assert_eq!(contents.cases[4].title(), "N.C › What");
}

#[test]
fn testng_without_its_set_up() {
    let text = "<testng-results skipped='1'><reporter-output/><suite name='S'><test name='T'><class name='a.B'>\
        <test-method status='PASS' name='setUp' is-config='true'/><test-method status='PASS' name='good' \
        duration-ms='15'/><test-method status='FAIL' name='bad'><exception class='java.lang.AssertionError'>\
        <message><![CDATA[no]]></message><full-stacktrace><![CDATA[java.lang.AssertionError: no\n\tat \
        a.B.bad(B.java:8)]]></full-stacktrace></exception></test-method><test-method status='SKIP' name='not'/>\
        <test-method status='FAIL' name='tearDown' is-config='true'/></class></test></suite></testng-results>";
    let contents = sound(ReportFormat::TestngXml, text);
    assert_eq!(letters(&contents), "SFSF");
    assert_eq!(contents.cases[0].duration_ns, 15_000_000);
    assert_eq!(place(&contents.cases[1]), "B.java:8");
    assert!(
        contents.cases[1].message.starts_with("java.lang.AssertionError: no\n"),
        "{contents:?}"
    );
}

#[test]
fn trx_with_rows_of_data() {
    let text = "<?xml version=\"1.0\" encoding=\"utf-8\"?><TestRun name='run' \
        xmlns='http://microsoft.com/schemas/VisualStudio/TeamTest/2010'><Results>\
        <UnitTestResult testId='1' testName='N.C.Good' outcome='Passed' duration='00:01:02.5000000'/>\
        <UnitTestResult testId='2' testName='Bad' outcome='Failed'><Output><ErrorInfo><Message>m</Message>\
        <StackTrace>   at N.C.Bad() in C:\\w\\C.cs:line 3</StackTrace></ErrorInfo></Output></UnitTestResult>\
        <UnitTestResult testId='3' testName='Rows' outcome='Failed'><InnerResults><UnitTestResult testId='3' \
        testName='Rows (1)' outcome='Passed'/><UnitTestResult testId='3' testName='Rows (2)' outcome='Timeout'/>\
        </InnerResults></UnitTestResult><UnitTestResult testId='4' testName='Not' outcome='NotExecuted'/></Results>\
        <TestDefinitions><UnitTest id='1' name='Good'><TestMethod className='N.C, Assembly' name='Good'/></UnitTest>\
        </TestDefinitions></TestRun>";
    let contents = sound(ReportFormat::VisualStudioTrx, text);
    assert_eq!(letters(&contents), "SFSES");
    assert_eq!(contents.cases[0].title(), "N.C › Good");
    assert_eq!(contents.cases[0].duration_ns, 62_500_000_000);
    assert_eq!(place(&contents.cases[1]), "C:\\w\\C.cs:3");
}

#[test]
fn cucumber_scenarios_are_as_bad_as_their_worst_step() {
    let text = r#"[{"uri": "features/a.feature", "name": "A", "keyword": "Feature", "elements": [
        {"type": "background", "steps": [{"name": "b", "result": {"status": "passed", "duration": 5}}]},
        {"name": "good", "line": 4, "steps": [{"result": {"status": "passed", "duration": 1000000}}]},
        {"name": "bad", "line": 9, "steps": [{"keyword": "Then ", "name": "it works", "line": 11,
         "result": {"status": "failed", "error_message": "it does not"}}, {"result": {"status": "skipped"}}]},
        {"name": "new", "steps": [{"result": {"status": "undefined"}}]},
        {"name": "not", "steps": [{"result": {"status": "pending"}}]}]}]"#;
    let contents = sound(ReportFormat::CucumberJson, text);
    assert_eq!(letters(&contents), "SFES");
    assert_eq!(contents.cases[0].duration_ns, 1_000_005);
    assert_eq!(place(&contents.cases[1]), "features/a.feature:11");
    assert_eq!(contents.cases[1].message, "failed: Then it works\nit does not");
}

/// Path, lines and branches of each file.
fn covered(contents: &Contents) -> Vec<(&str, [u64; 4])> {
    let files = contents.coverage.iter();
    files
        .map(|file| {
            let FileCoverage { path, lines, branches, .. } = file;
            let figures = [lines, branches].map(|tally| [tally.covered(), tally.missed()]);
            (path.as_str(), figures.concat().try_into().expect("four"))
        })
        .collect()
}

#[test]
fn coverage_in_four_formats() {
    let recorded = include_str!("../../../../../tests/reports/recorded/coverage.py.xml");
    assert_eq!(covered(&sound(ReportFormat::CoberturaXml, recorded)), [("shop.py", [5, 1, 2, 0])]);
    let recorded = include_str!("../../../../../tests/reports/recorded/jest-cobertura.xml");
    assert_eq!(covered(&sound(ReportFormat::CoberturaXml, recorded)), [("shop.js", [4, 1, 2, 0])]);
    let recorded = include_str!("../../../../../tests/reports/recorded/jest-clover.xml");
    let path = "/tmp/beta/reports/jest/shop.js";
    assert_eq!(covered(&sound(ReportFormat::CloverXml, recorded)), [(path, [4, 1, 2, 0])]);

    let clover = "<coverage clover='3' generated='1'><project><file name='a'><line num='1' type='method' count='1'/>\
        <line num='2' type='cond' truecount='3' falsecount='0'/><line num='3' type='stmt' count='0'/></file>\
        <file path='b'><metrics statements='9' coveredstatements='4' conditionals='2' coveredconditionals='1'/></file>\
        </project></coverage>";
    let contents = sound(ReportFormat::CloverXml, clover);
    assert_eq!(covered(&contents), [("a", [1, 1, 1, 1]), ("b", [4, 5, 1, 1])]);

    let jacoco = "<?xml version='1.0'?><!DOCTYPE report PUBLIC '-//JACOCO//DTD Report 1.1//EN' 'report.dtd'>\
        <report name='r'><sessioninfo id='1'/><group name='g'><package name='a/b'><class name='a/b/C'>\
        <counter type='LINE' missed='9' covered='9'/></class><sourcefile name='C.java'><line nr='1' mi='0'/>\
        <counter type='LINE' missed='1' covered='3'/><counter type='BRANCH' missed='2' covered='4'/></sourcefile>\
        </package></group></report>";
    let contents = sound(ReportFormat::JacocoXml, jacoco);
    assert_eq!(covered(&contents), [("a/b/C.java", [3, 1, 4, 2])]);

    let simplecov = r#"{"RSpec": {"coverage": {"/a.rb": {"lines": [1, null, 0, "ignored"], "branches":
        {"[:if, 0]": {"[:then, 1]": 2, "[:else, 2]": 0}}}, "/b.rb": [1, 0]}, "timestamp": 1},
        "Minitest": {"coverage": {"/a.rb": {"lines": [0, null, 5, null]}}}}"#;
    let contents = sound(ReportFormat::Simplecov, simplecov);
    assert_eq!(covered(&contents), [("/a.rb", [2, 0, 1, 1]), ("/b.rb", [1, 1, 0, 0])]);
    let formatter = r#"{"meta": {"simplecov_version": "1"}, "coverage": {"/a.rb": {"lines": [1, 0],
        "branches": [{"coverage": 1}, {"coverage": 0}]}}, "groups": {}}"#;
    assert_eq!(
        covered(&read(ReportFormat::Simplecov, formatter.as_bytes())),
        [("/a.rb", [1, 1, 1, 1])]
    );
}

#[test]
fn what_is_malformed_is_told_with_its_place_and_the_rest_is_kept() {
    for (format, text, line, column, reason, cases) in [
        (ReportFormat::JunitXml, "", 0, 0, "the file is empty", 0),
        (ReportFormat::JunitXml, "no xml", 1, 1, "outside of any element", 0),
        (
            ReportFormat::JunitXml,
            "<testsuite>\n<testcase name='a'/>\n<testcase name='b'>\n",
            4,
            1,
            "within <testcase>",
            1,
        ),
        (
            ReportFormat::JunitXml,
            "<testsuite>\n<testcase name='a'/></testcase>",
            2,
            21,
            "testcase",
            1,
        ),
        (ReportFormat::JunitXml, "<testsuite>\n  <testcase name='a' x=y/>", 2, 3, "attribute", 0),
        (
            ReportFormat::JunitXml,
            "<testsuite><a>&nosuch;</a></testsuite>",
            1,
            15,
            "&nosuch; is not known",
            0,
        ),
        (ReportFormat::JunitXml, "<coverage line-rate='1'/>", 1, 1, "looks like COBERTURAXML", 0),
        (ReportFormat::CucumberJson, "[{\"uri\": 5}]", 1, 10, "invalid type", 0),
        (ReportFormat::CucumberJson, "[\n  {]", 2, 4, "", 0),
        (ReportFormat::Simplecov, "{\"a\": {\"coverage\": []}}", 1, 19, "a map of files", 0),
        (ReportFormat::Simplecov, "{}", 0, 0, "no `coverage`", 0),
    ] {
        let contents = read(format, text.as_bytes());
        let problem = contents.problem.unwrap_or_else(|| panic!("{text} is sound"));
        assert_eq!((problem.line, problem.column), (line, column), "{text}: {problem}");
        assert!(problem.reason.contains(reason), "{text}: {problem}");
        assert_eq!(contents.cases.len(), cases, "{text}");
    }
    let contents =
        read(ReportFormat::JunitXml, b"<testsuite>\n<testcase name='a\xff'/></testsuite>");
    assert_eq!(contents.problem.map(|p| (p.line, p.column)), Some((2, 18)));
    assert_eq!(contents.cases.len(), 1);
    let deep = "<testsuite>".repeat(10_000);
    assert!(
        read(ReportFormat::JunitXml, deep.as_bytes())
            .problem
            .is_some_and(|p| p.reason.contains("deep"))
    );
}

#[test]
fn other_encodings() {
    let text = "<testsuite><testcase name='\u{e4}'/></testsuite>";
    let mut wide = vec![0xff, 0xfe];
    wide.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    let mut latin = b"<?xml version='1.0' encoding='ISO-8859-1'?>".to_vec();
    latin.extend(text.chars().map(|c| c as u8));
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend(text.as_bytes());
    for bytes in [wide, latin, marked] {
        let contents = read(ReportFormat::JunitXml, &bytes);
        assert_eq!(contents.problem, None);
        assert_eq!(contents.cases[0].name, "\u{e4}");
    }
}

/// A report file of the source.
fn file(name: &str) -> ReportFile {
    ReportFile { name: name.to_owned(), shown: name.to_owned(), path: format!("/src/{name}") }
}

fn group(text: &str) -> ReportGroupReader {
    let mut group = ReportGroupReader::new("demo-unit".to_owned(), ReportFormat::JunitXml);
    group.add(file("out/a.xml"), read(ReportFormat::JunitXml, text.as_bytes()));
    group
}

#[test]
fn a_report_has_awss_limits() {
    let mut text = String::from("<testsuite>");
    for number in 0..600 {
        text.push_str(&format!("<testcase name='{number}' time='0.001'/>"));
    }
    text.push_str(&format!(
        "<testcase name='{}'><failure>{}</failure></testcase></testsuite>",
        "n".repeat(2000),
        "m".repeat(9000)
    ));
    let mut group = group(&text);
    group.finish("/src", &Secrets::default());
    let report =
        group.report("arn:report/demo-unit:id", "arn:report-group/demo-unit", "arn:build", 1.5);
    assert_eq!(
        (report.status, report.truncated, report.name.as_str()),
        (ReportStatus::Failed, true, "id")
    );
    let summary = report.test_summary.clone().expect("has one");
    assert_eq!((summary.total, summary.duration_in_nano_seconds), (601, 600_000_000));
    assert_eq!(summary.status_counts["SUCCEEDED"], 600);
    assert_eq!(summary.status_counts["SKIPPED"], 0);
    let details = group.details(report.clone());
    assert_eq!(details.test_cases.len(), MAX_CASES);
    let first = &details.test_cases[0];
    assert_eq!((first.name.len(), first.message.len()), (1000, 5000));
    assert_eq!(first.test_raw_data_path, "out/a.xml");
    let facts = group.facts(report);
    assert_eq!(facts.failures.len(), 1);
    assert_eq!(
        facts.failures[0].place.as_ref().map(|p| (p.file.as_str(), p.line)),
        Some(("out/a.xml", 1))
    );
}

#[test]
fn secrets_are_nowhere_in_a_report() {
    let secrets = Secrets::new([b"s3cret".to_vec()]).expect("can be masked");
    let mut group = group(
        "<testsuite name='s3cret'><testcase name='s3cret' classname='s3cret'><failure>s3cret</failure>\
                           </testcase><s3cret></testsuite>",
    );
    group.finish("/src", &secrets);
    let report = group.report("arn:x", "arn:group/x", "arn:b", 0.0);
    let mut facts = group.facts(report.clone());
    facts.mask(&secrets);
    let mut xml = Vec::new();
    junit(&group, &mut xml).expect("written");
    let all = format!(
        "{}{}{}",
        serde_json::to_string(&facts).expect("serialises"),
        serde_json::to_string(&group.details(report)).expect("serialises"),
        String::from_utf8_lossy(&xml)
    );
    assert!(all.contains("***") && !all.contains("s3cret"), "{all}");
}

#[test]
fn junit_that_is_written_reads_back_as_the_same() {
    let mut group = group(PYTEST);
    group.add(
        file("b.xml"),
        read(
            ReportFormat::JunitXml,
            b"<testsuite name='b'><testcase name='\"&lt;&#27;]]>'/></testsuite>",
        ),
    );
    group.finish("/src", &Secrets::default());
    let mut xml = Vec::new();
    junit(&group, &mut xml).expect("written");
    let again = read(ReportFormat::JunitXml, &xml);
    assert_eq!(again.problem, None, "{}", String::from_utf8_lossy(&xml));
    assert_eq!(letters(&again), "SFFFESS");
    for ((_, before), after) in group.cases().zip(&again.cases) {
        assert_eq!(before.name.replace('\u{1b}', "\u{fffd}"), after.name);
        assert_eq!((&before.suite, &before.class), (&after.suite, &after.class));
        assert_eq!((before.duration_ns, &before.place), (after.duration_ns, &after.place));
    }
}

#[test]
fn the_table_says_what_failed_and_where() {
    let mut tests = group(PYTEST);
    tests.add(file("b.xml"), read(ReportFormat::JunitXml, b"<testsuite>"));
    tests.finish("/src", &Secrets::default());
    let tests = tests.facts(tests.report("arn:r/a:1", "arn:x:report-group/demo-unit", "b", 0.0));
    let mut coverage =
        ReportGroupReader::new("demo-coverage".to_owned(), ReportFormat::CoberturaXml);
    let recorded = include_str!("../../../../../tests/reports/recorded/coverage.py.xml");
    coverage.add(file("coverage.xml"), read(ReportFormat::CoberturaXml, recorded.as_bytes()));
    let report = coverage.report("arn:r/c:1", "arn:x:report-group/demo-coverage", "b", 0.0);
    let coverage = coverage.facts(report);
    let lines: Vec<String> = table(&[tests, coverage]).into_iter().map(|(_, line)| line).collect();
    assert_eq!(
        lines[..5],
        [
            "report demo-unit      INCOMPLETE  6 tests: 1 passed, 3 failed, 1 in error, 1 skipped  0.005s",
            "  b.xml:1:12: the file ends within <testsuite>",
            "  ✗ test_shop › test_small_prices[5]  test_shop.py:12",
            "      AssertionError: assert '0.05' == '0.5'",
            "        - 0.5",
        ]
    );
    assert_eq!(
        lines.last().map(String::as_str),
        Some("report demo-coverage  SUCCEEDED   lines 83.3% (5 of 6), branches 100.0% (2 of 2)")
    );
}

#[test]
fn names_worth_opening() {
    for (name, is_it) in [
        ("a/TEST-x.xml", true),
        ("coverage/.resultset.json", true),
        ("x.trx", true),
        ("out/cucumber.json", true),
        ("package.json", false),
        ("a.html", false),
    ] {
        assert_eq!(may_be_report(name), is_it, "{name}");
    }
    assert_eq!(detect("<project/>"), None);
    assert_eq!(detect("<!-- a --><?x?><!DOCTYPE y>\n<testsuite"), None);
    assert_eq!(detect("[1]"), None);
}
