//! `runner history`: lists a build's runs with their places, results, and people's decisions.

use super::error::{CliError, OURS};
use super::home::open;
use super::values::OutputFormat;
use clap::Args;
use runner_core::changes::Counts;
use runner_core::debug::{CommandPlace, DecisionKind};
use runner_core::event::{Block, ChangedFacts, CheckpointFacts, CheckpointKind, EventBody};
use runner_core::phase::Phase;
use runner_core::plain;
use runner_folder::events::LogReader;
use runner_folder::state::{BuildNeed, find};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;

/// Options of `runner history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// A run, or a skipped command.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HistoryRow {
    /// `None` for a skipped command.
    pub(super) run: Option<u32>,
    pub(super) place: String,
    /// `None` while it runs.
    pub(super) outcome: Option<String>,
    duration_ms: Option<u64>,
    pub(super) text: String,
    /// The checkpoint before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) checkpoint: Option<CheckpointFacts>,
    /// Its changes to files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<RunChanges>,
    /// Whether a rewind went back to before this run.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rewound: bool,
    /// A person's decision before this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    intervention: Option<String>,
    /// Whether a rewind has undone its changes.
    #[serde(skip)]
    pub(super) is_undone: bool,
}

/// Changes of a run to files, or why they are unknown.
#[derive(Debug, Serialize)]
pub(super) struct RunChanges {
    #[serde(flatten)]
    pub(super) counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) why: Option<String>,
}

impl HistoryRow {
    /// Whether it is a command of the buildspec.
    pub(super) fn is_of_buildspec(&self) -> bool {
        !matches!(&*self.place, EVAL | RUNTIMES)
    }

    /// Whether its changes are known.
    pub(super) fn is_known(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.why.is_none())
    }
}

/// Place of a text that a person ran.
const EVAL: &str = "eval";
/// Place of a command that installs runtimes.
const RUNTIMES: &str = "runtimes";

/// Shows a build's runs.
pub(super) fn history(args: &HistoryArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, args.build.name(), BuildNeed::Reading)?;
    let rows = LogReader::open(&known.dir)
        .and_then(rows)
        .map_err(|error| CliError::ours(format!("the log of build {}: {error}", known.id)))?;
    super::answer(match args.format {
        OutputFormat::Text => table(&rows),
        OutputFormat::Json => {
            let text =
                serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned() + "\n"
        }
    })
}

pub(super) fn rows(mut log: LogReader) -> io::Result<Vec<HistoryRow>> {
    let mut rows: Vec<HistoryRow> = Vec::new();
    let mut decided: Option<(DecisionKind, String)> = None;
    // Whether a decision has already skipped commands.
    let mut skips = false;
    let mut kept: BTreeMap<u32, CheckpointFacts> = BTreeMap::new();
    // The run that a rewind led to; the next run has the same checkpoint.
    let mut again = None;
    while let Some(event) = log.next_event()? {
        match event.body {
            EventBody::Intervened(done) => {
                let text = format!("{} by {}", done.what.verb(), done.by.user);
                match done.what {
                    // About the current run; no other follows.
                    DecisionKind::Abort => pin(&mut rows, text),
                    what => decided = Some((what, text)),
                }
            }
            EventBody::CommandStarted { command, phase, block, index, text, .. } => {
                let mut intervention = None;
                match decided.take() {
                    // The decision skipped a failure: show it at that run, not at the next.
                    Some((DecisionKind::Skip, told)) if !skips => pin(&mut rows, told),
                    Some((DecisionKind::Skip, _)) | None => {}
                    Some((_, told)) => intervention = Some(told),
                }
                skips = false;
                // It used the number of the next run.
                if block == Block::Eval
                    && let Some(facts) = kept.remove(&command)
                {
                    kept.insert(command + 1, facts);
                }
                if block != Block::Eval
                    && let Some(facts) = again.take().and_then(|to| kept.get(&to).cloned())
                {
                    kept.entry(command).or_insert(facts);
                }
                rows.push(HistoryRow {
                    checkpoint: kept.get(&command).filter(|_| block != Block::Eval).cloned(),
                    changes: None,
                    rewound: false,
                    is_undone: false,
                    run: Some(command),
                    place: place(phase, block, index),
                    outcome: None,
                    duration_ms: None,
                    text,
                    intervention,
                });
            }
            EventBody::Checkpoint(facts) => drop(kept.insert(facts.before, facts)),
            EventBody::Rewound(rewound) => {
                again = Some(rewound.to);
                let is_lost =
                    |row: &&mut HistoryRow| row.run.is_some_and(|run| rewound.lost.contains(&run));
                rows.iter_mut().filter(is_lost).for_each(|row| row.rewound = true);
                // What was typed at later stops is undone as well.
                let is_behind =
                    |row: &&mut HistoryRow| row.run.is_some_and(|run| run >= rewound.to);
                rows.iter_mut().filter(is_behind).for_each(|row| row.is_undone = true);
            }
            EventBody::CommandEnded { command, outcome, duration_ms } => {
                if let Some(row) = rows.iter_mut().rev().find(|row| row.run == Some(command)) {
                    row.outcome = Some(outcome.to_string());
                    row.duration_ms = Some(duration_ms);
                }
            }
            EventBody::FilesChanged(ChangedFacts { command, counts, why, .. }) => {
                if let Some(row) = rows.iter_mut().rev().find(|row| row.run == Some(command)) {
                    row.changes = Some(RunChanges { counts, why });
                }
            }
            EventBody::CommandSkipped { phase, block, index, text } => {
                skips |= decided.is_some();
                rows.push(HistoryRow {
                    checkpoint: None,
                    changes: None,
                    rewound: false,
                    is_undone: false,
                    run: None,
                    place: place(phase, block, index),
                    outcome: Some("skipped".to_owned()),
                    duration_ms: None,
                    text,
                    intervention: decided.as_ref().map(|(_, told)| told.clone()),
                });
            }
            _ => {}
        }
    }
    if let Some((DecisionKind::Skip, told)) = decided.filter(|_| !skips) {
        pin(&mut rows, told);
    }
    Ok(rows)
}

