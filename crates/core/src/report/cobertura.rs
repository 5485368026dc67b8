//! COBERTURAXML: Cobertura, coverage.py, Istanbul, gcovr, coverlet.

use super::Contents;
use super::model::FileCoverage;
use super::xml::{self, Element, Handler};
use std::collections::{BTreeMap, HashMap};

#[derive(Default)]
struct Cobertura {
    file: String,
    /// Lines of each file: whether they were run, branches taken and all. Several classes may share
    /// one.
    files: HashMap<String, BTreeMap<u64, Line>>,
    order: Vec<String>,
}

#[derive(Clone, Copy, Default)]
struct Line {
    is_covered: bool,
    taken: u64,
    branches: u64,
}

pub(super) fn read(text: &str) -> Contents {
    let mut reader = Cobertura::default();
    let problem = xml::read(text, &mut reader);
    let Cobertura { mut files, order, .. } = reader;
    let coverage = order.into_iter().map(|path| {
        let lines = files.remove(&path).unwrap_or_default();
        let mut file = FileCoverage { path, ..FileCoverage::default() };
        for line in lines.values() {
            file.lines_covered += u64::from(line.is_covered);
            file.lines_missed += u64::from(!line.is_covered);
            file.branches_covered = file.branches_covered.saturating_add(line.taken);
            file.branches_missed =
                file.branches_missed.saturating_add(line.branches.saturating_sub(line.taken));
        }
        file
    });
    Contents { coverage: coverage.collect(), problem, ..Contents::default() }
}

impl Handler for Cobertura {
    const ROOTS: &'static [&'static str] = &["coverage"];

    fn start(&mut self, element: &Element<'_>, above: &[String]) {
        match element.name {
            "class" => {
                self.file = element.text("filename");
                if !self.files.contains_key(&self.file) {
                    self.order.push(self.file.clone());
                    self.files.insert(self.file.clone(), BTreeMap::new());
                }
            }
            // Those of methods stand among those of their class once more.
            "line" if above.iter().rev().nth(1).is_some_and(|name| name == "class") => {
                let Some(lines) = self.files.get_mut(&self.file) else { return };
                let line = lines.entry(element.count("number")).or_default();
                line.is_covered |= element.count("hits") > 0;
                if let Some((taken, branches)) =
                    element.get("condition-coverage").and_then(condition)
                {
                    line.taken = line.taken.max(taken.min(branches));
                    line.branches = line.branches.max(branches);
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, _: &str, _: &str, _: &[String]) {}
}

/// `50% (1/2)`.
fn condition(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.split_once('(')?;
    let (taken, all) = rest.split_once(')')?.0.split_once('/')?;
    let number = |text: &str| text.trim().parse::<u32>().ok().map(u64::from);
    Some((number(taken)?, number(all)?))
}
