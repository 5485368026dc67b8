//! Coverage of a source file, in a form that lets two measurements be merged.
//!
//! The format parsers make it; `union` decides which measurements belong to the same file.

use std::collections::{BTreeMap, HashMap};

/// Coverage of one source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// Its path in the report.
    pub path: String,
    /// Possible roots of the path: directories, or a module. Files with the same path and different
    /// roots are different files.
    pub roots: Vec<String>,
    /// Executable lines.
    pub lines: Tally,
    /// Branches of conditions.
    pub branches: Tally,
}

/// Identifies a line or branch in its file: the line number, and an ID of what is there.
pub(super) type CoveragePoint = (u32, u64);

/// Lines or branches of a file: each one, or only their totals if the format has no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// For each point, how many of how many were covered.
    parts: BTreeMap<CoveragePoint, (u32, u32)>,
    /// Covered and missed totals, instead of points.
    sum: Option<(u64, u64)>,
}

impl Tally {
    /// Adds a point. Of two results for the same point, the better one counts.
    pub(super) fn hit(&mut self, part: CoveragePoint, covered: u64, all: u64) {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let one = self.parts.entry(part).or_default();
        *one = (one.0.max(number(covered.min(all))), one.1.max(number(all)));
    }

    /// Adds a line.
    pub(super) fn line(&mut self, number: u64, is_covered: bool) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.hit((number, 0), u64::from(is_covered), 1);
    }

    /// Sets the totals that the tool reports. If the points add up to something else, they are
    /// incomplete and are dropped.
    pub(super) fn declare(&mut self, covered: u64, missed: u64) {
        if (self.covered(), self.missed()) != (covered, missed) {
            self.parts.clear();
            self.sum = Some((covered, missed));
        }
    }

    /// Number of covered lines or branches.
    #[must_use]
    pub fn covered(&self) -> u64 {
        match self.sum {
            Some((covered, _)) => covered,
            None => self.parts.values().map(|part| u64::from(part.0)).sum(),
        }
    }

    /// Number of missed lines or branches.
    #[must_use]
    pub fn missed(&self) -> u64 {
        match self.sum {
            Some((_, missed)) => missed,
            None => self.parts.values().map(|part| u64::from(part.1 - part.0)).sum(),
        }
    }

    /// Total number of lines or branches.
    pub(super) fn all(&self) -> u64 {
        self.covered().saturating_add(self.missed())
    }

    /// Number of stored points.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Drops the points and keeps their totals.
    pub(super) fn fold(&mut self) {
        self.sum = Some((self.covered(), self.missed()));
        self.parts.clear();
    }

    /// Whether both cover the same lines, as far as they are known.
    pub(super) fn is_of_the_same(&self, other: &Tally) -> bool {
        match (self.sum, other.sum) {
            (None, None) => self.parts.keys().eq(other.parts.keys()),
            _ => self.all() == other.all(),
        }
    }

    /// Merges another measurement. Two totals cannot be merged exactly; the larger one is a safe
    /// lower bound.
    pub(super) fn unite(&mut self, other: Tally) {
        match (self.sum, other.sum) {
            (None, None) => {
                for (part, (covered, all)) in other.parts {
                    self.hit(part, u64::from(covered), u64::from(all));
                }
            }
            _ => {
                let covered = self.covered().max(other.covered());
                let all = self.all().max(other.all());
                self.parts.clear();
                self.sum = Some((covered, all - covered));
            }
        }
    }
}

/// The files of one report, in order. Entries for the same file are merged.
#[derive(Default)]
pub(super) struct CoverageFiles {
    all: Vec<FileCoverage>,
    at: HashMap<(String, String), usize>,
}

impl CoverageFiles {
    /// Returns the file with this path. `within` distinguishes files with the same path.
    pub(super) fn of(&mut self, path: &str, within: &str) -> &mut FileCoverage {
        let at = *self.at.entry((within.to_owned(), path.to_owned())).or_insert_with(|| {
            self.all.push(FileCoverage { path: path.to_owned(), ..FileCoverage::default() });
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    pub(super) fn into_all(self) -> Vec<FileCoverage> {
        self.all
    }
}
