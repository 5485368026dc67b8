//! Which format a file is in, told from its beginning.
//!
//! For auto-discovery, and for a hint when a report turns out to be of another format than said.

use super::Format;

/// How much of a file is looked at, in bytes.
const MOST: usize = 8 << 10;

/// Whether a file of this name is worth opening in a search for reports.
#[must_use]
pub fn may_be_report(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    // Most JSON files of this world are none, and there are many of them.
    name.ends_with(".xml")
        || name.ends_with(".trx")
        || name == ".resultset.json"
        || name.ends_with(".json") && name.contains("cucumber")
}

/// The format of a text, where it begins like one.
#[must_use]
pub fn detect(text: &str) -> Option<Format> {
    let head = &text[..text.floor_char_boundary(MOST)];
    let head = head.trim_start_matches('\u{feff}').trim_start();
    match head.chars().next()? {
        '<' => xml(head),
        '[' if head.contains("\"elements\"") || head.contains("\"keyword\"") => {
            Some(Format::CucumberJson)
        }
        '{' if head.contains("\"coverage\"") && head.contains("\"lines\"") => {
            Some(Format::Simplecov)
        }
        _ => None,
    }
}

fn xml(head: &str) -> Option<Format> {
    let (name, rest) = root(head)?;
    let tag = rest.split('>').next().unwrap_or_default();
    Some(match name {
        "testsuites" | "testsuite" => Format::JunitXml,
        "test-results" => Format::NunitXml,
        "test-run" => Format::Nunit3Xml,
        "testng-results" => Format::TestngXml,
        "TestRun" => Format::VisualStudioTrx,
        "coverage" if tag.contains("line-rate") => Format::CoberturaXml,
        "coverage" if tag.contains("generated") || tag.contains("clover") => Format::CloverXml,
        "coverage" if rest.contains("<packages") || rest.contains("<sources") => {
            Format::CoberturaXml
        }
        "coverage" if rest.contains("<project") => Format::CloverXml,
        "report"
            if head.contains("JACOCO")
                || rest.contains("<sessioninfo")
                || rest.contains("<package ") =>
        {
            Format::JacocoXml
        }
        _ => return None,
    })
}

/// The name of the outermost element, and what follows it.
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
