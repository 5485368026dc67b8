//! `runner sessions`: lists, prints, plays and exports what `--session-log` has kept.

mod play;

use super::error::{CliError, OURS};
use super::home::open;
use super::values::{self, OutputFormat};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use play::{Pace, play};
use runner_core::plain;
use runner_core::time::in_words;
use runner_host::stdio::{self, CheckedStdout, is_gone};
use runner_serve::recordings::{KeptSession, RecordingsFolder};
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Verbs of `runner sessions`.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsVerb {
    /// List recorded sessions, newest first
    Ls(RecordingsLsArgs),
    /// Print the output of a session
    Show(ShowArgs),
    /// Replay a terminal session: space pauses, q quits
    Play(PlayArgs),
    /// Export a recording for other programs
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(super) struct RecordingPlace {
    /// Directory of the recordings [default: the last one used by --session-log]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Options of `runner sessions ls`.
#[derive(Debug, Args)]
pub(super) struct RecordingsLsArgs {
    #[command(flatten)]
    place: RecordingPlace,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct Which {
    /// Session name, or the start of one [default: the newest session]
    #[arg(value_name = "SESSION")]
    name: Option<String>,
    #[command(flatten)]
    place: RecordingPlace,
}

/// Options of `runner sessions show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    which: Which,
    /// Include terminal control sequences
    #[arg(long)]
    raw: bool,
}

/// Options of `runner sessions play`.
#[derive(Debug, Args)]
pub(super) struct PlayArgs {
    #[command(flatten)]
    which: Which,
    /// Playback speed as a factor
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = factor)]
    speed: f64,
    /// Shorten pauses in the session to this time
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = values::duration)]
    idle_limit: Duration,
}

/// Options of `runner sessions export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// Output format
    #[arg(long, value_enum, default_value_t = ExportForm::Cast)]
    format: ExportForm,
    /// Write to a new file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportForm {
    /// asciicast, for asciinema and its players
    Cast,
    /// Plain output without terminal control sequences
    Text,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (0.01..=1000.0).contains(factor));
    factor.ok_or_else(|| "write a number from 0.01 to 1000".to_owned())
}

/// Runs the subcommand.
pub(super) fn sessions(verb: &SessionsVerb) -> Result<u8, CliError> {
    match verb {
        SessionsVerb::Ls(args) => ls(args),
        SessionsVerb::Show(args) => show(args),
        SessionsVerb::Play(args) => {
            let kept = args.which.find()?;
            let pace = Pace { speed: args.speed, longest: args.idle_limit };
            if !io::stdout().is_terminal() {
                let text = "a recording is played on a terminal; `runner sessions show` prints it";
                return Err(CliError::usage(text));
            }
            play(recording(&kept)?, pace).map_err(|error| failed(&kept.name, &error))
        }
        SessionsVerb::Export(args) => export(args),
    }
}

/// Opens a session's recording.
fn recording(kept: &KeptSession) -> Result<File, CliError> {
    let name = plain::line(&kept.name);
    if !kept.has_cast {
        return Err(CliError::usage(format!(
            "{name} was not a terminal, so no times were recorded"
        ))
        .hint("`runner sessions show` prints it"));
    }
    kept.recording()
        .map_err(|error| CliError::ours(format!("cannot read the recording of {name}: {error}")))
}

fn failed(name: &str, error: &io::Error) -> CliError {
    CliError::ours(format!("the session {}: {error}", plain::line(name)))
}

impl RecordingPlace {
    fn folder(&self) -> Result<RecordingsFolder, CliError> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => open()?.last_session_log().ok_or_else(|| {
                CliError::usage("no sessions have been recorded on this machine yet")
                    .hint("`runner run --session-log DIR` keeps them; --dir names another folder")
            })?,
        };
        RecordingsFolder::read(&dir).map_err(|error| {
            CliError::usage(format!("cannot read the sessions in {}: {error}", dir.display()))
        })
    }
}

