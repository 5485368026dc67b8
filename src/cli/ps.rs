//! `runner ps`.

use super::error::{CliError, OURS};
use super::home::open;
use super::values::Format;
use clap::Args;
use runner_client::{Client, ClientError};
use runner_core::plain;
use runner_core::record::Build;
use runner_folder::state::{Known, Unreadable, all_builds, listed_builds};
use runner_wire::control::{Answer, Request};
use serde::Serialize;

/// Options of `runner ps`.
#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Ended builds as well
    #[arg(short, long)]
    all: bool,
    /// How they are shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    project: String,
    phase: String,
    command: Option<String>,
    state: String,
    sessions: usize,
    time_left_s: Option<u64>,
    /// Until the pause ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_left_s: Option<u64>,
    /// Where AWS's clients find it.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip)]
    started: f64,
}

/// Lists builds.
pub(super) fn ps(args: &PsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let (builds, unreadable) =
        if args.all { all_builds(&home)? } else { (listed_builds(&home)?, Vec::new()) };
    let mut rows: Vec<Row> = builds.iter().filter_map(row).collect();
    rows.sort_by(|a, b| b.started.total_cmp(&a.started));
    rows.extend(unreadable.into_iter().map(unreadable_row));
    let text = match args.format {
        Format::Text => table(&rows),
        Format::Json => {
            let text =
                serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned() + "\n"
        }
    };
    super::answer(&text)
}

/// A build as `ps` shows it, in JSON.
pub(super) fn described(known: &Known) -> Result<String, CliError> {
    let text =
        serde_json::to_string_pretty(&row(known)).map_err(|error| CliError::of(OURS, error))?;
    Ok(plain::json(&text).into_owned() + "\n")
}

fn row(known: &Known) -> Option<Row> {
    let meta = known.dir.meta().ok()??;
    if let Some(record) = recorded(known) {
        return Some(record);
    }
    // One that is stopped is not waited for. It may end while we ask; then it has a record.
    let status = match known.dir.stopped_owner() {
        Some(pid) => Err(ClientError::Stopped { pid }),
        None => {
            match Client::connect(&known.dir).and_then(|mut client| client.ask(&Request::Status)) {
                Ok(Answer::Status(status)) => Ok(status),
                Ok(other) => Err(ClientError::from(other)),
                Err(error) => Err(error),
            }
        }
    };
    if let Some(record) = recorded(known) {
        return Some(record);
    }
    let started = std::fs::metadata(known.dir.path().join("meta.json")).ok()?.modified().ok()?;
    let started = started.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
    let status = match status {
        Ok(status) => status,
        // One that hangs, or that another version runs, is there all the same.
        Err(error) => {
            return known.dir.is_under_way().then(|| Row {
                id: known.id.clone(),
                project: meta.project,
                phase: "-".to_owned(),
                command: Some(error.to_string()),
                state: "unreachable".to_owned(),
                sessions: 0,
                time_left_s: None,
                pause_left_s: None,
                endpoint: None,
                started,
            });
        }
    };
    Some(Row {
        id: known.id.clone(),
        project: meta.project,
        phase: status.phase,
        command: status.command,
        state: status.state,
        sessions: status.sessions,
        time_left_s: status.time_left_s,
        pause_left_s: status.pause_left_s,
        endpoint: status.endpoint,
        started,
    })
}

/// That of a build that has ended.
fn recorded(known: &Known) -> Option<Row> {
    match known.dir.record() {
        Ok(Some(record)) => Some(ended_row(&record)),
        Ok(None) => None,
        Err(error) => {
            let (uuid, why) = (known.uuid.clone(), error.to_string());
            Some(Row { id: known.id.clone(), ..unreadable_row(Unreadable { uuid, why }) })
        }
    }
}

fn ended_row(record: &Build) -> Row {
    Row {
        id: record.id.clone(),
        project: record.project_name.clone(),
        phase: record.current_phase.clone(),
        command: None,
        state: record.build_status.name().to_owned(),
        sessions: 0,
        time_left_s: None,
        pause_left_s: None,
        endpoint: None,
        started: record.start_time,
    }
}

fn unreadable_row(Unreadable { uuid, why }: Unreadable) -> Row {
    Row {
        id: uuid,
        project: String::new(),
        phase: "-".to_owned(),
        command: Some(why),
        state: "unreadable".to_owned(),
        sessions: 0,
        time_left_s: None,
        pause_left_s: None,
        endpoint: None,
        started: 0.0,
    }
}

fn table(rows: &[Row]) -> String {
    let mut cells =
        vec![["BUILD", "STATE", "PHASE", "SESSIONS", "TIME LEFT", "COMMAND"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let command = row.command.as_deref().unwrap_or_default();
        [
            row.id.clone(),
            row.state.clone(),
            row.phase.clone(),
            row.sessions.to_string(),
            // While it is paused the build's own time stands still.
            match (row.time_left_s, row.pause_left_s) {
                (_, Some(left)) => format!("pause {}", time(left)),
                (left, None) => left.map_or_else(|| "-".to_owned(), time),
            },
            shortened(&plain::line(command.lines().next().unwrap_or_default())),
        ]
    }));
    let width =
        |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    cells
        .iter()
        .map(|row| {
            let padded: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned() + "\n"
        })
        .collect()
}

fn time(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST - 1).chain(['…']).collect()
}
