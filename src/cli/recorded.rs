//! Changes of runs to a build's files: `runner diff --run`, `runner diff --from --to` and `runner
//! blame`, also for ended builds.

use super::error::CliError;
use super::history::{HistoryRow, rows};
use super::home::open;
use clap::Args;
use indicatif::BinaryBytes;
use runner_client::diff::{FileNode, NodeKind, PathChange};
use runner_core::changes::{Counts, FileChange, FileKind, Op, net};
use runner_core::debug::{NO_CHECKPOINTS, RunRef};
use runner_core::event::CheckpointKind;
use runner_core::plain;
use runner_core::select::{below, normal};
use runner_engine::kept::{self, ContentText, FoundFile, KeptNode, LeftOutPaths, RunLine, Wanted};
use runner_engine::leftover::{EngineFolder, Leavings};
use runner_folder::events::{Follower, LogReader};
use runner_folder::ledger::{Ledger, LedgerTime};
use runner_folder::state::{BuildNeed, KnownBuild, find};
use runner_host::stdio::say;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Options of `runner blame`.
#[derive(Debug, Args)]
#[command(after_help = "\
PATH is absolute or relative to the source. The newest run comes first. A directory that was removed
or renamed stands for all files in it. A build has this record if it was started with --break-on or
--step; the record stays after the build ends.")]
pub(super) struct BlameArgs {
    /// Build (required if there is more than one) and path
    #[arg(value_name = "[BUILD] PATH", num_args = 1..=2, required = true)]
    words: Vec<OsString>,
}

/// The selected runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) from: RunRef,
    pub(super) to: RunRef,
    /// Whether only one run is meant, without people's changes at the stop before it.
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

    /// The index of a run among all runs.
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
            CliError::usage(format!("there is no run {named}"))
                .hint("`runner history` lists the runs")
        })
    }

    fn read(&self, at: LedgerTime) -> Result<Vec<FileChange>, CliError> {
        self.ledger.read(at).map_err(|error| {
            CliError::ours(format!("cannot read what run {} has changed: {error}", at.run))
        })
    }

    /// A path as displayed.
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

/// Shows the changes of runs.
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
        return Err(CliError::usage(format!(
            "run {} is still running",
            row.run.unwrap_or_default()
        )));
    }
    let unknown: Vec<&HistoryRow> =
        inner.iter().filter(|row| counts(row, range) && !row.is_known()).collect();
    for row in &unknown {
        let why = row.changes.as_ref().and_then(|facts| facts.why.clone());
        let why = why.unwrap_or_else(|| "there is no record of it".to_owned());
        let run = row.run.unwrap_or_default();
        say(&format!("unknown changes of run {run} ({}): {why}", row.place));
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

/// Whether a run counts; one that was named individually always does.
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

/// What a run has changed in the contents of a file.
pub(super) enum RunPatch {
    Renamed { from: Vec<u8>, to: Vec<u8> },
    Changed(PathChange),
}

/// Things left out that are named one by one.
const MOST_NAMED: usize = 20;

/// What a run has changed in the contents of files, and how much of it is left out, from the
/// checkpoints before and behind it. What is not in there is said.
pub(super) fn contents(
    build: Option<&str>,
    run: RunRef,
    paths: &[OsString],
) -> Result<(Vec<RunPatch>, u64), CliError> {
    let known = find(&open()?, build, BuildNeed::Reading)?;
    let recorded = Recorded::of(&known)?;
    let place = recorded.find(run)?;
    let row = &recorded.rows[place];
    let number = row.run.unwrap_or_default();
    if row.outcome.is_none() {
        return Err(CliError::usage(format!("run {number} is still running")));
    }
    if let Some(why) = row.changes.as_ref().and_then(|changes| changes.why.as_ref()) {
        return Err(CliError::usage(format!("unknown changes of run {number}: {why}")));
    }
    let lacks = |why: &str| {
        CliError::usage(format!(
            "the contents of what run {number} has changed are not kept: {why}"
        ))
        .hint("without --patch the files are named")
    };
    let meta = known.dir.meta().ok().flatten();
    let noted = meta.map(|meta| meta.engine).unwrap_or_default();
    let leavings = Leavings::read(noted, &EngineFolder::of(known.dir.path()));
    let failed = |error: io::Error| {
        CliError::ours(format!("cannot read the checkpoints of build {}: {error}", known.id))
    };
    let layer = leavings.layers.iter().find(|layer| layer.exists());
    let Some(layer) = layer.filter(|_| known.is_live || !known.dir.has_record()) else {
        return Err(lacks("the build has ended, and its files are gone"));
    };
    let lines = kept::lines(layer).map_err(failed)?;
    let is_rewound = |lines: &[RunLine]| {
        let is_back = |line: &RunLine| matches!(line, RunLine::Rewound { to } if *to <= number);
        let at = lines.iter().rposition(|line| is_before_run(line, number));
        row.is_undone || at.is_some_and(|at| lines[at..].iter().any(is_back))
    };
    if is_rewound(&lines) {
        return Err(lacks(REWOUND));
    }
    let at = lines.iter().rposition(|line| is_before_run(line, number));
    let at = at.ok_or_else(|| lacks("there is no checkpoint before it"))?;
    let RunLine::Kept { views, users, .. } = &lines[at] else {
        let RunLine::Lacks { why, .. } = &lines[at] else {
            return Err(lacks("there is no record of it"));
        };
        return Err(lacks(&format!("there is no checkpoint before it: {why}")));
    };
    let later = recorded.rows[place + 1..].iter().find_map(|row| row.run);
    let next = later.or(number.checked_add(1));
    let is_next = |line: &&RunLine| next.is_some_and(|next| is_before_run(line, next));
    let behind = match (lines.get(at + 1).filter(is_next), later) {
        (Some(RunLine::Kept { views, .. }), _) => Some(views),
        (Some(RunLine::Lacks { why, .. }), _) => {
            return Err(lacks(&format!("there is no checkpoint after it: {why}")));
        }
        (None, None) if at + 1 == lines.len() => {
            say(&format!(
                "nothing has run since run {number}: the files are shown as they are now"
            ));
            None
        }
        _ => return Err(lacks("there is no checkpoint after it")),
    };
    let changes = recorded.read(LedgerTime { run: number, is_run: true })?;
    let only: Vec<Vec<u8>> = paths.iter().map(|path| recorded.absolute(path)).collect();
    let is_wanted = |path: &[u8]| {
        only.is_empty() || only.iter().any(|only| path == only || below(path, only).is_some())
    };
    let is_asked_for = |change: &&FileChange| {
        is_wanted(&change.path) || matches!(&change.op, Op::Renamed(from) if is_wanted(from))
    };
    let mut outside = 0;
    let mut wanted = Vec::new();
    for change in changes.iter().filter(is_asked_for) {
        let (path, is_directory) = (&*change.path, change.kind == FileKind::Directory);
        let (old, new) = match &change.op {
            _ if change.kind == FileKind::Other => continue,
            Op::Renamed(from) => (Some(&**from), Some(path)),
            Op::Deleted => (Some(path), None),
            // What is in it is listed by itself.
            _ if is_directory => continue,
            Op::Added => (None, Some(path)),
            _ => (Some(path), Some(path)),
        };
        let is_outside = |path: &[u8]| only.is_empty() && below(path, &recorded.source).is_none();
        outside += u64::from(old.is_some_and(is_outside) || new.is_some_and(is_outside));
        let is_shown = |path: &&[u8]| !is_outside(path) && !recorded.is_of_git(path);
        let [old, new] = [old, new].map(|path| path.filter(is_shown).map(ContentText::from));
        if old.is_some() || new.is_some() {
            let is_written = change.op != Op::Attributes;
            wanted.push(Wanted { old, new, is_written });
        }
    }
    if outside > 0 {
        let what = if outside == 1 { "change is" } else { "changes are" };
        say(&format!("{outside} {what} outside of the source, and not shown; `-- /` shows all"));
    }
    let found = kept::contents(views, behind.map(Vec::as_slice), users.as_ref(), wanted);
    // One that has begun meanwhile has put other files in their place.
    if is_rewound(&kept::lines(layer).map_err(failed)?) {
        return Err(lacks(REWOUND));
    }
    let found = found.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => lacks(REWOUND),
        _ => failed(error),
    })?;
    for LeftOutPaths { path, why } in found.left_out.iter().take(MOST_NAMED) {
        say(&format!("{}: {why}", recorded.name(&path.bytes(), FileKind::File)));
    }
    let left_out = found.left_out.len();
    if left_out > MOST_NAMED {
        say(&format!("{} more are left out", left_out - MOST_NAMED));
    }
    let patches = found.files.into_iter().flat_map(|file| recorded.patches(file)).collect();
    Ok((patches, left_out as u64))
}

