//! Resolves `runtime-versions` with the catalog of an image.
//!
//! Used by `machine::build`, with the catalog that the driver reads from the container. The catalog
//! comes from the image: invalid entries are ignored.

use crate::phase::{PhaseContext, StatusCode};
use crate::spec::Runtime;
use crate::spec::yaml::{self, YamlNode, YamlValue};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Path of the catalog in an image.
pub const CATALOG: &str = "/codebuild/image/config/runtimes.yml";

/// Message of CodeBuild's agent if an image has no catalog.
const NO_CATALOG: &str = "Skipping install of runtimes. Runtime version selection is not supported \
                          by this build image.";

/// A command that installs a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupCommand {
    /// Its text.
    pub text: String,
    /// Variables to set first.
    pub variables: Vec<(String, String)>,
}

/// The chosen runtimes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeSelection {
    /// Log lines of CodeBuild's agent about it.
    pub lines: Vec<String>,
    /// Commands that install them, or why that is not possible.
    pub commands: Result<Vec<SetupCommand>, PhaseContext>,
}

/// Finds the commands that install the requested runtimes. `variables` are the build's, for
/// versions that refer to one.
#[must_use]
pub fn select(
    catalog: Option<&str>,
    wanted: &[Runtime],
    variables: &BTreeMap<String, String>,
) -> RuntimeSelection {
    let ready = |lines: Vec<String>| RuntimeSelection { lines, commands: Ok(Vec::new()) };
    let catalog = match (catalog, wanted.is_empty()) {
        (None, true) => return ready(Vec::new()),
        (None, false) => return ready(vec![NO_CATALOG.to_owned()]),
        (Some(_), true) => {
            return ready(vec!["No runtime version selected in buildspec.".to_owned()]);
        }
        (Some(text), false) => Catalog::parse(text),
    };
    let chosen = asked(wanted, variables);
    let line = |(name, version): &(String, String)| {
        format!("Selecting '{name}' runtime version '{version}' based on manual selections...")
    };
    let mut lines: Vec<String> = chosen.iter().map(line).collect();
    let commands = catalog.commands(chosen, &mut lines);
    RuntimeSelection {
        lines,
        commands: commands.map_err(|message| PhaseContext::new(StatusCode::YamlFileError, message)),
    }
}

/// The requested runtimes and versions, with variables filled in.
#[must_use]
pub fn asked(wanted: &[Runtime], variables: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let asked = |runtime: &Runtime| (runtime.name.clone(), expand(&runtime.version, variables));
    wanted.iter().map(asked).collect()
}

/// The catalog of an image.
struct Catalog(BTreeMap<String, Versions>);

/// The versions of one runtime.
#[derive(Default)]
struct Versions {
    exact: BTreeMap<String, RuntimeVersion>,
    /// Used for any other version, which its commands find in `VERSION`.
    other: Option<RuntimeVersion>,
}

#[derive(Clone, Default)]
struct RuntimeVersion {
    commands: Vec<String>,
    /// Runtimes that it requires, with suitable versions.
    requires: Vec<(String, Vec<String>)>,
}

impl Catalog {
    fn parse(text: &str) -> Self {
        let Ok(yaml::YamlDocument { root: document, .. }) = yaml::parse(text) else {
            return Catalog(BTreeMap::new());
        };
        let runtimes = entries(get(&document, "runtimes"));
        let of_one = |runtime: &YamlNode| {
            let mut exact: BTreeMap<String, RuntimeVersion> = entries(get(runtime, "versions"))
                .into_iter()
                .map(|(version, node)| (version, RuntimeVersion::read(node)))
                .collect();
            // The default may be next to the versions or one of them.
            let other = get(runtime, "default")
                .map(RuntimeVersion::read)
                .or_else(|| exact.remove("default"));
            Versions { exact, other }
        };
        Catalog(runtimes.into_iter().map(|(name, node)| (name, of_one(node))).collect())
    }

