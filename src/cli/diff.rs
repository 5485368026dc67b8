//! `runner diff`: shows what a build has changed in its source.

use super::error::{CliError, OURS};
use super::home::open;
use super::recorded::{self, Range};
use clap::Args;
use runner_client::Client;
use runner_client::diff::{
    DiffStat, NodeKind, PathChange, Trees, diff as compare, patch_of, quoted, stat_of,
};
use runner_core::debug::RunRef;
use runner_core::plain;
use runner_engine::unseen::Unseen;
use runner_folder::events::Follower;
use runner_folder::state::{BuildLookupError, BuildNeed, KnownBuild, find};
use runner_host::stdio::{CheckedStdout, has_colors, is_gone, of_output, say};
use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Maximum width of a bar of `--stat`.
const BAR: usize = 40;

/// Options of `runner diff`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Show how many lines of each file have changed
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
    /// Show the changes themselves as a patch for `git apply`
    #[arg(long)]
    patch: bool,
    /// Show what this run has changed in all files: its number in `runner history`, -1 for the last
    /// run, or a place for its last run
    #[arg(
        long,
        value_name = "RUN",
        allow_hyphen_values = true,
        value_parser = super::rewind::run,
        conflicts_with_all = ["stat", "from", "to"]
    )]
    run: Option<RunRef>,
    /// Show what has changed since before this run
    #[arg(
        long,
        value_name = "RUN",
        allow_hyphen_values = true,
        value_parser = super::rewind::run,
        conflicts_with_all = ["stat", "patch"]
    )]
    from: Option<RunRef>,
    /// End after this run [default: the last run]
    #[arg(
        long,
        value_name = "RUN",
        allow_hyphen_values = true,
        value_parser = super::rewind::run,
        requires = "from"
    )]
    to: Option<RunRef>,
    /// Only show these files of the source, and what is below them
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

const HELP: &str = "\
Compares the build's source, as it is now in the build, with the source on this machine: A is new, M
has changed, D is gone. Without --run and --from, the build must be live. Owners, times and the
contents of .git are left out. Anything that cannot be compared is named, and the exit status is 3.

--run and --from compare the files of the whole container before and after runs: A, M and D as
above, R was renamed, t has a new mode, owner or attribute. They show sizes, not contents. Start the
build with --break-on or --step for them. They work for ended builds, too, and a PATH may then be
absolute.

--run with --patch shows the contents of files that the run has changed, up to 1 MiB of each, from
the checkpoints before and after it. These are gone when the build ends, or when it is rewound to
before the run. A file outside of the source is shown, with its whole path, only if a PATH includes
it; `-- /` shows all. Anything that cannot be shown is named, and the exit status is 3.";

/// Shows the changes.
pub(super) fn diff(args: &DiffArgs) -> Result<u8, CliError> {
    let range = match (args.run, args.from) {
        (Some(run), _) => Some(Range { from: run, to: run, is_one: true }),
        (None, Some(from)) => {
            let to = args.to.unwrap_or(RunRef::Back(1));
            Some(Range { from, to, is_one: false })
        }
        (None, None) => None,
    };
    if let Some(run) = args.run.filter(|_| args.patch) {
        return patch_of_run(args, run);
    }
    if let Some(range) = range {
        return recorded::diff(args.build.name(), range, &args.paths);
    }
    let home = open()?;
    let known = find(&home, args.build.name(), BuildNeed::Live).map_err(|error| {
        let is_over = matches!(
            error,
            BuildLookupError::Ended { .. }
                | BuildLookupError::AllEnded { .. }
                | BuildLookupError::NoneLive
        );
        let error = CliError::from(error);
        if is_over {
            error.hint(
                "a build's files are removed when it ends; changes of its runs: --run, --from",
            )
        } else {
            error
        }
    })?;
    let (here, there) = places(&known)?;
    let only: Vec<Vec<u8>> = args.paths.iter().map(|path| relative(path.as_bytes())).collect();
    let has_content = args.stat || args.patch;
    let here = Path::new(&here);
    // Engines and copies of a source leave it out, too.
    let unseen = Unseen::of(home.root());
    let hidden = unseen.below(here).map(|path| path.as_os_str().as_bytes().to_vec());
    let hidden: Vec<Vec<u8>> = hidden.collect();
    let trees = Trees { here, there: there.as_bytes(), hidden: &hidden, only: &only, has_content };
    let client = Client::connect(&known.dir)?;
    let mut shown = DiffOutput {
        out: BufWriter::new(CheckedStdout),
        is_terminal: io::stdout().is_terminal(),
        is_over: false,
        rows: Vec::new(),
        left_out: 0,
    };
    let problems = compare(client, &trees, &|text| say(text), &mut |change| match args {
        DiffArgs { patch: true, .. } => shown.patch(&change),
        DiffArgs { stat: true, .. } => shown.count(&change),
        _ => shown.name(&change),
    })?;
    let problems = problems + shown.left_out;
    let flushed = shown.table().and_then(|()| shown.out.flush());
    match flushed {
        Err(error) if !is_gone(&error) => return Err(CliError::of(OURS, of_output(error))),
        _ => {}
    }
    if problems > 0 {
        let things = if problems == 1 { "thing is" } else { "things are" };
        return Err(CliError::ours(format!("{problems} {things} not compared; see above")));
    }
    Ok(0)
}

