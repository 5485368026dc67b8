//! Selects files of a tree by patterns, and the names under which they are kept.
//!
//! Used by `crates/outputs/src` for artifacts, reports and caches. Paths are bytes. Paths below the
//! base directory are relative to it. Others are absolute and are kept without their leading slash,
//! so no kept name leads out of its target directory.

/// The same file is part of `codebuild-hash-files`, so patterns mean the same in both.
#[path = "../../init/src/glob.rs"]
mod glob;

use std::collections::BTreeMap;

/// A pattern, resolved against its base directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePattern {
    /// As written in the buildspec.
    text: String,
    /// Relative to the base directory, or absolute. Contains no `.`, `..` or empty component.
    glob: Vec<u8>,
}

impl FilePattern {
    /// Parses a pattern for files in `base`, which is absolute.
    #[must_use]
    pub fn new(text: &str, base: &[u8]) -> Self {
        let whole = if text.starts_with('/') {
            text.as_bytes().to_vec()
        } else {
            [base, b"/", text.as_bytes()].concat()
        };
        let whole = normal(&whole);
        let base = normal(base);
        let glob = match below(&whole, &base) {
            Some(inner) => inner.to_vec(),
            None => whole,
        };
        FilePattern { text: text.to_owned(), glob }
    }

    /// The pattern as written in the buildspec.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the pattern is a single path, without wildcards.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.glob.iter().any(|byte| b"*?[".contains(byte))
    }

    /// Whether the pattern matches a path, relative to the base directory or absolute.
    #[must_use]
    pub fn takes(&self, path: &[u8]) -> bool {
        // A file below the base directory has only its relative name. The empty pattern is the base
        // directory and matches everything.
        self.glob.starts_with(b"/") == path.starts_with(b"/")
            && (self.glob.is_empty() || glob::takes(&self.glob, path))
    }

    /// The path without wildcards that contains every possible match, in the same form.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        let Some(wild) = self.glob.iter().position(|byte| b"*?[".contains(byte)) else {
            return &self.glob;
        };
        match self.glob[..wild].iter().rposition(|&byte| byte == b'/') {
            Some(0) => b"/",
            Some(slash) => &self.glob[..slash],
            None => b"",
        }
    }

    /// Maximum depth of a match below [`Self::start`]; `None` for any depth.
    #[must_use]
    pub fn depth(&self) -> Option<usize> {
        let last = self.glob.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let is_wild = |part: &[u8]| part.iter().any(|byte| b"*?[".contains(byte));
        if !is_wild(last) || self.glob.split(|&byte| byte == b'/').any(|part| part == b"**") {
            return None;
        }
        let parts =
            |path: &[u8]| path.split(|&b| b == b'/').filter(|part| !part.is_empty()).count();
        Some(parts(&self.glob) - parts(self.start()))
    }
}

/// A selection of files.
#[derive(Clone, Debug, Default)]
pub struct FileSelection {
    /// Patterns of files to take.
    pub files: Vec<FilePattern>,
    /// Patterns of files to leave out.
    pub exclude: Vec<FilePattern>,
    /// Whether to keep only the last component of a file's path.
    pub discard_paths: bool,
}

/// The selected files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Index of each path, by the name under which it is kept.
    pub files: BTreeMap<Vec<u8>, usize>,
    /// For each pattern, whether it matched anything.
    pub hits: Vec<bool>,
    /// Number of files replaced by another one with the same name.
    pub clashes: usize,
}

impl FileSelection {
    /// Whether a path is excluded.
    #[must_use]
    pub fn excludes(&self, path: &[u8]) -> bool {
        self.exclude.iter().any(|pattern| pattern.takes(path))
    }

    /// Selects from files in path order. If two files have the same name, the last one is kept.
    pub fn choose<'p>(&self, paths: impl Iterator<Item = &'p [u8]>) -> Selected {
        let mut selected = Selected { hits: vec![false; self.files.len()], ..Selected::default() };
        for (number, path) in paths.enumerate() {
            let mut is_taken = false;
            for (pattern, hit) in self.files.iter().zip(&mut selected.hits) {
                // Once the pattern has a hit, it only matters whether any pattern takes the file.
                if (!is_taken || !*hit) && pattern.takes(path) {
                    (is_taken, *hit) = (true, true);
                }
            }
            if is_taken && !self.excludes(path) {
                let name = kept_name(path, self.discard_paths);
                if selected.files.insert(name.to_vec(), number).is_some() {
                    selected.clashes += 1;
                }
            }
        }
        selected
    }

    /// Where to search: starting points, none inside another, and the depth to search.
    #[must_use]
    pub fn starts(&self) -> Vec<(Vec<u8>, Option<usize>)> {
        starts(&self.files)
    }
}

