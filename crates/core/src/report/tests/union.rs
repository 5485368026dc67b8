//! Files with the same name, and files measured several times.

use super::*;

/// The files of a group in the format of the API: path, lines, branches.
fn united(format: ReportFormat, reports: &[(&str, &str)]) -> Vec<(String, [u64; 4])> {
    let mut group = ReportGroupReader::new("g".to_owned(), format);
    for (name, text) in reports {
        let contents = read(format, text.as_bytes());
        assert_eq!((&contents.problem, &contents.doubts), (&None, &Vec::new()), "{text}");
        group.add(file(name), contents);
    }
    group.finish("/src", &Secrets::default());
    let report = group.report("arn:r", "arn:g", "arn:b", 0.0);
    let files = group.details(report).code_coverages.into_iter().map(|file| {
        let CodeCoverageSummary {
            lines_covered,
            lines_missed,
            branches_covered,
            branches_missed,
            ..
        } = file.figures;
        (file.file_path, [lines_covered, lines_missed, branches_covered, branches_missed])
    });
    files.collect()
}

fn named(files: &[(&str, [u64; 4])]) -> Vec<(String, [u64; 4])> {
    files.iter().map(|(path, figures)| ((*path).to_owned(), *figures)).collect()
}

fn jacoco(name: &str, lines: &str) -> String {
    format!(
        "<report name='{name}'><package name='a'><sourcefile name='App.java'>{lines}</sourcefile></package></report>"
    )
}

#[test]
fn modules_keep_their_files_apart() {
    let module = |name: &str, covered: u32, missed: u32| {
        format!(
            "<group name='{name}'><package name='com/acme'><sourcefile name='App.java'><line nr='3' mi='{missed}' \
             ci='{covered}'/><counter type='LINE' missed='{missed}' covered='{covered}'/></sourcefile></package></group>"
        )
    };
    let text =
        format!("<report name='all'>{}{}</report>", module("mod-a", 4, 0), module("mod-b", 0, 10));
    assert_eq!(
        united(ReportFormat::JacocoXml, &[("j.xml", &text)]),
        named(&[
            ("mod-a/com/acme/App.java", [4, 0, 0, 0]),
            ("mod-b/com/acme/App.java", [0, 10, 0, 0])
        ])
    );
    // A report for each module, and one of other tests for both.
    let line = |ci: u32| format!("<line nr='3' mi='1' ci='{ci}'/><line nr='4' ci='0' mi='1'/>");
    let (one, other) = (jacoco("mod-a", &line(1)), jacoco("mod-b", &line(0)));
    let both = "<report name='it'><group name='mod-a'><package name='a'><sourcefile name='App.java'>\
                <line nr='3' ci='0'/><line nr='4' ci='1'/></sourcefile></package></group></report>";
    assert_eq!(
        united(
            ReportFormat::JacocoXml,
            &[("a/j.xml", &one), ("b/j.xml", &other), ("it/j.xml", both)]
        ),
        named(&[("mod-a/a/App.java", [2, 0, 0, 0]), ("mod-b/a/App.java", [0, 2, 0, 0])])
    );
}

#[test]
fn jacocos_unit_and_integration_tests_unite() {
    let unit = "<line nr='1' ci='1' mb='1' cb='1'/><line nr='2' mi='1'/><counter type='LINE' missed='1' covered='1'/>\
                <counter type='BRANCH' missed='1' covered='1'/>";
    let integration = "<line nr='1' mi='1' mb='2' cb='0'/><line nr='2' ci='3'/>";
    let (unit, integration) = (jacoco("app", unit), jacoco("app", integration));
    assert_eq!(
        united(ReportFormat::JacocoXml, &[("ut/j.xml", &unit), ("it/j.xml", &integration)]),
        named(&[("a/App.java", [2, 0, 1, 1])])
    );
    // With totals only, the better total is a lower bound.
    let sum = |covered: u32| {
        format!("<counter type='LINE' missed='{}' covered='{covered}'/>", 9 - covered)
    };
    let (one, other) = (jacoco("app", &sum(4)), jacoco("app", &sum(6)));
    assert_eq!(
        united(ReportFormat::JacocoXml, &[("a.xml", &one), ("b.xml", &other)]),
        named(&[("a/App.java", [6, 3, 0, 0])])
    );
}

