//! Finds the place of a failure in its message.
//!
//! Formats seldom contain it, but messages nearly always do, in a form that depends on the tool.
//! The paths are never opened; they are only shown, or passed to tools that annotate changes.

use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The source place of a failed case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CasePlace {
    /// Its path in the report.
    pub file: String,
    /// Line, from 1; 0 if unknown.
    pub line: u32,
    /// Column, from 1; 0 if unknown.
    pub column: u32,
}

/// Bytes of a message that are searched.
const MOST: usize = 16 << 10;
/// Maximum number of lines searched.
const LINES: usize = 400;

/// Patterns of places, best first: those of tools that name the failure itself, then stack frames.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let forms = [
        // Rust
        r"panicked at (?:'.*', )?(?P<file>[^\s:'][^:]*):(?P<line>\d+)(?::(?P<column>\d+))?",
        // pytest's last line: `tests/test_a.py:5: AssertionError`
        r"^(?P<file>[^\s:][^:]*):(?P<line>\d+): (?:[A-Z]\w+(?:Error|Exception|Failure|Exit|Warning|Interrupt)?|Failed)\s*$",
        // JavaScript frames
        r"^\s*at (?:.*\()?(?:file://)?(?P<file>/?[^\s():][^():]*):(?P<line>\d+):(?P<column>\d+)\)?$",
        // Python's own
        r#"^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)"#,
        // .NET
        r"^\s*at .* in (?P<file>.+):line (?P<line>\d+)$",
        // JVM
        r"^\s*at [\w.$/@<>-]+\((?P<file>[\w$-]+\.(?:java|kt|scala|groovy)):(?P<line>\d+)\)$",
        // Go, C, Ruby, PHP: `file:line` at the start of a line or after a blank
        r"(?:^|[\s(])(?:\./)?(?P<file>[\w./@+-]+\.[A-Za-z]\w{0,5}):(?P<line>\d+)(?::(?P<column>\d+))?(?:$|[\s:,)])",
    ];
    forms.iter().filter_map(|form| Regex::new(form).ok()).collect()
});

/// Path parts that indicate third-party code.
const FOREIGN: [&str; 9] = [
    "node_modules/",
    "site-packages/",
    "dist-packages/",
    "node:internal",
    "/rustc/",
    "/.cargo/registry/",
    "/lib/python",
    "vendor/bundle/",
    "/usr/lib/",
];

/// Finds the place in a message. If there are several, prefers one in `file`, otherwise the first
/// outside of third-party code.
pub(super) fn find(message: &str, file: Option<&str>) -> Option<CasePlace> {
    let message = &message[..message.floor_char_boundary(MOST)];
    for form in FORMS.iter() {
        let mut found = message.lines().take(LINES).filter_map(|line| place(form, line)).peekable();
        if found.peek().is_none() {
            continue;
        }
        let found: Vec<CasePlace> =
            found.filter(|place| !FOREIGN.iter().any(|part| place.file.contains(part))).collect();
        let is_own = |place: &&CasePlace| {
            file.is_some_and(|file| place.file.ends_with(file) || file.ends_with(&place.file))
        };
        // Python tracebacks end at the failure; all others begin there.
        let is_python = form.as_str().contains("File ");
        let own = found.iter().find(is_own).cloned();
        let best = own.or_else(|| {
            // If the case names its file but fails in third-party code, keep the case's place.
            if file.is_some() {
                return None;
            }
            if is_python { found.into_iter().next_back() } else { found.into_iter().next() }
        });
        if best.is_some() {
            return best;
        }
    }
    None
}

fn place(form: &Regex, line: &str) -> Option<CasePlace> {
    let found = form.captures(line)?;
    let number = |name: &str| found.name(name).and_then(|text| text.as_str().parse().ok());
    Some(CasePlace {
        file: found.name("file")?.as_str().trim().to_owned(),
        line: number("line")?,
        column: number("column").unwrap_or(0),
    })
}

/// A path relative to the source directory, if it is inside.
#[must_use]
pub fn relative(path: &str, source: &str) -> String {
    let path = path.strip_prefix("file://").unwrap_or(path);
    // Without a container, the source's real path has a different prefix.
    let own = source.find("/output/").map_or(source, |at| &source[at..]);
    let source = format!("{}/", own.trim_end_matches('/'));
    let below =
        path.find(&source).filter(|_| source.len() > 2).map(|at| &path[at + source.len()..]);
    let path = below.unwrap_or(path);
    path.strip_prefix("./").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_the_words_of_many_tools() {
        for (message, file, line, column) in [
            ("thread 'main' panicked at src/lib.rs:12:9:\nleft: 1", "src/lib.rs", 12, 9),
            (
                "def test():\n>   assert f()\n\ntests/test_a.py:5: AssertionError",
                "tests/test_a.py",
                5,
                0,
            ),
            (
                "Error: no\n    at f (/w/node_modules/x/i.js:1:2)\n    at Object.<anonymous> (/w/src/a.test.js:7:15)",
                "/w/src/a.test.js",
                7,
                15,
            ),
            (
                "Traceback:\n  File \"/w/a.py\", line 3, in x\n  File \"/w/b.py\", line 9\n",
                "/w/b.py",
                9,
                0,
            ),
            ("no\n   at N.C.M() in /w/Tests.cs:line 21", "/w/Tests.cs", 21, 0),
            ("java.lang.AssertionError\n\tat a.b.CTest.m(CTest.java:33)\n", "CTest.java", 33, 0),
            ("    foo_test.go:42: got 1, want 2", "foo_test.go", 42, 0),
            ("Failure/Error: x\n# ./spec/a_spec.rb:4:in `block'", "spec/a_spec.rb", 4, 0),
        ] {
            let found = find(message, None).unwrap_or_else(|| panic!("{message}"));
            assert_eq!((found.file.as_str(), found.line, found.column), (file, line, column));
        }
        assert_eq!(find("it took 12:30 to fail", None), None);
        assert_eq!(relative("/var/tmp/x/output/src5/src/a.py", "/other/output/src5/src"), "a.py");
        assert_eq!(
            relative("/codebuild/output/src1/src/a/b.py", "/codebuild/output/src1/src"),
            "a/b.py"
        );
        assert_eq!(
            relative("/codebuild/output/src12/b.py", "/codebuild/output/src1"),
            "/codebuild/output/src12/b.py"
        );
    }
}
