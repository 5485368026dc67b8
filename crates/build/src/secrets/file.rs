//! `--secrets FILE`: values of parameters and secrets without AWS.
//!
//! A map of names (and, for git, of `git:HOST`), in YAML (`/app/token: ...`, `app/db: {password:
//! ...}`) or as dotenv (`/app/token=...`). A secret with keys is a map, or JSON text. A file that
//! others than its owner can read is rejected: they may already have read it.

use super::{no_parameter, no_secret};
use runner_core::machine::BuildSetupError;
use runner_core::spec::yaml::{self, YamlDocument, YamlNode, YamlValue};
use runner_core::spec::{Diagnostic, SecretReference, SecretVersion};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The expected content of a file.
const SHAPE: &str = "it should have an entry for each parameter and secret, by its name: `/app/token: VALUE`, \
                     `app/db: {password: VALUE}`, or lines NAME=VALUE";
/// Keys under which a buildspec lists the names.
const OF_BUILDSPEC: [&str; 4] = ["parameter-store", "secrets-manager", "env", "phases"];
/// Maximum size of a file in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The values in a file.
#[derive(Debug)]
pub struct SecretsFile {
    path: PathBuf,
    values: BTreeMap<String, SecretFileEntry>,
}

/// Git's credentials for one host.
#[derive(Debug)]
pub struct GitCredential {
    pub host: String,
    pub user: String,
    pub password: String,
}

#[derive(Debug)]
enum SecretFileEntry {
    Text(String),
    Keys(BTreeMap<String, String>),
}

impl SecretsFile {
    /// Reads a file. The error is a sentence for the user.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: std::io::Error| format!("cannot read {shown}: {error}");
        let mut file = std::fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "{shown} can be read or written by others than its owner (mode {:04o}); close it first: \
                 chmod 600 {shown}",
                metadata.mode() & 0o7777
            ));
        }
        let mut text = String::new();
        file.by_ref().take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
        let is_dotenv = path.extension().is_some_and(|extension| extension == "env")
            || path.file_name().is_some_and(|name| name == ".env");
        let values = match yaml::parse(&text) {
            Ok(YamlDocument { next: Some(place), .. }) if !is_dotenv => {
                return Err(format!("{shown}:{}: here begins a second document", place.line));
            }
            Ok(YamlDocument { root, .. })
                if !is_dotenv
                    && matches!(root.value, YamlValue::Mapping(_) | YamlValue::Sequence(_)) =>
            {
                from_yaml(&root).map_err(|problem| format!("{shown}:{problem}"))?
            }
            Err(problem) if !is_dotenv && !looks_like_dotenv(&text) => {
                return Err(format!("{shown}:{}", place(&problem)));
            }
            _ => from_dotenv(&text).map_err(|problem| format!("{shown}:{problem}"))?,
        };
        Ok(SecretsFile { path: path.to_path_buf(), values })
    }

    /// Credentials for git: the entries `git:HOST`, each of the form `USER:PASSWORD`.
    pub fn git_credentials(&self) -> Vec<GitCredential> {
        let hosts = self.values.iter().filter_map(|(name, entry)| {
            let text = entry.text();
            let (user, password) = text.split_once(':')?;
            Some(GitCredential {
                host: name.strip_prefix("git:")?.to_owned(),
                user: user.to_owned(),
                password: password.to_owned(),
            })
        });
        hosts.collect()
    }

    /// A parameter's value.
    pub(super) fn parameter(&self, name: &str) -> Result<String, BuildSetupError> {
        match self.values.get(name) {
            Some(SecretFileEntry::Text(text)) => Ok(text.clone()),
            Some(keys) => Ok(keys.text()),
            None => {
                let message = format!("parameter does not exist: {name}");
                Err(no_parameter(message, Some(self.add(name))))
            }
        }
    }

    /// A secret's value. An entry for the whole reference, including its version, takes precedence
    /// over one for the secret.
    pub(super) fn secret(&self, wanted: &SecretReference) -> Result<String, BuildSetupError> {
        let (stage, id) = match &wanted.version {
            SecretVersion::Stage(stage) => (stage.as_str(), ""),
            SecretVersion::Id(id) => ("", id.as_str()),
        };
        let key = wanted.json_key.as_deref().unwrap_or_default();
        let exact = [
            format!("{}:{key}:{stage}:{id}", wanted.id),
            format!("{}:{key}:{stage}", wanted.id),
            format!("{}:{key}", wanted.id),
        ];
        let written = exact.iter().map(|text| text.trim_end_matches(':'));
        let whole = written.clone().find_map(|text| match self.values.get(text) {
            Some(SecretFileEntry::Text(value)) if text != wanted.id => Some(value.clone()),
            _ => None,
        });
        if let Some(value) = whole {
            return Ok(value);
        }
        let name = plain_name(&wanted.id);
        let Some(entry) = self.values.get(&wanted.id).or_else(|| self.values.get(name)) else {
            let message =
                "ResourceNotFoundException: Secrets Manager can't find the specified secret.";
            return Err(no_secret(message, Some(self.add(name))));
        };
        match &wanted.json_key {
            None => Ok(entry.text()),
            Some(key) => entry.key(key).ok_or_else(|| {
                let message = format!("the secret {name} has no key {key}");
                no_secret(message, Some(self.add(&format!("{name}:{key}"))))
            }),
        }
    }

    fn add(&self, name: &str) -> String {
        let below = self.values.iter().find_map(|(outer, entry)| match entry {
            SecretFileEntry::Keys(keys) if keys.contains_key(name) => Some(outer),
            _ => None,
        });
        let file = self.path.display();
        match below {
            Some(outer) => {
                format!("{file} has no entry `{name}` at its top; it stands under `{outer}`")
            }
            None => format!("{file} has no entry `{name}`; it has {}", self.names()),
        }
    }

    /// Names of the entries, shortened for a message.
    fn names(&self) -> String {
        const MOST: usize = 5;
        let names: Vec<String> =
            self.values.keys().take(MOST).map(|name| format!("`{name}`")).collect();
        match self.values.len() {
            0 => "none at all".to_owned(),
            count if count > MOST => format!("{} and {} more", names.join(", "), count - MOST),
            _ => names.join(", "),
        }
    }
}

