//! Options in files: `runner.toml` next to the buildspec, and `--project-json`.
//!
//! A key of `runner.toml` is any option of `runner run`: each becomes the words that would be typed
//! and is placed before the typed words, which therefore win. A CodeBuild project is also turned
//! into such words if options exist; the rest is [`Extras`].
//!
//! `runner.toml` comes with the source, which may come from anyone. Settings that give a build more
//! of this machine, or of its user, than it has by default take effect only after the user has
//! agreed, once for each version of the file (docs/adr/0037).
//! for each state of the file (docs/adr/0037).

mod codebuild;
mod named;
mod trust;

pub(super) use codebuild::{artifacts, cache, held_back, left_behind, logs};

use trust::TrustNeed;

use super::error::{CliError, OURS};
use super::reach::{self, Field, OptionReach};
use super::render;
use super::run_args::RunArgs;
use super::say;
use clap::{Arg, ArgAction, Args, Command, Parser};
use nix::fcntl::OFlag;
use runner_build::LogsWanted;
use runner_cloud::s3::Location;
use runner_core::project::{self, ProjectArtifacts, ProjectCache, ProjectVariable};
use runner_core::spec::yaml::{YamlNode, YamlValue};
use runner_core::spec::{Diagnostic, DiagnosticCode, Span};
use runner_host::beneath::Dir;
use runner_host::stdio::tell;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Name of the project file.
const NAME: &str = "runner.toml";
/// Maximum size of a project file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Project settings for which there is no option.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// Variables whose values are in Parameter Store or Secrets Manager.
    pub(super) fetched: Vec<ProjectVariable>,
    /// The buildspec itself.
    pub(super) buildspec: Option<String>,
    /// Copies of the log requested by `runner.toml`.
    pub(super) logs: LogsWanted,
    /// Copies of the log requested by a CodeBuild project.
    pub(super) project_logs: LogsWanted,
    pub(super) artifacts: Option<ProjectArtifacts>,
    pub(super) secondary_artifacts: Vec<ProjectArtifacts>,
    pub(super) cache: Option<ProjectCache>,
    /// Whether an untrusted file names the image: it is then pulled without the user's credentials.
    pub(super) is_image_untrusted: bool,
    /// Whether only the build itself reports problems of the buildspec.
    pub(super) is_silent: bool,
}

/// The options alone, for reading them again.
#[derive(Parser)]
#[command(name = "runner run")]
struct Again<A: Args> {
    #[command(flatten)]
    args: A,
}

/// An option from a file.
struct FileOption {
    /// Its name.
    key: String,
    /// The word that would be typed.
    word: OsString,
    /// The trust it needs.
    need: TrustNeed,
    /// A file that it names, which is trusted with its content.
    file: Option<PathBuf>,
    span: Span,
}

/// A file being read: its text, its options and its problems.
struct Reading {
    shown: String,
    text: String,
    /// Directory that its relative paths start from.
    dir: PathBuf,
    settings: Vec<FileOption>,
    problems: Vec<Diagnostic>,
}

