//! Writes a report as JUnit XML for other tools: all cases, without limits.

use super::group::ReportGroupReader;
use super::model::{Case, CaseStatus};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use std::io::{self, Write};

/// Writes a group's cases.
///
/// # Errors
/// Errors of `out`.
pub fn junit<W: Write>(group: &ReportGroupReader, out: W) -> io::Result<()> {
    let mut writer = Writer::new_with_indent(out, b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let cases: Vec<&Case> = group.cases().map(|(_, case)| case).collect();
    let mut root = BytesStart::new("testsuites");
    root.push_attribute(("name", clean(&group.name).as_str()));
    counts(&mut root, &cases);
    writer.write_event(Event::Start(root))?;
    // Cases of a suite are adjacent in their files, so a new name starts a new suite.
    for suite in cases.chunk_by(|a, b| a.suite == b.suite) {
        let mut start = BytesStart::new("testsuite");
        start.push_attribute(("name", clean(&suite[0].suite).as_str()));
        counts(&mut start, suite);
        writer.write_event(Event::Start(start))?;
        for case in suite {
            write_case(&mut writer, case)?;
        }
        writer.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testsuites")))?;
    writer.get_mut().write_all(b"\n")
}

fn counts(start: &mut BytesStart<'_>, cases: &[&Case]) {
    let count =
        |status: CaseStatus| cases.iter().filter(|case| case.status == status).count().to_string();
    let time = cases.iter().map(|case| case.duration_ns).fold(0, u64::saturating_add);
    start.push_attribute(("tests", cases.len().to_string().as_str()));
    start.push_attribute(("failures", count(CaseStatus::Failed).as_str()));
    start.push_attribute(("errors", count(CaseStatus::Error).as_str()));
    start.push_attribute(("skipped", count(CaseStatus::Skipped).as_str()));
    start.push_attribute(("time", seconds(time).as_str()));
}

fn write_case<W: Write>(writer: &mut Writer<W>, case: &Case) -> io::Result<()> {
    let mut start = BytesStart::new("testcase");
    start.push_attribute(("classname", clean(&case.class).as_str()));
    start.push_attribute(("name", clean(&case.name).as_str()));
    start.push_attribute(("time", seconds(case.duration_ns).as_str()));
    if let Some(place) = &case.place {
        start.push_attribute(("file", clean(&place.file).as_str()));
        if place.line > 0 {
            start.push_attribute(("line", place.line.to_string().as_str()));
        }
    }
    let element = match case.status {
        CaseStatus::Succeeded => return writer.write_event(Event::Empty(start)),
        CaseStatus::Failed => "failure",
        // An unknown status is not a success.
        CaseStatus::Error | CaseStatus::Unknown => "error",
        CaseStatus::Skipped => "skipped",
    };
    writer.write_event(Event::Start(start))?;
    let message = clean(&case.message);
    let mut why = BytesStart::new(element);
    let first = message.lines().next().unwrap_or_default();
    if !first.is_empty() {
        why.push_attribute(("message", first));
    }
    if message.lines().nth(1).is_some() {
        writer.write_event(Event::Start(why))?;
        writer.write_event(Event::Text(BytesText::new(&message)))?;
        writer.write_event(Event::End(BytesEnd::new(element)))?;
    } else {
        writer.write_event(Event::Empty(why))?;
    }
    writer.write_event(Event::End(BytesEnd::new("testcase")))
}

fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:09}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)
}

/// Removes characters that XML cannot represent.
fn clean(text: &str) -> String {
    let fits = |c: char| {
        !c.is_control() && c != '\u{fffe}' && c != '\u{ffff}' || matches!(c, '\t' | '\n' | '\r')
    };
    text.chars().map(|c| if fits(c) { c } else { '\u{fffd}' }).collect()
}
