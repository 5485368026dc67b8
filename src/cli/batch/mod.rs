//! `runner batch`: runs each build of a batch with the options of `runner run`.

mod children;

use super::error::{CliError, USAGE, of_status};
use super::project;
use super::run::{self, RunRequest};
use super::run_args::{AnnotationsName, OnStopName, RunArgs};
use super::{render, say};
use crate::terminal::{BatchFace, ShownBatch};
use children::TypedOptions;
use clap::{Args, Command, ValueEnum};
use runner_batch::{BatchError, BatchRequest, Over};
use runner_build::BuildspecFile;
use runner_core::batch::{self, BatchFacts, BatchPlan, Restrictions};
use runner_core::phase::Status;
use runner_core::plain;
use runner_core::spec::{BuildSpec, Diagnostic, MOST_BUILDS};
use runner_host::signals::{STOPS, SignalReader};
use runner_host::stdio::tell;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

/// Default time limit of a batch, as in AWS.
const TIMEOUT: Duration = Duration::from_secs(480 * 60);

/// Options of `runner batch`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct BatchArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Maximum number of builds to run at once; paused builds do not count [default: processors]
    #[arg(long, value_name = "N")]
    max_builds: Option<NonZeroUsize>,
    /// Run only these builds; the builds that they depend on count as done
    #[arg(long, value_name = "ID", num_args = 1..)]
    only: Vec<String>,
    /// Show the builds and their dependencies, and run nothing
    #[arg(long)]
    graph: bool,
    /// Output format of --graph
    #[arg(long, value_enum, default_value_t = GraphFormat::Text, requires = "graph")]
    format: GraphFormat,
    /// Stop all builds when one fails, whatever the buildspec says
    #[arg(long, conflicts_with = "keep_going")]
    fail_fast: bool,
    /// Continue the other builds when one fails, whatever the buildspec says
    #[arg(long)]
    keep_going: bool,
}

impl AsRef<RunArgs> for BatchArgs {
    fn as_ref(&self) -> &RunArgs {
        &self.run
    }
}

const EXIT_CODES: &str = "\
All builds see the source as it was when the batch began. The files of --reports, of --log-file and
of --artifacts DIR are kept apart by the build's identifier; --build-json is the batch's record. For
a build's log: runner logs ID. The buildspec needs --trust-project for images and
privileged-mode that require rights on this machine.

Exit status: the worst of these. Builds that may fail, that never ran, or that were stopped because
another one had failed do not count. From the worst:
  3  the image, the engine or this program failed
  2  usage error, or a buildspec was rejected
  4  a build timed out
  5  a build was stopped (Ctrl-C stops all; twice: at once)
  1  a build failed
  0  all succeeded";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    Text,
    Json,
}

/// Hides options of `runner run` that are rejected here.
pub(super) fn without_options_for_one(command: Command) -> Command {
    ["detach", "watch", "on_stop"]
        .into_iter()
        .fold(command, |command, id| command.mut_arg(id, |option| option.hide(true)))
}