fn cobertura(sources: &[&str], files: &[(&str, &[(u32, u32)])]) -> String {
    let sources: String = sources.iter().map(|path| format!("<source>{path}</source>")).collect();
    let class = |(path, lines): &(&str, &[(u32, u32)])| {
        let line = |(number, hits): &(u32, u32)| format!("<line number='{number}' hits='{hits}'/>");
        let lines: String = lines.iter().map(line).collect();
        format!("<class name='c' filename='{path}'><lines>{lines}</lines></class>")
    };
    let classes: String = files.iter().map(class).collect();
    format!(
        "<coverage line-rate='1'><sources>{sources}</sources><packages><package><classes>{classes}</classes></package>\
         </packages></coverage>"
    )
}

#[test]
fn coberturas_sources_tell_files_apart() {
    let one = cobertura(&["/src/svc-a"], &[("main.py", &[(1, 1), (2, 0)])]);
    let other = cobertura(&["/src/svc-b"], &[("main.py", &[(1, 1), (2, 0)])]);
    assert_eq!(
        united(ReportFormat::CoberturaXml, &[("a.xml", &one), ("b.xml", &other)]),
        named(&[("svc-a/main.py", [1, 1, 0, 0]), ("svc-b/main.py", [1, 1, 0, 0])])
    );
    // The same file with a different path prefix and other lines.
    let more = cobertura(&["/src"], &[("svc-a/main.py", &[(2, 3), (7, 0)])]);
    assert_eq!(
        united(ReportFormat::CoberturaXml, &[("a.xml", &one), ("it/a.xml", &more)]),
        named(&[("main.py", [2, 1, 0, 0])])
    );
    let whole = cobertura(&[], &[("/src/svc-a/main.py", &[(1, 0), (2, 1)])]);
    assert_eq!(
        united(ReportFormat::CoberturaXml, &[("a.xml", &one), ("w.xml", &whole)]),
        named(&[("main.py", [2, 0, 0, 0])])
    );
}

#[test]
fn without_a_place_the_lines_decide() {
    let unit = cobertura(&["."], &[("main.py", &[(1, 1), (2, 0)])]);
    let integration = cobertura(&["."], &[("main.py", &[(1, 0), (2, 1)])]);
    let other = cobertura(&["."], &[("main.py", &[(1, 1), (5, 1), (6, 0)])]);
    let reports = [("unit/c.xml", &*unit), ("it/c.xml", &*integration), ("svc-b/c.xml", &*other)];
    assert_eq!(
        united(ReportFormat::CoberturaXml, &reports),
        named(&[("main.py", [2, 0, 0, 0]), ("main.py", [2, 1, 0, 0])])
    );
    // Reports in the same directory are about the same place.
    let part = cobertura(&[], &[("main.py", &[(9, 1)])]);
    assert_eq!(
        united(ReportFormat::CoberturaXml, &[("out/a.xml", &unit), ("out/b.xml", &part)]),
        named(&[("main.py", [2, 1, 0, 0])])
    );
}

#[test]
fn one_name_below_several_directories_is_several_files() {
    let files: [(&str, &[(u32, u32)]); 2] =
        [("x/__init__.py", &[(1, 1)]), ("x/__init__.py", &[(1, 0), (2, 0)])];
    let (unit, again) =
        (cobertura(&["/src/a", "/src/b"], &files), cobertura(&["/src/a", "/src/b"], &files));
    let wanted = named(&[("x/__init__.py", [1, 0, 0, 0]), ("x/__init__.py", [0, 2, 0, 0])]);
    assert_eq!(united(ReportFormat::CoberturaXml, &[("a.xml", &unit)]), wanted);
    assert_eq!(united(ReportFormat::CoberturaXml, &[("a.xml", &unit), ("b.xml", &again)]), wanted);
}