/// Starting points of patterns in order, none inside another, and how deep each one reaches.
#[must_use]
pub fn starts(patterns: &[FilePattern]) -> Vec<(Vec<u8>, Option<usize>)> {
    let mut all: Vec<(Vec<u8>, Option<usize>)> = Vec::new();
    let mut sorted: Vec<_> = patterns.iter().map(|p| (p.start().to_vec(), p.depth())).collect();
    sorted.sort();
    for (start, depth) in sorted {
        let components =
            |path: &[u8]| path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).count();
        let above = all.iter_mut().find(|(above, _)| {
            *above == start
                || (above.is_empty() && !start.starts_with(b"/"))
                || below(&start, above).is_some()
        });
        match above {
            Some((above, reach)) => {
                let deeper = components(&start) - components(above);
                *reach = reach.zip(depth).map(|(reach, depth)| reach.max(depth + deeper));
            }
            None => all.push((start, depth)),
        }
    }
    all
}

/// The name under which a file is kept.
fn kept_name(path: &[u8], discard_paths: bool) -> &[u8] {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    if !discard_paths {
        return path;
    }
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// A path relative to a directory; empty for the directory itself, `None` if it is outside.
#[must_use]
pub fn below<'p>(path: &'p [u8], directory: &[u8]) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() || directory == b"/" {
        return Some(rest);
    }
    rest.strip_prefix(b"/")
}

/// Removes `.`, `..` and empty components from an absolute path.
#[must_use]
pub fn normal(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", parts.join(&b'/').as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: [&str; 8] = [
        ".hidden",
        "a.jar",
        "dist/a.js",
        "dist/b.js",
        "dist/deep/er/a.js",
        "src/a.c",
        "target/x.jar",
        "/etc/hosts",
    ];

    fn names(files: &[&str], exclude: &[&str], discard_paths: bool) -> Vec<String> {
        let patterns =
            |list: &[&str]| list.iter().map(|text| FilePattern::new(text, b"/src")).collect();
        let selection =
            FileSelection { files: patterns(files), exclude: patterns(exclude), discard_paths };
        let selected = selection.choose(TREE.iter().map(|path| path.as_bytes()));
        selected.files.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn patterns_choose_as_the_language_says() {
        for (files, wanted) in [
            (vec!["a.jar"], vec!["a.jar"]),
            (vec!["./a.jar"], vec!["a.jar"]),
            (vec!["/src/a.jar"], vec!["a.jar"]),
            (vec!["*"], vec![".hidden", "a.jar"]),
            (vec!["dist/*"], vec!["dist/a.js", "dist/b.js"]),
            (vec!["dist/**/*"], vec!["dist/a.js", "dist/b.js", "dist/deep/er/a.js"]),
            (vec!["dist"], vec!["dist/a.js", "dist/b.js", "dist/deep/er/a.js"]),
            (vec!["dist/"], vec!["dist/a.js", "dist/b.js", "dist/deep/er/a.js"]),
            (vec!["**/*.jar"], vec!["a.jar", "target/x.jar"]),
            (vec!["/etc/hosts"], vec!["etc/hosts"]),
            (vec!["../etc/*"], vec!["etc/hosts"]),
            (vec!["dist/../a.jar"], vec!["a.jar"]),
            (vec!["../../../../etc/hosts"], vec!["etc/hosts"]),
            (vec!["nothing"], vec![]),
        ] {
            assert_eq!(names(&files, &[], false), wanted, "{files:?}");
        }
        assert_eq!(names(&["."], &[], false).len(), 7);
        assert_eq!(
            names(&["**/*"], &["dist/**/*", "*.jar"], false),
            [".hidden", "src/a.c", "target/x.jar"]
        );
        assert_eq!(names(&["dist/**/*"], &[], true), ["a.js", "b.js"]);
    }

    #[test]
    fn hits_are_told_of_each_pattern() {
        let files = ["a.jar", "*.jar", "gone"].map(|text| FilePattern::new(text, b"/src")).to_vec();
        let selection = FileSelection { files, ..FileSelection::default() };
        let selected = selection.choose(TREE.iter().map(|path| path.as_bytes()));
        assert_eq!(selected.hits, [true, true, false]);
        assert_eq!(selected.files.values().copied().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn one_looks_only_where_something_can_be() {
        let starting = |patterns: &[&str]| -> Vec<(String, Option<usize>)> {
            let patterns: Vec<_> = patterns.iter().map(|p| FilePattern::new(p, b"/src")).collect();
            let found = starts(&patterns);
            found
                .into_iter()
                .map(|(at, depth)| (String::from_utf8_lossy(&at).into(), depth))
                .collect()
        };
        let at = |path: &str, depth| (path.to_owned(), depth);
        assert_eq!(starting(&["target/*.jar"]), [at("target", Some(1))]);
        assert_eq!(starting(&["target/*.jar", "target/a/*/x?"]), [at("target", Some(3))]);
        assert_eq!(starting(&["*.txt", "a/**/*"]), [at("", None)]);
        assert_eq!(starting(&["*.txt"]), [at("", Some(1))]);
        assert_eq!(starting(&["b/c", "a/b", "a"]), [at("a", None), at("b/c", None)]);
        assert_eq!(starting(&["/etc/*", "x"]), [at("/etc", Some(1)), at("x", None)]);
        assert_eq!(starting(&["*/x"]), [at("", None)]);
        assert_eq!(starting(&["/*"]), [at("/", Some(1))]);
    }
}
