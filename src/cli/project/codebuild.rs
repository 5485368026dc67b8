//! Turns a CodeBuild project into words for the command line and settings without an option.

use super::{Extras, Reading, bucket, negatable, open, sentence, text_of};
use crate::cli::error::CliError;
use crate::cli::run_args::RunArgs;
use crate::cli::say;
use clap::{Args, Command};
use runner_build::{CacheRequest, LogsWanted};
use runner_cloud::s3::Location;
use runner_core::artifact::{ArtifactSettings, Namespace, Packaging};
use runner_core::project::{self, Located, ProjectArtifacts, ProjectBuildspec, VariableKind};
use runner_core::spec::{DiagnosticCode, Span};
use runner_folder::state::Home;
use runner_outputs::{ArtifactDestination, ArtifactDestinations, OutputStore};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The words for a named project file.
pub(super) fn read(
    path: &Path,
    args: &RunArgs,
    extras: &mut Extras,
) -> Result<Vec<OsString>, CliError> {
    let text = open(path).and_then(text_of).map_err(|error| {
        CliError::usage(format!("--project-json: cannot read {}: {error}", path.display()))
    })?;
    words(Reading::new(path, text)?, args, extras)
}

/// The options, made once: that takes longer than reading a word.
static OPTIONS: LazyLock<Mutex<Command>> =
    LazyLock::new(|| Mutex::new(negatable(<RunArgs as Args>::augment_args(Command::new("run")))));

/// The words for a project.
pub(super) fn words(
    mut reading: Reading,
    args: &RunArgs,
    extras: &mut Extras,
) -> Result<Vec<OsString>, CliError> {
    let project = match project::codebuild(&reading.text, args.project.as_deref()) {
        Ok(project) => project,
        Err(problems) => {
            reading.problems = problems;
            reading.done()?;
            return Ok(Vec::new());
        }
    };
    let mut options = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let has_privileged = options.get_arguments().any(|arg| arg.get_long() == Some("privileged"));
    let mut unheeded = project.unheeded.clone();
    let mut words: Vec<OsString> = Vec::new();
    let mut set = |reading: &mut Reading, name: &str, value: &str, span: Span| {
        let word = format!("--{name}={value}");
        match options.try_get_matches_from_mut(["run", &word]) {
            Ok(_) => words.push(word.into()),
            Err(error) => reading.problem(DiagnosticCode::BadValue, span, sentence(&error)),
        }
    };
    if let Some(name) = &project.name {
        set(&mut reading, "project", &name.value, name.span);
    }
    if let Some(image) = &project.image {
        set(&mut reading, "image", &image.value, image.span);
    }
    if let Some(timeout) = &project.timeout_minutes {
        set(&mut reading, "timeout", &format!("{}m", timeout.value), timeout.span);
    }
    for variable in &project.variables {
        match variable.kind {
            VariableKind::Plain => {
                let text = format!("{}={}", variable.name, variable.value);
                set(&mut reading, "env", &text, variable.span);
            }
            VariableKind::Parameter | VariableKind::Secret => extras.fetched.push(variable.clone()),
        }
    }
    if let Some(Located { value: (memory, cpus), span }) = project.compute {
        // A limit above the machine's capacity is no limit.
        let machine = std::thread::available_parallelism().map_or(u32::MAX, |n| n.get() as u32);
        if memory_of_machine().is_none_or(|all| u64::from(memory) << 30 < all) {
            set(&mut reading, "memory", &format!("{memory}G"), span);
        }
        if cpus < machine {
            set(&mut reading, "cpus", &cpus.to_string(), span);
        }
    }
    if let Some(Located { value: true, span }) = project.privileged {
        if has_privileged {
            words.push("--privileged".into());
        } else {
            unheeded.push(Located { value: "environment.privilegedMode".to_owned(), span });
        }
    }
    if let Some(Located { value, .. }) = &project.artifacts {
        extras.artifacts = Some(value.clone());
    }
    extras.secondary_artifacts.clone_from(&project.secondary_artifacts);
    extras.cache = project.cache.as_ref().map(|cache| cache.value.clone());
    extras.project_logs.cloudwatch = project.cloudwatch.map(|logs| logs.value);
    if let Some(place) = &project.s3_logs {
        match bucket(&place.value) {
            Ok(location) => extras.project_logs.s3 = Some(location),
            Err(message) => reading.problem(DiagnosticCode::BadValue, place.span, message),
        }
    }
    match project.buildspec {
        _ if args.buildspec.is_some() || !args.command.is_empty() => {}
        None => {}
        Some(Located { value: ProjectBuildspec::Inline(text), .. }) => {
            extras.buildspec = Some(text);
        }
        Some(Located { value: ProjectBuildspec::Path(path), .. }) => {
            let path = args.source.join(path);
            // A name that begins with a dash must not look like an option.
            words.push(match path.strip_prefix(".") {
                Ok(_) if path.starts_with("./-") => path.into(),
                Ok(plain) => plain.into(),
                Err(_) => path.into(),
            });
        }
        Some(Located { value: ProjectBuildspec::Object(arn), span }) => {
            let message = format!("the buildspec is an object on S3 ({arn}), which is not fetched");
            reading.problem(DiagnosticCode::NotRunnable, span, message);
        }
    }
    let reading = reading.done()?;
    if !args.quiet {
        for Located { value, span } in unheeded {
            let Span { line, column, .. } = span;
            say(&format!("{}:{line}:{column}: ignored: {value}", reading.shown));
        }
    }
    Ok(words)
}

