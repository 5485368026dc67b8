//! Adds up cases and coverage of reports, limits them as AWS does, and converts them to its API's
//! format.
//!
//! A [`ReportGroupReader`] collects the contents of files. It makes [`ReportFacts`] for events and
//! the record, and [`ReportDetails`] for files.

use super::coverage::FileCoverage;
use super::model::{Case, CaseStatus, shortened};
use super::place;
use super::place::CasePlace;
use super::union::Union;
use super::{Contents, Malformed, ReportFormat};
use crate::mask::Secrets;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of cases kept in a report.
pub const MAX_CASES: usize = 500;
/// Maximum length of a case name, in characters.
const MAX_NAME: usize = 1000;
/// Maximum length of a case message, in characters.
const MAX_MESSAGE: usize = 5000;
/// Maximum number of failed cases in an event.
pub const MAX_FAILURES: usize = 50;
/// Maximum length of a failed case's message in an event, in characters.
const MAX_EVENT_MESSAGE: usize = 1000;
/// Maximum number of problems shown for one report.
const MAX_PROBLEMS: usize = 20;
/// Maximum number of cases, and of files with coverage, that are counted.
const MAX_TOTAL: usize = 1_000_000;

/// The type of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub enum ReportType {
    Test,
    CodeCoverage,
}

/// The status of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReportStatus {
    /// No case failed.
    Succeeded,
    /// Some cases failed.
    Failed,
    /// Parts of it are missing or unreadable.
    Incomplete,
}

impl ReportStatus {
    /// The name as AWS writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReportStatus::Succeeded => "SUCCEEDED",
            ReportStatus::Failed => "FAILED",
            ReportStatus::Incomplete => "INCOMPLETE",
        }
    }
}

/// One element of `reports` in AWS's BatchGetReports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct ReportRecord {
    pub arn: String,
    pub r#type: ReportType,
    pub name: String,
    pub report_group_arn: String,
    pub execution_id: String,
    pub status: ReportStatus,
    pub created: f64,
    pub truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test_summary: Option<TestSummary>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code_coverage_summary: Option<CodeCoverageSummary>,
}

/// AWS's TestReportSummary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct TestSummary {
    pub total: u64,
    pub status_counts: BTreeMap<String, u64>,
    pub duration_in_nano_seconds: u64,
}

/// AWS's CodeCoverageReportSummary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct CodeCoverageSummary {
    pub line_coverage_percentage: f64,
    pub lines_covered: u64,
    pub lines_missed: u64,
    pub branch_coverage_percentage: f64,
    pub branches_covered: u64,
    pub branches_missed: u64,
}

/// AWS's TestCase.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct TestCase {
    pub report_arn: String,
    pub test_raw_data_path: String,
    pub prefix: String,
    pub name: String,
    pub status: CaseStatus,
    pub duration_in_nano_seconds: u64,
    pub message: String,
    pub test_suite_name: String,
}

/// AWS's CodeCoverage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are AWS's and explained there")]
pub struct CodeCoverage {
    #[serde(rename = "reportARN")]
    pub report_arn: String,
    pub file_path: String,
    #[serde(flatten)]
    pub figures: CodeCoverageSummary,
}

/// A failed case, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseFailure {
    /// Class and name.
    pub title: String,
    /// Where it failed, if known.
    pub place: Option<CasePlace>,
    /// Why it failed.
    pub message: String,
}

/// A report in an event and in the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportFacts {
    /// The report in AWS's format.
    pub report: ReportRecord,
    /// Unreadable or missing parts, with their places.
    pub problems: Vec<String>,
    /// Parts that AWS would not accept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The first failed cases.
    pub failures: Vec<CaseFailure>,
}

impl ReportFacts {
    /// Masks secrets in everything that comes from the build's files.
    pub fn mask(&mut self, secrets: &Secrets) {
        for text in self.problems.iter_mut().chain(&mut self.warnings) {
            secrets.mask_text(text);
        }
        for failure in &mut self.failures {
            secrets.mask_text(&mut failure.title);
            secrets.mask_text(&mut failure.message);
            if let Some(place) = &mut failure.place {
                secrets.mask_text(&mut place.file);
            }
        }
    }
}

/// A report with its cases, for the file in `--reports`: the responses of BatchGetReports,
/// DescribeTestCases and DescribeCodeCoverages.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportDetails {
    /// An element of BatchGetReports.
    pub report: ReportRecord,
    /// Why it is INCOMPLETE.
    pub problems: Vec<String>,
    /// Parts that AWS would not accept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The elements of DescribeTestCases.
    pub test_cases: Vec<TestCase>,
    /// The elements of DescribeCodeCoverages.
    pub code_coverages: Vec<CodeCoverage>,
}

