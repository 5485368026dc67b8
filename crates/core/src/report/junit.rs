//! JUNITXML: JUnit's XML in the dialects of surefire, Gradle, pytest, nextest, jest, gtest, PHPUnit
//! and Rust's own test programs.

use super::Contents;
use super::model::{Case, CaseStatus, seconds};
use super::place::Place;
use super::xml::{self, Element, Handler};

#[derive(Default)]
struct Junit {
    suites: Vec<String>,
    case: Option<Case>,
    /// What the case has written.
    said: String,
    cases: Vec<Case>,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Junit::default();
    let problem = xml::read(text, &mut reader);
    Contents { cases: reader.cases, problem, ..Contents::default() }
}

impl Handler for Junit {
    const ROOTS: &'static [&'static str] = &["testsuites", "testsuite"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        let in_case = above.last().is_some_and(|name| name == "testcase");
        match element.name {
            "testsuite" | "testsuites" => self.suites.push(element.text("name")),
            "testcase" => {
                let mut case = Case::new(element.line);
                case.suite =
                    self.suites.iter().rfind(|name| !name.is_empty()).cloned().unwrap_or_default();
                case.class = element
                    .get("classname")
                    .or(element.get("class"))
                    .unwrap_or_default()
                    .to_owned();
                case.name = element.text("name");
                case.duration_ns = seconds(element.get("time").unwrap_or_default());
                case.place =
                    element.get("file").filter(|file| !file.is_empty()).map(|file| Place {
                        file: file.to_owned(),
                        line: u32::try_from(element.count("line")).unwrap_or(0),
                        column: 0,
                    });
                // gtest says here what others say with an element.
                let told = [element.get("status"), element.get("result")];
                if told.into_iter().flatten().any(|status| {
                    ["notrun", "skipped", "disabled", "suppressed"]
                        .contains(&status.to_ascii_lowercase().as_str())
                }) {
                    case.status = CaseStatus::Skipped;
                }
                self.case = Some(case);
                self.said.clear();
            }
            "failure" | "error" | "skipped" if in_case => {
                let Some(case) = &mut self.case else { return };
                case.status = match (case.status, element.name) {
                    (CaseStatus::Failed, _) | (_, "failure") => CaseStatus::Failed,
                    (CaseStatus::Error, _) | (_, "error") => CaseStatus::Error,
                    _ => CaseStatus::Skipped,
                };
                case.add_message(element.get("message").unwrap_or_default());
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        match name {
            "testsuite" | "testsuites" => drop(self.suites.pop()),
            "testcase" => {
                let Some(mut case) = self.case.take() else { return };
                // Rust's own test programs say nowhere else why.
                let has_failed = matches!(case.status, CaseStatus::Failed | CaseStatus::Error);
                if has_failed && case.message.is_empty() {
                    case.add_message(&self.said);
                }
                self.cases.push(case);
            }
            "system-out" | "system-err"
                if self.said.is_empty() && above.last().is_some_and(|name| name == "testcase") =>
            {
                text.trim().clone_into(&mut self.said);
            }
            "failure" | "error" | "skipped"
                if above.last().is_some_and(|name| name == "testcase") =>
            {
                if let Some(case) = &mut self.case {
                    case.add_message(text);
                }
            }
            _ => {}
        }
    }
}
