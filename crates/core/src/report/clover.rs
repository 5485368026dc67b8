//! CLOVERXML: Clover and OpenClover, and the same format from PHPUnit and Istanbul.

use super::coverage::{CoverageFiles, Tally};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};

#[derive(Default)]
struct Clover {
    /// Whether this is test code, which is measured too but is not a source.
    is_test: bool,
    package: String,
    file: Option<CloverFile>,
    files: CoverageFiles,
    /// Line number and statement count of the project's own total.
    said: Option<(u32, u64)>,
    /// Statements found: from lines, and from totals of files without lines.
    found: u64,
}

/// The current file.
struct CloverFile {
    path: String,
    lines: Tally,
    entries: u64,
    /// The two readings of a condition's counts: how often it was true and false, as in Clover, or
    /// how many branches were taken and not taken, as in Istanbul.
    times: Tally,
    branches: Tally,
    /// Statements and conditions in the file's `metrics`.
    sums: [(u64, u64); 2],
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Clover::default();
    let problem = xml::read(text, &mut reader);
    let doubts = reader.doubts();
    Contents { coverage: reader.files.into_all(), problem, doubts, ..Contents::default() }
}

impl Handler for Clover {
    const ROOTS: &'static [&'static str] = &["coverage"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        let parent = above.last().map_or("", String::as_str);
        match element.name {
            "testproject" => self.is_test = true,
            _ if self.is_test => {}
            "package" => self.package = element.text("name"),
            "file" => self.file = Some(CloverFile::new(&self.package, element)),
            "line" if parent == "file" => {
                if let Some(open) = &mut self.file {
                    open.line(element);
                }
            }
            "metrics" if parent == "file" => {
                if let Some(open) = &mut self.file {
                    open.sums = [
                        part(element, "statements", "coveredstatements"),
                        part(element, "conditionals", "coveredconditionals"),
                    ];
                }
            }
            "metrics" if parent == "project" => {
                self.said = Some((element.line, element.count("statements")));
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, _: &str, _: &[String]) {
        match name {
            "testproject" => self.is_test = false,
            "package" => self.package.clear(),
            "file" => {
                let Some(open) = self.file.take() else { return };
                let (path, lines, branches, found) = open.close();
                let file = self.files.of(&path, "");
                file.lines.unite(lines);
                file.branches.unite(branches);
                self.found = self.found.saturating_add(found);
            }
            _ => {}
        }
    }
}

impl Clover {
    fn doubts(&self) -> Vec<Malformed> {
        let doubt = self
            .said
            .and_then(|(line, said)| totals::missing(line, "statements", Some(said), self.found));
        doubt.into_iter().collect()
    }
}

impl CloverFile {
    fn new(package: &str, element: &Element<'_>) -> Self {
        let path = match (element.get("path"), element.text("name")) {
            (Some(path), _) => path.to_owned(),
            // A name without a path is relative to its package.
            (None, name) if package.is_empty() || name.contains(['/', '\\']) => name,
            (None, name) => format!("{}/{name}", package.replace('.', "/")),
        };
        CloverFile {
            path,
            lines: Tally::default(),
            entries: 0,
            times: Tally::default(),
            branches: Tally::default(),
            sums: [(0, 0); 2],
        }
    }

    fn line(&mut self, element: &Element<'_>) {
        let number = element.count("num");
        match element.get("type") {
            Some("method") => return,
            Some("cond") => {
                let (yes, no) = (element.count("truecount"), element.count("falsecount"));
                let at = u32::try_from(number).unwrap_or(u32::MAX);
                self.times.hit((at, 0), u64::from(yes > 0), 1);
                self.times.hit((at, 1), u64::from(no > 0), 1);
                self.branches.hit((at, 0), yes, yes.saturating_add(no));
                self.lines.line(number, yes > 0 || no > 0 || element.count("count") > 0);
            }
            _ => self.lines.line(number, element.count("count") > 0),
        }
        self.entries += 1;
    }

    /// Returns path, lines, branches and number of statements.
    fn close(self) -> (String, Tally, Tally, u64) {
        let CloverFile { path, mut lines, entries, times, mut branches, sums } = self;
        let [statements, conditions] = sums;
        // Without lines, only the totals are known.
        if lines.all() == 0 {
            lines.declare(statements.0, statements.1);
        }
        let found = entries.max(lines.all());
        if conditions == (0, 0) || (times.covered(), times.missed()) == conditions {
            branches = times;
        } else {
            branches.declare(conditions.0, conditions.1);
        }
        (path, lines, branches, found)
    }
}

/// Covered and missed counts, from the total and covered ones.
fn part(element: &Element<'_>, all: &str, covered: &str) -> (u64, u64) {
    let covered = element.count(covered);
    (covered, element.count(all).saturating_sub(covered))
}