/// This machine's memory in bytes.
fn memory_of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// A project's destination for artifacts.
fn destination(artifacts: &ProjectArtifacts) -> Result<Option<ArtifactDestination>, CliError> {
    let (true, Some(place)) = (artifacts.kind == "S3", &artifacts.location) else {
        return Ok(None);
    };
    let problem = |text| CliError::usage(format!("--project-json: artifacts.location: {text}"));
    let store = OutputStore::Bucket(bucket(place).map_err(problem)?);
    let settings = ArtifactSettings {
        path: artifacts.path.clone(),
        namespace: if artifacts.has_build_id { Namespace::BuildId } else { Namespace::None },
        name: artifacts.name.clone(),
        packaging: Some(if artifacts.is_zip { Packaging::Zip } else { Packaging::None }),
        override_name: artifacts.override_name,
    };
    Ok(Some(ArtifactDestination { store, settings, is_path: false, stream: None }))
}

/// The destination of artifacts: as typed, otherwise, with `--upload`, the project's; in the
/// project's layout.
pub(in crate::cli) fn artifacts(
    args: &RunArgs,
    extras: &Extras,
) -> Result<Option<ArtifactDestinations>, CliError> {
    let own = extras.artifacts.as_ref().map(destination).transpose()?.flatten();
    let primary = match (args.artifacts.clone(), own) {
        // A typed name also determines the packaging.
        (Some(typed), _) if typed.settings != ArtifactSettings::default() => typed,
        (Some(typed), Some(own)) => ArtifactDestination { store: typed.store, ..own },
        (Some(typed), None) => typed,
        (None, Some(own)) if args.upload => own,
        (None, _) => return Ok(None),
    };
    let mut secondary = BTreeMap::new();
    for artifacts in &extras.secondary_artifacts {
        if let (Some(id), Some(to)) = (&artifacts.identifier, destination(artifacts)?) {
            let store = match &primary.store {
                OutputStore::Bucket(_) if args.upload => to.store,
                store @ (OutputStore::Folder(_) | OutputStore::Bucket(_)) => store.clone(),
            };
            secondary.insert(id.clone(), ArtifactDestination { store, ..to });
        }
    }
    Ok(Some(ArtifactDestinations { primary, secondary }))
}

