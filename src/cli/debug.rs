//! Subcommands of the debugger: decide what follows a stop, and set breakpoints.

use super::course::FollowedBuild;
use super::error::CliError;
use super::home::open;
use crate::terminal::{EditError, edit};
use clap::{Args, Subcommand};
use runner_client::Client;
use runner_core::debug::{Breakpoint, CommandPlace, Decision, Rewind, Then};
use runner_folder::events::Follower;
use runner_folder::state::{BuildNeed, KnownBuild, find};
use runner_host::stdio::say;
use runner_wire::control::{ControlRequest, ControlResponse};

/// Options of `runner retry`.
#[derive(Debug, Args)]
pub(super) struct RetryArgs {
    /// Build id, its uuid, a unique prefix of either, the name of a project, or a build's name in a
    /// batch; optional if only one build is live
    build: Option<String>,
    /// Edit the command in $VISUAL or $EDITOR first; the buildspec does not change
    #[arg(long, conflicts_with = "text")]
    edit: bool,
    /// Run this text instead of the command
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// First restore the files to what they were before the command
    #[arg(long)]
    clean: bool,
}

/// Options of `runner skip`.
#[derive(Debug, Args)]
pub(super) struct SkipArgs {
    /// Build id, its uuid, a unique prefix of either, the name of a project, or a build's name in a
    /// batch; optional if only one build is live
    build: Option<String>,
    /// Also skip every command before this one: PHASE[:finally][:N]
    #[arg(long, value_name = "PLACE", value_parser = place)]
    to: Option<CommandPlace>,
}

/// Options of `runner rerun`.
#[derive(Debug, Args)]
pub(super) struct RerunArgs {
    /// Build (required if more than one is live) and place: PHASE[:finally][:N]
    #[arg(value_name = "[BUILD] PLACE", num_args = 1..=2, required = true)]
    words: Vec<String>,
}

/// Verbs of `runner break`.
#[derive(Debug, Subcommand)]
pub(super) enum BreakVerb {
    /// Add a breakpoint to a live build: start, failure, any-failure, before:PLACE, after:PHASE,
    /// command:/RE/, change:NAME, wrote:GLOB, output:/RE/, idle:TIME, longer:TIME or memory:SIZE,
    /// optionally followed by: if EXPR, hits N, log "TEXT"
    Add {
        /// Build (required if more than one is live) and breakpoint in one word
        #[arg(value_name = "[BUILD] BREAKPOINT", num_args = 1..=2, required = true)]
        words: Vec<String>,
    },
    /// List breakpoints
    Ls {
        /// Build to list breakpoints of
        build: Option<String>,
    },
    /// Remove a breakpoint
    Rm {
        /// Build (required if more than one is live) and number of the breakpoint
        #[arg(value_name = "[BUILD] NUMBER", num_args = 1..=2, required = true)]
        words: Vec<String>,
    },
}

fn place(text: &str) -> Result<CommandPlace, String> {
    text.parse().map_err(|error: runner_core::debug::ParseError| error.to_string())
}

/// Parses a breakpoint. Whether the build can reach it depends on its plan.
pub(super) fn breakpoint(text: &str) -> Result<Breakpoint, String> {
    text.parse().map_err(|error: runner_core::debug::ParseError| error.to_string())
}

/// Runs the current command again.
pub(super) fn retry(args: RetryArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, args.build.as_deref(), BuildNeed::Live)?;
    let text = if args.edit { Some(edited(&known)?) } else { args.text };
    if args.clean {
        let rewind = Rewind { then: Then::Retry { text }, ..Rewind::default() };
        return super::rewind::go_back(&home, &known, rewind);
    }
    decide(&known, Decision::Retry { text })
}

/// Skips the current command.
pub(super) fn skip(args: &SkipArgs) -> Result<u8, CliError> {
    decide(&find(&open()?, args.build.as_deref(), BuildNeed::Live)?, Decision::Skip { to: args.to })
}

/// Continues from an earlier command.
pub(super) fn rerun(args: &RerunArgs) -> Result<u8, CliError> {
    let (build, word) = split(&args.words);
    let place = place(word).map_err(|why| CliError::usage(format!("`{word}`: {why}")))?;
    decide(&find(&open()?, build, BuildNeed::Live)?, Decision::Rerun { place })
}

/// Continues to the next command.
pub(super) fn step(build: Option<&str>) -> Result<u8, CliError> {
    decide(&find(&open()?, build, BuildNeed::Live)?, Decision::Step)
}

/// Ends the build without running anything further, and waits for the end.
pub(super) fn abort(build: Option<&str>) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, build, BuildNeed::Live)?;
    decide(&known, Decision::Abort)?;
    let mut course = FollowedBuild::of(&home, &known)?;
    while course.record().is_none() {
        course.next(None)?;
    }
    Ok(0)
}

/// Breakpoints of a live build.
pub(super) fn breakpoints(verb: &BreakVerb) -> Result<u8, CliError> {
    let (build, request) = match verb {
        BreakVerb::Ls { build } => (build.as_deref(), ControlRequest::Breakpoints),
        BreakVerb::Add { words } => {
            let (build, text) = split(words);
            breakpoint(text).map_err(|why| CliError::usage(format!("`{text}`: {why}")))?;
            (build, ControlRequest::AddBreakpoint { text: text.to_owned() })
        }
        BreakVerb::Rm { words } => {
            let (build, number) = split(words);
            let id = number.parse().map_err(|_| {
                CliError::usage(format!("`{number}` is not the number of a breakpoint"))
                    .hint("`runner break ls` shows them")
            })?;
            (build, ControlRequest::RemoveBreakpoint { id })
        }
    };
    let known = find(&open()?, build, BuildNeed::Live)?;
    let answer = Client::connect(&known.dir)?.ask(&request)?;
    let ControlResponse::Breakpoints(all) = answer else { return Ok(0) };
    let lines: Vec<String> = all
        .iter()
        .map(|found| format!("{:>3}  {}  {}\n", found.id, found.owner, found.text))
        .collect();
    if lines.is_empty() {
        say("this build has no breakpoints");
        return Ok(0);
    }
    super::answer(lines.concat())
}

/// The build, if named, and the last word.
pub(super) fn split(words: &[String]) -> (Option<&str>, &str) {
    match words {
        [word] => (None, word),
        [build, word] => (Some(build), word),
        _ => (None, ""),
    }
}

pub(super) fn decide(known: &KnownBuild, decision: Decision) -> Result<u8, CliError> {
    Client::connect(&known.dir)?.ask(&ControlRequest::Decide(decision))?;
    Ok(0)
}

/// Lets the user edit the text of the current command.
fn edited(known: &KnownBuild) -> Result<String, CliError> {
    let failed =
        |error: std::io::Error| CliError::ours(format!("cannot edit the command: {error}"));
    let mut log = Follower::open(&known.dir).map_err(failed)?;
    let stop = log.catch_up().map_err(failed)?.and_then(|view| view.stop.as_ref());
    let Some((_, stop)) = stop.filter(|(_, stop)| !stop.text.is_empty()) else {
        return Err(CliError::usage("the build is not stopped at a command that could be edited").hint(
            "`retry --edit` applies where a command has failed (runner run --break-on failure), and \
             before one (runner break add before:PHASE:N)",
        ));
    };
    edit(&stop.text).map_err(|error| match error {
        EditError::NoEditor => {
            CliError::usage(error.to_string()).hint("set one of them, or give the text with --text")
        }
        EditError::Failed(_) | EditError::Empty => CliError::usage(error.to_string()),
        EditError::Io(_) => CliError::of(super::OURS, error),
    })
}
