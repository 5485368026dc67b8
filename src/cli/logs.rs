//! `runner logs`.

use super::course::FollowedBuild;
use super::error::CliError;
use super::home::open;
use super::values;
use clap::{Args, ValueEnum};
use runner_core::event::{Event, EventBody};
use runner_core::phase::Phase;
use runner_core::time::WallTime;
use runner_folder::events::{CodeBuild, LogReader, OutputReader};
use runner_folder::state::{BuildDir, BuildNeed, find};
use runner_host::clock;
use runner_host::stdio::{CheckedStdout, is_gone};
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// Options of `runner logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Follow the log until the build ends
    #[arg(short, long)]
    follow: bool,
    /// Show only the last N lines
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Show only lines that are at most this old
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    since: Option<Duration>,
    /// Show only this phase
    #[arg(long, value_enum, ignore_case = true)]
    phase: Vec<ShownPhase>,
    /// Show the time before each line
    #[arg(long)]
    timestamps: bool,
}

/// A phase with log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum ShownPhase {
    DownloadSource,
    Install,
    PreBuild,
    Build,
    PostBuild,
    UploadArtifacts,
}

impl From<ShownPhase> for Phase {
    fn from(phase: ShownPhase) -> Self {
        match phase {
            ShownPhase::DownloadSource => Phase::DownloadSource,
            ShownPhase::Install => Phase::Install,
            ShownPhase::PreBuild => Phase::PreBuild,
            ShownPhase::Build => Phase::Build,
            ShownPhase::PostBuild => Phase::PostBuild,
            ShownPhase::UploadArtifacts => Phase::UploadArtifacts,
        }
    }
}

/// Prints the log.
pub(super) fn logs(args: &LogsArgs) -> Result<u8, CliError> {
    let home = open()?;
    let known = find(&home, args.build.name(), BuildNeed::Reading)?;
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let wanted = LogSelection::of(args);
    let left_out = match args.tail {
        Some(tail) => lines(&known.dir, &wanted).map_err(failed)?.saturating_sub(tail),
        None => 0,
    };
    let to = LineFilter {
        left_out,
        ..LineFilter::new(BufWriter::with_capacity(64 << 10, CheckedStdout))
    };
    let mut shown = LogOutput::open(&known.dir, wanted, to).map_err(failed)?;
    let mut show = || match shown.replay() {
        // `runner logs | head`
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(true),
    };
    if !args.follow {
        return show().map(|_| 0);
    }
    let mut course = FollowedBuild::of(&home, &known)?;
    while show()? && course.record().is_none() {
        course.next(None)?;
    }
    // Lines between the last look and the end.
    show().map(|_| 0)
}

/// The number of lines so far. Lines are counted, not stored: a log may be larger than memory.
fn lines(dir: &BuildDir, wanted: &LogSelection) -> io::Result<u64> {
    let mut counted = LogOutput::open(dir, wanted.clone(), LineFilter::new(io::sink()))?;
    counted.replay()?;
    let LineFilter { begun, .. } = counted.sink.flushed()?;
    Ok(*begun)
}

/// Which part of a log to show.
#[derive(Clone, Debug)]
struct LogSelection {
    since: Option<WallTime>,
    phases: Vec<Phase>,
    has_times: bool,
    /// The current phase of the log.
    phase: Option<Phase>,
}

impl LogSelection {
    fn of(args: &LogsArgs) -> Self {
        let since = args.since.map(|since| {
            let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
            WallTime(clock::wall().0.saturating_sub(micros))
        });
        let phases = args.phase.iter().map(|phase| Phase::from(*phase)).collect();
        LogSelection { since, phases, has_times: args.timestamps, phase: None }
    }

    /// Whether the selection depends on the event of a line.
    fn looks_at_events(&self) -> bool {
        self.since.is_some() || !self.phases.is_empty() || self.has_times
    }

