//! `runner patch`: writes edits made at stops back to the buildspec.

use super::error::CliError;
use super::home::open;
use clap::Args;
use runner_build::{BuildspecFile, fingerprint};
use runner_core::event::{BuildspecFacts, EventBody};
use runner_core::patch::{
    Edit, EditedRun, EvaluatedRun, Patched, Runs, insert, patch as put, shifted, values_without,
};
use runner_core::plain;
use runner_core::unified::hunks;
use runner_folder::events::LogReader;
use runner_folder::state::{BuildNeed, KnownBuild, find};
use runner_host::beneath::Dir;
use runner_host::named::NamedFile;
use runner_host::stdio::{self, say};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Replaces a secret in a masked text.
const MASKED: &str = "***";
/// Larger than any buildspec, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Options of `runner patch`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct PatchArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Write the buildspec instead of printing a patch
    #[arg(long)]
    write: bool,
    /// Use the text of this run, whatever its outcome
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Allow changes to an anchor (&name) that is also used elsewhere
    #[arg(long)]
    all: bool,
    /// Also add texts that `runner eval` ran with exit status 0 to the buildspec, as commands
    /// before those that followed
    #[arg(long, conflicts_with = "run")]
    evals: bool,
}

const HELP: &str = "\
Puts the texts that `retry --edit` and `retry --text` ran back into the buildspec: for each command,
the last text that ended with status 0. Nothing else in the file changes, not even comments, quotes
or line ends. The file's values must still be those that the build read, apart from texts put back
earlier. With --evals, evaluated texts become commands too, in lists that are written with dashes.
Skipped commands stay in the buildspec.";

/// The log's information about the buildspec.
struct Logged {
    source: String,
    file: Option<BuildspecFacts>,
    runs: Runs,
}

/// Prints or writes the buildspec with the edits.
pub(super) fn patch(args: &PatchArgs) -> Result<u8, CliError> {
    let known = find(&open()?, args.build.name(), BuildNeed::Reading)?;
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let logged = read(&known).map_err(failed)?;
    let edits = edits(args, &logged.runs)?;
    let evals = evals(args, &logged.runs)?;
    if edits.is_empty() && (!args.evals || evals.is_empty()) {
        say(match args.evals {
            true => {
                "nothing to put back: no edited command and no evaluated text ended with status 0"
            }
            false => "nothing to put back: no edited command ended with status 0",
        });
        return Ok(0);
    }
    let Some(facts) = &logged.file else {
        return Err(CliError::usage(
            "the buildspec of this build is not a file that can be changed",
        ));
    };
    let path = Path::new(&facts.path);
    let name = path.strip_prefix(&logged.source).unwrap_or(path).display().to_string();
    let file = BuildspecFile::read(Some(path), Path::new("/"));
    let Some(text) = file.text() else {
        return Err(CliError::usage(format!("{name} can no longer be read")));
    };
    let Some(inside) = inside(text, facts, &logged.runs, &evals) else {
        return Err(CliError::usage(format!("{name} has changed since the build read it"))
            .hint("add it by hand; `runner history` has the texts"));
    };
    let (inside, outside) = evals.split_at(inside);
    let refused = |refusal| CliError::usage(format!("{name}:{refusal}")).hint("add it by hand");
    let edits = moved(&edits, inside);
    let Patched { source: mut new, notes } = put(text, &edits, args.all).map_err(refused)?;
    if args.evals {
        new = insert(&new, inside, outside).map_err(refused)?;
    }
    if new == text {
        say(&format!("{name} contains the change already"));
        return Ok(0);
    }
    notes.iter().for_each(|note| say(note));
    if args.write {
        return write(Path::new(&logged.source), path, (text, &new)).map(|()| 0);
    }
    show(&name, text, &new)
}

/// Prints the change for a person or, as a patch, for a tool.
fn show(name: &str, text: &str, new: &str) -> Result<u8, CliError> {
    let Some(shown) = plain_name(name) else {
        return Err(CliError::usage("the buildspec's name is not valid in a patch; use --write"));
    };
    let changed =
        String::from_utf8_lossy(&hunks(text.as_bytes(), new.as_bytes()).text).into_owned();
    let patch = format!("--- a/{shown}\n+++ b/{shown}\n{changed}");
    match io::stdout().is_terminal() {
        true => super::answer(patch),
        false => stdio::answer(patch).map(|_| 0).map_err(|error| CliError::of(super::OURS, error)),
    }
}

