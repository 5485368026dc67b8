//! A project of CodeBuild's, as words that could be typed and what no option says.

use super::{Extras, Reading, bucket, negatable, sentence, text_of};
use crate::cli::error::CliError;
use crate::cli::run::RunArgs;
use crate::cli::say;
use clap::{Args, Command};
use runner_core::project::{self, ProjectBuildspec, VariableKind, Written};
use runner_core::spec::{Code, Span};
use std::ffi::OsString;
use std::path::Path;

/// Whose images are named without a registry.
const CURATED: &str = "aws/codebuild/";
const REGISTRY: &str = "public.ecr.aws/codebuild/";

/// The words of a project file that was named.
pub(super) fn read(
    path: &Path,
    args: &RunArgs,
    extras: &mut Extras,
) -> Result<Vec<OsString>, CliError> {
    let text = text_of(path).map_err(|error| {
        CliError::usage(format!("--project-json: cannot read {}: {error}", path.display()))
    })?;
    let mut reading = Reading::new(path, text)?;
    let project = match project::codebuild(&reading.text, args.project.as_deref()) {
        Ok(project) => project,
        Err(problems) => {
            reading.problems = problems;
            reading.done()?;
            return Ok(Vec::new());
        }
    };
    let options = negatable(<RunArgs as Args>::augment_args(Command::new("run")));
    let has = |name: &str| options.get_arguments().any(|arg| arg.get_long() == Some(name));
    let mut unheeded = project.unheeded.clone();
    let mut words: Vec<OsString> = Vec::new();
    let mut set = |reading: &mut Reading, name: &str, value: &str, span: Span| {
        let word = format!("--{name}={value}");
        match options.clone().try_get_matches_from(["run", &word]) {
            Ok(_) => words.push(word.into()),
            Err(error) => reading.problem(Code::BadValue, span, sentence(&error)),
        }
    };
    if let Some(name) = &project.name {
        set(&mut reading, "project", &name.value, name.span);
    }
    if let Some(image) = &project.image {
        let image_name = match image.value.strip_prefix(CURATED) {
            Some(rest) => format!("{REGISTRY}{rest}"),
            None => image.value.clone(),
        };
        set(&mut reading, "image", &image_name, image.span);
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
    if let Some(Written { value: (memory, cpus), span }) = project.compute {
        // More than the machine has is no limit.
        let machine = std::thread::available_parallelism().map_or(u32::MAX, |n| n.get() as u32);
        if memory_of_machine().is_none_or(|all| u64::from(memory) << 30 < all) {
            set(&mut reading, "memory", &format!("{memory}G"), span);
        }
        if cpus < machine {
            set(&mut reading, "cpus", &cpus.to_string(), span);
        }
    }
    if let Some(Written { value: true, span }) = project.privileged {
        if has("privileged") {
            words.push("--privileged".into());
        } else {
            unheeded.push(Written { value: "environment.privilegedMode".to_owned(), span });
        }
    }
    if let Some(Written { value, .. }) = &project.artifacts {
        extras.artifacts = Some(value.clone());
    }
    extras.secondary_artifacts.clone_from(&project.secondary_artifacts);
    extras.cache = project.cache.as_ref().map(|cache| cache.value.clone());
    extras.cloudwatch = project.cloudwatch.map(|logs| logs.value).or(extras.cloudwatch.take());
    if let Some(place) = &project.s3_logs {
        match bucket(&place.value) {
            Ok(location) => extras.s3_logs = Some(location),
            Err(message) => reading.problem(Code::BadValue, place.span, message),
        }
    }
    match project.buildspec {
        _ if args.buildspec.is_some() => {}
        None => {}
        Some(Written { value: ProjectBuildspec::Inline(text), .. }) => {
            extras.buildspec = Some(text);
        }
        Some(Written { value: ProjectBuildspec::Path(path), .. }) => {
            let path = args.source.join(path);
            // A name that begins with a dash is no option.
            words.push(match path.strip_prefix(".") {
                Ok(_) if path.starts_with("./-") => path.into(),
                Ok(plain) => plain.into(),
                Err(_) => path.into(),
            });
        }
        Some(Written { value: ProjectBuildspec::Object(arn), span }) => {
            let message = format!("the buildspec is an object on S3 ({arn}), which is not fetched");
            reading.problem(Code::NotRunnable, span, message);
        }
    }
    let reading = reading.done()?;
    if !args.quiet {
        for Written { value, span } in unheeded {
            let Span { line, column, .. } = span;
            say(&format!("{}:{line}:{column}: not heeded: {value}", reading.shown));
        }
    }
    Ok(words)
}

/// Bytes of memory of this machine.
fn memory_of_machine() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