    fn takes(&mut self, event: &Event) -> bool {
        if let EventBody::PhaseStarted { phase } = &event.body {
            self.phase = Some(*phase);
        }
        self.since.is_none_or(|since| event.time >= since)
            && (self.phases.is_empty() || self.phase.is_some_and(|now| self.phases.contains(&now)))
    }
}

/// Writes a log to an output.
struct LogOutput<W: Write + Send> {
    reader: LogReader,
    output: OutputReader,
    sink: CodeBuild<LineFilter<W>>,
    wanted: LogSelection,
}

impl<W: Write + Send> LogOutput<W> {
    fn open(dir: &BuildDir, wanted: LogSelection, to: LineFilter<W>) -> io::Result<Self> {
        Ok(LogOutput {
            reader: LogReader::open(dir)?,
            output: OutputReader::open(dir)?,
            sink: CodeBuild::new(to).for_people(true),
            wanted,
        })
    }

    /// Shows the log up to its current end.
    fn replay(&mut self) -> io::Result<()> {
        while let Some(event) = self.reader.next_event()? {
            if self.wanted.looks_at_events() {
                let is_wanted = self.wanted.takes(&event);
                let to = self.sink.flushed()?;
                to.is_open = is_wanted;
                to.time = self.wanted.has_times.then_some(event.time);
            }
            self.sink.event(&event, &mut self.output)?;
        }
        self.sink.flushed()?.out.flush()
    }
}

/// Omits some lines and puts the time before the others.
struct LineFilter<W> {
    out: W,
    /// Whether the current lines are wanted.
    is_open: bool,
    time: Option<WallTime>,
    /// Number of lines still to omit.
    left_out: u64,
    /// Number of lines begun.
    begun: u64,
    is_in_line: bool,
    is_shown: bool,
}

impl<W: Write> LineFilter<W> {
    fn new(out: W) -> Self {
        LineFilter {
            out,
            is_open: true,
            time: None,
            left_out: 0,
            begun: 0,
            is_in_line: false,
            is_shown: true,
        }
    }

    fn begin_line(&mut self) -> io::Result<()> {
        self.is_in_line = true;
        self.begun += 1;
        self.is_shown = self.begun > self.left_out;
        match self.time {
            Some(time) if self.is_shown => write!(self.out, "{time} "),
            _ => Ok(()),
        }
    }
}

impl<W: Write> Write for LineFilter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_open {
            return Ok(bytes.len());
        }
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !self.is_in_line {
                self.begin_line()?;
            }
            if self.is_shown {
                self.out.write_all(part)?;
            }
            self.is_in_line = !part.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    /// Passes on everything when the current end of the log is reached.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The output for these pieces, each with its time.
    fn shown(left_out: u64, pieces: &[(&str, Option<i64>)]) -> (String, u64) {
        let mut lines = LineFilter { left_out, ..LineFilter::new(Vec::new()) };
        for (text, time) in pieces {
            lines.time = time.map(WallTime);
            lines.write_all(text.as_bytes()).expect("written");
        }
        (String::from_utf8(lines.out).expect("text"), lines.begun)
    }

    #[test]
    fn lines_are_counted_by_their_beginnings() {
        let pieces = [("a\nb", None), ("c\n", None), ("d", None)];
        assert_eq!(shown(0, &pieces), ("a\nbc\nd".to_owned(), 3));
        assert_eq!(shown(1, &pieces), ("bc\nd".to_owned(), 3));
        assert_eq!(shown(3, &pieces), (String::new(), 3));
    }

    #[test]
    fn a_line_has_the_time_of_its_beginning() {
        let pieces = [("a", Some(0)), ("b\n", Some(1_000_000)), ("c\n", Some(2_000_000))];
        let wanted = "1970-01-01T00:00:00.000000Z ab\n1970-01-01T00:00:02.000000Z c\n";
        assert_eq!(shown(0, &pieces).0, wanted);
    }
}