/// How many of the evaluated texts the file already contains: texts written back earlier, like
/// comments, change nothing else. `None` if something else has changed.
fn inside(text: &str, facts: &BuildspecFacts, runs: &Runs, evals: &[Edit]) -> Option<usize> {
    if fingerprint(text) == facts.sha256 {
        return Some(0);
    }
    let originals = runs.originals();
    let is_it = |count: &usize| {
        let inside = &evals[..*count];
        let was = put(text, &moved(&originals, inside), true).ok();
        let was = was.and_then(|was| values_without(&was.source, inside));
        was.is_some_and(|was| facts.values.as_ref() == Some(&fingerprint(&was)))
    };
    (0..=evals.len()).rev().find(is_it)
}

/// Edits renumbered for these texts inserted before them.
fn moved(edits: &[Edit], inside: &[Edit]) -> Vec<Edit> {
    let moved = |edit: &Edit| Edit { place: shifted(edit.place, inside), text: edit.text.clone() };
    edits.iter().map(moved).collect()
}

/// The evaluated texts, in the order of their runs. Those that cannot be commands of the buildspec
/// are reported.
fn evals(args: &PatchArgs, runs: &Runs) -> Result<Vec<Edit>, CliError> {
    let mut evals = Vec::new();
    for EvaluatedRun { run, text, before, is_good, .. } in runs.evaluated() {
        let why = match before {
            Some(place) if *is_good => {
                evals.push(Edit { place: *place, text: text.clone() });
                continue;
            }
            None => "no command followed it",
            Some(_) => "it did not end with status 0",
        };
        if args.evals {
            say(&format!("not put back: the text that run {run} evaluated, because {why}"));
        }
    }
    match evals.iter().find(|edit| args.evals && edit.text.contains(MASKED)) {
        Some(masked) => Err(masked_text(&format!("the text evaluated before {}", masked.place))),
        None => Ok(evals),
    }
}

fn masked_text(what: &str) -> CliError {
    CliError::usage(format!("{what} contains {MASKED} in place of a secret")).hint("add it by hand")
}

fn read(known: &KnownBuild) -> io::Result<Logged> {
    let mut log = LogReader::open(&known.dir)?;
    let mut logged = Logged { source: String::new(), file: None, runs: Runs::default() };
    while let Some(event) = log.next_event()? {
        if let EventBody::BuildStarted(facts) = &event.body {
            logged.source.clone_from(&facts.source);
            logged.file.clone_from(&facts.buildspec_file);
        }
        logged.runs.take(&event);
    }
    Ok(logged)
}

/// The requested edits.
fn edits(args: &PatchArgs, runs: &Runs) -> Result<Vec<Edit>, CliError> {
    let wanted: Vec<&EditedRun> = match args.run {
        None => runs.wanted(),
        Some(number) => match runs.edited().iter().find(|edited| edited.run == number) {
            Some(edited) => vec![edited],
            None => {
                return Err(CliError::usage(format!("run {number} did not run an edited text"))
                    .hint("`runner history` shows the runs"));
            }
        },
    };
    if let Some(masked) = wanted.iter().find(|edited| edited.edit.text.contains(MASKED)) {
        return Err(masked_text(&format!("the text of {}", masked.edit.place)));
    }
    Ok(wanted.into_iter().map(|edited| edited.edit.clone()).collect())
}

/// Writes the file, keeping a byte order mark. Below the source, links are not followed: the source
/// may come from anyone, and a link could point to another of the caller's files.
fn write(source: &Path, path: &Path, (text, new): (&str, &str)) -> Result<(), CliError> {
    let below = path.strip_prefix(source).ok();
    let name = below.unwrap_or(path).display().to_string();
    let failed = |error: io::Error| CliError::ours(format!("cannot write {name}: {error}"));
    let file = match below {
        Some(below) => Dir::real(source).and_then(|dir| dir.file(below.as_os_str().as_bytes())),
        None => std::fs::File::open(path),
    };
    let mut bytes = Vec::new();
    file.and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)).map_err(failed)?;
    let Some(mark) = bytes.strip_suffix(text.as_bytes()) else {
        return Err(CliError::usage(format!("{name} is not UTF-8, or has just changed"))
            .hint("add it by hand"));
    };
    let named = NamedFile::open(path).map_err(failed)?;
    named.write(&[mark, new.as_bytes()].concat()).map_err(failed)?;
    say(&format!("{} is written", plain::line(&name)));
    Ok(())
}

/// A name that is valid in a patch.
fn plain_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    (!name.contains(|c: char| c.is_control() || c == '"' || c == '\\')).then_some(name)
}
