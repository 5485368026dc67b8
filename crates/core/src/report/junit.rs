//! JUNITXML: JUnit's XML in the dialects of surefire, Gradle, pytest, nextest, jest, gtest, PHPUnit
//! and Rust's own test harness.

use super::model::{Case, CaseStatus, seconds};
use super::place::CasePlace;
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};

#[derive(Default)]
struct Junit {
    suites: Vec<JunitSuite>,
    case: Option<Case>,
    /// Output of the current case.
    said: String,
    cases: Vec<Case>,
    refused: Option<Malformed>,
    doubts: Vec<Malformed>,
}

struct JunitSuite {
    name: String,
    line: u32,
    /// The suite's own counts: tests; failures and errors.
    tests: Option<u64>,
    bad: u64,
    /// Cases found in it, including nested suites.
    found: u64,
    found_bad: u64,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Junit::default();
    let malformed = xml::read(text, &mut reader);
    let Junit { cases, refused, doubts, .. } = reader;
    Contents { cases, problem: malformed.or(refused), doubts, ..Contents::default() }
}

impl Handler for Junit {
    const ROOTS: &'static [&'static str] = &["testsuites", "testsuite"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match element.name {
            "testsuite" | "testsuites" => self.suite(element),
            "testcase" => {
                self.case = Some(self.begun(element));
                self.said.clear();
            }
            "failure" | "error" | "skipped" if parent == "testcase" => {
                let Some(case) = &mut self.case else { return };
                case.worsen(ended(element.name));
                case.add_message(element.get("message").unwrap_or_default());
            }
            // A suite whose set-up or tear-down failed.
            "failure" | "error" if parent == "testsuite" => {
                let mut case = Case::new(element.line);
                case.suite = self.suite_name();
                case.name.clone_from(&case.suite);
                case.status = ended(element.name);
                case.add_message(element.get("message").unwrap_or_default());
                self.case = Some(case);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match name {
            "testsuite" | "testsuites" => self.suite_ends(),
            "testcase" => {
                let Some(mut case) = self.case.take() else { return };
                // Rust's own test harness reports the reason only here.
                if case.status.is_bad() && case.message.is_empty() {
                    case.add_message(&self.said);
                }
                self.take(case);
            }
            "system-out" | "system-err" if self.said.is_empty() && parent == "testcase" => {
                text.trim().clone_into(&mut self.said);
            }
            "failure" | "error" | "skipped" if parent == "testcase" => {
                if let Some(case) = &mut self.case {
                    case.add_message(text);
                }
            }
            "failure" | "error" if parent == "testsuite" => {
                let Some(mut case) = self.case.take() else { return };
                case.add_message(text);
                self.take(case);
            }
            _ => {}
        }
    }
}

impl Junit {
    fn suite_name(&self) -> String {
        let names = self.suites.iter().map(|suite| &suite.name);
        names.rev().find(|name| !name.is_empty()).cloned().unwrap_or_default()
    }

    fn suite(&mut self, element: &Element<'_>) {
        let count = |name: &str| element.count(name);
        let tests = element.number("tests");
        let (bad, skipped) = (count("failures") + count("errors"), count("skipped"));
        if element.name == "testsuite" && tests.is_some_and(|tests| tests < bad + skipped) {
            self.refused.get_or_insert_with(|| {
                let tests = tests.unwrap_or(0);
                let reason = format!(
                    "the suite's own totals make no sense: tests={tests}, failures and errors={bad}, \
                     skipped={skipped}"
                );
                let aws = "InvalidInputException: Test summary: status count cannot be negative";
                let malformed = Malformed::at((element.line, 1), reason);
                Malformed { aws: Some(aws.to_owned()), ..malformed }
            });
        }
        // Catch2 counts assertions. This host name identifies it.
        let counts_assertions = element.get("hostname") == Some("tbd");
        self.suites.push(JunitSuite {
            name: element.text("name"),
            line: element.line,
            tests: tests.filter(|_| !counts_assertions),
            bad,
            found: 0,
            found_bad: 0,
        });
    }

    fn suite_ends(&mut self) {
        let Some(suite) = self.suites.pop() else { return };
        let JunitSuite { line, tests, bad, found, found_bad, .. } = suite;
        if self.doubts.is_empty() {
            self.doubts.extend(totals::missing(line, "tests", tests, found));
            self.doubts.extend(totals::hidden(line, bad, found_bad));
        }
        if let Some(outer) = self.suites.last_mut() {
            outer.found += found;
            outer.found_bad += found_bad;
        }
    }

    fn begun(&self, element: &Element<'_>) -> Case {
        let mut case = Case::new(element.line);
        case.suite = self.suite_name();
        case.class =
            element.get("classname").or(element.get("class")).unwrap_or_default().to_owned();
        case.name = element.text("name");
        case.duration_ns = seconds(element.get("time").unwrap_or_default());
        case.place = element.get("file").filter(|file| !file.is_empty()).map(|file| CasePlace {
            file: file.to_owned(),
            line: u32::try_from(element.count("line")).unwrap_or(0),
            column: 0,
        });
        // gtest and CTest use attributes where others use an element.
        for said in [element.get("status"), element.get("result")].into_iter().flatten() {
            case.worsen(match said.to_ascii_lowercase().as_str() {
                "notrun" | "skipped" | "disabled" | "suppressed" => CaseStatus::Skipped,
                "fail" | "failed" | "failure" => CaseStatus::Failed,
                "error" => CaseStatus::Error,
                _ => CaseStatus::Succeeded,
            });
        }
        case
    }

    fn take(&mut self, case: Case) {
        if let Some(suite) = self.suites.last_mut() {
            suite.found += 1;
            suite.found_bad += u64::from(case.status.is_bad());
        }
        self.cases.push(case);
    }
}

fn ended(element: &str) -> CaseStatus {
    match element {
        "failure" => CaseStatus::Failed,
        "error" => CaseStatus::Error,
        _ => CaseStatus::Skipped,
    }
}
