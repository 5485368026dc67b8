//! CLOVERXML: Clover, and what PHPUnit and Istanbul write in its form.

use super::Contents;
use super::model::FileCoverage;
use super::xml::{self, Element, Handler};

#[derive(Default)]
struct Clover {
    file: Option<FileCoverage>,
    /// Statements and conditions of the file as its `metrics` have them.
    sums: [(u64, u64); 2],
    files: Vec<FileCoverage>,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Clover::default();
    let problem = xml::read(text, &mut reader);
    Contents { coverage: reader.files, problem, ..Contents::default() }
}

impl Handler for Clover {
    const ROOTS: &'static [&'static str] = &["coverage"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "file" => {
                let path = element.get("path").or(element.get("name")).unwrap_or_default();
                self.file = Some(FileCoverage { path: path.to_owned(), ..FileCoverage::default() });
            }
            "line" if above.last().is_some_and(|name| name == "file") => {
                let Some(file) = &mut self.file else { return };
                match element.get("type") {
                    Some("method") => {}
                    Some("cond") => {
                        let (yes, no) = (element.count("truecount"), element.count("falsecount"));
                        let taken = u64::from(yes > 0) + u64::from(no > 0);
                        file.branches_covered += taken;
                        file.branches_missed += 2 - taken;
                        count(file, yes > 0 || no > 0 || element.count("count") > 0);
                    }
                    _ => count(file, element.count("count") > 0),
                }
            }
            "metrics" if above.last().is_some_and(|name| name == "file") => {
                let part = |all: &str, done: &str| {
                    let done = element.count(done);
                    (done, element.count(all).saturating_sub(done))
                };
                self.sums = [
                    part("statements", "coveredstatements"),
                    part("conditionals", "coveredconditionals"),
                ];
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, _: &str, _: &[String]) {
        if name != "file" {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let [lines, branches] = std::mem::take(&mut self.sums);
        // Without lines its sums are all there is. What a condition's counts mean differs between
        // tools: times in Clover, branches in Istanbul.
        if file.lines_covered + file.lines_missed == 0 {
            (file.lines_covered, file.lines_missed) = lines;
        }
        if branches != (0, 0) {
            (file.branches_covered, file.branches_missed) = branches;
        }
        self.files.push(file);
    }
}

fn count(file: &mut FileCoverage, is_covered: bool) {
    if is_covered {
        file.lines_covered += 1;
    } else {
        file.lines_missed += 1;
    }
}
