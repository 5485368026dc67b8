//! COBERTURAXML: Cobertura, coverage.py, Istanbul, gcovr, coverlet.

use super::coverage::{CoverageFiles, FileCoverage};
use super::xml::{self, Element, Handler};
use super::{Contents, Malformed, totals};
use std::collections::HashMap;

#[derive(Default)]
struct Cobertura {
    sources: Vec<String>,
    /// The current class: its file, and which of the files with that name.
    file: String,
    which: String,
    class: Class,
    files: CoverageFiles,
    /// Number of classes seen with a file and a name.
    classes: HashMap<(String, String), u32>,
    /// Line number and line count of the report's own total.
    said: Option<(u32, u64)>,
    /// Number of `line` elements, including repeated ones.
    found: u64,
}

/// Lines of a class: its own and those of its methods. Some reports list only the methods' lines,
/// others repeat them among the class's own, together with lines that are not code.
#[derive(Default)]
struct Class {
    own: FileCoverage,
    found: u64,
    methods: FileCoverage,
    found_in_methods: u64,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Cobertura::default();
    let problem = xml::read(text, &mut reader);
    let doubts = reader.doubts();
    let Cobertura { files, sources, .. } = reader;
    let mut coverage = files.into_all();
    for file in &mut coverage {
        file.roots.clone_from(&sources);
    }
    Contents { coverage, problem, doubts, ..Contents::default() }
}

impl Cobertura {
    fn doubts(&self) -> Vec<Malformed> {
        let doubt = self
            .said
            .and_then(|(line, said)| totals::missing(line, "lines", Some(said), self.found));
        doubt.into_iter().collect()
    }

    fn class(&mut self, element: &Element<'_>) {
        let name = element.text("name");
        self.file = match element.get("filename").unwrap_or_default() {
            "" => name.clone(),
            file => file.to_owned(),
        };
        // Several classes may share a file. The same class again belongs to another file, if paths
        // are relative to several directories.
        let count = self.classes.entry((self.file.clone(), name)).or_default();
        *count += 1;
        self.which = match *count {
            2.. if self.sources.len() > 1 => count.to_string(),
            _ => String::new(),
        };
        self.class = Class::default();
    }
}

fn line(file: &mut FileCoverage, element: &Element<'_>) {
    let number = element.count("number");
    file.lines.line(number, element.count("hits") > 0);
    if let Some((taken, branches)) = element.get("condition-coverage").and_then(condition) {
        let at = u32::try_from(number).unwrap_or(u32::MAX);
        file.branches.hit((at, 0), taken, branches);
    }
}

impl Handler for Cobertura {
    const ROOTS: &'static [&'static str] = &["coverage"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "coverage" => {
                self.said = element.number("lines-valid").map(|said| (element.line, said));
            }
            "class" => self.class(element),
            "line" => match above.iter().rev().nth(1).map(String::as_str) {
                Some("class") => {
                    self.class.found += 1;
                    line(&mut self.class.own, element);
                }
                Some("method") => {
                    self.class.found_in_methods += 1;
                    line(&mut self.class.methods, element);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn end(&mut self, name: &str, text: &str, above: &[String]) {
        if name == "class" {
            let Class { own, found, methods, found_in_methods } = std::mem::take(&mut self.class);
            let (lines, found) = if found > 0 { (own, found) } else { (methods, found_in_methods) };
            let file = self.files.of(&self.file, &self.which);
            file.lines.unite(lines.lines);
            file.branches.unite(lines.branches);
            self.found += found;
        }
        let is_source = name == "source" && above.last().is_some_and(|name| name == "sources");
        if is_source && !self.sources.iter().any(|known| known == text) {
            self.sources.push(text.to_owned());
        }
    }
}

/// Parses `50% (1/2)`.
fn condition(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.split_once('(')?;
    let (taken, all) = rest.split_once(')')?.0.split_once('/')?;
    let number = |text: &str| text.trim().parse::<u32>().ok().map(u64::from);
    Some((number(taken)?, number(all)?))
}
