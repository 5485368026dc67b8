//! The display of a batch: which builds run, what they do, and the log of each failed one.
//!
//! The batch's owner and the display never wait for each other: messages go through a channel to a
//! separate thread, which reads the builds' logs with its own cursors.

mod board;
mod follow;

use self::board::Board;
use self::follow::FollowedChild;
use super::json::JsonLines;
use super::ways::WaysIn;
use super::{EventSink, LogFormat};
use console::Style;
use runner_batch::{BatchBegun, Started};
use runner_core::phase::Status;
use runner_core::plain;
use runner_core::summary::clock_form;
use runner_folder::events::{CodeBuild, LogReader, OutputReader};
use runner_folder::state::Home;
use runner_host::clock;
use runner_host::stdio::{CheckedStdout, has_colors, is_gone, of_output};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a batch is to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownBatch {
    pub(crate) format: LogFormat,
    /// Print only errors to standard error.
    pub(crate) quiet: bool,
    /// Whether builds end if nobody responds to a pause.
    pub(crate) ends_pauses: bool,
}

/// How often the displayed times are updated.
const TICK: Duration = Duration::from_millis(200);

enum OwnerMessage {
    Begin { id: String, home: Home, names: Vec<String> },
    Started(usize, Started),
    Grown(usize),
    Refused(usize, String),
    Ended(usize, Status),
    Left(usize),
    Finish(Status),
}

