//! Compares the runtimes in a container with those that `runtime-versions` requests.
//!
//! Used by `machine::build` if the image has no catalog of runtimes. The driver runs the programs
//! from [`question`]; this module parses their answers.

use std::collections::BTreeMap;

/// Commands that print a runtime's version.
const QUESTIONS: [(&str, &[&str]); 8] = [
    ("dotnet", &["dotnet", "--list-sdks"]),
    ("docker", &["docker", "--version"]),
    ("golang", &["go", "version"]),
    ("java", &["java", "-version"]),
    ("nodejs", &["node", "--version"]),
    ("php", &["php", "--version"]),
    ("python", &["python3", "--version"]),
    ("ruby", &["ruby", "--version"]),
];

/// The command that prints a runtime's version.
#[must_use]
pub fn question(runtime: &str) -> Option<&'static [&'static str]> {
    QUESTIONS.iter().find(|(name, _)| *name == runtime).map(|(_, question)| *question)
}

/// Installed versions by runtime; `None` for a missing runtime.
pub type InstalledVersions = BTreeMap<String, Option<String>>;

/// Returns the first version in a program's output: numbers separated by dots.
#[must_use]
pub fn version_in(answer: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let words = answer.split(|c| !is_part(c)).map(|word| word.trim_matches('.'));
    words.into_iter().find(|word| word.contains('.')).map(str::to_owned)
}

/// Whether an installed version satisfies a requested one. Compares only the requested parts; `x`
/// and `latest` match any.
fn suits(asked: &str, found: &str) -> bool {
    let asked = asked.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    // Java versions before 9 are also written 1.8.
    let found = found.strip_prefix("1.8.").map_or(found.to_owned(), |rest| format!("8.{rest}"));
    let mut parts = found.split('.');
    asked
        .split('.')
        .filter(|part| !part.is_empty() && *part != "x")
        .all(|part| parts.next() == Some(part))
}

/// Describes what is requested but missing, in one line; `None` if nothing is known to be missing.
#[must_use]
pub fn mismatch(asked: &[(String, String)], found: &InstalledVersions) -> Option<String> {
    let differing: Vec<(&str, &str, Option<&str>)> = asked
        .iter()
        .filter_map(|(name, version)| {
            let found = found.get(name)?.as_deref();
            let suits = found.is_some_and(|found| suits(version, found));
            (!suits).then_some((name.as_str(), version.as_str(), found))
        })
        .collect();
    if differing.is_empty() {
        return None;
    }
    let asked: Vec<String> =
        differing.iter().map(|(name, version, _)| format!("{name} {version}")).collect();
    let found: Vec<String> = differing
        .iter()
        .map(|(name, _, found)| {
            found.map_or(format!("no {name}"), |found| format!("{name} {found}"))
        })
        .collect();
    Some(format!("runtime-versions asks for {}; here is {}", asked.join(", "), found.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (answer, version) in [
            ("Python 3.11.2\n", Some("3.11.2")),
            ("v18.19.0\n", Some("18.19.0")),
            ("go version go1.19.8 linux/amd64\n", Some("1.19.8")),
            ("openjdk version \"17.0.9\" 2023-10-17\n", Some("17.0.9")),
            ("java version \"1.8.0_392\"\n", Some("1.8.0")),
            ("ruby 3.1.2p20 (2022-04-12 revision 4491bb740a) [x86_64-linux-gnu]", Some("3.1.2")),
            ("8.0.100 [/usr/share/dotnet/sdk]\n", Some("8.0.100")),
            ("no version", None),
            ("...", None),
        ] {
            assert_eq!(version_in(answer).as_deref(), version, "{answer}");
        }
    }

    #[test]
    fn a_version_suits_as_far_as_it_is_asked_for() {
        for (asked, found, is_it) in [
            ("3.11", "3.11.2", true),
            ("3", "3.11.2", true),
            ("3.x", "3.11.2", true),
            ("latest", "3.11.2", true),
            ("3.12", "3.11.2", false),
            ("3.1", "3.11.2", false),
            ("20", "18.19.0", false),
            ("corretto17", "17.0.9", true),
            ("corretto8", "1.8.0", true),
            ("openjdk11", "17.0.9", false),
        ] {
            assert_eq!(suits(asked, found), is_it, "{asked} {found}");
        }
    }

    #[test]
    fn what_differs_is_one_line() {
        let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        let asked = [
            pair("nodejs", "20"),
            pair("python", "3.11"),
            pair("golang", "1.21"),
            pair("android", "29"),
        ];
        let found = InstalledVersions::from([
            ("nodejs".to_owned(), Some("18.19.0".to_owned())),
            ("python".to_owned(), Some("3.11.2".to_owned())),
            ("golang".to_owned(), None),
        ]);
        assert_eq!(
            mismatch(&asked, &found).as_deref(),
            Some(
                "runtime-versions asks for nodejs 20, golang 1.21; here is nodejs 18.19.0, no golang"
            )
        );
        assert_eq!(mismatch(&asked[1..2], &found), None);
    }
}
