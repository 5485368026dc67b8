//! `runner patch`: what was edited at stops, put back into the buildspec.

use super::error::CliError;
use super::home::open;
use clap::Args;
use runner_build::{BuildspecFile, fingerprint};
use runner_core::event::{BuildspecFacts, EventBody};
use runner_core::patch::{Edit, EditedRun, Patched, Runs, patch as put, values};
use runner_core::plain;
use runner_core::unified::hunks;
use runner_folder::events::LogReader;
use runner_folder::state::{Known, Need, find};
use runner_host::beneath::Dir;
use runner_host::named::Named;
use runner_host::stdio::{self, say};
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a text that was masked holds in the place of a secret.
const MASKED: &str = "***";
/// More than any buildspec has.
const MAX_BYTES: u64 = 16 << 20;

/// `runner patch`
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct PatchArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Write the buildspec; without this a patch of it is printed
    #[arg(long)]
    write: bool,
    /// Take the text of this run, however it has ended
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    /// Change what an anchor (&name) is used for elsewhere, too
    #[arg(long)]
    all: bool,
}

const HELP: &str = "\
What `retry --edit` and `retry --text` have run goes back into the buildspec: of each command the text that has
ended 0 last. Nothing else in the file changes, comments, quotes and line ends included. Its values must be those that
the build has read, but for what was put back before.";

/// What a build's log says about its buildspec.
struct Logged {
    source: String,
    file: Option<BuildspecFacts>,
    runs: Runs,
}

/// Shows or writes the buildspec with what was edited.
pub(super) fn patch(args: &PatchArgs) -> Result<u8, CliError> {
    let known = find(&open()?, args.build.name(), Need::Reading)?;
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let logged = read(&known).map_err(failed)?;
    let edits = edits(args, &logged.runs)?;
    if edits.is_empty() {
        say("nothing to be put back: no edited command has ended 0");
        return Ok(0);
    }
    let Some(facts) = &logged.file else {
        return Err(CliError::usage(
            "the buildspec of this build is no file that could be changed",
        ));
    };
    let path = Path::new(&facts.path);
    let name = path.strip_prefix(&logged.source).unwrap_or(path).display().to_string();
    let file = BuildspecFile::read(Some(path), Path::new("/"));
    let Some(text) = file.text() else {
        return Err(CliError::usage(format!("{name} cannot be read any more")));
    };
    let put = |edits: &[Edit], everywhere: bool| {
        put(text, edits, everywhere).map_err(|refusal| {
            CliError::usage(format!("{name}:{refusal}")).hint("put it in by hand")
        })
    };
    let Patched { source: new, notes } = put(&edits, args.all)?;
    if new == text {
        say(&format!("{name} has it already"));
        return Ok(0);
    }
    if fingerprint(text) != facts.sha256 {
        // What was put back earlier changes nothing else, and neither does a comment.
        let was = put(&logged.runs.originals(), true);
        let was = was.ok().and_then(|was| values(&was.source)).map(|values| fingerprint(&values));
        if was.is_none() || was != facts.values {
            return Err(CliError::usage(format!("{name} has changed since the build has read it"))
                .hint("put it in by hand; `runner history` has the texts"));
        }
    }
    notes.iter().for_each(|note| say(note));
    if args.write {
        return write(Path::new(&logged.source), path, (text, &new)).map(|()| 0);
    }
    let Some(shown) = plain_name(&name) else {
        return Err(CliError::usage("the buildspec's name does not go into a patch; use --write"));
    };
    let changed =
        String::from_utf8_lossy(&hunks(text.as_bytes(), new.as_bytes()).text).into_owned();
    let patch = format!("--- a/{shown}\n+++ b/{shown}\n{changed}");
    match io::stdout().is_terminal() {
        true => super::answer(patch),
        // As it is: a tool reads it.
        false => stdio::answer(patch).map(|_| 0).map_err(|error| CliError::of(super::OURS, error)),
    }
}

fn read(known: &Known) -> io::Result<Logged> {
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

/// The texts that are wanted.
fn edits(args: &PatchArgs, runs: &Runs) -> Result<Vec<Edit>, CliError> {
    let wanted: Vec<&EditedRun> = match args.run {
        None => runs.wanted(),
        Some(number) => match runs.edited().iter().find(|edited| edited.run == number) {
            Some(edited) => vec![edited],
            None => {
                return Err(CliError::usage(format!("run {number} is not one of an edited text"))
                    .hint("`runner history` shows the runs"));
            }
        },
    };
    if let Some(masked) = wanted.iter().find(|edited| edited.edit.text.contains(MASKED)) {
        return Err(CliError::usage(format!(
            "the text of {} has {MASKED} in it, which stands for a secret",
            masked.edit.place
        ))
        .hint("put it in by hand"));
    }
    Ok(wanted.into_iter().map(|edited| edited.edit.clone()).collect())
}

/// Writes the file, with the mark that it may begin with. Below the source it is reached through no link: the
/// source may be anybody's, and its buildspec would be another file of the caller's.
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
        return Err(CliError::usage(format!("{name} is not UTF-8, or has changed just now"))
            .hint("put it in by hand"));
    };
    let named = Named::open(path).map_err(failed)?;
    named.write(&[mark, new.as_bytes()].concat()).map_err(failed)?;
    say(&format!("{} is written", plain::line(&name)));
    Ok(())
}

/// A name that a patch can hold.
fn plain_name(name: &str) -> Option<&str> {
    let name = name.strip_prefix('/').unwrap_or(name);
    (!name.contains(|c: char| c.is_control() || c == '"' || c == '\\')).then_some(name)
}