impl Which {
    fn find(&self) -> Result<KeptSession, CliError> {
        let folder = self.place.folder()?;
        let none = || format!("{} has no sessions", folder.path.display());
        let Some(name) = &self.name else {
            return folder.kept.into_iter().next().ok_or_else(|| CliError::usage(none()));
        };
        let exact = folder.kept.iter().find(|kept| kept.name == *name);
        let begin: Vec<&KeptSession> =
            folder.kept.iter().filter(|kept| kept.name.starts_with(name)).collect();
        match (exact, &begin[..]) {
            (Some(kept), _) => Ok(kept.clone()),
            (None, [kept]) => Ok((*kept).clone()),
            (None, []) => {
                Err(CliError::usage(format!("there is no session {}", plain::line(name)))
                    .hint("`runner sessions ls` lists what there is"))
            }
            (None, several) => {
                let names: Vec<_> =
                    several.iter().take(10).map(|kept| kept.name.as_str()).collect();
                let text = format!(
                    "{} sessions begin so: {}",
                    several.len(),
                    plain::line(&names.join(", "))
                );
                Err(CliError::usage(text))
            }
        }
    }
}

fn ls(args: &RecordingsLsArgs) -> Result<u8, CliError> {
    let folder = args.place.folder()?;
    if args.format == OutputFormat::Json {
        let rows: Vec<_> = folder.kept.iter().map(row).collect();
        let text =
            serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
        return super::answer(plain::json(&text).into_owned() + "\n");
    }
    if folder.kept.is_empty() {
        stdio::say(&format!("there are no recorded sessions in {}", folder.path.display()));
        return Ok(0);
    }
    let cells = folder.kept.iter().map(|kept| {
        [
            plain::name(kept.name.as_bytes()),
            kept.began.map(in_local_time).unwrap_or_default(),
            kept.length.map(rounded).unwrap_or_default(),
            plain::line(kept.program.as_deref().unwrap_or("-")).into_owned(),
            plain::line(kept.how.as_deref().unwrap_or("open, or its build was killed"))
                .into_owned(),
        ]
    });
    let head = ["SESSION", "STARTED", "LENGTH", "PROGRAM", "END"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let width = |at: usize| rows.iter().map(|row| console::measure_text_width(&row[at])).max();
    let widths: Vec<usize> = (0..4).map(|at| width(at).unwrap_or_default().min(44)).collect();
    let line = |row: &[String; 5]| {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            match widths.get(at) {
                Some(width) => {
                    let cell = console::truncate_str(cell, *width, "…");
                    line.push_str(&console::pad_str(
                        &cell,
                        width + 2,
                        console::Alignment::Left,
                        None,
                    ));
                }
                None => line.push_str(cell),
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    super::answer(rows.iter().map(line).collect::<String>())
}

/// A length in tenths of a second, or in seconds if longer.
fn rounded(length: Duration) -> String {
    match length.as_secs() {
        0..60 => format!("{:.1} s", length.as_secs_f64()),
        seconds => in_words(Duration::from_secs(seconds)),
    }
}

fn in_local_time(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn row(kept: &KeptSession) -> serde_json::Value {
    json!({
        "session": kept.name,
        "build": kept.build,
        "program": kept.program,
        "started": kept.began.map(|time| time.to_string()),
        "seconds": kept.length.map(|length| length.as_secs_f64()),
        "end": kept.how,
        "recording": kept.has_cast.then(|| format!("{}.cast", kept.name)),
        "transcript": kept.has_text.then(|| format!("{}.log", kept.name)),
    })
}

fn show(args: &ShowArgs) -> Result<u8, CliError> {
    let kept = args.which.find()?;
    let failed = |error| failed(&kept.name, &error);
    let text = kept.shown().map_err(failed)?;
    let shown = if args.raw { text } else { plain::shown(&text) };
    stdio::answer(shown).map_err(failed)?;
    Ok(0)
}

fn export(args: &ExportArgs) -> Result<u8, CliError> {
    let kept = args.which.find()?;
    let failed = |error| failed(&kept.name, &error);
    let mut text: Box<dyn Read> = match args.format {
        ExportForm::Cast => Box::new(recording(&kept)?),
        ExportForm::Text => Box::new(io::Cursor::new(plain::shown(&kept.shown().map_err(failed)?))),
    };
    match &args.output {
        Some(path) => {
            let cannot = |error: io::Error| {
                CliError::usage(format!("cannot write {}: {error}", path.display()))
            };
            let mut file = File::create_new(path).map_err(cannot)?;
            io::copy(&mut text, &mut file).map_err(cannot)?;
        }
        None => {
            let copied =
                io::copy(&mut text, &mut CheckedStdout).and_then(|_| CheckedStdout.flush());
            if let Err(error) = copied
                && !is_gone(&error)
            {
                return Err(failed(error));
            }
        }
    }
    Ok(0)
}
