//! `runner logs`.

use super::course::Course;
use super::error::CliError;
use super::home::open;
use clap::Args;
use runner_folder::events::{CodeBuild, LogReader, OutputReader};
use runner_folder::state::{Need, find};
use runner_host::stdio::{Out, is_gone};
use std::io;

/// Options of `runner logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Show what comes until the build has ended
    #[arg(short, long)]
    follow: bool,
}

/// Prints the log.
pub(super) fn logs(args: &LogsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, args.build.name(), Need::Reading)?;
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let mut reader = LogReader::open(&known.dir).map_err(failed)?;
    let mut output = OutputReader::open(&known.dir).map_err(failed)?;
    let mut sink = CodeBuild::new(Out).for_people(true);
    let mut show = || match replay(&mut sink, &mut reader, &mut output) {
        // `runner logs | head`
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(true),
    };
    if !args.follow {
        return show().map(|_| 0);
    }
    let mut course = Course::of(&home, &known)?;
    while show()? && course.record().is_none() {
        course.next(None)?;
    }
    // What came between the last look and the end.
    show().map(|_| 0)
}

/// Shows the log from `reader` to its end so far.
fn replay(
    sink: &mut CodeBuild<Out>,
    reader: &mut LogReader,
    output: &mut OutputReader,
) -> io::Result<()> {
    while let Some(event) = reader.next_event()? {
        sink.event(&event, output)?;
    }
    sink.flushed().map(drop)
}