/// The typed options, which `words` are after the subcommand, combined with those of the project
/// files.
pub(super) fn with_files<A: Args + AsRef<RunArgs>>(
    asked: A,
    typed: &[OsString],
) -> Result<(A, Extras), CliError> {
    let args = asked.as_ref();
    let mut extras = Extras::default();
    let mut words: Vec<OsString> = Vec::new();
    let mut json = args.project_json.clone();
    if let Some(toml) = find(args)? {
        let reading = read_toml(toml, &mut extras)?;
        let is_trusted = trust::check(&reading, args.trust_project)?;
        let names_image = reading.settings.iter().any(|setting| setting.key == "image");
        extras.is_image_untrusted = names_image && args.image.is_none() && !is_trusted;
        let is_quiet = args.quiet || reading.settings.iter().any(|setting| setting.key == "quiet");
        if !is_quiet && !reading.settings.is_empty() {
            let mut keys: Vec<&str> = reading.settings.iter().map(|s| s.key.as_str()).collect();
            keys.dedup();
            say(&format!("{} sets {}", reading.shown, keys.join(", ")));
        }
        for FileOption { key, word, .. } in reading.settings {
            if key == "project-json" && json.is_none() {
                let text = word.to_string_lossy().into_owned();
                json = text.split_once('=').map(|(_, path)| PathBuf::from(path));
            }
            if !word.is_empty() && !is_typed_already(args, &key, &word) {
                words.push(word);
            }
        }
    }
    if let Some(path) = json {
        // The user has named it, or trusts the file that names it.
        let of_project = codebuild::read(&path, args, &mut extras)?;
        let names_image = |word: &OsString| word.to_string_lossy().starts_with("--image=");
        extras.is_image_untrusted &= !of_project.iter().any(names_image);
        words.extend(of_project);
    }
    if words.is_empty() {
        return Ok((asked, extras));
    }
    let typed = typed.iter().cloned();
    let all = [OsString::from("runner run")].into_iter().chain(words).chain(typed);
    let matches =
        negatable(<Again<A> as clap::CommandFactory>::command()).try_get_matches_from(all);
    let again =
        matches.and_then(|matches| <Again<A> as clap::FromArgMatches>::from_arg_matches(&matches));
    // Each was checked separately; together they may still contradict each other.
    let again = again.map_err(|error| CliError::usage(sentence(&error)))?;
    Ok((again.args, extras))
}

/// The options for a build of a project in CodeBuild's form, with additional words.
pub(super) fn of_project(
    shown: &str,
    json: String,
    words: Vec<OsString>,
) -> Result<(RunArgs, Extras), CliError> {
    // Made once: that takes longer than reading.
    static AGAIN: LazyLock<Mutex<Command>> = LazyLock::new(|| {
        Mutex::new(negatable(<Again<RunArgs> as clap::CommandFactory>::command()))
    });
    let parse = |words: Vec<OsString>| {
        let all = [OsString::from("runner run")].into_iter().chain(words);
        let mut command = AGAIN.lock().unwrap_or_else(PoisonError::into_inner);
        let again = command.try_get_matches_from_mut(all).and_then(|matches| {
            <Again<RunArgs> as clap::FromArgMatches>::from_arg_matches(&matches)
        });
        again.map_err(|error| CliError::usage(sentence(&error)))
    };
    let mut extras = Extras { is_silent: true, ..Extras::default() };
    let args = parse(words.clone())?.args;
    let reading = Reading::new(Path::new(shown), json)?;
    let mut all = codebuild::words(reading, &args, &mut extras)?;
    all.extend(words);
    Ok((parse(all)?.args, extras))
}

/// A typed source overrides one of the same name.
fn is_typed_already(args: &RunArgs, key: &str, word: &OsString) -> bool {
    let word = word.to_string_lossy();
    let id = word.strip_prefix("--secondary-source=").and_then(|rest| rest.split_once('='));
    key == "secondary-source"
        && id.is_some_and(|(id, _)| args.secondary_source.iter().any(|(typed, _)| typed == id))
}

/// Adds a `--no-` form to every flag, so that typed options can undo those of a file.
pub(super) fn negatable(mut command: Command) -> Command {
    let flags: Vec<(clap::Id, &'static str)> = command
        .get_arguments()
        .filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue) && !arg.is_global_set())
        .filter_map(|arg| Some((arg.get_id().clone(), arg.get_long()?)))
        .filter(|(_, long)| reach::field_of_file(long).is_some())
        // Option names live as long as the program.
        .map(|(id, long)| (id, &*format!("no-{long}").leak()))
        .collect();
    for (id, no) in flags {
        let negation = Arg::new(no).long(no).hide(true).action(ArgAction::SetTrue);
        command = command.arg(negation.overrides_with(id));
    }
    command
}