/// Shows the contents that a run has changed.
fn patch_of_run(args: &DiffArgs, run: RunRef) -> Result<u8, CliError> {
    let (changes, left_out) = recorded::contents(args.build.name(), run, &args.paths)?;
    let mut shown = DiffOutput {
        out: BufWriter::new(CheckedStdout),
        is_terminal: io::stdout().is_terminal(),
        is_over: false,
        rows: Vec::new(),
        left_out,
    };
    let all = changes.iter().try_for_each(|change| match change {
        recorded::RunPatch::Renamed { from, to } => {
            let (a, b) = (quoted(b"a/", from), quoted(b"b/", to));
            let (old, new) = (quoted(b"", from), quoted(b"", to));
            let text = format!(
                "diff --git {a} {b}\nsimilarity index 100%\nrename from {old}\nrename to {new}\n"
            );
            shown.show(text.as_bytes())
        }
        recorded::RunPatch::Changed(change) => shown.patch(change),
    });
    match all.and_then(|()| shown.out.flush()) {
        Err(error) if !is_gone(&error) => return Err(CliError::of(OURS, of_output(error))),
        _ => {}
    }
    Ok(if shown.left_out > 0 { OURS } else { 0 })
}

/// The source's path on this machine and in the build.
fn places(known: &KnownBuild) -> Result<(String, String), CliError> {
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let mut log = Follower::open(&known.dir).map_err(failed)?;
    let facts = log.catch_up().map_err(failed)?.map(|view| view.facts.clone());
    let places = facts.and_then(|facts| Some((facts.source, facts.source_in_build?)));
    places.ok_or_else(|| CliError::ours("the build has not begun yet"))
}

/// A path in the form that the trees use.
fn relative(path: &[u8]) -> Vec<u8> {
    let names = path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

struct DiffOutput {
    out: BufWriter<CheckedStdout>,
    is_terminal: bool,
    /// Whether the reader is gone.
    is_over: bool,
    rows: Vec<(String, DiffStat)>,
    left_out: u64,
}

impl DiffOutput {
    fn name(&mut self, change: &PathChange) -> io::Result<()> {
        let letter = match (&change.old, &change.new) {
            (None, _) => 'A',
            (_, None) => 'D',
            // A link that replaced a file, and the like.
            (Some(old), Some(new))
                if (old.kind == NodeKind::Link) != (new.kind == NodeKind::Link) =>
            {
                'T'
            }
            _ => 'M',
        };
        self.write(format!("{letter}  {}\n", plain::name(&change.path)).as_bytes())
    }

    fn count(&mut self, change: &PathChange) -> io::Result<()> {
        self.rows.push((plain::name(&change.path), stat_of(change)));
        Ok(())
    }

    fn patch(&mut self, change: &PathChange) -> io::Result<()> {
        let Some(patch) = patch_of(change) else {
            self.left_out += 1;
            say(&format!("{}: too large for a patch", plain::name(&change.path)));
            return Ok(());
        };
        self.show(&patch)
    }

    fn show(&mut self, patch: &[u8]) -> io::Result<()> {
        if !self.is_terminal {
            // Unchanged: a tool reads it.
            return self.write(patch);
        }
        let text = String::from_utf8_lossy(patch).into_owned();
        let colored = has_colors(&io::stdout());
        for line in plain::lines(&text).lines() {
            let color = match line.as_bytes().first() {
                Some(b'+') => "\x1b[32m",
                Some(b'-') => "\x1b[31m",
                Some(b'@') => "\x1b[36m",
                _ => "",
            };
            let line = match colored && !color.is_empty() {
                true => format!("{color}{line}\x1b[0m\n"),
                false => format!("{line}\n"),
            };
            self.write(line.as_bytes())?;
        }
        Ok(())
    }

    /// Prints the table of `--stat`, once all is known.
    fn table(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let lines = |stat: &DiffStat| match stat {
            DiffStat::Lines { added, removed } => (*added, *removed),
            _ => (0, 0),
        };
        let total = |(added, removed)| added + removed;
        let most = rows.iter().map(|(_, stat)| total(lines(stat))).max().unwrap_or(0);
        let scaled = |count: usize| match most > BAR {
            true => (count * BAR).div_ceil(most),
            false => count,
        };
        for (name, stat) in &rows {
            let what = match stat {
                DiffStat::Lines { added, removed } => format!(
                    "{:>5} {}{}",
                    added + removed,
                    "+".repeat(scaled(*added)),
                    "-".repeat(scaled(*removed))
                ),
                DiffStat::Binary { old, new } => format!("  Bin {old} -> {new} bytes"),
                DiffStat::Unknown => "  not compared: too large".to_owned(),
            };
            self.write(format!(" {name:<width$} | {}\n", what.trim_end()).as_bytes())?;
        }
        if !rows.is_empty() {
            let sums = rows.iter().map(|(_, stat)| lines(stat));
            let (added, removed) = sums.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let files = rows.len();
            let text =
                format!(" {files} file(s) changed, {added} line(s) added, {removed} removed\n");
            self.write(text.as_bytes())?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        match self.out.write_all(bytes) {
            // `runner diff | head`
            Err(error) if is_gone(&error) => {
                self.is_over = true;
                Ok(())
            }
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_the_trees_have_them() {
        assert_eq!(relative(b"./a//b/"), b"a/b");
        assert_eq!(relative(b"/a"), b"a");
    }
}
