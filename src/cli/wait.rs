//! `runner wait`.

use super::course::FollowedBuild;
use super::error::{CliError, TIMED_OUT, USAGE, of_status};
use super::home::open;
use super::queued::{self, Became};
use super::values::{self, OutputFormat};
use clap::{Args, ValueEnum};
use runner_core::phase::{Status, StatusCode};
use runner_core::record::Build;
use runner_folder::state::{
    BuildLookupError, BuildNeed, FolderChanges, Home, KnownBuild, Waited, find, known, live_builds,
};
use runner_host::stdio::say;
use std::time::{Duration, Instant};

/// How long to wait for a build to start if none is named.
const START: Duration = Duration::from_secs(10);

/// Options of `runner wait`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct WaitArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// State to wait for
    #[arg(long = "for", value_enum)]
    what: WaitFor,
    /// Maximum time to wait [default: forever]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// If the build has ended, exit with the status of `runner run`
    #[arg(long)]
    exit_code: bool,
    /// Output format when the wait is over: json prints the build as `ps` shows it, text prints
    /// nothing
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

const HELP: &str = "\
If no build is named and none is live, the next one that starts within ten seconds (or --timeout)
is meant. A build that has been paused and has ended since counts as paused.

Exit status: 0 when it is so; 1 when the build ended and never was paused; 2 no such build;
3 when this program failed; 4 when the time is up; with --exit-code that of the build, once it has
ended.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    Paused,
    Ended,
}

/// Waits. Returns the exit code.
pub(super) fn wait(args: &WaitArgs) -> Result<u8, CliError> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let home = open()?;
    let known = match find(&home, args.build.name(), BuildNeed::Any) {
        Err(BuildLookupError::NoneLive) => started(&home, deadline)?,
        Err(BuildLookupError::Unknown { wanted, live }) => match queued::named(&home, &wanted) {
            Some(one) => match queued::begins(&home, &one, deadline)? {
                Became::Begun(known) => known,
                Became::Ended => return left_the_queue(args, &one.id),
                Became::TimeIsUp(unseen) => {
                    let unseen = unseen.map(|why| format!(" (its queue cannot be read: {why})"));
                    let unseen = unseen.unwrap_or_default();
                    let message = format!("build {} waits: the time is up{unseen}", one.id);
                    return Err(CliError::new(TIMED_OUT, message));
                }
            },
            None => return Err(BuildLookupError::Unknown { wanted, live }.into()),
        },
        found => found?,
    };
    let mut course = FollowedBuild::of(&home, &known)?;
    let before = course.pauses();
    loop {
        // A pause that is already over counts, too.
        if args.what == WaitFor::Paused && (course.is_paused() || course.pauses() > before) {
            return shown(args, &known).map(|()| 0);
        }
        if let Some(record) = course.record() {
            shown(args, &known)?;
            return ended(args, record, course.pauses() > 0);
        }
        if !course.next(deadline)? {
            return Err(CliError::new(TIMED_OUT, format!("build {}: the time is up", known.id)));
        }
    }
}

/// The exit code for a build that ended before it began.
fn left_the_queue(args: &WaitArgs, id: &str) -> Result<u8, CliError> {
    let message = format!("build {id} has ended in the queue of `runner serve`");
    match args.what {
        WaitFor::Ended if !args.exit_code => {
            say(&message);
            Ok(0)
        }
        WaitFor::Ended => Err(CliError::new(of_status(Status::Stopped), message)),
        WaitFor::Paused => Err(CliError::new(1, message)),
    }
}

fn shown(args: &WaitArgs, known: &KnownBuild) -> Result<(), CliError> {
    match args.format {
        OutputFormat::Text => Ok(()),
        OutputFormat::Json => super::answer(super::ps::described(known)?).map(drop),
    }
}

fn ended(args: &WaitArgs, record: &Build, was_paused: bool) -> Result<u8, CliError> {
    let id = &record.id;
    let code = if args.exit_code { of_record(record) } else { 0 };
    match args.what {
        WaitFor::Ended => Ok(code),
        WaitFor::Paused if was_paused => {
            say(&format!("build {id} has been paused, and has ended since"));
            Ok(code)
        }
        WaitFor::Paused => {
            let code = if args.exit_code { code } else { 1 };
            let message = format!("build {id} has ended without pausing");
            if code == 0 {
                say(&message);
                return Ok(0);
            }
            Err(CliError::new(code, message))
        }
    }
}

/// The exit code that `runner run` had.
fn of_record(record: &Build) -> u8 {
    let mut contexts = record.phases.iter().flat_map(|phase| &phase.contexts);
    match contexts.any(|context| context.status_code == StatusCode::YamlFileError) {
        true => USAGE,
        false => of_status(record.build_status),
    }
}

/// The build that starts within this time.
fn started(home: &Home, deadline: Option<Instant>) -> Result<KnownBuild, CliError> {
    let failed =
        |error: std::io::Error| CliError::ours(format!("cannot wait for a build: {error}"));
    let changes = FolderChanges::of_builds(&home.builds()).map_err(failed)?;
    let until = deadline.unwrap_or_else(|| Instant::now() + START);
    loop {
        let mut live = live_builds(home)?;
        match live.len() {
            0 => {}
            1 => return live.pop().ok_or_else(|| BuildLookupError::NoneLive.into()),
            _ => return Ok(find(home, None, BuildNeed::Any)?),
        }
        match changes.wait(Some(until)).map_err(failed)? {
            Waited::Changed(names) => {
                // A build that has already ended has started, too.
                let mut begun = names.iter().filter_map(|uuid| known(home, uuid).ok().flatten());
                if let (Some(one), None) = (begun.next(), begun.next()) {
                    return Ok(one);
                }
            }
            Waited::TimeIsUp if deadline.is_some() => {
                return Err(CliError::new(TIMED_OUT, "no build has started: the time is up"));
            }
            Waited::TimeIsUp => {
                let message =
                    format!("no build is live, and none has started in {} s", START.as_secs());
                return Err(CliError::usage(message).hint("builds of the past: runner ps --all"));
            }
        }
    }
}
