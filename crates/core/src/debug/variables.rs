//! Compares the variables of later commands with those before the last run.
//!
//! Names and values are bytes that the build controls.

use std::collections::BTreeMap;

/// Variables that shells and the runner set for every command.
const MANAGED: [&[u8]; 6] =
    [b"CODEBUILD_BUILD_SUCCEEDING", b"CODEBUILD_LAST_EXIT", b"OLDPWD", b"PWD", b"SHLVL", b"_"];

/// A variable before and after a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared<'v> {
    /// Its name.
    pub name: &'v [u8],
    /// Its value before; `None` if it was unset.
    pub before: Option<&'v [u8]>,
    /// Its value now; `None` if it is unset.
    pub now: Option<&'v [u8]>,
}

impl Compared<'_> {
    /// Whether it was changed, other than by the shell or the runner.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.before != self.now && !MANAGED.contains(&self.name)
    }
}

/// Compares two lists of `NAME=value` by name. If a name is repeated, the last one counts.
#[must_use]
pub fn compare<'v>(before: &'v [Vec<u8>], now: &'v [Vec<u8>]) -> Vec<Compared<'v>> {
    let mut all: BTreeMap<&[u8], Compared<'v>> = BTreeMap::new();
    for (name, value) in before.iter().filter_map(|entry| parts(entry)) {
        all.insert(name, Compared { name, before: Some(value), now: None });
    }
    for (name, value) in now.iter().filter_map(|entry| parts(entry)) {
        all.entry(name).or_insert(Compared { name, ..Compared::default() }).now = Some(value);
    }
    all.into_values().collect()
}

fn parts(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.iter().position(|&byte| byte == b'=')?;
    Some((&entry[..at], &entry[at + 1..]))
}

/// Returns why a text is not a valid variable name, or `None` if it is valid.
#[must_use]
pub fn no_name(name: &str) -> Option<String> {
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    if begins && chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    Some(format!("`{name}` is not a variable name: letters, digits and _, and no digit first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<Vec<u8>> {
        entries.iter().map(|entry| entry.as_bytes().to_vec()).collect()
    }

    #[test]
    fn what_has_changed() {
        let before = list(&["A=1", "B=2", "C=3", "PWD=/a", "A=2"]);
        let now = list(&["A=2", "B=3", "D=", "PWD=/b"]);
        let all = compare(&before, &now);
        let changed: Vec<_> = all.iter().filter(|one| one.is_changed()).collect();
        let told = |one: &Compared<'_>| {
            let text =
                |value: Option<&[u8]>| value.map(|v| String::from_utf8_lossy(v).into_owned());
            (String::from_utf8_lossy(one.name).into_owned(), text(one.before), text(one.now))
        };
        let told: Vec<_> = changed.into_iter().map(told).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("B".to_owned(), some("2"), some("3")),
                ("C".to_owned(), some("3"), None),
                ("D".to_owned(), None, some("")),
            ]
        );
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn names_are_those_of_a_shell() {
        for name in ["A", "_", "a1_B"] {
            assert_eq!(no_name(name), None);
        }
        for name in ["", "1A", "A B", "A=", "Ä", "A;x", "A\n"] {
            assert!(no_name(name).is_some(), "{name}");
        }
    }
}
