//! NUNITXML and NUNIT3XML: what NUnit 2 and NUnit 3 write.

use super::Contents;
use super::model::{Case, CaseStatus, seconds};
use super::xml::{self, Element, Handler};

/// Which NUnit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Two,
    Three,
}

pub(super) fn read(text: &str, version: Version) -> Contents {
    let mut reader = Nunit::default();
    let problem = match version {
        Version::Two => xml::read(text, &mut Two(&mut reader)),
        Version::Three => xml::read(text, &mut Three(&mut reader)),
    };
    Contents { cases: reader.cases, problem, ..Contents::default() }
}

#[derive(Default)]
struct Nunit {
    suites: Vec<String>,
    case: Option<Case>,
    cases: Vec<Case>,
}

struct Two<'a>(&'a mut Nunit);
struct Three<'a>(&'a mut Nunit);

impl Handler for Two<'_> {
    const ROOTS: &'static [&'static str] = &["test-results"];

    fn start(&mut self, element: &Element<'_>, _: &[String]) {
        self.0.start(element);
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        self.0.end(name, text, above);
    }
}

impl Handler for Three<'_> {
    const ROOTS: &'static [&'static str] = &["test-run"];

    fn start(&mut self, element: &Element<'_>, _: &[String]) {
        self.0.start(element);
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        self.0.end(name, text, above);
    }
}

impl Nunit {
    fn start(&mut self, element: &Element<'_>) {
        match element.name {
            "test-suite" => self.suites.push(element.text("name")),
            "test-case" => {
                let mut case = Case::new(element.line);
                case.suite = self.suites.last().cloned().unwrap_or_default();
                let full = element.get("fullname").or(element.get("name")).unwrap_or_default();
                (case.class, case.name) = match element.get("classname") {
                    Some(class) => (class.to_owned(), element.text("name")),
                    None => parts(full),
                };
                let time = element.get("duration").or(element.get("time"));
                case.duration_ns = seconds(time.unwrap_or_default());
                case.status = status(element);
                self.case = Some(case);
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        match name {
            "test-suite" => drop(self.suites.pop()),
            "test-case" => self.cases.extend(self.case.take()),
            "message" | "stack-trace"
                if above.last().is_some_and(|name| name == "failure" || name == "reason") =>
            {
                if let Some(case) = &mut self.case {
                    case.add_message(text);
                }
            }
            _ => {}
        }
    }
}

fn status(element: &Element<'_>) -> CaseStatus {
    let result = element.get("result").unwrap_or_default().to_ascii_lowercase();
    match result.as_str() {
        "success" | "passed" | "warning" => CaseStatus::Succeeded,
        "failure" => CaseStatus::Failed,
        // NUnit 3 says behind it what kind of failure.
        "failed" if matches!(element.get("label"), Some("Error" | "Invalid")) => CaseStatus::Error,
        "failed" => CaseStatus::Failed,
        "error" | "notrunnable" | "cancelled" => CaseStatus::Error,
        "ignored" | "skipped" | "explicit" => CaseStatus::Skipped,
        "" => match (element.get("executed"), element.get("success")) {
            (Some("False"), _) => CaseStatus::Skipped,
            (_, Some("False")) => CaseStatus::Failed,
            (_, Some("True")) => CaseStatus::Succeeded,
            _ => CaseStatus::Unknown,
        },
        // Inconclusive, and what is yet to come.
        _ => CaseStatus::Unknown,
    }
}

/// `Ns.Class.Method(1.5, "a.b")` to class and name.
fn parts(full: &str) -> (String, String) {
    let head = full.find(['(', '<']).unwrap_or(full.len());
    match full[..head].rfind('.') {
        Some(at) => (full[..at].to_owned(), full[at + 1..].to_owned()),
        None => (String::new(), full.to_owned()),
    }
}
