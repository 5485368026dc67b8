//! VISUALSTUDIOTRX: what `dotnet test --logger trx` and Visual Studio write.

use super::Contents;
use super::model::{Case, CaseStatus, seconds};
use super::xml::{self, Element, Handler};
use std::collections::HashMap;

#[derive(Default)]
struct Trx {
    suite: String,
    /// Results under way: one with inner results stands around them.
    open: Vec<Open>,
    cases: Vec<(String, Case)>,
    /// The definition under way, and the classes of those before it.
    definition: String,
    classes: HashMap<String, String>,
}

struct Open {
    id: String,
    case: Case,
    has_inner: bool,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Trx::default();
    let problem = xml::read(text, &mut reader);
    let Trx { cases, classes, .. } = reader;
    // Definitions stand before the results or behind them.
    let cases = cases.into_iter().map(|(id, mut case)| {
        if let Some(class) = classes.get(&id) {
            // Of an assembly-qualified name the type.
            case.class = class.split(',').next().unwrap_or_default().trim().to_owned();
            if let Some(rest) = case.name.strip_prefix(&format!("{}.", case.class)) {
                case.name = rest.to_owned();
            }
        }
        case
    });
    Contents { cases: cases.collect(), problem, ..Contents::default() }
}

impl Handler for Trx {
    const ROOTS: &'static [&'static str] = &["TestRun"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "TestRun" => self.suite = element.text("name"),
            "UnitTest" => self.definition = element.text("id"),
            "TestMethod" if above.last().is_some_and(|name| name == "UnitTest") => {
                self.classes.insert(self.definition.clone(), element.text("className"));
            }
            "UnitTestResult" | "GenericTestResult" | "TestResultAggregation" => {
                if let Some(outer) = self.open.last_mut() {
                    outer.has_inner = true;
                }
                let mut case = Case::new(element.line);
                case.suite.clone_from(&self.suite);
                case.name = element.text("testName");
                case.duration_ns = span(element.get("duration").unwrap_or_default());
                case.status = match element.get("outcome") {
                    Some("Passed" | "PassedButRunAborted" | "Warning") => CaseStatus::Succeeded,
                    Some("Failed") => CaseStatus::Failed,
                    Some("Error" | "Timeout" | "Aborted" | "NotRunnable") => CaseStatus::Error,
                    Some("NotExecuted" | "Pending") => CaseStatus::Skipped,
                    // In the format's schema an absent outcome is an error.
                    None => CaseStatus::Error,
                    Some(_) => CaseStatus::Unknown,
                };
                self.open.push(Open { id: element.text("testId"), case, has_inner: false });
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        match name {
            "UnitTestResult" | "GenericTestResult" | "TestResultAggregation" => {
                // Rows of data are counted, not the test around them as well.
                if let Some(done) = self.open.pop().filter(|open| !open.has_inner) {
                    self.cases.push((done.id, done.case));
                }
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

/// `hh:mm:ss.fffffff` to nanoseconds.
fn span(text: &str) -> u64 {
    let mut parts = text.rsplit(':');
    let last = seconds(parts.next().unwrap_or_default());
    let mut whole = |unit: u64| {
        parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0).saturating_mul(unit)
    };
    let (minutes, hours) = (whole(60), whole(3600));
    last.saturating_add(minutes.saturating_add(hours).saturating_mul(1_000_000_000))
}
