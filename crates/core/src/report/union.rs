//! Merges measurements of the same file across the reports of a group.
//!
//! Used by `group`. If a report says which directory its paths are relative to, the path decides.
//! Otherwise, files with the same path are the same file if they have the same executable lines, or
//! if both reports are in one directory.

use super::coverage::FileCoverage;
use super::place;
use std::collections::{HashMap, HashSet};

/// Maximum number of lines and branches stored one by one. Files beyond that keep only their
/// totals.
const MAX_PARTS: usize = 4 << 20;

/// The source files of a report group.
#[derive(Clone, Debug, Default)]
pub(super) struct Union {
    files: Vec<Measured>,
    /// Indexes of files by each of their possible names.
    at: HashMap<String, Vec<usize>>,
    parts: usize,
}

#[derive(Clone, Debug)]
struct Measured {
    file: FileCoverage,
    /// Directories of the reports that measured it.
    reports: Vec<String>,
}

impl Union {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FileCoverage> {
        self.files.iter().map(|measured| &measured.file)
    }

    /// Adds the measurements of one report. No two of them are of the same file.
    pub(super) fn add(&mut self, report: &str, files: Vec<FileCoverage>) {
        let directory = report.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut taken = HashSet::new();
        for file in files {
            let at = self.same(&file, directory, &taken);
            taken.insert(at.unwrap_or(self.files.len()));
            self.put(at, file, directory);
        }
    }

    /// Finds an earlier measurement of the same file.
    fn same(&self, file: &FileCoverage, directory: &str, taken: &HashSet<usize>) -> Option<usize> {
        let names = names(file);
        let known = names.iter().filter_map(|name| self.at.get(name)).flatten().copied();
        let mut known: Vec<usize> = known.filter(|at| !taken.contains(at)).collect();
        known.sort_unstable();
        known.dedup();
        let is_certain = is_certain(file);
        let by_name = |at: &&usize| is_certain && is_certain_of(&self.files[**at].file, &names);
        let by_lines = |at: &&usize| self.files[**at].file.lines.is_of_the_same(&file.lines);
        let by_place = |at: &&usize| {
            !is_certain && self.files[**at].reports.iter().any(|other| other == directory)
        };
        let mut found = known.iter().find(by_name);
        found = found.or_else(|| known.iter().find(by_lines));
        found.or_else(|| known.iter().find(by_place)).copied()
    }

    fn put(&mut self, at: Option<usize>, mut file: FileCoverage, directory: &str) {
        if self.parts + file.lines.parts() + file.branches.parts() > MAX_PARTS {
            file.lines.fold();
            file.branches.fold();
        }
        let at = at.unwrap_or_else(|| {
            let file = FileCoverage {
                path: file.path.clone(),
                roots: file.roots.clone(),
                ..FileCoverage::default()
            };
            self.files.push(Measured { file, reports: Vec::new() });
            self.files.len() - 1
        });
        for name in names(&file) {
            let known = self.at.entry(name).or_default();
            if !known.contains(&at) {
                known.push(at);
            }
        }
        let Measured { file: known, reports } = &mut self.files[at];
        let before = known.lines.parts() + known.branches.parts();
        known.lines.unite(file.lines);
        known.branches.unite(file.branches);
        if !reports.iter().any(|other| other == directory) {
            reports.push(directory.to_owned());
        }
        let after = known.lines.parts() + known.branches.parts();
        self.parts = (self.parts + after).saturating_sub(before);
    }

    /// Makes paths relative to the source directory, and adds the root to paths that are not
    /// unique.
    pub(super) fn finish(&mut self, source: &str) {
        let mut count: HashMap<String, usize> = HashMap::new();
        for measured in &self.files {
            *count.entry(place::relative(&measured.file.path, source)).or_default() += 1;
        }
        for Measured { file, .. } in &mut self.files {
            let path = place::relative(&file.path, source);
            let is_alone = count.get(&path).copied() == Some(1);
            let whole = names(file).pop().filter(|_| !is_alone && file.roots.len() == 1);
            file.path = whole.map_or(path, |whole| place::relative(&whole, source));
        }
    }
}

/// All possible names of a file.
fn names(file: &FileCoverage) -> Vec<String> {
    let path = file.path.strip_prefix("./").unwrap_or(&file.path);
    if is_absolute(path) || file.roots.is_empty() {
        return vec![path.to_owned()];
    }
    let below = |root: &String| match root.trim_end_matches('/').trim_start_matches("./") {
        "" | "." => path.to_owned(),
        root => format!("{root}/{path}"),
    };
    file.roots.iter().map(below).collect()
}

/// Whether the file's full name is known.
fn is_certain(file: &FileCoverage) -> bool {
    is_absolute(&file.path) || matches!(&*file.roots, [root] if is_absolute(root))
}

fn is_certain_of(file: &FileCoverage, others: &[String]) -> bool {
    is_certain(file) && names(file) == others
}

/// Whether a path is absolute on Unix or Windows.
fn is_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with(['/', '\\'])
        || bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':')
}
