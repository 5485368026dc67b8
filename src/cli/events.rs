//! `runner events`: prints a build's log for programs, live or ended.

use super::course::FollowedBuild;
use super::error::CliError;
use super::home::open;
use crate::terminal::JsonLines;
use clap::Args;
use runner_core::event::SCHEMA;
use runner_folder::events::{LogReader, OutputReader};
use runner_folder::state::{BuildNeed, find};
use runner_host::stdio::{CheckedStdout, is_gone};
use std::io;

/// Options of `runner events`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Follow the log until the build ends
    #[arg(short, long)]
    follow: bool,
    /// Print only the JSON Schema that every line fits
    #[arg(long, conflicts_with_all = ["follow", "build"])]
    schema: bool,
}

const HELP: &str = "\
Prints one event per line, as `runner run --log-format json` does. A reader should ignore types and
fields that it does not know; if that is not enough, schemaVersion is raised.";

/// Prints the log.
pub(super) fn events(args: &EventsArgs) -> Result<u8, CliError> {
    if args.schema {
        return super::answer(SCHEMA);
    }
    let home = open()?;
    let known = find(&home, args.build.name(), BuildNeed::Reading)?;
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let mut reader = LogReader::open(&known.dir).map_err(failed)?;
    let mut output = OutputReader::open(&known.dir).map_err(failed)?;
    let mut lines = JsonLines::new(CheckedStdout);
    let mut show = || match lines.rest(&mut reader, &mut output) {
        // `runner events | head`
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(true),
    };
    if !args.follow {
        return show().map(|_| 0);
    }
    let mut course = FollowedBuild::of(&home, &known)?;
    while show()? && course.record().is_none() {
        course.next(None)?;
    }
    // Events between the last look and the end.
    show().map(|_| 0)
}
