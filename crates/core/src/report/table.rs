//! Formats reports for people at the end of a build.
//!
//! Takes the reports from events; used by the sinks for terminals and standard error.

use super::group::{CaseFailure, ReportFacts, ReportStatus, ReportType};
use super::model::{CaseStatus, shortened};

/// Maximum number of message lines shown for a failure.
const LINES: usize = 4;
/// Maximum length of such a line, in characters.
const WIDTH: usize = 160;

/// The tone of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A success.
    Good,
    /// A failure.
    Bad,
    /// A detail of the line before.
    Detail,
}

/// The lines of the table: each report, then its failed cases with message and place.
#[must_use]
pub fn table(reports: &[ReportFacts]) -> Vec<(Tone, String)> {
    let group = |facts: &ReportFacts| {
        let arn = &facts.report.report_group_arn;
        arn.rsplit('/').next().unwrap_or(arn).to_owned()
    };
    let width = |text: &dyn Fn(&ReportFacts) -> usize| reports.iter().map(text).max().unwrap_or(0);
    let name = width(&|facts| group(facts).chars().count());
    let status = width(&|facts| facts.report.status.name().len());
    let mut lines = Vec::new();
    for facts in reports {
        let tone = match facts.report.status {
            ReportStatus::Succeeded => Tone::Good,
            ReportStatus::Failed | ReportStatus::Incomplete => Tone::Bad,
        };
        let (group, state) = (group(facts), facts.report.status.name());
        lines.push((tone, format!("report {group:name$}  {state:status$}  {}", summary(facts))));
        for problem in &facts.problems {
            lines.push((Tone::Detail, format!("  {problem}")));
        }
        for warning in &facts.warnings {
            lines.push((Tone::Detail, format!("  warning: {warning}")));
        }
        for failure in &facts.failures {
            lines.extend(failed(failure));
        }
        let more = bad(facts).saturating_sub(facts.failures.len() as u64);
        if more > 0 {
            lines.push((Tone::Detail, format!("  and {more} more that failed")));
        }
    }
    lines
}

fn bad(facts: &ReportFacts) -> u64 {
    let counts = facts.report.test_summary.as_ref().map(|summary| &summary.status_counts);
    let count = |status: CaseStatus| counts.and_then(|counts| counts.get(status.name())).copied();
    count(CaseStatus::Failed).unwrap_or(0) + count(CaseStatus::Error).unwrap_or(0)
}

fn failed(failure: &CaseFailure) -> Vec<(Tone, String)> {
    let place = match &failure.place {
        Some(place) if place.line > 0 => format!("  {}:{}", place.file, place.line),
        Some(place) => format!("  {}", place.file),
        None => String::new(),
    };
    let mut lines = vec![(Tone::Bad, format!("  ✗ {}{place}", one_line(&failure.title)))];
    let told = failure.message.lines().filter(|line| !line.trim().is_empty()).take(LINES);
    lines.extend(told.map(|line| (Tone::Detail, format!("      {}", one_line(line)))));
    lines
}

fn one_line(text: &str) -> String {
    let text = text.trim_end().replace(['\n', '\r'], " ");
    if text.chars().count() <= WIDTH { text } else { shortened(&text, WIDTH - 1) + "…" }
}

/// The summary of a report, in one line.
fn summary(facts: &ReportFacts) -> String {
    let report = &facts.report;
    match (report.r#type, &report.test_summary, &report.code_coverage_summary) {
        (ReportType::Test, Some(tests), _) => {
            let words = [
                (CaseStatus::Succeeded, "passed"),
                (CaseStatus::Failed, "failed"),
                (CaseStatus::Error, "in error"),
                (CaseStatus::Skipped, "skipped"),
                (CaseStatus::Unknown, "unknown"),
            ];
            let parts: Vec<String> = words
                .into_iter()
                .filter_map(|(status, word)| {
                    let count = *tests.status_counts.get(status.name())?;
                    (count > 0).then(|| format!("{count} {word}"))
                })
                .collect();
            let what = if tests.total == 1 { "test" } else { "tests" };
            let of =
                if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
            let milliseconds = tests.duration_in_nano_seconds / 1_000_000;
            let time = format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000);
            format!("{} {what}{of}  {time}", tests.total)
        }
        (_, _, Some(coverage)) => {
            let lines = coverage.lines_covered + coverage.lines_missed;
            let branches = coverage.branches_covered + coverage.branches_missed;
            let mut text = format!(
                "lines {:.1}% ({} of {lines})",
                coverage.line_coverage_percentage, coverage.lines_covered
            );
            if branches > 0 {
                text.push_str(&format!(
                    ", branches {:.1}% ({} of {branches})",
                    coverage.branch_coverage_percentage, coverage.branches_covered
                ));
            }
            text
        }
        (_, None, None) | (ReportType::CodeCoverage, Some(_), None) => String::new(),
    }
}