#[test]
fn clover_unites_by_path() {
    let clover = |one: u32, other: u32, taken: u32, not: u32| {
        format!(
            "<coverage generated='1'><project><file name='a.js' path='/src/a.js'><metrics statements='2' \
             coveredstatements='1' conditionals='{}' coveredconditionals='{taken}'/><line num='1' count='{one}' \
             type='stmt'/><line num='2' count='{other}' type='cond' truecount='{taken}' falsecount='{not}'/></file>\
             </project></coverage>",
            taken + not
        )
    };
    let (unit, integration) = (clover(1, 0, 0, 3), clover(0, 1, 2, 1));
    assert_eq!(
        united(ReportFormat::CloverXml, &[("u/c.xml", &unit), ("i/c.xml", &integration)]),
        named(&[("a.js", [2, 0, 2, 1])])
    );
}

#[test]
fn simplecov_unites_over_files() {
    let unit = r#"{"RSpec": {"coverage": {"/src/a.rb": {"lines": [1, 0, null], "branches": {"[:if, 0]": {"[:t]": 1,
        "[:e]": 0}}}}}}"#;
    let other = r#"{"Cucumber": {"coverage": {"/src/a.rb": {"lines": [0, 1, null], "branches": {"[:if, 0]": {"[:t]": 0,
        "[:e]": 1}}}}}}"#;
    assert_eq!(
        united(ReportFormat::Simplecov, &[("u.json", unit), ("c/c.json", other)]),
        named(&[("a.rb", [2, 0, 2, 0])])
    );
}

#[test]
fn a_failure_is_not_hidden_by_what_is_missing_besides() {
    let status = |texts: &[&str]| {
        let mut group = ReportGroupReader::new("g".to_owned(), ReportFormat::JunitXml);
        for (number, text) in texts.iter().enumerate() {
            group
                .add(file(&format!("{number}.xml")), read(ReportFormat::JunitXml, text.as_bytes()));
        }
        group.finish("/src", &Secrets::default());
        let report = group.report("arn:r", "arn:g", "arn:b", 0.0);
        (report.status, group.refused().1)
    };
    let (good, bad) = (
        "<testsuite><testcase/></testsuite>",
        "<testsuite><testcase><failure/></testcase></testsuite>",
    );
    assert_eq!(status(&[good]), (ReportStatus::Succeeded, 0));
    assert_eq!(status(&[good, "<testsuite/>"]), (ReportStatus::Incomplete, 0));
    assert_eq!(status(&[bad, "<testsuite/>"]), (ReportStatus::Failed, 0));
    assert_eq!(status(&[bad, "<testsuite>"]), (ReportStatus::Incomplete, 1));
}

#[test]
fn a_refusal_has_its_place_for_a_person_and_awss_words_for_the_phase() {
    let mut group = ReportGroupReader::new("g".to_owned(), ReportFormat::JunitXml);
    let clover = ReportFile {
        name: "c.xml".to_owned(),
        shown: "reports/c.xml".to_owned(),
        path: "/codebuild/output/src1/src/reports/c.xml".to_owned(),
    };
    group.add(
        clover,
        read(ReportFormat::JunitXml, b"\n<coverage generated='1'><project/></coverage>"),
    );
    group.add(file("b.xml"), read(ReportFormat::JunitXml, b"<testsuite>"));
    assert_eq!(
        group.refused().0,
        [
            "/codebuild/output/src1/src/reports/c.xml: expected element type <testsuite> but have <coverage>",
            "/src/b.xml:1:12: the file ends within <testsuite>"
        ]
    );
    let report = group.report("arn:r", "arn:g", "arn:b", 0.0);
    assert_eq!(
        group.facts(report).problems[0],
        "reports/c.xml:2:1: <coverage> stands where <testsuites> or <testsuite> was looked for; this looks like CLOVERXML"
    );
}
