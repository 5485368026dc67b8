//! `runner ps`, `wait`, `resume`, `stop`, `logs`: builds seen from outside.

use super::error::{CliError, TIMED_OUT};
use super::home::open;
use super::values::{self, Format};
use crate::client::{Client, ClientError};
use crate::events::{LogReader, OutputReader};
use crate::sinks::{self, CodeBuild};
use crate::state::{Home, Known, all_builds, find, live_builds};
use clap::{Args, ValueEnum};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_core::record::Build;
use runner_wire::control::{Answer, Request, Status};
use serde::Serialize;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// A build.
#[derive(Debug, Args)]
pub(super) struct BuildArg {
    /// Build id, its uuid, or a unique prefix; may be left out where one build is live
    build: Option<String>,
}

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

/// Options of `runner wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status: 0 when it is so; 1 when the build ended without pausing; 4 when the time is up.")]
pub(super) struct WaitArgs {
    /// Build id, its uuid, or a unique prefix; may be left out where one build is live
    build: Option<String>,
    /// What to wait for
    #[arg(long = "for", value_enum)]
    what: WaitFor,
    /// How long at most [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    Paused,
    Ended,
}

/// Options of `runner logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Build id, its uuid, or a unique prefix; may be left out where one build is live
    build: Option<String>,
    /// Show what comes until the build has ended
    #[arg(short, long)]
    follow: bool,
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
    #[serde(skip)]
    started: f64,
}

/// Lists builds.
pub(super) fn ps(args: &PsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let builds = if args.all { all_builds(&home)? } else { live_builds(&home)? };
    let mut rows: Vec<Row> = builds.iter().filter_map(row).collect();
    rows.sort_by(|a, b| b.started.total_cmp(&a.started));
    let text = match args.format {
        Format::Text => table(&rows),
        Format::Json => {
            serde_json::to_string_pretty(&rows)
                .map_err(|error| CliError::ours(error.to_string()))?
                + "\n"
        }
    };
    print(text.as_bytes())
}

fn row(known: &Known) -> Option<Row> {
    let meta = known.dir.meta().ok()?;
    if let Some(record) = known.dir.record().ok()? {
        return Some(ended_row(&record));
    }
    // It may end while we ask; then it has a record.
    let status = match Client::connect(&known.dir).and_then(|mut c| c.ask(&Request::Status)) {
        Ok(Answer::Status(status)) => Ok(status),
        Ok(other) => Err(ClientError::from(other)),
        Err(error) => Err(error),
    };
    if let Some(record) = known.dir.record().ok()? {
        return Some(ended_row(&record));
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
        started,
    })
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
        started: record.start_time,
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
            row.time_left_s.map_or_else(|| "-".to_owned(), time),
            shortened(command.lines().next().unwrap_or_default()),
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

/// Waits.
pub(super) fn wait(args: &WaitArgs) -> Result<u8, CliError> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let known = find(&open()?, args.build.as_deref())?;
    let is_reached = |state: Reached| match (args.what, state) {
        (WaitFor::Paused, Reached::Paused) | (WaitFor::Ended, Reached::Ended) => Some(0),
        (WaitFor::Paused, Reached::Ended) => Some(1),
        (_, Reached::Running) | (WaitFor::Ended, Reached::Paused) => None,
    };
    let outcome = watch(&known, deadline, |status| is_reached(reached(status)))?;
    match outcome {
        Watched::Done(0) => Ok(0),
        Watched::Done(_) => {
            Err(CliError::new(1, format!("build {} has ended without pausing", known.id)))
        }
        Watched::Ended => {
            wait_for_record(&known, deadline);
            match is_reached(Reached::Ended) {
                Some(0) => Ok(0),
                _ => Err(CliError::new(1, format!("build {} has ended without pausing", known.id))),
            }
        }
        Watched::TimeIsUp => {
            Err(CliError::new(TIMED_OUT, format!("build {}: the time is up", known.id)))
        }
    }
}

#[derive(Clone, Copy)]
enum Reached {
    Running,
    Paused,
    Ended,
}

fn reached(status: &Status) -> Reached {
    match status.state.as_str() {
        "running" => Reached::Running,
        "paused" => Reached::Paused,
        _ => Reached::Ended,
    }
}

enum Watched {
    Done(u8),
    Ended,
    TimeIsUp,
}