/// Shows one batch at this program's terminal.
pub(crate) struct BatchFace {
    sender: Sender<OwnerMessage>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl BatchFace {
    pub(crate) fn new(shown: ShownBatch) -> io::Result<Self> {
        let (sender, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("batch".to_owned())
            .spawn(move || Show::new(shown).run(&told))?;
        Ok(BatchFace { sender, thread: Some(thread) })
    }

    /// Waits until everything is shown. Returns why standard output is incomplete, if it is and has
    /// a reader.
    pub(crate) fn shown(mut self) -> Option<String> {
        let thread = self.thread.take()?;
        // The last sender that could report more.
        drop(self.sender);
        match thread.join() {
            Ok(Err(error)) if !is_gone(&error) => Some(of_output(error).to_string()),
            Ok(_) => None,
            Err(_) => Some("what shows the batch has broken off".to_owned()),
        }
    }

    fn tell(&self, told: OwnerMessage) {
        // A display that has stopped has reported that already.
        let _ = self.sender.send(told);
    }
}

impl runner_batch::BatchDisplay for BatchFace {
    fn begin(&mut self, begun: &BatchBegun<'_>) {
        let names = begun.plan.builds.iter().map(|build| build.identifier.clone()).collect();
        self.tell(OwnerMessage::Begin { id: begun.id.to_owned(), home: begun.home.clone(), names });
    }

    fn started(&mut self, at: usize, started: Started) {
        self.tell(OwnerMessage::Started(at, started));
    }

    fn grown(&mut self, at: usize) {
        self.tell(OwnerMessage::Grown(at));
    }

    fn refused(&mut self, at: usize, message: &str, hints: &[String]) {
        let hints = hints.iter().map(|hint| format!("\nhint: {hint}"));
        self.tell(OwnerMessage::Refused(at, format!("{message}{}", hints.collect::<String>())));
    }

    fn ended(&mut self, at: usize, status: Status) {
        self.tell(OwnerMessage::Ended(at, status));
    }

    fn left(&mut self, at: usize) {
        self.tell(OwnerMessage::Left(at));
    }

    fn finish(&mut self, status: Status) {
        self.tell(OwnerMessage::Finish(status));
    }
}

/// What is displayed so far.
struct Show {
    shown: ShownBatch,
    id: String,
    home: Option<Home>,
    names: Vec<String>,
    follows: BTreeMap<usize, FollowedChild>,
    counts: BTreeMap<&'static str, usize>,
    board: Option<Board>,
    has_colors: bool,
}

impl Show {
    fn new(shown: ShownBatch) -> Self {
        let has_colors = has_colors(&io::stdout());
        Show {
            shown,
            id: String::new(),
            home: None,
            names: Vec::new(),
            follows: BTreeMap::new(),
            counts: BTreeMap::new(),
            board: (shown.format == LogFormat::Pretty).then(|| Board::new(has_colors)),
            has_colors,
        }
    }

    fn run(mut self, told: &Receiver<OwnerMessage>) -> io::Result<()> {
        loop {
            let next = match self.board {
                Some(_) => told.recv_timeout(TICK),
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(told) => self.take(told)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if let Some(board) = &mut self.board {
                board.draw(&self.follows);
            }
        }
    }

    fn take(&mut self, told: OwnerMessage) -> io::Result<()> {
        match told {
            OwnerMessage::Begin { id, home, names } => {
                self.say(&match names.len() {
                    1 => format!("batch {id}: 1 build"),
                    count => format!("batch {id}: {count} builds"),
                });
                (self.id, self.home, self.names) = (id, Some(home), names);
            }
            OwnerMessage::Started(at, started) => {
                if self.shown.format != LogFormat::Pretty {
                    self.say(&format!("{}: build {} has started", self.name(at), started.id));
                }
                let Some(home) = &self.home else { return Ok(()) };
                let mut ways = WaysIn::new(home, &started.uuid, false, false);
                ways.ends_pauses = self.shown.ends_pauses;
                let name = self.name(at).to_owned();
                let json = (self.shown.format == LogFormat::Json)
                    .then(|| JsonLines::tagged(CheckedStdout, &name));
                self.follows.insert(at, FollowedChild::new(name, started, ways, json));
            }
            OwnerMessage::Grown(at) => self.read_on(at)?,
            OwnerMessage::Refused(at, message) => {
                let lines = message.lines().map(|line| format!("{}: {line}", self.name(at)));
                for line in lines.collect::<Vec<_>>() {
                    self.tell_person(&line);
                }
            }
            OwnerMessage::Ended(at, status) => {
                self.read_on(at)?;
                *self.counts.entry(status.name()).or_default() += 1;
                self.ended(at, status)?;
                self.follows.remove(&at);
            }
            OwnerMessage::Left(at) => {
                *self.counts.entry("not run").or_default() += 1;
                self.say(&format!("{}: is not run", self.name(at)));
            }
            OwnerMessage::Finish(status) => self.finish(status)?,
        }
        Ok(())
    }

    fn name(&self, at: usize) -> &str {
        self.names.get(at).map_or("", String::as_str)
    }

    /// Shows what is new in a build's log.
    fn read_on(&mut self, at: usize) -> io::Result<()> {
        let Some(follow) = self.follows.get_mut(&at) else { return Ok(()) };
        let name = follow.name.clone();
        for line in follow.read_on()? {
            self.tell_person(&format!("{name}: {line}"));
        }
        Ok(())
    }

    fn ended(&mut self, at: usize, status: Status) -> io::Result<()> {
        let Some(follow) = self.follows.get(&at) else { return Ok(()) };
        let took = clock_form(clock::boot().saturating_sub(follow.since));
        let is_well = status == Status::Succeeded;
        let line = format!("{}: build {} {status} after {took}", follow.name, follow.started.id);
        match self.shown.format {
            LogFormat::Pretty => {
                let mark = if is_well { "✓" } else { "✗" };
                let style = Style::new().force_styling(self.has_colors).bold();
                let style = if is_well { style.green() } else { style.red() };
                let line = match is_well {
                    true => format!("{mark} {} {took}", follow.name),
                    false => format!("{mark} {line}"),
                };
                let mut text = style.apply_to(plain::lines(&line)).to_string().into_bytes();
                text.push(b'\n');
                if !is_well {
                    log(follow, &mut text)?;
                }
                self.write(&text)
            }
            LogFormat::CodeBuild => {
                // Written in one piece: nobody can read interleaved logs.
                let mut text = format!("── {line}\n").into_bytes();
                log(follow, &mut text)?;
                self.write(&text)?;
                self.say(&line);
                Ok(())
            }
            LogFormat::Json => {
                self.say(&line);
                Ok(())
            }
        }
    }

    fn finish(&mut self, status: Status) -> io::Result<()> {
        let counts: Vec<String> =
            self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        let line = format!("batch {}: {status} ({})", self.id, counts.join(", "));
        if self.shown.format == LogFormat::Json {
            let body = serde_json::json!({
                "batch": self.id, "type": "batch_ended", "data": {"status": status},
            });
            self.write(format!("{}\n", plain::json(&body.to_string())).as_bytes())?;
        }
        match status {
            Status::Succeeded => self.say(&line),
            _ => self.tell_person(&line),
        }
        if let Some(board) = self.board.take() {
            board.clear();
        }
        Ok(())
    }

    /// Writes to standard output, above the board if there is one.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.board {
            Some(board) => board.above(text),
            None => CheckedStdout.write_all(text).and_then(|()| CheckedStdout.flush()),
        }
    }

    /// Prints an optional message.
    fn say(&mut self, line: &str) {
        if !self.shown.quiet {
            self.tell_person(line);
        }
    }

    /// Prints an important message.
    fn tell_person(&mut self, line: &str) {
        match &mut self.board {
            // A board that cannot draw has lost its terminal, which is also standard error.
            Some(board) => {
                let _ = board.above(format!("{}\n", plain::lines(line)).as_bytes());
            }
            None => runner_host::stdio::say(line),
        }
    }
}

/// A build's whole log, as `runner logs` shows it.
fn log(follow: &FollowedChild, text: &mut Vec<u8>) -> io::Result<()> {
    let dir = &follow.started.dir;
    // A build that has not begun has none.
    let (Ok(mut reader), Ok(mut output)) = (LogReader::open(dir), OutputReader::open(dir)) else {
        return Ok(());
    };
    let mut sink = CodeBuild::new(text).for_people(true);
    while let Some(event) = reader.next_event()? {
        EventSink::event(&mut sink, &event, &mut output)?;
    }
    sink.flushed().map(drop)
}
