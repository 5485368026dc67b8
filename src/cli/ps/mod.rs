//! `runner ps`.

mod table;

use super::error::{CliError, OURS};
use super::home::open;
use super::queued;
use super::values::OutputFormat;
use clap::Args;
use runner_client::{Client, ClientError};
use runner_core::phase::Status;
use runner_core::plain;
use runner_core::record::Build;
use runner_folder::state::{KnownBuild, Unreadable, all_builds, listed_builds, live_serve};
use runner_host::stdio::say;
use runner_service::db::builds::QueuedBuild;
use runner_wire::control::{ControlRequest, ControlResponse};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Options of `runner ps`.
#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Include ended builds
    #[arg(short, long)]
    all: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PsRow {
    id: String,
    /// Its name in its batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<String>,
    project: String,
    phase: String,
    command: Option<String>,
    state: String,
    sessions: usize,
    time_left_s: Option<u64>,
    /// Seconds until the pause ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_left_s: Option<u64>,
    /// Seconds since 1970.
    start_time: f64,
    /// How long it has run, or ran, in seconds.
    duration_s: u64,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The endpoint for AWS's clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
}

/// Lists builds.
pub(super) fn ps(args: &PsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let (builds, unreadable) =
        if args.all { all_builds(&home)? } else { (listed_builds(&home)?, Vec::new()) };
    let mut rows: Vec<PsRow> = builds.iter().filter_map(row).collect();
    let waiting = queued::all(&home);
    if !waiting.is_empty() && live_serve(&home).is_none() {
        say("warning: the queued builds wait for `runner serve`, which does not run: start it");
    }
    rows.extend(waiting.into_iter().map(queued_row));
    rows.sort_by(|a, b| b.start_time.total_cmp(&a.start_time));
    rows.extend(unreadable.into_iter().map(unreadable_row));
    let text = match args.format {
        OutputFormat::Text => table::of(&rows, width()),
        OutputFormat::Json => {
            let text =
                serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned() + "\n"
        }
    };
    super::answer(&text)
}

/// The row of a build queued by `runner serve`.
fn queued_row(waiting: QueuedBuild) -> PsRow {
    let start_time = waiting.requested as f64 / 1000.0;
    PsRow {
        id: waiting.id,
        identifier: None,
        project: waiting.project,
        phase: "QUEUED".to_owned(),
        command: None,
        state: "queued".to_owned(),
        sessions: 0,
        time_left_s: None,
        pause_left_s: None,
        start_time,
        duration_s: since(start_time),
        reason: None,
        endpoint: None,
    }
}

/// A build's row as JSON.
pub(super) fn described(known: &KnownBuild) -> Result<String, CliError> {
    let text =
        serde_json::to_string_pretty(&row(known)).map_err(|error| CliError::of(OURS, error))?;
    Ok(plain::json(&text).into_owned() + "\n")
}

fn row(known: &KnownBuild) -> Option<PsRow> {
    let meta = known.dir.meta().ok()??;
    if let Some(record) = recorded(known) {
        return Some(PsRow { identifier: meta.identifier, ..record });
    }
    // Do not wait for a stopped process. It may end while we ask; then it has a record.
    let status = match known.dir.stopped_owner() {
        Some(pid) => Err(ClientError::Stopped { pid }),
        None => {
            match Client::connect(&known.dir)
                .and_then(|mut client| client.ask(&ControlRequest::Status))
            {
                Ok(ControlResponse::Status(status)) => Ok(status),
                Ok(other) => Err(ClientError::from(other)),
                Err(error) => Err(error),
            }
        }
    };
    if let Some(record) = recorded(known) {
        return Some(PsRow { identifier: meta.identifier, ..record });
    }
    let started = std::fs::metadata(known.dir.path().join("meta.json")).ok()?.modified().ok()?;
    let start_time = started.duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
    let status = match status {
        Ok(status) => status,
        // A build that hangs or runs another version is listed all the same.
        Err(error) => {
            return known.dir.is_under_way().then(|| PsRow {
                id: known.id.clone(),
                identifier: meta.identifier,
                project: meta.project,
                phase: "-".to_owned(),
                command: Some(error.to_string()),
                state: "unreachable".to_owned(),
                sessions: 0,
                time_left_s: None,
                pause_left_s: None,
                start_time,
                duration_s: since(start_time),
                reason: None,
                endpoint: None,
            });
        }
    };
    Some(PsRow {
        id: known.id.clone(),
        identifier: meta.identifier,
        project: meta.project,
        phase: status.phase,
        command: status.command,
        state: status.state,
        sessions: status.sessions,
        time_left_s: status.time_left_s,
        pause_left_s: status.pause_left_s,
        start_time,
        duration_s: since(start_time),
        reason: None,
        endpoint: status.endpoint,
    })
}

/// The row of an ended build.
fn recorded(known: &KnownBuild) -> Option<PsRow> {
    match known.dir.record() {
        Ok(Some(record)) => Some(ended_row(&record)),
        Ok(None) => None,
        Err(error) => {
            let (uuid, why) = (known.uuid.clone(), error.to_string());
            Some(PsRow { id: known.id.clone(), ..unreadable_row(Unreadable { uuid, why }) })
        }
    }
}

fn ended_row(record: &Build) -> PsRow {
    PsRow {
        id: record.id.clone(),
        identifier: None,
        project: record.project_name.clone(),
        phase: record.current_phase.clone(),
        command: None,
        state: record.build_status.name().to_owned(),
        sessions: 0,
        time_left_s: None,
        pause_left_s: None,
        start_time: record.start_time,
        duration_s: record.end_time.map_or(0, |end| (end - record.start_time).max(0.0) as u64),
        reason: reason(record),
        endpoint: None,
    }
}

fn unreadable_row(Unreadable { uuid, why }: Unreadable) -> PsRow {
    PsRow {
        id: uuid,
        identifier: None,
        project: String::new(),
        phase: "-".to_owned(),
        command: Some(why),
        state: "unreadable".to_owned(),
        sessions: 0,
        time_left_s: None,
        pause_left_s: None,
        start_time: 0.0,
        duration_s: 0,
        reason: None,
        endpoint: None,
    }
}

/// Why a build did not succeed, from its first failed phase.
fn reason(record: &Build) -> Option<String> {
    let is_bad = |status: &Status| !matches!(status, Status::Succeeded | Status::InProgress);
    let failed =
        record.phases.iter().filter(|phase| phase.phase_status.as_ref().is_some_and(is_bad));
    let mut messages = failed.flat_map(|phase| &phase.contexts).map(|context| &context.message);
    messages.find(|message| !message.is_empty()).cloned()
}

/// Seconds since a point in time.
fn since(start_time: f64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (now - start_time).max(0.0) as u64
}

/// Width of the terminal that shows the table.
fn width() -> Option<usize> {
    let (_, columns) = console::Term::stdout().size_checked()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}
