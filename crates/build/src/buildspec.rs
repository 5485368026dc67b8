//! The buildspec as a file: finds it, reads it, and reports problems with the file.

use super::opened::Unusable;
use runner_core::event::BuildspecFacts;
use runner_core::patch;
use runner_core::project::{ProjectVariable, VariableKind};
use runner_core::spec::{
    self, BuildSpec, Diagnostic, DiagnosticCode, SecretVariable, Span, SpecVariable, yaml,
};
use runner_host::beneath::Dir;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A parsed buildspec or its errors, and warnings about what its author may not have meant.
pub type Parsed = (Result<BuildSpec, Vec<Diagnostic>>, Vec<Diagnostic>);

/// Reads a buildspec's text.
type Parser = fn(&str) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>>;

/// A buildspec file, found or not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BuildspecFile {
    /// The path as requested.
    asked: Option<PathBuf>,
    path: PathBuf,
    text: Result<String, Diagnostic>,
}

impl BuildspecFile {
    /// Reads the given file, or `buildspec.yml` in the source.
    pub fn read(asked: Option<&Path>, source: &Path) -> Self {
        let path = asked.map_or_else(|| source.join("buildspec.yml"), Path::to_path_buf);
        let text = read(&path, asked.is_none());
        BuildspecFile { asked: asked.map(Path::to_path_buf), path, text }
    }

    /// A buildspec from a project's settings.
    pub fn inline(text: String) -> Self {
        BuildspecFile { asked: Some("(inline)".into()), path: PathBuf::new(), text: Ok(text) }
    }

    /// A buildspec that runs one program with its arguments.
    pub fn of_command(words: &[String]) -> Self {
        let text: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        // JSON is YAML.
        let whole = serde_json::json!({
            "version": 0.2, "phases": {"build": {"commands": [text.join(" ")]}}
        });
        Self::inline(whole.to_string())
    }

    /// A buildspec that a source names: a path below it, or the text itself if it has several
    /// lines. It is read from `tree`, which is the source or a copy of it, without following links.
    pub fn named_in(source: &Path, tree: &Path, name: &str) -> Self {
        if name.contains('\n') {
            return Self::inline(name.to_owned());
        }
        let text = read_below(tree, name);
        BuildspecFile { asked: Some(name.into()), path: source.join(name), text }
    }

    /// Its name in messages.
    pub fn shown(&self) -> String {
        self.asked
            .as_ref()
            .map_or_else(|| "buildspec.yml".into(), |path| path.display().to_string())
    }

    pub fn text(&self) -> Option<&str> {
        self.text.as_deref().ok()
    }

    /// Path and digest of the file, for later comparison; `None` if it is not a readable file. The
    /// digest of editable texts is included only for a build that stops.
    pub(crate) fn facts(&self, stops: bool) -> Option<BuildspecFacts> {
        let path = std::path::absolute(&self.path).ok()?.to_str()?.to_owned();
        let is_file = self.path.file_name().is_some();
        let text = self.text().filter(|_| is_file)?;
        let values = stops.then(|| patch::values(text)).flatten();
        let values = values.map(|values| fingerprint(&values));
        Some(BuildspecFacts { path, sha256: fingerprint(text), values })
    }

    /// Its path below the source directory; `None` if it lies elsewhere.
    pub fn path_in(&self, source: &Path) -> Option<PathBuf> {
        let path = std::fs::canonicalize(&self.path).ok()?;
        path.strip_prefix(source).ok().map(Path::to_path_buf)
    }

    /// Like [`Self::parse`], including warnings about what its author may not have meant.
    pub fn check(&self) -> Result<(BuildSpec, Vec<Diagnostic>), Vec<Diagnostic>> {
        match &self.text {
            Ok(text) => spec::check(text),
            Err(problem) => Err(vec![problem.clone()]),
        }
    }