/// Why the files of a run are not there any more.
const REWOUND: &str = "a rewind has removed them";

fn is_before_run(line: &RunLine, run: u32) -> bool {
    match line {
        RunLine::Kept { before, .. } | RunLine::Lacks { before, .. } => *before == run,
        RunLine::Rewound { .. } => false,
    }
}

impl Recorded {
    /// Whether it is what git keeps in the source.
    fn is_of_git(&self, path: &[u8]) -> bool {
        below(path, &self.source).is_some_and(|inner| below(inner, b".git").is_some())
    }

    /// As git tells of it: a renamed file that has changed as well is one that is gone and one that
    /// is new.
    fn patches(&self, FoundFile { old, new, is_written }: FoundFile) -> Vec<RunPatch> {
        let shown = |path: &ContentText| {
            let path = path.bytes();
            let inner = below(&path, &self.source).filter(|inner| !inner.is_empty());
            inner.unwrap_or(&path).to_vec()
        };
        let node = |node: &KeptNode| {
            let content = node.content.as_ref().map(ContentText::bytes);
            NodeKind::of(node.mode).map(|kind| FileNode { kind, content })
        };
        let side = |side: &Option<(ContentText, KeptNode)>| {
            side.as_ref().map(|(path, it)| (shown(path), node(it)))
        };
        let is_unknown = |it: &Option<FileNode>| it.as_ref().is_some_and(|it| it.content.is_none());
        match (side(&old), side(&new)) {
            // Both are too large: nothing says that they are the same. They are named by it.
            (Some((from, old)), Some((path, new)))
                if is_unknown(&old) && is_unknown(&new) && (is_written || from != path) =>
            {
                vec![RunPatch::Changed(PathChange { path, old, new })]
            }
            (Some((from, old)), Some((to, new))) if from != to => match old == new {
                true => vec![RunPatch::Renamed { from, to }],
                false => vec![
                    RunPatch::Changed(PathChange { path: from, old, new: None }),
                    RunPatch::Changed(PathChange { path: to, old: None, new }),
                ],
            },
            (Some((path, old)), Some((_, new))) if old != new => {
                vec![RunPatch::Changed(PathChange { path, old, new })]
            }
            // Attributes that git does not keep.
            (Some(_), Some(_)) | (None, None) => Vec::new(),
            (Some((path, old)), None) => {
                vec![RunPatch::Changed(PathChange { path, old, new: None })]
            }
            (None, Some((path, new))) => {
                vec![RunPatch::Changed(PathChange { path, old: None, new })]
            }
        }
    }
}

/// Shows the runs that changed a file.
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
