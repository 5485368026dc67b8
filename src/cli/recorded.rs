//! What runs have changed in a build's files: `runner diff --run`, `runner diff --from --to` and `runner blame`, also of
//! builds that have ended.

use super::error::CliError;
use super::history::{HistoryRow, rows};
use super::home::open;
use clap::Args;
use indicatif::BinaryBytes;
use runner_core::changes::{Counts, FileChange, FileKind, Op, net};
use runner_core::debug::{NO_CHECKPOINTS, RunRef};
use runner_core::event::CheckpointKind;
use runner_core::plain;
use runner_core::select::{below, normal};
use runner_folder::events::{Follower, LogReader};
use runner_folder::ledger::{Ledger, LedgerTime};
use runner_folder::state::{BuildNeed, KnownBuild, find};
use runner_host::stdio::say;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// `runner blame`
#[derive(Debug, Args)]
#[command(after_help = "\
A path is one of the source, or absolute. The newest run comes first; a directory that was removed
or renamed counts for all that was in it. A build has such a record with --break-on or --step; the
record stays when the build has ended.")]
pub(super) struct BlameArgs {
    /// The build, where more than one is there, and the path
    #[arg(value_name = "[BUILD] PATH", num_args = 1..=2, required = true)]
    words: Vec<OsString>,
}

/// Which runs are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from: RunRef,
    pub(super) to: RunRef,
    /// Without what people did at the stop before the first one.
    pub(super) is_one: bool,
}

/// A build's record.
struct Recorded {
    rows: Vec<HistoryRow>,
    ledger: Ledger,
    source: Vec<u8>,
}

impl Recorded {
    fn of(known: &KnownBuild) -> Result<Self, CliError> {
        let failed = |error: io::Error| of_log(known, &error);
        let rows = LogReader::open(&known.dir).and_then(rows).map_err(failed)?;
        let mut log = Follower::open(&known.dir).map_err(failed)?;
        let facts = log.catch_up().map_err(failed)?.map(|view| view.facts.clone());
        let source = facts.and_then(|facts| facts.source_in_build).unwrap_or_default();
        if rows.iter().all(|row| row.changes.is_none()) {
            return Err(CliError::usage(lack(&rows)));
        }
        Ok(Recorded { rows, ledger: Ledger::of(&known.dir), source: source.into_bytes() })
    }

    /// The place of a run among all of them.
    fn find(&self, named: RunRef) -> Result<usize, CliError> {
        let counts = |row: &HistoryRow| !row.is_undone && row.is_of_buildspec();
        let runs = || self.rows.iter().enumerate().filter(|(_, row)| row.run.is_some());
        let counted: Vec<usize> = runs().filter(|(_, row)| counts(row)).map(|(at, _)| at).collect();
        let found = match named {
            RunRef::Number(run) => runs().find(|(_, row)| row.run == Some(run)).map(|(at, _)| at),
            RunRef::Back(back) => {
                counted.len().checked_sub(back as usize).and_then(|at| counted.get(at)).copied()
            }
            RunRef::At(place) => {
                let place = place.to_string();
                counted.iter().rev().find(|at| self.rows[**at].place == place).copied()
            }
        };
        found.ok_or_else(|| {
            CliError::usage(format!("there is no run {named}")).hint("`runner history` has them")
        })
    }

    fn read(&self, at: LedgerTime) -> Result<Vec<FileChange>, CliError> {
        self.ledger.read(at).map_err(|error| {
            CliError::ours(format!("what run {} has changed cannot be read: {error}", at.run))
        })
    }

    /// A path as it is shown.
    fn name(&self, path: &[u8], kind: FileKind) -> String {
        let inner = below(path, &self.source).filter(|inner| !inner.is_empty());
        let slash = if kind == FileKind::Directory { "/" } else { "" };
        plain::name(inner.unwrap_or(path)) + slash
    }

    fn line(&self, change: &FileChange) -> String {
        let FileChange { op, kind, size, path } = change;
        let size = match kind {
            FileKind::File => BinaryBytes(*size).to_string(),
            FileKind::Directory | FileKind::Link | FileKind::Other => String::new(),
        };
        let name = self.name(path, *kind);
        let name = match op {
            Op::Renamed(from) => format!("{} -> {name}", self.name(from, *kind)),
            _ => name,
        };
        format!("{}  {size:>10}  {name}", op.letter())
    }
}

/// Why nothing is recorded.
fn lack(rows: &[HistoryRow]) -> String {
    let kept = rows.iter().filter_map(|row| row.checkpoint.as_ref());
    let why = kept.filter(|facts| facts.kind == CheckpointKind::None).find_map(|it| it.why.clone());
    why.map_or_else(|| NO_CHECKPOINTS.to_owned(), |why| format!("no checkpoints: {why}"))
}

fn of_log(known: &KnownBuild, error: &io::Error) -> CliError {
    CliError::ours(format!("the log of build {}: {error}", known.id))
}