    /// Errors in the buildspecs that builds of its batch name, each at the place of the name. A
    /// buildspec from elsewhere names files of another source.
    pub fn check_builds(&self, source: &Path) -> Vec<Diagnostic> {
        let Some(own) = self.path_in(source) else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut named = spec::batch_buildspecs(self.text().unwrap_or_default());
        // Objects on S3 are reported with the buildspec itself.
        named.retain(|named| {
            let is_object = named.text.starts_with("arn:") || named.text.starts_with("s3://");
            let is_own = own == Path::new(&named.text);
            !is_object && !is_own && seen.insert(named.text.clone())
        });
        let problems = named.iter().flat_map(|named| {
            let file = Self::named_in(source, source, &named.text);
            let found = match &file.text {
                Ok(text) => spec::parse(text).err().unwrap_or_default(),
                Err(problem) => vec![problem.clone()],
            };
            let place = match named.text.contains('\n') {
                true => "the buildspec of this build".to_owned(),
                false => file.shown(),
            };
            let errors = found.into_iter().filter(Diagnostic::is_error);
            errors.map(move |problem| Diagnostic {
                message: match problem.span.line {
                    0 => problem.message,
                    line => format!("{place}, line {line}: {}", problem.message),
                },
                span: named.span,
                ..problem
            })
        });
        problems.collect()
    }

    /// Parses the buildspec: its content or all errors, and warnings about what its author may not
    /// have meant. `fetched` are a project's variables; they take precedence over the buildspec's.
    pub fn parse(&self, fetched: &[ProjectVariable]) -> Result<Parsed, Unusable> {
        self.parsed(spec::parse, fetched)
    }

    /// Like `parse`, for a batch.
    pub fn parse_batch(&self, fetched: &[ProjectVariable]) -> Result<Parsed, Unusable> {
        self.parsed(spec::parse_batch, fetched)
    }

    fn parsed(&self, parse: Parser, fetched: &[ProjectVariable]) -> Result<Parsed, Unusable> {
        let parsed = match &self.text {
            Ok(text) => parse(text),
            Err(problem) => Err(vec![problem.clone()]),
        };
        Ok(match parsed {
            Err(problems) => (Err(problems), Vec::new()),
            Ok((mut spec, warnings)) => {
                add_variables(&mut spec, fetched)?;
                (Ok(spec), warnings)
            }
        })
    }
}

/// A digest that identifies a buildspec's text.
pub fn fingerprint(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a project's variables whose values are fetched; they take precedence over the buildspec's.
fn add_variables(spec: &mut BuildSpec, fetched: &[ProjectVariable]) -> Result<(), Unusable> {
    for variable in fetched {
        let ProjectVariable { name, value, kind, .. } = variable;
        spec.variables.retain(|own| own.name != *name);
        spec.parameters.retain(|own| own.name != *name);
        spec.secrets.retain(|own| own.name != *name);
        // Values that a project fetches are not exported.
        spec.exported.retain(|own| own != name);
        let (name, span) = (name.clone(), Span::default());
        match kind {
            VariableKind::Secret => {
                let secret = spec::secret_reference(value)
                    .map_err(|problem| Unusable::usage(format!("{name}: {}", problem.message)))?;
                spec.secrets.push(SecretVariable { name, secret, span });
            }
            VariableKind::Parameter | VariableKind::Plain => {
                spec.parameters.push(SpecVariable { name, value: value.clone(), span });
            }
        }
    }
    Ok(())
}

/// A hint if the source has its buildspec under another name or in a subdirectory.
fn elsewhere(path: &Path) -> Option<String> {
    const NAMES: [&str; 2] = ["buildspec.yml", "buildspec.yaml"];
    /// Maximum directory depth below the source.
    const DEPTH: usize = 3;
    /// Maximum number of names examined.
    const MOST: usize = 2000;
    let source = Dir::real(path.parent()?).ok()?;
    let (mut found, mut left) = (Vec::new(), MOST);
    let mut level = vec![String::new()];
    for _ in 0..=DEPTH {
        let listed: Vec<DirectoryNames> =
            level.iter().map(|place| DirectoryNames::of(&source, place, &mut left)).collect();
        let exact = level.iter().flat_map(|place| NAMES.map(|file| format!("{place}{file}")));
        let others = listed.iter().flat_map(DirectoryNames::buildspecs);
        let others = others.filter(|file| !NAMES.contains(&file.rsplit('/').next().unwrap_or("")));
        found.extend(exact.chain(others).filter(|path| source.file(path).is_ok()));
        level = listed.iter().flat_map(DirectoryNames::directories).collect();
    }
    let (first, others) = found.split_first()?;
    let others = others.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    Some(match others.is_empty() {
        true => format!("runner run {first}"),
        false => format!("runner run {first}; there are also {others}"),
    })
}

/// Names in a directory of the source; `place` ends with a slash.
struct DirectoryNames {
    place: String,
    names: Vec<String>,
}

impl DirectoryNames {
    /// Reads at most `left` names and subtracts their number from it.
    fn of(source: &Dir, place: &str, left: &mut usize) -> Self {
        let dir = match place.trim_end_matches('/') {
            "" => source.again(),
            place => source.open(place),
        };
        let mut names = dir.and_then(|dir| dir.names()).unwrap_or_default();
        names.truncate(*left);
        *left -= names.len();
        // No buildspec has a name that a shell would split, and files in packages are not this
        // project's.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let names = names.into_iter().filter_map(|name| String::from_utf8(name).ok());
        let names = names
            .filter(|name| name.chars().all(is_plain))
            .filter(|name| !name.starts_with('.') && name != "node_modules");
        DirectoryNames { place: place.to_owned(), names: names.collect() }
    }

    /// Files that could be buildspecs, by their own name or their directory's.
    fn buildspecs(&self) -> impl Iterator<Item = String> {
        let above = self.place.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let above = above.to_ascii_lowercase();
        let is_theirs = above.contains("buildspec") || above.contains("codebuild");
        let files = self.names.iter().filter(move |name| {
            let name = name.to_ascii_lowercase();
            let is_yaml = name.ends_with(".yml") || name.ends_with(".yaml");
            is_yaml && (is_theirs || name.contains("buildspec"))
        });
        files.map(|name| format!("{}{name}", self.place))
    }

    /// Names that could be directories.
    fn directories(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| format!("{}{name}/", self.place))
    }
}

