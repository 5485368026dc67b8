//! Detects the format of a report from its beginning.
//!
//! Used for auto-discovery, and for a hint if a report has another format than configured.

use super::ReportFormat;

/// Bytes of a file that are examined.
const MOST: usize = 8 << 10;

/// Whether a file of this name is worth opening when searching for reports.
#[must_use]
pub fn may_be_report(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    // Most JSON files are not reports, and there are many of them.
    name.ends_with(".xml")
        || name.ends_with(".trx")
        || name == ".resultset.json"
        || name.ends_with(".json") && name.contains("cucumber")
}

/// Returns the format that a text begins like.
#[must_use]
pub fn detect(text: &str) -> Option<ReportFormat> {
    let head = &text[..text.floor_char_boundary(MOST)];
    let head = head.trim_start_matches('\u{feff}').trim_start();
    match head.chars().next()? {
        '<' => xml(head),
        '[' if head.contains("\"elements\"") || head.contains("\"keyword\"") => {
            Some(ReportFormat::CucumberJson)
        }
        '{' if head.contains("\"coverage\"") && head.contains("\"lines\"") => {
            Some(ReportFormat::Simplecov)
        }
        _ => None,
    }
}

fn xml(head: &str) -> Option<ReportFormat> {
    let (name, rest) = root(head)?;
    let tag = rest.split('>').next().unwrap_or_default();
    Some(match name {
        "testsuites" | "testsuite" => ReportFormat::JunitXml,
        "test-results" => ReportFormat::NunitXml,
        "test-run" => ReportFormat::Nunit3Xml,
        "testng-results" => ReportFormat::TestngXml,
        "TestRun" => ReportFormat::VisualStudioTrx,
        "coverage" if tag.contains("line-rate") => ReportFormat::CoberturaXml,
        "coverage" if tag.contains("generated") || tag.contains("clover") => {
            ReportFormat::CloverXml
        }
        "coverage" if rest.contains("<packages") || rest.contains("<sources") => {
            ReportFormat::CoberturaXml
        }
        "coverage" if rest.contains("<project") => ReportFormat::CloverXml,
        "report"
            if head.contains("JACOCO")
                || rest.contains("<sessioninfo")
                || rest.contains("<package ") =>
        {
            ReportFormat::JacocoXml
        }
        _ => return None,
    })
}

/// The name of the root element, and the text after it.
fn root(mut head: &str) -> Option<(&str, &str)> {
    loop {
        head = head.trim_start();
        let after = |mark: &str| head.find(mark).map(|at| &head[at + mark.len()..]);
        head = if head.starts_with("<?") {
            after("?>")?
        } else if head.starts_with("<!--") {
            after("-->")?
        } else if head.starts_with("<!") {
            after(">")?
        } else {
            let rest = head.strip_prefix('<')?;
            let end = rest.find(|c: char| c.is_whitespace() || c == '>' || c == '/')?;
            return Some((&rest[..end], &rest[end..]));
        };
    }
}