/// Shows what runs have changed.
pub(super) fn diff(build: Option<&str>, range: Range, paths: &[OsString]) -> Result<u8, CliError> {
    let known = find(&open()?, build, BuildNeed::Reading)?;
    let recorded = Recorded::of(&known)?;
    let (first, last) = (recorded.find(range.from)?, recorded.find(range.to)?);
    let run = |at: usize| recorded.rows[at].run.unwrap_or_default();
    if last < first {
        let text = format!("run {} comes after run {}", run(first), run(last));
        return Err(CliError::usage(text));
    }
    let inner = &recorded.rows[first..=last];
    if let Some(row) = inner.iter().find(|row| row.outcome.is_none()) {
        return Err(CliError::usage(format!("run {} runs", row.run.unwrap_or_default())));
    }
    let unknown: Vec<&HistoryRow> =
        inner.iter().filter(|row| counts(row, range) && !row.is_known()).collect();
    for row in &unknown {
        let why = row.changes.as_ref().and_then(|facts| facts.why.clone());
        let why = why.unwrap_or_else(|| "nothing is recorded of it".to_owned());
        let run = row.run.unwrap_or_default();
        say(&format!("what run {run} ({}) has changed is not known: {why}", row.place));
    }
    let mut all = Vec::new();
    for at in recorded.ledger.all().map_err(|error| of_log(&known, &error))? {
        let row = inner.iter().find(|row| row.run == Some(at.run));
        let is_first = at.run == run(first);
        let is_edit = !at.is_run && (range.is_one || is_first);
        if row.is_some_and(|row| counts(row, range)) && !is_edit {
            all.push(recorded.read(at)?);
        }
    }
    let only: Vec<Vec<u8>> = paths.iter().map(|path| recorded.absolute(path)).collect();
    let is_wanted = |path: &[u8]| {
        only.is_empty() || only.iter().any(|only| path == only || below(path, only).is_some())
    };
    let mut changes = if range.is_one { all.concat() } else { net(all) };
    changes.retain(|change| {
        is_wanted(&change.path) || matches!(&change.op, Op::Renamed(from) if is_wanted(from))
    });
    let lines: Vec<String> = changes.iter().map(|change| recorded.line(change) + "\n").collect();
    super::answer(lines.concat())?;
    say(&total(&Counts::of(&changes)));
    if unknown.is_empty() { Ok(0) } else { Ok(super::OURS) }
}

/// A run that was named alone counts, whatever has become of it.
fn counts(row: &HistoryRow, range: Range) -> bool {
    row.run.is_some() && (range.is_one || !row.is_undone)
}

impl Recorded {
    fn absolute(&self, path: &OsStr) -> Vec<u8> {
        match path.as_bytes().starts_with(b"/") {
            true => normal(path.as_bytes()),
            false => normal(&[&self.source, b"/".as_slice(), path.as_bytes()].concat()),
        }
    }
}

/// Shows the runs that have changed a file.
pub(super) fn blame(args: &BlameArgs) -> Result<u8, CliError> {
    let (build, path) = match &args.words[..] {
        [path] => (None, path),
        [build, path] => (Some(build.to_string_lossy()), path),
        _ => return Err(CliError::usage("name a path")),
    };
    let known = find(&open()?, build.as_deref(), BuildNeed::Reading)?;
    let recorded = Recorded::of(&known)?;
    let path = recorded.absolute(path);
    let mut lines = Vec::new();
    for at in recorded.ledger.all().map_err(|error| of_log(&known, &error))?.into_iter().rev() {
        let Some(row) = recorded.rows.iter().find(|row| row.run == Some(at.run)) else { continue };
        for change in recorded.read(at)?.iter().filter(|change| change.concerns(&path)) {
            let text = plain::lines(row.text.lines().next().unwrap_or_default()).into_owned();
            let (who, text) = match at.is_run {
                true => (row.place.clone(), text),
                false => (format!("stop before {}", row.place), String::new()),
            };
            let gone = if row.is_undone { "  (rewound)" } else { "" };
            lines.push((at.run, who, recorded.line(change), text, gone));
        }
    }
    if lines.is_empty() {
        say(&format!("no run has changed {}", recorded.name(&path, FileKind::File)));
        return Ok(0);
    }
    let width = lines.iter().map(|(_, who, ..)| who.len()).max().unwrap_or(0);
    let what = lines.iter().map(|(_, _, line, ..)| line.chars().count()).max().unwrap_or(0);
    let line = |(run, who, line, text, gone): &(u32, String, String, String, &str)| {
        let text = format!("{run:>4}  {who:<width$}  {line:<what$}  {text}");
        format!("{}{gone}\n", text.trim_end())
    };
    super::answer(lines.iter().map(line).collect::<String>())
}

/// `3 added, 1 changed, 2 deleted, 1 renamed, 1.20 MiB`
pub(super) fn total(counts: &Counts) -> String {
    let Counts { added, modified, deleted, renamed, .. } = *counts;
    let parts =
        [(added, "added"), (modified, "changed"), (deleted, "deleted"), (renamed, "renamed")];
    let parts = parts.into_iter().filter(|(count, _)| *count > 0);
    let mut parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
    if parts.is_empty() {
        return "nothing has changed".to_owned();
    }
    parts.extend((counts.bytes > 0).then(|| BinaryBytes(counts.bytes).to_string()));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_in_a_few_words() {
        let counts = Counts { added: 3, modified: 0, deleted: 1, renamed: 0, bytes: 2048 };
        assert_eq!(total(&counts), "3 added, 1 deleted, 2.00 KiB");
        assert_eq!(total(&Counts::default()), "nothing has changed");
    }
}