/// Reads a file of the source, whatever its type may be.
fn read_below(tree: &Path, name: &str) -> Result<String, Diagnostic> {
    let unreadable =
        |message: String| Diagnostic::new(DiagnosticCode::Unreadable, Span::default(), message);
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if !plain {
        return Err(unreadable(format!("{name} is not below the source directory"))
            .hint("name a file of the source"));
    }
    let normal: PathBuf = Path::new(name)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    let bytes = Dir::top(tree).and_then(|dir| {
        dir.read_small(normal.as_os_str().as_encoded_bytes(), yaml::MAX_BYTES as u64)
    });
    let bytes = bytes.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => unreadable(format!("there is no {name} in the source"))
            .aws(format!("stat {name}: no such file or directory")),
        _ => unreadable(format!("cannot read {name}: {error}")),
    })?;
    yaml::decode(bytes).map_err(|problem| *problem)
}

fn read(path: &Path, is_default: bool) -> Result<String, Diagnostic> {
    let unreadable =
        |message: String| Diagnostic::new(DiagnosticCode::Unreadable, Span::default(), message);
    let failed = |error: io::Error| {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound if is_default => unreadable(format!("there is no {shown}"))
                .hint(elsewhere(path).unwrap_or_else(|| {
                    "name the buildspec: runner run FILE; or the source: --source DIR".to_owned()
                }))
                .aws("YAML file does not exist"),
            io::ErrorKind::NotFound => unreadable(format!("there is no {shown}"))
                .hint("paths are relative to the current directory")
                .aws(format!("stat {shown}: no such file or directory")),
            io::ErrorKind::IsADirectory => {
                unreadable(format!("{shown} is a directory")).hint("name the file in it")
            }
            io::ErrorKind::CrossesDevices if is_default => {
                let problem = unreadable(format!("{shown} is a link that leads out of the source"));
                match std::fs::canonicalize(path) {
                    Ok(end) => problem.hint(format!("name the file: runner run {}", end.display())),
                    Err(_) => problem,
                }
            }
            _ => unreadable(format!("cannot read {shown}: {error}")),
        }
    };
    let mut bytes = Vec::new();
    // One byte beyond the limit shows that the file is too long.
    let most = yaml::MAX_BYTES as u64 + 1;
    let file = match (is_default, path.parent().zip(path.file_name())) {
        // In the source this could be any type of file.
        (true, Some((source, name))) => {
            Dir::top(source).and_then(|dir| dir.file_through_links(name.as_encoded_bytes()))
        }
        // The user may name a FIFO.
        _ => File::open(path),
    };
    let file = file.map_err(failed)?;
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    yaml::decode(bytes).map_err(|problem| *problem)
}

/// Quotes a word for a shell, if it contains special characters.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