/// Follows a build's status until `done` says so, or the build is over.
fn watch(
    known: &Known,
    deadline: Option<Instant>,
    mut done: impl FnMut(&Status) -> Option<u8>,
) -> Result<Watched, CliError> {
    let asked = Client::connect(&known.dir)
        .and_then(|mut client| client.send(&Request::Watch).map(|()| client));
    let mut client = match asked {
        Ok(client) => client,
        // Not to be reached because it is over, or nearly so.
        Err(ClientError::Connect(_) | ClientError::Lost(_) | ClientError::Closed) => {
            return Ok(Watched::Ended);
        }
        Err(error) => return Err(error.into()),
    };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut ready = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(0) if left.is_some_and(|left| left <= Duration::from_millis(1)) => {
                return Ok(Watched::TimeIsUp);
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(CliError::ours(errno.to_string())),
        }
        while let Some(frame) = client.poll_frame()? {
            let Some(body) = frame else { return Ok(Watched::Ended) };
            let answer =
                serde_json::from_slice(&body).map_err(|error| CliError::ours(error.to_string()))?;
            let Answer::Status(status) = answer else { return Ok(Watched::Ended) };
            if let Some(code) = done(&status) {
                return Ok(Watched::Done(code));
            }
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Watched::TimeIsUp);
        }
    }
}

/// The owner writes the record after its last event. Its lock is free when it has.
fn wait_for_record(known: &Known, deadline: Option<Instant>) {
    if deadline.is_none() {
        let _ = known.dir.wait_for_owner();
    }
}

/// Releases the first breakpoint.
pub(super) fn resume(args: &BuildArg) -> Result<u8, CliError> {
    let known = find_live(args)?;
    match Client::connect(&known.dir)?.ask(&Request::Resume) {
        Ok(_) => Ok(0),
        // Nothing is paused: there is nothing to be done, and that is no failure.
        Err(ClientError::Refused { code: 0, message }) => {
            let _ = writeln!(io::stderr(), "runner: {message}");
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}

/// Stops the build and waits until it is over.
pub(super) fn stop(args: &BuildArg) -> Result<u8, CliError> {
    let known = find_live(args)?;
    Client::connect(&known.dir)?.ask(&Request::Stop)?;
    watch(&known, None, |_| None)?;
    wait_for_record(&known, None);
    Ok(0)
}

fn find_live(args: &BuildArg) -> Result<Known, CliError> {
    let home = open()?;
    let known = find(&home, args.build.as_deref())?;
    if known.dir.record().is_ok_and(|record| record.is_some()) {
        return Err(CliError::usage(format!("build {} has ended", known.id)));
    }
    Ok(known)
}

/// Prints the log.
pub(super) fn logs(args: &LogsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = match (&args.build, find(&home, args.build.as_deref())) {
        (_, Ok(known)) => known,
        // Nothing is live and nothing was named: the newest is meant.
        (None, Err(crate::state::LookupError::NoneLive)) => newest(&home)?,
        (_, Err(error)) => return Err(error.into()),
    };
    let failed = |error: io::Error| {
        CliError::ours(format!("cannot read the log of build {}: {error}", known.id))
    };
    let mut reader = LogReader::open(&known.dir).map_err(failed)?;
    let mut output = OutputReader::open(&known.dir).map_err(failed)?;
    let mut sink = CodeBuild::new(io::stdout());
    let mut show = || match sinks::replay(&mut sink, &mut reader, &mut output) {
        // `runner logs | head`
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(true),
    };
    if !show()? || !args.follow {
        return Ok(0);
    }
    let mut problem = None;
    watch(&known, None, |_| match show() {
        Ok(true) => None,
        Ok(false) => Some(0),
        Err(error) => {
            problem = Some(error);
            Some(0)
        }
    })?;
    match problem {
        Some(problem) => Err(problem),
        // Between the last word over the socket and the end of the log.
        None => show().map(|_| 0),
    }
}

fn newest(home: &Home) -> Result<Known, CliError> {
    all_builds(home)?
        .into_iter()
        .filter_map(|known| {
            let record = known.dir.record().ok()??;
            Some((record.start_time, known))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
        .ok_or_else(|| CliError::usage("there are no builds on this machine"))
}

fn print(text: &[u8]) -> Result<u8, CliError> {
    match io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::ours(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(0),
    }
}