/// A project's bucket for caches.
fn cache_bucket(extras: &Extras) -> Result<Option<Location>, CliError> {
    let own = extras.cache.as_ref().filter(|cache| cache.kind == "S3");
    let problem = |text| CliError::usage(format!("--project-json: cache.location: {text}"));
    own.and_then(|cache| cache.location.as_deref())
        .map(|place| bucket(place).map_err(problem))
        .transpose()
}

/// Destinations of the log's copies: the project's, with `--upload`, and those of `runner.toml`.
pub(in crate::cli) fn logs(args: &RunArgs, extras: &Extras) -> LogsWanted {
    let LogsWanted { cloudwatch, s3 } = extras.logs.clone();
    let project = if args.upload { extras.project_logs.clone() } else { LogsWanted::default() };
    LogsWanted { cloudwatch: project.cloudwatch.or(cloudwatch), s3: project.s3.or(s3) }
}

/// What a build in AWS would write there and one here does not: everything that needs `--upload`
/// and has no typed destination.
pub(in crate::cli) fn held_back(args: &RunArgs, extras: &Extras) -> Result<Vec<String>, CliError> {
    if args.upload {
        return Ok(Vec::new());
    }
    let mut held = Vec::new();
    if args.artifacts.is_none() {
        for artifacts in extras.artifacts.iter().chain(&extras.secondary_artifacts) {
            if let Some(ArtifactDestination { store, .. }) = destination(artifacts)? {
                held.push(format!("artifacts ({store})"));
            }
        }
    }
    if args.cache.is_none()
        && let Some(bucket) = cache_bucket(extras)?
    {
        held.push(format!("the cache ({bucket})"));
    }
    let LogsWanted { cloudwatch, s3 } = &extras.project_logs;
    if let Some(logs) = cloudwatch {
        let group = logs.group.as_ref().map_or_else(String::new, |group| format!(" {group}"));
        held.push(format!("the log (CloudWatch Logs{group})"));
    }
    held.extend(s3.iter().map(|bucket| format!("the log ({bucket})")));
    Ok(held)
}

/// Secondary artifacts that `--upload` does not upload, because the project has no primary ones.
pub(in crate::cli) fn left_behind(
    args: &RunArgs,
    extras: &Extras,
) -> Result<Vec<String>, CliError> {
    let has_primary = extras.artifacts.as_ref().map(destination).transpose()?.flatten().is_some();
    if !args.upload || has_primary || args.artifacts.is_some() {
        return Ok(Vec::new());
    }
    let secondary = extras.secondary_artifacts.iter();
    let named = secondary.filter_map(|artifacts| Some((artifacts.identifier.as_ref()?, artifacts)));
    let places = named.map(|(id, artifacts)| {
        Ok(destination(artifacts)?
            .map(|ArtifactDestination { store, .. }| format!("{id} ({store})")))
    });
    Ok(places.collect::<Result<Vec<_>, CliError>>()?.into_iter().flatten().collect())
}

/// Where caches are stored: as typed, otherwise where the project says, in AWS only with
/// `--upload`. A cache local to CodeBuild's hosts is kept in the state folder here.
pub(in crate::cli) fn cache(
    args: &RunArgs,
    extras: &Extras,
    project: &str,
    home: &Home,
) -> Result<Option<CacheRequest>, CliError> {
    let own = extras.cache.as_ref();
    let bucket = cache_bucket(extras)?.filter(|_| args.upload);
    let store = match (args.cache.clone(), own.map(|cache| (cache.kind.as_str(), bucket))) {
        (Some(store), _) => store,
        (None, Some(("S3", Some(bucket)))) => OutputStore::Bucket(bucket),
        (None, Some(("LOCAL", _)))
            if own.is_some_and(|c| c.modes.iter().any(|m| m == "LOCAL_CUSTOM_CACHE")) =>
        {
            OutputStore::Folder(home.root().join("cache"))
        }
        _ => return Ok(None),
    };
    let project = own.and_then(|cache| cache.namespace.clone()).unwrap_or(project.to_owned());
    Ok(Some(CacheRequest { store, project }))
}
