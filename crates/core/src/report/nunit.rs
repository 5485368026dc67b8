//! NUNITXML and NUNIT3XML: output of NUnit 2 and NUnit 3.

use super::model::{Case, CaseStatus, seconds};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NunitVersion {
    Two,
    Three,
}

pub(super) fn read(text: &str, version: NunitVersion) -> Contents {
    let mut reader = Nunit::default();
    let problem = match version {
        NunitVersion::Two => xml::read(text, &mut Two(&mut reader)),
        NunitVersion::Three => xml::read(text, &mut Three(&mut reader)),
    };
    let doubts = reader.doubts();
    Contents { cases: reader.cases, problem, doubts, ..Contents::default() }
}

#[derive(Default)]
struct Nunit {
    suites: Vec<NunitSuite>,
    case: Option<Case>,
    cases: Vec<Case>,
    /// The file's own totals: line number, tests, and failed tests.
    said: Option<(u32, Option<u64>, u64)>,
}

struct NunitSuite {
    name: String,
    /// Its own failure, from its set-up or tear-down.
    failure: Option<Case>,
    /// Whether one of its cases has failed. The suite then counts as failed too.
    has_bad: bool,
}

struct Two<'a>(&'a mut Nunit);
struct Three<'a>(&'a mut Nunit);

impl Handler for Two<'_> {
    const ROOTS: &'static [&'static str] = &["test-results"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        self.0.start(element, above);
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        self.0.end(name, text, above);
    }
}

impl Handler for Three<'_> {
    const ROOTS: &'static [&'static str] = &["test-run"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        self.0.start(element, above);
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        self.0.end(name, text, above);
    }
}

impl Nunit {
    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match element.name {
            "test-results" => {
                let bad = element.count("failures") + element.count("errors");
                self.said = Some((element.line, element.number("total"), bad));
            }
            "test-run" => {
                self.said = Some((element.line, element.number("total"), element.count("failed")));
            }
            "test-suite" => self.suites.push(NunitSuite {
                name: element.text("name"),
                failure: None,
                has_bad: false,
            }),
            "test-case" => self.case = Some(self.begun(element)),
            "failure" if parent == "test-case" => {
                if let Some(case) = &mut self.case
                    && !case.status.is_bad()
                {
                    case.status = CaseStatus::Failed;
                }
            }
            "failure" if parent == "test-suite" => {
                let Some(suite) = self.suites.last_mut() else { return };
                let mut case = Case::new(element.line);
                case.suite.clone_from(&suite.name);
                case.name.clone_from(&suite.name);
                case.status = CaseStatus::Failed;
                suite.failure = Some(case);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match name {
            "test-suite" => self.suite_ends(),
            "test-case" => {
                let Some(case) = self.case.take() else { return };
                if let Some(suite) = self.suites.last_mut() {
                    suite.has_bad |= case.status.is_bad();
                }
                self.cases.push(case);
            }
            "message" | "stack-trace" if parent == "failure" || parent == "reason" => {
                let own = self.suites.last_mut().and_then(|suite| suite.failure.as_mut());
                if let Some(case) = self.case.as_mut().or(own) {
                    case.add_message(text);
                }
            }
            _ => {}
        }
    }

    fn begun(&self, element: &Element<'_>) -> Case {
        let mut case = Case::new(element.line);
        case.suite = self.suites.last().map(|suite| suite.name.clone()).unwrap_or_default();
        let full = element.get("fullname").or(element.get("name")).unwrap_or_default();
        (case.class, case.name) = match element.get("classname") {
            Some(class) => (class.to_owned(), element.text("name")),
            None => parts(full),
        };
        let time = element.get("duration").or(element.get("time"));
        case.duration_ns = seconds(time.unwrap_or_default());
        case.status = status(element);
        case
    }

    fn suite_ends(&mut self) {
        let Some(suite) = self.suites.pop() else { return };
        let has_failed = suite.has_bad || suite.failure.is_some();
        // A suite's failure above failed cases only repeats them.
        self.cases.extend(suite.failure.filter(|_| !suite.has_bad));
        if let Some(outer) = self.suites.last_mut() {
            outer.has_bad |= has_failed;
        }
    }

    fn doubts(&self) -> Vec<Malformed> {
        let Some((line, tests, bad)) = self.said else { return Vec::new() };
        let found = self.cases.iter().filter(|case| case.status.is_bad()).count() as u64;
        let missing = totals::missing(line, "tests", tests, self.cases.len() as u64);
        missing.into_iter().chain(totals::hidden(line, bad, found)).collect()
    }
}

fn status(element: &Element<'_>) -> CaseStatus {
    let result = element.get("result").unwrap_or_default().to_ascii_lowercase();
    let is = |name: &str| element.get(name).map(str::to_ascii_lowercase);
    match result.as_str() {
        "success" | "passed" | "warning" => CaseStatus::Succeeded,
        "failure" => CaseStatus::Failed,
        // NUnit 3 adds the kind of failure in a label.
        "failed" if matches!(element.get("label"), Some("Error" | "Invalid")) => CaseStatus::Error,
        "failed" => CaseStatus::Failed,
        "error" | "notrunnable" | "cancelled" => CaseStatus::Error,
        "ignored" | "skipped" | "explicit" => CaseStatus::Skipped,
        // Before NUnit 2.5 there is no result attribute; a failed case contains a failure.
        "" => match (is("executed").as_deref(), is("success").as_deref()) {
            (Some("false"), _) => CaseStatus::Skipped,
            (_, Some("false")) => CaseStatus::Failed,
            (Some("true"), _) | (_, Some("true")) => CaseStatus::Succeeded,
            _ => CaseStatus::Unknown,
        },
        // Inconclusive results and unknown ones.
        _ => CaseStatus::Unknown,
    }
}

/// Splits `Ns.Class.Method(1.5, "a.b")` into class and name.
fn parts(full: &str) -> (String, String) {
    let head = full.find(['(', '<']).unwrap_or(full.len());
    match full[..head].rfind('.') {
        Some(at) => (full[..at].to_owned(), full[at + 1..].to_owned()),
        None => (String::new(), full.to_owned()),
    }
}