    /// The commands for the chosen runtimes and their requirements.
    fn commands(
        &self,
        mut chosen: Vec<(String, String)>,
        lines: &mut Vec<String>,
    ) -> Result<Vec<SetupCommand>, String> {
        let mut commands = Vec::new();
        let mut at = 0;
        while at < chosen.len() {
            let (name, version) = chosen[at].clone();
            at += 1;
            let (entry, is_custom) = self.entry(&name, &version)?;
            for (other, versions) in &entry.requires {
                match chosen.iter().find(|(name, _)| name == other) {
                    None => {
                        let Some(version) = versions.first() else { continue };
                        lines.push(format!(
                            "Selecting '{other}' runtime version '{version}' based on runtime \
                             dependencies..."
                        ));
                        chosen.push((other.clone(), version.clone()));
                    }
                    Some((_, found)) => {
                        let resolved = self.resolve(other, found).unwrap_or_else(|| found.clone());
                        if !versions.contains(&resolved) {
                            return Err(format!(
                                "Runtime {name} version {version} requires {other} version {}, but {other} \
                                 version {found} is selected",
                                versions.join(" or ")
                            ));
                        }
                    }
                }
            }
            let variables =
                if is_custom { vec![("VERSION".to_owned(), version.clone())] } else { Vec::new() };
            commands.extend(
                entry
                    .commands
                    .iter()
                    .map(|text| SetupCommand { text: text.clone(), variables: variables.clone() }),
            );
        }
        Ok(commands)
    }

    /// The entry for a version, and whether it is the default for unlisted versions.
    fn entry(&self, name: &str, version: &str) -> Result<(&RuntimeVersion, bool), String> {
        let Some(versions) = self.0.get(name) else {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return Err(format!(
                "Unknown runtime named '{name}'. This build image has the following runtimes: {}",
                known.join(", ")
            ));
        };
        if let Some(entry) = self.resolve(name, version).and_then(|key| versions.exact.get(&key)) {
            return Ok((entry, false));
        }
        match &versions.other {
            Some(entry) if version != "latest" && !version.ends_with(".x") => Ok((entry, true)),
            _ => {
                let mut known: Vec<&str> = versions.exact.keys().map(String::as_str).collect();
                known.sort_by(|a, b| compare(a, b));
                Err(format!(
                    "Unknown runtime version named '{version}' of {name}. This build image has the \
                     following versions: {}",
                    known.join(", ")
                ))
            }
        }
    }

    /// The catalog's key for a version: the same, the highest, or the highest with its major
    /// version.
    fn resolve(&self, name: &str, version: &str) -> Option<String> {
        let keys = self.0.get(name)?.exact.keys();
        match version.strip_suffix(".x") {
            _ if version == "latest" => keys.max_by(|a, b| compare(a, b)).cloned(),
            Some(major) => keys
                .filter(|key| key.as_str() == major || key.starts_with(&format!("{major}.")))
                .max_by(|a, b| compare(a, b))
                .cloned(),
            None => keys.into_iter().find(|key| *key == version).cloned(),
        }
    }
}

impl RuntimeVersion {
    fn read(node: &YamlNode) -> Self {
        let requires = entries(get(node, "requires"));
        RuntimeVersion {
            commands: texts(get(node, "commands")),
            requires: requires
                .into_iter()
                .map(|(name, versions)| (name, texts(Some(versions))))
                .collect(),
        }
    }
}

/// Compares the numbers first, then the letters: 3.9 before 3.10, corretto8 before corretto11.
fn compare(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

/// Fills in `$NAME` and `${NAME}`. As in a shell, an unset variable is empty.
fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, next) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(parts) => parts,
            None => {
                let end = after
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(after.len());
                after.split_at(end)
            }
        };
        match name {
            "" => expanded.push('$'),
            name => expanded.push_str(variables.get(name).map_or("", String::as_str)),
        }
        rest = next;
    }
    expanded + rest
}

fn get<'n>(node: &'n YamlNode, name: &str) -> Option<&'n YamlNode> {
    let YamlValue::Mapping(entries) = &node.value else { return None };
    let is_it = |key: &YamlNode| matches!(&key.value, YamlValue::Scalar(text) if text == name);
    entries.iter().rev().find(|(key, _)| is_it(key)).map(|(_, value)| value)
}

fn entries<'n>(node: Option<&'n YamlNode>) -> Vec<(String, &'n YamlNode)> {
    let Some(YamlValue::Mapping(entries)) = node.map(|node| &node.value) else { return Vec::new() };
    let named = |(key, value): &'n (YamlNode, YamlNode)| match &key.value {
        YamlValue::Scalar(name) => Some((name.clone(), value)),
        _ => None,
    };
    entries.iter().filter_map(named).collect()
}

