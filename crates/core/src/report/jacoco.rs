//! JACOCOXML: what JaCoCo writes.

use super::Contents;
use super::model::FileCoverage;
use super::xml::{self, Element, Handler};

#[derive(Default)]
struct Jacoco {
    package: String,
    file: Option<FileCoverage>,
    files: Vec<FileCoverage>,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Jacoco::default();
    let problem = xml::read(text, &mut reader);
    Contents { coverage: reader.files, problem, ..Contents::default() }
}

impl Handler for Jacoco {
    const ROOTS: &'static [&'static str] = &["report"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "package" => self.package = element.text("name"),
            "sourcefile" => {
                let name = element.text("name");
                let path = match self.package.as_str() {
                    "" => name,
                    package => format!("{package}/{name}"),
                };
                self.file = Some(FileCoverage { path, ..FileCoverage::default() });
            }
            "counter" if above.last().is_some_and(|name| name == "sourcefile") => {
                let Some(file) = &mut self.file else { return };
                let (covered, missed) = (element.count("covered"), element.count("missed"));
                match element.get("type") {
                    Some("LINE") => (file.lines_covered, file.lines_missed) = (covered, missed),
                    Some("BRANCH") => {
                        (file.branches_covered, file.branches_missed) = (covered, missed);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, _: &str, _: &[String]) {
        if name == "sourcefile" {
            self.files.extend(self.file.take());
        }
    }
}