/// Adds the text to the last run.
fn pin(rows: &mut [HistoryRow], told: String) {
    if let Some(row) = rows.iter_mut().rev().find(|row| row.run.is_some()) {
        row.intervention = Some(told);
    }
}

fn place(phase: Phase, block: Block, index: u32) -> String {
    match (block, phase.user_phase()) {
        (Block::Eval, _) => EVAL.to_owned(),
        (_, Some(phase)) => CommandPlace { phase, block, index }.to_string(),
        (_, None) => RUNTIMES.to_owned(),
    }
}

/// The number of files it changed.
fn files(row: &HistoryRow) -> String {
    match &row.changes {
        Some(RunChanges { why: None, counts }) => match counts.total() {
            1 => "1 file".to_owned(),
            total => format!("{total} files"),
        },
        Some(_) => "? files".to_owned(),
        None => String::new(),
    }
}

fn table(rows: &[HistoryRow]) -> String {
    let width = rows.iter().map(|row| row.place.len()).max().unwrap_or(0);
    let ended = |row: &HistoryRow| row.outcome.clone().unwrap_or_else(|| "runs".to_owned());
    let outcomes = rows.iter().map(|row| ended(row).len()).max().unwrap_or(0);
    let is_kept = rows.iter().any(|row| row.checkpoint.is_some());
    let is_counted = rows.iter().any(|row| row.changes.is_some());
    let files_width = rows.iter().map(|row| files(row).len()).max().unwrap_or(0);
    let kept = |row: &HistoryRow| match &row.checkpoint {
        Some(facts) => format!("{} {}ms", facts.kind.name(), facts.ms),
        None => String::new(),
    };
    let kept_width = rows.iter().map(|row| kept(row).len()).max().unwrap_or(0);
    let line = |row: &HistoryRow| {
        let run = row.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
        let time = row
            .duration_ms
            .map_or_else(String::new, |ms| format!("{}.{}s", ms / 1000, ms % 1000 / 100));
        let text = plain::lines(row.text.lines().next().unwrap_or_default()).into_owned();
        let kept = match is_kept {
            true => format!("{:<kept_width$}  ", kept(row)),
            false => String::new(),
        };
        let files = match is_counted {
            true => format!("{:>width$}  ", files(row), width = files_width),
            false => String::new(),
        };
        let by = row.intervention.as_ref().map_or_else(String::new, |by| format!("  ({by})"));
        let gone = if row.rewound { "  (rewound)" } else { "" };
        let (place, outcome) = (&row.place, ended(row));
        format!(
            "{run:>4}  {place:<width$}  {outcome:<outcomes$}  {time:>8}  {kept}{files}{text}{by}{gone}\n"
        )
    };
    let none = |row: &HistoryRow| {
        let facts = row.checkpoint.as_ref().filter(|it| it.kind == CheckpointKind::None)?;
        let why = plain::lines(facts.why.as_deref().unwrap_or_default()).into_owned();
        Some(format!("no checkpoint before run {}: {why}\n", row.run?))
    };
    rows.iter().map(line).chain(rows.iter().filter_map(none)).collect()
}