fn texts(node: Option<&YamlNode>) -> Vec<String> {
    let scalar = |node: &YamlNode| match &node.value {
        YamlValue::Scalar(text) => Some(text.clone()),
        _ => None,
    };
    match node.map(|node| &node.value) {
        Some(YamlValue::Sequence(items)) => items.iter().filter_map(scalar).collect(),
        Some(YamlValue::Scalar(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Span;

    const TEXT: &str = "version: 0.1
runtimes:
  java:
    versions:
      corretto8: {commands: ['java 8']}
      corretto11: {commands: ['java 11', 'more']}
  python:
    default: {commands: ['python any $VERSION']}
    versions:
      3.9: {commands: ['python 3.9']}
      3.10: {commands: ['python 3.10']}
      2.7: {commands: ['python 2.7']}
  android:
    versions:
      29: {requires: {java: [corretto8]}, commands: ['android 29']}
";

    fn commands(wanted: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let wanted: Vec<Runtime> = wanted
            .iter()
            .map(|(name, version)| Runtime {
                span: Span::default(),
                name: (*name).to_owned(),
                version: (*version).to_owned(),
            })
            .collect();
        let variables = BTreeMap::from([("PY".to_owned(), "3.9".to_owned())]);
        let setup = select(Some(TEXT), &wanted, &variables);
        let texts = |commands: Vec<SetupCommand>| {
            commands
                .into_iter()
                .map(|command| match command.variables.first() {
                    Some((name, value)) => format!("{name}={value} {}", command.text),
                    None => command.text,
                })
                .collect()
        };
        setup.commands.map(texts).map_err(|context| context.message)
    }

    #[test]
    fn versions_are_resolved_by_number() {
        for (name, version, wanted) in [
            ("java", "corretto11", &["java 11", "more"][..]),
            ("java", "latest", &["java 11", "more"]),
            ("python", "3.10", &["python 3.10"]),
            ("python", "3.x", &["python 3.10"]),
            ("python", "latest", &["python 3.10"]),
            ("python", "$PY", &["python 3.9"]),
            ("python", "${PY}", &["python 3.9"]),
            ("python", "3.13.1", &["VERSION=3.13.1 python any $VERSION"]),
            ("android", "29", &["android 29", "java 8"]),
        ] {
            assert_eq!(commands(&[(name, version)]).expect(version), wanted, "{name} {version}");
        }
    }

    #[test]
    fn what_the_image_has_not_is_told() {
        for (wanted, message) in [
            (
                &[("pyhton", "3.9")][..],
                "Unknown runtime named 'pyhton'. This build image has the following runtimes: android, \
                 java, python",
            ),
            (
                &[("java", "corretto9")],
                "Unknown runtime version named 'corretto9' of java. This build image has the following \
                 versions: corretto8, corretto11",
            ),
            (
                &[("java", "11.x")],
                "Unknown runtime version named '11.x' of java. This build image has the following \
                 versions: corretto8, corretto11",
            ),
            (
                &[("android", "29"), ("java", "corretto11")],
                "Runtime android version 29 requires java version corretto8, but java version corretto11 \
                 is selected",
            ),
        ] {
            assert_eq!(commands(wanted).expect_err(message), message);
        }
    }

    #[test]
    fn every_selection_has_its_line() {
        let runtime = |name: &str, version: &str| Runtime {
            name: name.into(),
            version: version.into(),
            span: Span::default(),
        };
        let wanted = [runtime("python", "3.9"), runtime("nosuch", "1")];
        let setup = select(Some(TEXT), &wanted, &BTreeMap::new());
        assert_eq!(
            setup.lines,
            [
                "Selecting 'python' runtime version '3.9' based on manual selections...",
                "Selecting 'nosuch' runtime version '1' based on manual selections...",
            ]
        );
        assert!(setup.commands.is_err());
        assert_eq!(select(None, &wanted, &BTreeMap::new()).lines, [NO_CATALOG]);
        assert_eq!(
            select(Some(TEXT), &[], &BTreeMap::new()).lines,
            ["No runtime version selected in buildspec."]
        );
        assert!(select(Some("\u{0}"), &wanted, &BTreeMap::new()).commands.is_err());
    }
}
