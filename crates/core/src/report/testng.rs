//! TESTNGXML: TestNG's own format.

use super::model::{Case, CaseStatus, milliseconds};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};

#[derive(Default)]
struct Testng {
    suite: String,
    class: String,
    case: Option<Case>,
    cases: Vec<Case>,
    /// The file's own totals: line number, tests that ran or were skipped, and failed ones.
    said: Option<(u32, u64, u64)>,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Testng::default();
    let problem = xml::read(text, &mut reader);
    let doubts = reader.doubts();
    Contents { cases: reader.cases, problem, doubts, ..Contents::default() }
}

impl Testng {
    fn doubts(&self) -> Vec<Malformed> {
        let Some((line, tests, bad)) = self.said else { return Vec::new() };
        let found = self.cases.iter().filter(|case| case.status.is_bad()).count() as u64;
        let missing = totals::missing(line, "tests", Some(tests), self.cases.len() as u64);
        missing.into_iter().chain(totals::hidden(line, bad, found)).collect()
    }
}

impl Handler for Testng {
    const ROOTS: &'static [&'static str] = &["testng-results"];

    fn start(&mut self, element: &Element<'_>, _: &[String]) {
        match element.name {
            "testng-results" => {
                let [passed, failed, skipped] =
                    ["passed", "failed", "skipped"].map(|name| element.count(name));
                self.said = Some((element.line, passed + failed + skipped, failed));
            }
            "suite" => self.suite = element.text("name"),
            "class" => self.class = element.text("name"),
            "test-method" => {
                let mut case = Case::new(element.line);
                case.suite.clone_from(&self.suite);
                case.class.clone_from(&self.class);
                case.name = element.text("name");
                case.duration_ns = milliseconds(element.get("duration-ms").unwrap_or_default());
                case.status = match element.get("status") {
                    Some("PASS" | "SUCCESS_PERCENTAGE_FAILURE") => CaseStatus::Succeeded,
                    Some("FAIL") => CaseStatus::Failed,
                    Some("SKIP") => CaseStatus::Skipped,
                    _ => CaseStatus::Unknown,
                };
                // Set-up and tear-down are not tests, unless their failure is why there are none.
                let is_set_up = element.get("is-config") == Some("true");
                self.case = (!is_set_up || case.status == CaseStatus::Failed).then_some(case);
            }
            // A case without a status and with an exception has failed.
            "exception" => {
                if let Some(case) = &mut self.case
                    && case.status == CaseStatus::Unknown
                {
                    case.status = CaseStatus::Failed;
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        let in_exception = above.last().is_some_and(|name| name == "exception");
        match name {
            "test-method" => self.cases.extend(self.case.take()),
            "message" | "full-stacktrace" | "short-stacktrace" if in_exception => {
                let Some(case) = &mut self.case else { return };
                // The trace begins with type and message.
                if text.contains(case.message.as_str()) {
                    case.message.clear();
                }
                case.add_message(text);
            }
            _ => {}
        }
    }
}
