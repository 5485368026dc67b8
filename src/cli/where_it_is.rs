//! Shows where a build has stopped, what was run there, and the possible decisions.

use super::error::CliError;
use crate::terminal::stop_lines;
use runner_client::Client;
use runner_core::event::{EventBody, PauseId, StopFacts};
use runner_core::plain;
use runner_folder::events::LogReader;
use runner_folder::state::KnownBuild;
use runner_wire::control::{ControlRequest, ControlResponse, ControlStatus};
use std::io;

/// What the log contains about a stop.
struct LoggedStop {
    pause: PauseId,
    facts: StopFacts,
    directory: String,
    buildspec: String,
}

/// Prints it to standard output.
pub(super) fn show(known: &KnownBuild) -> Result<(), CliError> {
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let status = match Client::connect(&known.dir)?.ask(&ControlRequest::Status)? {
        ControlResponse::Status(status) => status,
        _ => return Ok(()),
    };
    let mut lines = Vec::new();
    match stop(known).map_err(failed)? {
        Some(LoggedStop { facts, directory, buildspec, .. }) => {
            lines.extend(stop_lines(&facts, &buildspec));
            lines.push(format!("  directory    {directory}"));
            let verbs: Vec<_> = facts.decisions.iter().map(|decision| decision.verb()).collect();
            lines.push(format!("  to decide    {}", verbs.join(", ")));
        }
        None => lines.push(format!("{} in {}", status.state, status.phase)),
    }
    lines.push(format!("  sessions     {}", status.sessions));
    lines.extend(left(&status).map(|left| format!("  time left    {left}")));
    let text: String = lines.iter().map(|line| format!("{}\n", plain::lines(line))).collect();
    super::answer(text).map(drop)
}

/// The build's current stop.
fn stop(known: &KnownBuild) -> io::Result<Option<LoggedStop>> {
    let mut log = LogReader::open(&known.dir)?;
    let mut at = None;
    let mut name = String::new();
    while let Some(event) = log.next_event()? {
        match event.body {
            EventBody::BuildStarted(facts) => name = facts.buildspec,
            EventBody::Paused { pause, stop: Some(facts), directory, .. } => {
                let buildspec = name.clone();
                at = Some(LoggedStop { pause, facts: *facts, directory, buildspec });
            }
            EventBody::Resumed { pause, .. } => {
                at.take_if(|stop: &mut LoggedStop| stop.pause == pause);
            }
            _ => {}
        }
    }
    Ok(at)
}

fn left(status: &ControlStatus) -> Option<String> {
    let time = |seconds: u64| format!("{}:{:02}", seconds / 60, seconds % 60);
    match (status.pause_left_s, status.time_left_s) {
        (Some(left), _) => Some(format!("{} until the pause ends by itself", time(left))),
        (None, Some(left)) => Some(format!("{} until the build times out", time(left))),
        (None, None) => None,
    }
}
