//! JACOCOXML: output of JaCoCo.

use super::coverage::{CoverageFiles, FileCoverage};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};

#[derive(Default)]
struct Jacoco {
    report: String,
    /// The enclosing modules, outermost first.
    groups: Vec<String>,
    package: String,
    file: Option<FileCoverage>,
    files: CoverageFiles,
    /// Line number and line count of the report's own total.
    said: Option<(u32, u64)>,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Jacoco::default();
    let problem = xml::read(text, &mut reader);
    let said = reader.said;
    let coverage = reader.files.into_all();
    let found = coverage.iter().map(|file| file.lines.all()).fold(0, u64::saturating_add);
    let doubt = said.and_then(|(line, said)| totals::missing(line, "lines", Some(said), found));
    let doubts: Vec<Malformed> = doubt.into_iter().collect();
    Contents { coverage, problem, doubts, ..Contents::default() }
}

impl Jacoco {
    /// The module. A report of a single module has its name.
    fn module(&self) -> String {
        if self.groups.is_empty() { self.report.clone() } else { self.groups.join("/") }
    }
}

impl Handler for Jacoco {
    const ROOTS: &'static [&'static str] = &["report"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match element.name {
            "report" => self.report = element.text("name"),
            "group" => self.groups.push(element.text("name")),
            "package" => self.package = element.text("name"),
            "sourcefile" => {
                let name = element.text("name");
                let path = match self.package.as_str() {
                    "" => name,
                    package => format!("{package}/{name}"),
                };
                self.file = Some(FileCoverage { path, ..FileCoverage::default() });
            }
            "line" if parent == "sourcefile" => {
                let Some(file) = &mut self.file else { return };
                let number = element.count("nr");
                file.lines.line(number, element.count("ci") > 0);
                let (taken, missed) = (element.count("cb"), element.count("mb"));
                if taken + missed > 0 {
                    let at = u32::try_from(number).unwrap_or(u32::MAX);
                    file.branches.hit((at, 0), taken, taken + missed);
                }
            }
            // Follows the lines.
            "counter" if parent == "sourcefile" => {
                let Some(file) = &mut self.file else { return };
                let (covered, missed) = (element.count("covered"), element.count("missed"));
                match element.get("type") {
                    Some("LINE") => file.lines.declare(covered, missed),
                    Some("BRANCH") => file.branches.declare(covered, missed),
                    _ => {}
                }
            }
            "counter" if parent == "report" && element.get("type") == Some("LINE") => {
                let said = element.count("covered") + element.count("missed");
                self.said = Some((element.line, said));
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, _: &str, _: &[String]) {
        match name {
            "group" => drop(self.groups.pop()),
            "sourcefile" => {
                let Some(file) = self.file.take() else { return };
                let module = self.module();
                let known = self.files.of(&file.path, &module);
                if !module.is_empty() {
                    known.roots = vec![module];
                }
                known.lines.unite(file.lines);
                known.branches.unite(file.branches);
            }
            _ => {}
        }
    }
}