/// Reads the project file next to the buildspec, if there is one.
fn find(args: &RunArgs) -> Result<Option<Reading>, CliError> {
    let dir = match &args.buildspec {
        Some(buildspec) => buildspec.parent().unwrap_or(Path::new("")).to_path_buf(),
        None => args.source.clone(),
    };
    let path = dir.join(NAME);
    // Links must not lead out of its directory, because messages quote the file's lines.
    let above = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
    let text = Dir::top(above).and_then(|dir| text_of(dir.file_through_links(NAME)?));
    match text {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => Err(CliError::usage(
            format!("{} is a link that leads out of its directory", path.display()),
        )),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(CliError::usage(format!("cannot read {}: {error}", path.display()))),
        Ok(text) => Reading::new(&path, text).map(Some),
    }
}

/// Opens a file of any type, also a FIFO, without blocking.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Reads a named file: no FIFO, and up to the maximum size.
pub(super) fn text_at(path: &Path) -> io::Result<String> {
    open(path).and_then(text_of)
}

/// Reads an untrusted file: no FIFO, and up to the maximum size.
fn text_of(file: File) -> io::Result<String> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn read_toml(mut reading: Reading, extras: &mut Extras) -> Result<Reading, CliError> {
    let options = <RunArgs as Args>::augment_args(Command::new("run"));
    match project::toml(&reading.text) {
        Err(problems) => reading.problems = problems,
        Ok(node) => {
            let YamlValue::Mapping(entries) = &node.value else { return Ok(reading) };
            for (key, value) in entries {
                let YamlValue::Scalar(name) = &key.value else { continue };
                match name.as_str() {
                    "env" => reading.variables(&options, value, key.span),
                    "logs" => reading.logs(value, key.span, extras),
                    name => reading.option(&options, name, key.span, value),
                }
            }
        }
    }
    reading.done()
}

impl Reading {
    fn new(path: &Path, text: String) -> Result<Self, CliError> {
        let above = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = std::path::absolute(above.unwrap_or(Path::new(".")))
            .map_err(|error| CliError::of(OURS, error))?;
        let shown = path.strip_prefix(".").unwrap_or(path).display().to_string();
        Ok(Reading { shown, text, dir, settings: Vec::new(), problems: Vec::new() })
    }

    /// Returns the reading, or reports all its problems.
    fn done(mut self) -> Result<Self, CliError> {
        self.problems.sort_by_key(|problem| (problem.span.line, problem.span.column));
        tell(render::diagnostics(&self.shown, &self.text, &self.problems));
        match self.problems.len() {
            0 => Ok(self),
            1 => Err(CliError::usage(format!("1 error in {}", self.shown))),
            count => Err(CliError::usage(format!("{count} errors in {}", self.shown))),
        }
    }

    fn problem(&mut self, code: DiagnosticCode, span: Span, message: String) {
        self.problems.push(strictly(Diagnostic::new(code, span, message)));
    }

    /// Adds an option by name.
    fn option(&mut self, options: &Command, name: &str, span: Span, value: &YamlNode) {
        let arg = options.get_arguments().find(|arg| arg.get_long() == Some(name));
        let Some((field, arg)) = reach::field_of_file(name).zip(arg) else {
            let fields = reach::FIELDS.iter().filter(|field| field.reach != OptionReach::TypedOnly);
            let near = project::nearest(name, fields.map(|field| field.name).chain(["logs"]));
            let message = format!("`{name}` is not a key of {NAME}");
            let problem = strictly(Diagnostic::new(DiagnosticCode::UnknownKey, span, message));
            self.problems.push(match near {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => {
                    problem.hint("its keys are the options of runner run, without their dashes")
                }
            });
            return;
        };
        let several = matches!(arg.get_action(), ArgAction::Append);
        match (&value.value, arg.get_action()) {
            (YamlValue::Scalar(text), ArgAction::SetTrue) => match text.as_str() {
                "true" => self.word(options, field, None, value.span),
                "false" => {}
                _ => {
                    let message = format!("{name} is true or false, not `{text}`");
                    self.problem(DiagnosticCode::BadValue, value.span, message);
                }
            },
            (YamlValue::Scalar(text), _) => {
                let text = field.below(&self.dir, text);
                self.word(options, field, Some(&text), value.span);
            }
            (YamlValue::Sequence(items), _) if several => {
                for item in items {
                    match &item.value {
                        YamlValue::Scalar(text) => {
                            let text = field.below(&self.dir, text);
                            self.word(options, field, Some(&text), item.span);
                        }
                        other => {
                            let message =
                                format!("an item of {name} is a text, not {}", other.kind());
                            self.problem(DiagnosticCode::WrongShape, item.span, message);
                        }
                    }
                }
            }
            (other, _) => {
                let message = format!("{name} is a text, not {}", other.kind());
                self.problem(DiagnosticCode::WrongShape, value.span, message);
            }
        }
    }