/// A report group of a build, while its files are read.
#[derive(Clone, Debug)]
pub struct ReportGroupReader {
    /// Its full name.
    pub name: String,
    /// The format of its files.
    pub format: ReportFormat,
    /// Cases, each with the index of its report file.
    cases: Vec<(usize, Case)>,
    files: Vec<ReportFile>,
    coverage: Union,
    problems: Vec<String>,
    more_problems: usize,
    /// Why files were rejected, in AWS's words.
    refused: Vec<String>,
    more_refused: usize,
    warnings: Vec<String>,
}

/// The names of a report file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportFile {
    /// The name of its raw copy.
    pub name: String,
    /// Its path for people, relative to the source directory.
    pub shown: String,
    /// Its absolute path in the container.
    pub path: String,
}

impl ReportGroupReader {
    /// Starts a group without files.
    #[must_use]
    pub fn new(name: String, format: ReportFormat) -> Self {
        ReportGroupReader {
            name,
            format,
            cases: Vec::new(),
            files: Vec::new(),
            coverage: Union::default(),
            problems: Vec::new(),
            more_problems: 0,
            refused: Vec::new(),
            more_refused: 0,
            warnings: Vec::new(),
        }
    }

    /// Changes the name.
    #[must_use]
    pub fn renamed(self, name: String) -> Self {
        ReportGroupReader { name, ..self }
    }

    /// Adds a file.
    pub fn add(&mut self, file: ReportFile, contents: Contents) {
        let Contents { cases, coverage, problem, doubts, warnings } = contents;
        let shown = &file.shown;
        if self.cases.len() + cases.len() > MAX_TOTAL
            || self.coverage.len() + coverage.len() > MAX_TOTAL
        {
            self.problem(format!("{shown}: left out; a report has at most {MAX_TOTAL} entries"));
            return;
        }
        let number = self.files.len();
        self.cases.extend(cases.into_iter().map(|case| (number, case)));
        self.coverage.add(&file.path, coverage);
        if let Some(problem) = problem {
            self.problem(placed(shown, &problem));
            self.refuse(match &problem.aws {
                // A message of the service, which does not know about files.
                Some(aws) if aws.starts_with("InvalidInputException") => aws.clone(),
                Some(aws) => format!("{}: {aws}", file.path),
                None => placed(&file.path, &problem),
            });
        }
        for doubt in doubts {
            self.problem(placed(shown, &doubt));
        }
        if self.warnings.len() < MAX_PROBLEMS {
            self.warnings.extend(warnings.iter().map(|warning| placed(shown, warning)));
        }
        self.files.push(file);
    }

    /// Why files of the group were rejected: the first reasons, and their number.
    #[must_use]
    pub fn refused(&self) -> (&[String], usize) {
        (&self.refused, self.refused.len() + self.more_refused)
    }

    /// Records that some or all files were not accessible.
    pub fn unreadable(&mut self, text: String) {
        self.refuse(text.clone());
        self.problem(text);
    }

    fn refuse(&mut self, text: String) {
        if self.refused.len() < MAX_PROBLEMS {
            self.refused.push(text);
        } else {
            self.more_refused += 1;
        }
    }

