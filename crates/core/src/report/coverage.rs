//! What of a source file was run, so kept that two measurements of one file unite.
//!
//! Made by the formats' readers; `union` says which of two are of one file.

use std::collections::{BTreeMap, HashMap};

/// What of a source file was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// Its path, as the report has it.
    pub path: String,
    /// What the path may be below: directories, or a module. Files of one path and different roots are
    /// different files.
    pub roots: Vec<String>,
    /// Lines that can be run.
    pub lines: Tally,
    /// Ways a condition can go.
    pub branches: Tally,
}

/// Identifies a line or a branch within its file: the line, and what stands there.
pub(super) type CoveragePoint = (u32, u64);

/// Lines or branches of a file: each by itself, or their sum where the format says no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How much of each part was covered, of how much.
    parts: BTreeMap<CoveragePoint, (u32, u32)>,
    /// Covered and missed, in the place of parts.
    sum: Option<(u64, u64)>,
}

impl Tally {
    /// Takes in a part; of two that are the same the better counts.
    pub(super) fn hit(&mut self, part: CoveragePoint, covered: u64, all: u64) {
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let one = self.parts.entry(part).or_default();
        *one = (one.0.max(number(covered.min(all))), one.1.max(number(all)));
    }

    /// Takes in a line.
    pub(super) fn line(&mut self, number: u64, is_covered: bool) {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.hit((number, 0), u64::from(is_covered), 1);
    }

    /// What the tool says they come to. Parts that come to something else are not all there is.
    pub(super) fn declare(&mut self, covered: u64, missed: u64) {
        if (self.covered(), self.missed()) != (covered, missed) {
            self.parts.clear();
            self.sum = Some((covered, missed));
        }
    }

    /// How many were covered.
    #[must_use]
    pub fn covered(&self) -> u64 {
        match self.sum {
            Some((covered, _)) => covered,
            None => self.parts.values().map(|part| u64::from(part.0)).sum(),
        }
    }

    /// How many were not.
    #[must_use]
    pub fn missed(&self) -> u64 {
        match self.sum {
            Some((_, missed)) => missed,
            None => self.parts.values().map(|part| u64::from(part.1 - part.0)).sum(),
        }
    }

    /// How many there are.
    pub(super) fn all(&self) -> u64 {
        self.covered().saturating_add(self.missed())
    }

    /// How many are kept by themselves.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Keeps their sum alone.
    pub(super) fn fold(&mut self) {
        self.sum = Some((self.covered(), self.missed()));
        self.parts.clear();
    }

    /// Whether both are of the same lines, as far as they say.
    pub(super) fn is_of_the_same(&self, other: &Tally) -> bool {
        match (self.sum, other.sum) {
            (None, None) => self.parts.keys().eq(other.parts.keys()),
            _ => self.all() == other.all(),
        }
    }

    /// Adds another measurement. Two sums cannot be united exactly; the larger one is a safe lower bound.
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

/// Files of one report, in its order; what it says of a file in several places comes together.
#[derive(Default)]
pub(super) struct CoverageFiles {
    all: Vec<FileCoverage>,
    at: HashMap<(String, String), usize>,
}

impl CoverageFiles {
    /// The file of this path. `within` tells it from others of the path, and is no part of it.
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
