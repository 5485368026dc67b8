//! Test and coverage reports: parses ten formats into one model.
//!
//! The input is the bytes of report files, which the build wrote and which are untrusted. `event`,
//! `record` and the files in `--reports` use the result. [`read`] parses one file in a given
//! format, [`detect`](detect::detect) finds the format, and [`ReportGroupReader`] combines files
//! into a report in the format of AWS's API. [`table`](table()) shows it to people and
//! [`junit`](junit()) writes it for other programs.

mod clover;
mod cobertura;
mod coverage;
mod cucumber;
mod detect;
mod group;
mod jacoco;
mod junit;
mod junit_out;
mod model;
mod nunit;
mod place;
mod raw;
mod simplecov;
mod table;
mod testng;
mod text;
mod totals;
mod trx;
mod union;
mod verdict;
mod xml;

#[cfg(test)]
mod tests;

pub use coverage::{FileCoverage, Tally};
pub use detect::{detect, may_be_report};
pub use group::{
    CaseFailure, CodeCoverage, CodeCoverageSummary, MAX_CASES, MAX_FAILURES, ReportDetails,
    ReportFacts, ReportFile, ReportGroupReader, ReportRecord, ReportStatus, ReportType, TestCase,
    TestSummary,
};
pub use junit_out::junit;
pub use model::{Case, CaseStatus};
pub use place::CasePlace;
pub use place::relative;
pub use raw::raw;
pub use table::{Tone, table};
pub use verdict::ReportVerdict;

use std::fmt;

/// Maximum size of a report file, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// A format of report files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportFormat {
    /// Cucumber's JSON.
    CucumberJson,
    /// JUnit's XML, which nearly every tool writes.
    JunitXml,
    /// NUnit 2.
    NunitXml,
    /// NUnit 3.
    Nunit3Xml,
    /// TestNG's own format.
    TestngXml,
    /// Visual Studio and `dotnet test`.
    VisualStudioTrx,
    /// Clover.
    CloverXml,
    /// Cobertura.
    CoberturaXml,
    /// JaCoCo.
    JacocoXml,
    /// SimpleCov's result set.
    Simplecov,
}

impl ReportFormat {
    /// All formats.
    pub const ALL: [ReportFormat; 10] = [
        ReportFormat::CucumberJson,
        ReportFormat::JunitXml,
        ReportFormat::NunitXml,
        ReportFormat::Nunit3Xml,
        ReportFormat::TestngXml,
        ReportFormat::VisualStudioTrx,
        ReportFormat::CloverXml,
        ReportFormat::CoberturaXml,
        ReportFormat::JacocoXml,
        ReportFormat::Simplecov,
    ];

    /// Its name in a buildspec.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReportFormat::CucumberJson => "CUCUMBERJSON",
            ReportFormat::JunitXml => "JUNITXML",
            ReportFormat::NunitXml => "NUNITXML",
            ReportFormat::Nunit3Xml => "NUNIT3XML",
            ReportFormat::TestngXml => "TESTNGXML",
            ReportFormat::VisualStudioTrx => "VISUALSTUDIOTRX",
            ReportFormat::CloverXml => "CLOVERXML",
            ReportFormat::CoberturaXml => "COBERTURAXML",
            ReportFormat::JacocoXml => "JACOCOXML",
            ReportFormat::Simplecov => "SIMPLECOV",
        }
    }

    /// Returns the format with this name, ignoring case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<ReportFormat> {
        ReportFormat::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The type of its reports.
    #[must_use]
    pub fn kind(self) -> ReportType {
        match self {
            ReportFormat::CucumberJson
            | ReportFormat::JunitXml
            | ReportFormat::NunitXml
            | ReportFormat::Nunit3Xml
            | ReportFormat::TestngXml
            | ReportFormat::VisualStudioTrx => ReportType::Test,
            ReportFormat::CloverXml
            | ReportFormat::CoberturaXml
            | ReportFormat::JacocoXml
            | ReportFormat::Simplecov => ReportType::CodeCoverage,
        }
    }
}

impl fmt::Display for ReportFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A problem in a report file, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The reason, in one sentence without a full stop.
    pub reason: String,
    /// The message of AWS's parser, if it is known.
    pub aws: Option<String>,
}

impl Malformed {
    fn at((line, column): (u32, u32), reason: String) -> Self {
        Malformed { line, column, reason, aws: None }
    }

    /// Makes a problem with the file as a whole.
    fn whole(reason: impl Into<String>) -> Self {
        Malformed::at((0, 0), reason.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => formatter.write_str(&self.reason),
            line => write!(formatter, "{line}:{}: {}", self.column, self.reason),
        }
    }
}

/// The contents of a report file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Test cases, in the order of the file.
    pub cases: Vec<Case>,
    /// Files with their coverage, in the order of the file.
    pub coverage: Vec<FileCoverage>,
    /// Why the file is rejected. Everything before that place is included above.
    pub problem: Option<Malformed>,
    /// Why the contents may be incomplete although the file is well-formed.
    pub doubts: Vec<Malformed>,
    /// Parts that AWS would reject but that are accepted here.
    pub warnings: Vec<Malformed>,
}

impl Contents {
    fn refused(problem: Malformed) -> Self {
        Contents { problem: Some(problem), ..Contents::default() }
    }

    /// Adds a doubt if the file contains nothing.
    fn doubt_nothing(&mut self, format: ReportFormat) {
        if self.problem.is_some() || !self.doubts.is_empty() {
            return;
        }
        let reason = match format.kind() {
            ReportType::Test if self.cases.is_empty() => "there is no test in it",
            ReportType::CodeCoverage if self.coverage.iter().all(|file| file.lines.all() == 0) => {
                match format {
                    ReportFormat::JacocoXml => {
                        "there is no line in it; JaCoCo has lines of classes with debug \
                         information only"
                    }
                    _ => "there is no line in it",
                }
            }
            ReportType::Test | ReportType::CodeCoverage => return,
        };
        self.doubts.push(Malformed::whole(reason));
    }
}

/// Parses one report file. Always returns a result: for a malformed file, whatever could be read.
#[must_use]
pub fn read(format: ReportFormat, bytes: &[u8]) -> Contents {
    let (text, garbled) = text::decode(bytes);
    let mut contents = match format {
        ReportFormat::CucumberJson => cucumber::read(&text),
        ReportFormat::JunitXml => junit::read(&text),
        ReportFormat::NunitXml => nunit::read(&text, nunit::NunitVersion::Two),
        ReportFormat::Nunit3Xml => nunit::read(&text, nunit::NunitVersion::Three),
        ReportFormat::TestngXml => testng::read(&text),
        ReportFormat::VisualStudioTrx => trx::read(&text),
        ReportFormat::CloverXml => clover::read(&text),
        ReportFormat::CoberturaXml => cobertura::read(&text),
        ReportFormat::JacocoXml => jacoco::read(&text),
        ReportFormat::Simplecov => simplecov::read(&text),
    };
    for case in &mut contents.cases {
        case.complete();
    }
    // A wrong format explains any other error, so report that instead.
    if let Some(problem) = &mut contents.problem
        && let Some(other) = detect(&text)
        && other != format
    {
        problem.reason = format!("{}; this looks like {other}", problem.reason);
    }
    contents.problem = contents.problem.or(garbled);
    contents.doubt_nothing(format);
    contents
}