    /// Adds a problem.
    pub fn problem(&mut self, text: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(text);
        } else {
            self.more_problems += 1;
        }
    }

    /// All cases with the names of their report files.
    pub fn cases(&self) -> impl Iterator<Item = (&str, &Case)> {
        self.cases.iter().map(|(file, case)| (self.files[*file].name.as_str(), case))
    }

    /// Makes source paths relative to the source directory, and masks secrets everywhere.
    pub fn finish(&mut self, source: &str, secrets: &Secrets) {
        if self.more_problems > 0 {
            self.problems.push(format!("and {} more", self.more_problems));
            self.more_problems = 0;
        }
        for (_, case) in &mut self.cases {
            if let Some(place) = &mut case.place {
                place.file = place::relative(&place.file, source);
            }
            if !secrets.is_empty() {
                for text in [&mut case.suite, &mut case.class, &mut case.name, &mut case.message] {
                    secrets.mask_text(text);
                }
            }
        }
        self.coverage.finish(source);
        let texts = self.problems.iter_mut().chain(&mut self.refused).chain(&mut self.warnings);
        texts.for_each(|text| secrets.mask_text(text));
    }

    /// The report in AWS's format. `arn` is the report's ARN.
    #[must_use]
    pub fn report(
        &self,
        arn: &str,
        group_arn: &str,
        build_arn: &str,
        created: f64,
    ) -> ReportRecord {
        let kind = self.format.kind();
        let is_bad = self.cases.iter().any(|(_, case)| case.status.is_bad());
        ReportRecord {
            arn: arn.to_owned(),
            r#type: kind,
            name: arn.rsplit(':').next().unwrap_or(arn).to_owned(),
            report_group_arn: group_arn.to_owned(),
            execution_id: build_arn.to_owned(),
            status: match (self.refused.is_empty(), is_bad, self.problems.is_empty()) {
                (false, _, _) => ReportStatus::Incomplete,
                // Missing parts do not hide a failure.
                (true, true, _) => ReportStatus::Failed,
                (true, false, false) => ReportStatus::Incomplete,
                (true, false, true) => ReportStatus::Succeeded,
            },
            created,
            truncated: self.cases.len() > MAX_CASES,
            test_summary: (kind == ReportType::Test).then(|| self.test_summary()),
            code_coverage_summary: (kind == ReportType::CodeCoverage)
                .then(|| self.coverage_summary()),
        }
    }

    fn test_summary(&self) -> TestSummary {
        let mut counts: BTreeMap<String, u64> =
            CaseStatus::ALL.into_iter().map(|status| (status.name().to_owned(), 0)).collect();
        let mut duration: u64 = 0;
        for (_, case) in &self.cases {
            *counts.entry(case.status.name().to_owned()).or_default() += 1;
            duration = duration.saturating_add(case.duration_ns);
        }
        TestSummary {
            total: self.cases.len() as u64,
            status_counts: counts,
            duration_in_nano_seconds: duration,
        }
    }

    fn coverage_summary(&self) -> CodeCoverageSummary {
        let sum = |count: fn(&FileCoverage) -> u64| {
            self.coverage.iter().map(count).fold(0, u64::saturating_add)
        };
        let lines = (sum(|f| f.lines.covered()), sum(|f| f.lines.missed()));
        figures(lines, (sum(|f| f.branches.covered()), sum(|f| f.branches.missed())))
    }

    /// The report for an event.
    #[must_use]
    pub fn facts(&self, report: ReportRecord) -> ReportFacts {
        let failures = self
            .cases
            .iter()
            .filter(|(_, case)| case.status.is_bad())
            .take(MAX_FAILURES)
            .map(|(file, case)| CaseFailure {
                title: shortened(&case.title(), MAX_NAME),
                // The line in the report file is better than no place.
                place: case.place.clone().or_else(|| {
                    let file = self.files[*file].shown.clone();
                    Some(CasePlace { file, line: case.report_line, column: 0 })
                }),
                message: shortened(&case.message, MAX_EVENT_MESSAGE),
            })
            .collect();
        let (problems, warnings) = (self.problems.clone(), self.warnings.clone());
        ReportFacts { report, problems, warnings, failures }
    }

    /// The report for a file, within AWS's limits. If there are too many cases, failed ones come
    /// first.
    #[must_use]
    pub fn details(&self, report: ReportRecord) -> ReportDetails {
        let arn = &report.arn;
        let mut kept: Vec<&(usize, Case)> = self.cases.iter().collect();
        if kept.len() > MAX_CASES {
            kept.sort_by_key(|(_, case)| !case.status.is_bad());
            kept.truncate(MAX_CASES);
        }
        let test_cases = kept.into_iter().map(|(file, case)| TestCase {
            report_arn: arn.clone(),
            test_raw_data_path: self.files[*file].name.clone(),
            prefix: shortened(&case.class, MAX_NAME),
            name: shortened(&case.name, MAX_NAME),
            status: case.status,
            duration_in_nano_seconds: case.duration_ns,
            message: shortened(&case.message, MAX_MESSAGE),
            test_suite_name: shortened(&case.suite, MAX_NAME),
        });
        let code_coverages = self.coverage.iter().map(|file| CodeCoverage {
            report_arn: arn.clone(),
            file_path: file.path.clone(),
            figures: figures(
                (file.lines.covered(), file.lines.missed()),
                (file.branches.covered(), file.branches.missed()),
            ),
        });
        ReportDetails {
            test_cases: test_cases.collect(),
            code_coverages: code_coverages.collect(),
            problems: self.problems.clone(),
            warnings: self.warnings.clone(),
            report,
        }
    }
}

/// A problem with a file, with its place.
fn placed(file: &str, what: &Malformed) -> String {
    let between = if what.line > 0 { ":" } else { ": " };
    format!("{file}{between}{what}")
}

/// Makes a summary from covered and missed lines and branches.
fn figures(lines: (u64, u64), branches: (u64, u64)) -> CodeCoverageSummary {
    CodeCoverageSummary {
        line_coverage_percentage: percentage(lines.0, lines.1),
        lines_covered: lines.0,
        lines_missed: lines.1,
        branch_coverage_percentage: percentage(branches.0, branches.1),
        branches_covered: branches.0,
        branches_missed: branches.1,
    }
}

/// With nothing to cover, AWS reports 0 percent.
fn percentage(covered: u64, missed: u64) -> f64 {
    let total = covered.saturating_add(missed);
    if total == 0 {
        return 0.0;
    }
    #[allow(clippy::cast_precision_loss, reason = "numbers of lines are far below 2^52")]
    let exact = covered as f64 * 100.0 / total as f64;
    (exact * 100.0).round() / 100.0
}