impl SecretFileEntry {
    fn text(&self) -> String {
        match self {
            SecretFileEntry::Text(text) => text.clone(),
            SecretFileEntry::Keys(keys) => serde_json::to_string(keys).unwrap_or_default(),
        }
    }

    fn key(&self, key: &str) -> Option<String> {
        match self {
            SecretFileEntry::Text(text) => super::json_key(text, key),
            SecretFileEntry::Keys(keys) => keys.get(key).cloned(),
        }
    }
}

/// The name in a secret's ARN, without the six characters that AWS appends; otherwise the id
/// itself.
fn plain_name(id: &str) -> &str {
    match id.splitn(7, ':').nth(6) {
        Some(name) if id.starts_with("arn:") => match name.rsplit_once('-') {
            Some((name, suffix)) if suffix.len() == 6 => name,
            _ => name,
        },
        _ => id,
    }
}

fn looks_like_dotenv(text: &str) -> bool {
    text.lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .is_some_and(|line| line.split_once('=').is_some_and(|(name, _)| !name.contains(": ")))
}

fn from_dotenv(text: &str) -> Result<BTreeMap<String, SecretFileEntry>, String> {
    let pairs = runner_core::env::parse_file(text)?;
    Ok(pairs.into_iter().map(|(name, value)| (name, SecretFileEntry::Text(value))).collect())
}

