//! `runner resume` and `runner stop`: control a live build from outside.

use super::course::FollowedBuild;
use super::error::CliError;
use super::home::open;
use clap::Args;
use clap_complete::ArgValueCandidates;
use runner_client::{Client, ClientError};
use runner_folder::state::{BuildNeed, find, live_builds};
use runner_host::stdio::say;
use runner_wire::control::ControlRequest;

/// Selects a build.
#[derive(Debug, Args)]
pub(super) struct BuildArg {
    /// Build id, its uuid, a unique prefix of either, the name of a project with one live build, or a
    /// build's name in a batch; optional if only one build is live
    #[arg(add = ArgValueCandidates::new(super::completions::builds))]
    build: Option<String>,
}

impl BuildArg {
    pub(super) fn name(&self) -> Option<&str> {
        self.build.as_deref()
    }
}

/// Options of `runner stop`.
#[derive(Debug, Args)]
pub(super) struct StopArgs {
    #[command(flatten)]
    build: BuildArg,
    /// Stop all live builds
    #[arg(long, conflicts_with = "build")]
    all: bool,
}

/// Resumes the first breakpoint.
pub(super) fn resume(args: &BuildArg) -> Result<u8, CliError> {
    let known = find(&open()?, args.name(), BuildNeed::Live)?;
    match Client::connect(&known.dir)?.ask(&ControlRequest::Resume) {
        Ok(_) => Ok(0),
        // Nothing is paused: there is nothing to do, which is not a failure.
        Err(ClientError::Refused { code: 0, message }) => {
            say(&message);
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}

/// Stops the build and waits until it has ended.
pub(super) fn stop(args: &StopArgs) -> Result<u8, CliError> {
    let home = open()?;
    let builds = match args.all {
        true => live_builds(&home)?,
        false => vec![find(&home, args.build.name(), BuildNeed::Live)?],
    };
    // Stop all before waiting for any; a build that has ended meanwhile needs neither.
    let mut problems = Vec::new();
    let mut asked = Vec::new();
    for known in &builds {
        match Client::connect(&known.dir).and_then(|mut client| client.ask(&ControlRequest::Stop)) {
            Ok(_) => asked.push(known),
            Err(_) if args.all && !known.dir.is_under_way() => {}
            Err(error) => problems.push(CliError::from(error)),
        }
    }
    for known in asked {
        let mut course = FollowedBuild::of(&home, known)?;
        while course.record().is_none() {
            course.next(None)?;
        }
    }
    match problems.pop() {
        None => Ok(0),
        Some(last) => {
            for error in problems {
                error.print();
            }
            Err(last)
        }
    }
}
