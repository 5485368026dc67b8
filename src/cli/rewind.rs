//! `runner rewind`: goes back to before a run of a stopped build.

use super::course::FollowedBuild;
use super::debug::decide;
use super::error::CliError;
use super::home::open;
use crate::terminal::rewound_lines;
use clap::Args;
use runner_core::debug::{Decision, Rewind, RunRef, Then};
use runner_core::event::EventBody;
use runner_folder::events::LogReader;
use runner_folder::state::{BuildNeed, Home, KnownBuild, find};
use runner_host::stdio::say;
use std::io;

/// Options of `runner rewind`.
#[derive(Debug, Args)]
#[command(after_help = NOT_BACK)]
pub(super) struct RewindArgs {
    /// Build id, its uuid, a unique prefix of either, the name of a project, or a build's name in a
    /// batch; optional if only one build is live
    build: Option<String>,
    /// Run to go back to before: its number in `runner history`, -1 for the last run, -2 for the
    /// one before it, or a place for its last run
    #[arg(
        long,
        value_name = "RUN",
        default_value = "-1",
        allow_hyphen_values = true,
        value_parser = run
    )]
    to: RunRef,
    /// Also undo manual changes made at the stop before that run
    #[arg(long)]
    without_edits: bool,
    /// Use an earlier run if that run has no checkpoint
    #[arg(long)]
    nearest: bool,
    /// Resume from there instead of stopping
    #[arg(long)]
    resume: bool,
}

/// What a rewind restores and what it does not.
const NOT_BACK: &str = "\
These come back: files of the image, of the sources, of /tmp and of home directories, with owners,
modes, attributes and links; exported variables, the directory and CODEBUILD_* variables; phase,
place, retries and status.

These do not: running processes, which are killed and named; functions, aliases and options of
shells; anything sent to networks, registries and buckets; files of --mount SRC:DST:rw and of this
machine, which stay as they are now; the data of --service containers and of a Docker daemon in the
build; /dev/shm and IPC; mounts; the build's time.";

pub(super) fn run(text: &str) -> Result<RunRef, String> {
    text.parse().map_err(|error: runner_core::debug::ParseError| error.to_string())
}

/// Goes back, and waits until the build has done so.
pub(super) fn rewind(args: &RewindArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, args.build.as_deref(), BuildNeed::Live)?;
    let then = if args.resume { Then::Resume } else { Then::Stop };
    let rewind = Rewind {
        to: Some(args.to),
        without_edits: args.without_edits,
        nearest: args.nearest,
        then,
    };
    go_back(&home, &known, rewind)
}

/// Sends the decision, and waits until the build has gone back.
pub(super) fn go_back(home: &Home, known: &KnownBuild, rewind: Rewind) -> Result<u8, CliError> {
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let stops = rewind.then == Then::Stop;
    let mut log = LogReader::open(&known.dir).map_err(failed)?;
    while log.next_event().map_err(failed)?.is_some() {}
    let mut course = FollowedBuild::of(home, known)?;
    decide(known, Decision::Rewind(rewind))?;
    let mut is_back = false;
    loop {
        let is_over = course.record().is_some();
        while let Some(event) = log.next_event().map_err(failed)? {
            match event.body {
                EventBody::Rewound(facts) => {
                    rewound_lines(&facts).iter().for_each(|line| say(line));
                    is_back = true;
                }
                EventBody::Paused { .. } if is_back => return Ok(0),
                EventBody::BuildEnded { .. } if !is_back => {
                    return Err(CliError::ours("the build has ended without being rewound"));
                }
                _ => {}
            }
        }
        if is_back && !stops {
            return Ok(0);
        }
        if is_over {
            return Err(CliError::ours("the build has ended"));
        }
        course.next(None)?;
    }
}