fn from_yaml(node: &YamlNode) -> Result<BTreeMap<String, SecretFileEntry>, String> {
    let at = |node: &YamlNode| format!("{}:{}", node.span.line, node.span.column);
    let wrong = |node: &YamlNode| format!("{}: it has {} here; {SHAPE}", at(node), kind(node));
    let text = |node: &YamlNode| match &node.value {
        YamlValue::Scalar(text) => Ok(text.clone()),
        YamlValue::Null => Ok(String::new()),
        _ => Err(wrong(node)),
    };
    let YamlValue::Mapping(entries) = &node.value else { return Err(wrong(node)) };
    let mut values = BTreeMap::new();
    for (key, value) in entries {
        let name = text(key)?;
        let entry = match &value.value {
            YamlValue::Mapping(_) if OF_BUILDSPEC.contains(&name.as_str()) => {
                return Err(format!("{}: it has `{name}`, as a buildspec has; {SHAPE}", at(key)));
            }
            YamlValue::Mapping(keys) => SecretFileEntry::Keys(
                keys.iter()
                    .map(|(key, value)| Ok((text(key)?, text(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            _ => SecretFileEntry::Text(text(value)?),
        };
        values.insert(name, entry);
    }
    Ok(values)
}

fn kind(node: &YamlNode) -> &'static str {
    match node.value {
        YamlValue::Sequence(_) => "a list",
        YamlValue::Mapping(_) => "a map in a map",
        YamlValue::Scalar(_) | YamlValue::Null => "a text",
    }
}

fn place(problem: &Diagnostic) -> String {
    format!("{}:{}: {}", problem.span.line, problem.span.column, problem.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(name: &str, text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
        (dir, path)
    }

    fn reference(text: &str) -> SecretReference {
        let source = format!(
            "version: 0.2\nenv: {{secrets-manager: {{A: '{text}'}}}}\nphases: {{build: {{commands: [x]}}}}\n"
        );
        let (spec, _) = runner_core::spec::parse(&source).expect("is sound");
        spec.secrets[0].secret.clone()
    }

    #[test]
    fn yaml_and_dotenv_hold_the_same() {
        let yaml = "# x\n/app/token: t0ken\nport: 0123\ndb:\n  user: bob\n  password: 'p w'\nold:k:PREVIOUS: before\n\
                    json: '{\"a\": \"b\", \"n\": 5}'\n";
        let dotenv = "# x\n/app/token=t0ken\nport=0123\n\ndb={\"user\":\"bob\",\"password\":\"p w\"}\n\
                      old:k:PREVIOUS=before\njson={\"a\": \"b\", \"n\": 5}\n";
        for (name, text) in [("s.yml", yaml), ("s.env", dotenv), ("secrets", dotenv)] {
            let (_dir, path) = file(name, text, 0o600);
            let file = SecretsFile::read(&path).expect(name);
            assert_eq!(file.parameter("/app/token").expect("is there"), "t0ken");
            assert_eq!(file.parameter("port").expect("is there"), "0123");
            let secret = |text: &str| file.secret(&reference(text)).map_err(|f| f.context.message);
            assert_eq!(secret("db:password").as_deref(), Ok("p w"));
            assert_eq!(secret("old:k:PREVIOUS").as_deref(), Ok("before"));
            assert_eq!(secret("json:n").as_deref(), Ok("5"));
            assert_eq!(
                secret("arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf:user")
                    .as_deref(),
                Ok("bob")
            );
            assert!(secret("db:nosuch").is_err_and(|message| message.contains("no key nosuch")));
            assert!(secret("nosuch").is_err_and(|message| message.contains("ResourceNotFound")));
            let refused = file.parameter("/nosuch").expect_err("is not there");
            assert_eq!(refused.context.message, "parameter does not exist: /nosuch");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_dir, path) = file("s.yml", "a: b\n", 0o640);
        assert!(SecretsFile::read(&path).expect_err("is open").contains("chmod 600"));
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, place) in [
            ("a: b: c\n", ":1:"),
            ("a:\n  - b\n", ":2:3: it has a list here; it should have an entry for each"),
            ("a: {b: {c: d}}\n", ":1:8: it has a map in a map here; it should have"),
            ("- a\n- b\n", ":1:1: it has a list here"),
            (
                "parameter-store:\n  /app/token: x\n",
                ":1:1: it has `parameter-store`, as a buildspec has; it should have",
            ),
            ("=x\n", ":1: "),
        ] {
            let (_dir, path) = file("s", text, 0o600);
            let problem = SecretsFile::read(&path).expect_err(text);
            assert!(problem.contains(place), "{problem}");
        }
    }
}