    /// Adds `[env]`, or a list of `NAME=VALUE` and `NAME`.
    fn variables(&mut self, options: &Command, value: &YamlNode, span: Span) {
        let YamlValue::Mapping(entries) = &value.value else {
            self.option(options, "env", span, value);
            return;
        };
        let Some(field) = reach::field("env") else { return };
        for (key, value) in entries {
            match (&key.value, &value.value) {
                (YamlValue::Scalar(name), YamlValue::Scalar(text)) => {
                    self.word(options, field, Some(&format!("{name}={text}")), key.span);
                }
                (_, other) => {
                    let message = format!("a variable is a text, not {}", other.kind());
                    self.problem(DiagnosticCode::WrongShape, value.span, message);
                }
            }
        }
    }

    /// Adds `[logs]`: copies of the log on AWS.
    fn logs(&mut self, value: &YamlNode, span: Span, extras: &mut Extras) {
        let logs = project::logs(value, &mut self.problems);
        let mut reach = Vec::new();
        if let Some(cloudwatch) = logs.cloudwatch {
            extras.logs.cloudwatch = Some(cloudwatch.value);
            reach.push("CloudWatch Logs");
        }
        if let Some(place) = logs.s3 {
            match bucket(&place.value) {
                Ok(location) => extras.logs.s3 = Some(location),
                Err(message) => self.problem(DiagnosticCode::BadValue, place.span, message),
            }
            reach.push("S3");
        }
        if !reach.is_empty() {
            let reason = format!("writes to {} with your AWS credentials", reach.join(" and "));
            // There is no such option; the word stays empty.
            let (key, word) = ("logs".to_owned(), OsString::new());
            self.settings.push(FileOption {
                key,
                word,
                need: TrustNeed::Trust(reason),
                file: None,
                span,
            });
        }
    }

    /// Adds the words of an option, after checking that they are valid.
    fn word(&mut self, options: &Command, field: &Field, value: Option<&str>, span: Span) {
        let name = field.name;
        let word = match value {
            Some(value) => format!("--{name}={value}"),
            None => format!("--{name}"),
        };
        let alone = options.clone().try_get_matches_from(["run", &word]);
        if let Err(error) = alone {
            self.problem(DiagnosticCode::BadValue, span, sentence(&error));
            return;
        }
        let need = trust::need(field, value, &self.dir);
        let file = named::file(field, value, &need);
        self.settings.push(FileOption {
            key: name.to_owned(),
            word: word.into(),
            need,
            file,
            span,
        });
    }
}

/// Turns a problem into an error.
fn strictly(mut problem: Diagnostic) -> Diagnostic {
    problem.severity = runner_core::spec::Severity::Error;
    problem
}

/// `bucket/prefix`, also after `s3://` or as an ARN.
fn bucket(text: &str) -> Result<Location, String> {
    let plain = text.strip_prefix("s3://").or(text.strip_prefix("arn:aws:s3:::")).unwrap_or(text);
    Location::parse(&format!("s3://{plain}"))
        .unwrap_or_else(|| Err("write BUCKET/PREFIX".to_owned()))
}

/// The parser's message as one sentence.
fn sentence(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines: Vec<&str> =
        text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}