/// Runs the batch. Returns its exit code.
pub(super) fn batch(args: BatchArgs, typed: &[OsString]) -> Result<u8, CliError> {
    let mut typed_options = TypedOptions::of(&args.run)?;
    let (args, extras) = project::with_files(args, typed)?;
    let BatchArgs { run: options, max_builds, only, graph, format, fail_fast, keep_going } = args;
    let for_one = [
        ("--detach", options.detach),
        ("--watch", options.watch),
        ("--on-stop exit", options.on_stop == OnStopName::Exit),
    ];
    if let Some((option, _)) = for_one.iter().find(|(_, is_set)| *is_set) {
        return Err(CliError::usage(format!("{option} is for one build: runner run")));
    }
    let is_typed = !matches!(options.annotations, AnnotationsName::Auto | AnnotationsName::None);
    if is_typed && !options.quiet {
        say("ignored: --annotations, which is for one build");
    }
    typed_options.image_map.clone_from(&options.image_map);
    let trusted = options.trust_project;
    let RunRequest { request, spec, home, shown } =
        run::ask(options, extras, BuildspecFile::parse_batch)?;
    // Its problems have already been shown.
    let Ok(spec) = spec else { return Ok(USAGE) };
    let mut plan = plan(&spec, &request.buildspec)?;
    if !only.is_empty() {
        plan = plan.only(&only).map_err(|unknown| {
            CliError::usage(format!("--only: {unknown}")).hint("its builds: runner batch --graph")
        })?;
    }
    if fail_fast || keep_going {
        plan.fast_fail = fail_fast;
    }
    if graph {
        return super::answer(match format {
            GraphFormat::Text => plan.tree(),
            GraphFormat::Json => plain::json(&format!("{:#}\n", plan.to_json())).into_owned(),
        });
    }
    let facts = BatchFacts {
        project: request.project.clone(),
        image: request.container.image.to_string(),
        privileged: request.container.privileged,
        buildspec: request.buildspec.shown(),
        source: request.source.display().to_string(),
        timeout_s: request.limits.timeout.as_secs(),
        most_builds: MOST_BUILDS,
        session_enabled: request.sessions.is_enabled,
        ..BatchFacts::default()
    };
    let build_json = request.outputs.build_json.clone();
    let children = children::children(&request, &plan, &typed_options, trusted)?;
    let most = max_builds.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let face =
        ShownBatch { format: shown.format, quiet: shown.quiet, ends_pauses: shown.ends_pauses };
    let asked = BatchRequest { plan, children, most, timeout: TIMEOUT, facts, build_json };
    // Before any thread starts.
    let signals = SignalReader::listen(&STOPS).map_err(|error| {
        CliError::ours(format!("cannot listen for signals: {error}")).because(error)
    })?;
    let mut face = BatchFace::new(face).map_err(|error| {
        CliError::ours(format!("cannot start a thread: {error}")).because(error)
    })?;
    let over = runner_batch::run(asked, &home, signals, &mut face);
    let broken = face.shown();
    let Over { status, codes, warnings } = over?;
    let code = batch::worst(codes.into_iter().chain([own_code(status)]));
    for text in &warnings {
        say(&format!("warning: {text}"));
    }
    if warnings.iter().any(|text| text.starts_with("cannot write")) {
        return Ok(batch::worst([code, super::error::OURS]));
    }
    match broken {
        None => Ok(code),
        Some(error) => Err(CliError::ours(format!("{error}; the batch itself: {status}"))),
    }
}

/// The exit code of a status that no build accounts for.
fn own_code(status: Status) -> u8 {
    match status {
        Status::Stopped | Status::TimedOut => of_status(status),
        // Its builds have their own exit codes.
        Status::Succeeded | Status::Failed | Status::Fault | Status::InProgress => 0,
    }
}

fn plan(spec: &BuildSpec, file: &BuildspecFile) -> Result<BatchPlan, CliError> {
    let none = || CliError::usage("this buildspec has no `batch`");
    let found = spec.batch.as_ref().ok_or_else(none)?;
    batch::plan(found, &Restrictions::default()).map_err(|problems: Vec<Diagnostic>| {
        tell(render::diagnostics(&file.shown(), file.text().unwrap_or_default(), &problems));
        CliError::usage(format!("the batch of {} cannot be run", file.shown()))
    })
}

impl From<BatchError> for CliError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::State(error) => error.into(),
            BatchError::Stopped => CliError::new(of_status(Status::Stopped), error.to_string()),
            BatchError::BuildJson { .. } => CliError::of(USAGE, error),
            BatchError::Source(_) => CliError::of(super::error::OURS, error).hint(
                "the copy is made in the state folder: set RUNNER_HOME to a directory with more room, \
                 or correct what is named",
            ),
            BatchError::Io(..) => CliError::of(super::error::OURS, error),
        }
    }
}
