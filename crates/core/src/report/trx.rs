//! VISUALSTUDIOTRX: output of `dotnet test --logger trx` and of Visual Studio.

use super::model::{Case, CaseStatus, seconds};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};
use std::collections::HashMap;

#[derive(Default)]
struct Trx {
    suite: String,
    /// Open results. A result with inner results encloses them.
    open: Vec<TrxResult>,
    cases: Vec<(String, Case)>,
    /// The current definition, and the classes of earlier ones.
    definition: String,
    classes: HashMap<String, String>,
    /// The file's own totals.
    said: TrxSummary,
    /// Number of results, including enclosing ones.
    results: u64,
}

#[derive(Default)]
struct TrxSummary {
    line: u32,
    tests: Option<u64>,
    bad: u64,
    /// Whether the run as a whole failed, and why.
    has_failed: bool,
    why: String,
}

struct TrxResult {
    id: String,
    case: Case,
    has_inner: bool,
    /// Whether one of its inner results has failed.
    has_bad: bool,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Trx::default();
    let problem = xml::read(text, &mut reader);
    let doubts = reader.doubts();
    let Trx { cases, classes, .. } = reader;
    // Definitions may come before or after the results.
    let cases = cases.into_iter().map(|(id, mut case)| {
        if let Some(class) = classes.get(&id) {
            // The type of an assembly-qualified name.
            case.class = class.split(',').next().unwrap_or_default().trim().to_owned();
            if let Some(rest) = case.name.strip_prefix(&format!("{}.", case.class)) {
                case.name = rest.to_owned();
            }
        }
        case
    });
    Contents { cases: cases.collect(), problem, doubts, ..Contents::default() }
}

impl Trx {
    fn doubts(&self) -> Vec<Malformed> {
        let TrxSummary { line, tests, bad, has_failed, why } = &self.said;
        let found = self.cases.iter().filter(|(_, case)| case.status.is_bad()).count() as u64;
        let mut doubts: Vec<Malformed> =
            totals::missing(*line, "results", *tests, self.results).into_iter().collect();
        doubts.extend(totals::hidden(*line, *bad, found));
        if *has_failed && found == 0 && doubts.is_empty() {
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            let reason = format!("the run as a whole has failed{why}");
            doubts.push(Malformed::at((*line, 1), reason));
        }
        doubts
    }

    /// Closes a complete result. Rows of data count, and the test around them only if it is worse
    /// than they are.
    fn close(&mut self) {
        let Some(mut done) = self.open.pop() else { return };
        let is_bad = done.has_bad || done.case.status.is_bad();
        if let Some(outer) = self.open.last_mut() {
            outer.has_bad |= is_bad;
        }
        if !done.has_inner || done.case.status.is_bad() && !done.has_bad {
            done.case.suite.clone_from(&self.suite);
            self.cases.push((done.id, done.case));
        }
    }
}

impl Handler for Trx {
    const ROOTS: &'static [&'static str] = &["TestRun"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "TestRun" => self.suite = element.text("name"),
            "ResultSummary" => {
                self.said.line = element.line;
                self.said.has_failed =
                    matches!(element.get("outcome"), Some("Failed" | "Error" | "Aborted"));
            }
            "Counters" => {
                self.said.tests = element.number("total");
                let bad = ["failed", "error", "timeout", "aborted"].map(|name| element.count(name));
                self.said.bad = bad.iter().sum();
            }
            "UnitTest" => self.definition = element.text("id"),
            "TestMethod" if above.last().is_some_and(|name| name == "UnitTest") => {
                self.classes.insert(self.definition.clone(), element.text("className"));
            }
            "UnitTestResult" | "GenericTestResult" | "TestResultAggregation" => {
                if let Some(outer) = self.open.last_mut() {
                    outer.has_inner = true;
                }
                let mut case = Case::new(element.line);
                self.results += 1;
                case.name = element.text("testName");
                case.duration_ns = span(element.get("duration").unwrap_or_default());
                case.status = match element.get("outcome") {
                    Some("Passed" | "PassedButRunAborted" | "Warning") => CaseStatus::Succeeded,
                    Some("Failed") => CaseStatus::Failed,
                    Some("Error" | "Timeout" | "Aborted" | "NotRunnable") => CaseStatus::Error,
                    Some("NotExecuted" | "Pending") => CaseStatus::Skipped,
                    // In the format's schema, a missing outcome is an error.
                    None => CaseStatus::Error,
                    Some(_) => CaseStatus::Unknown,
                };
                self.open.push(TrxResult {
                    id: element.text("testId"),
                    case,
                    has_inner: false,
                    has_bad: false,
                });
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        match name {
            "UnitTestResult" | "GenericTestResult" | "TestResultAggregation" => self.close(),
            "Text" if self.said.why.is_empty() && above.last().is_some_and(|n| n == "RunInfo") => {
                text.lines().next().unwrap_or_default().clone_into(&mut self.said.why);
            }
            "Message" | "StackTrace" if above.last().is_some_and(|name| name == "ErrorInfo") => {
                if let Some(open) = self.open.last_mut() {
                    open.case.add_message(text);
                }
            }
            _ => {}
        }
    }
}

/// Converts `hh:mm:ss.fffffff` to nanoseconds.
fn span(text: &str) -> u64 {
    let mut parts = text.rsplit(':');
    let last = seconds(parts.next().unwrap_or_default());
    let mut whole = |unit: u64| {
        parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0).saturating_mul(unit)
    };
    let (minutes, hours) = (whole(60), whole(3600));
    last.saturating_add(minutes.saturating_add(hours).saturating_mul(1_000_000_000))
}
