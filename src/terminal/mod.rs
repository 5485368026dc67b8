//! Displays a build at a terminal: its output, and the keys at a pause.
//!
//! It reads the build's log and uses its control socket. Running in the build's process has one
//! advantage only: the log wakes its readers directly, without a notification from the file system.
//!
//! Each sink reads the log with its own cursor on its own thread ([`spawn`]), so that a slow one
//! slows neither the build nor the others. All of them see the same events, live or later.

mod annotations;
mod batch;
mod codebuild;
mod editor;
mod face;
mod gate;
mod json;
mod keys;
mod notices;
mod pauses;
mod pretty;
mod scene;
mod sections;
mod summary;
mod ways;

pub(crate) use annotations::AnnotationPlaces;
pub(crate) use batch::{BatchFace, ShownBatch};
pub(crate) use editor::{EditError, edit};
pub(crate) use face::{FaceOptions, LogFormat, TerminalFace};
pub(crate) use json::JsonLines;
pub(crate) use notices::rewound_lines;
pub(crate) use scene::stop_lines;
pub(crate) use ways::{is_ci, no_proxy, page_link, word};

use gate::Gate;
use runner_core::event::Event;
use runner_folder::events::{Growth, Heads, LogReader, OutputReader};
use runner_folder::state::BuildDir;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// A CI system whose log contains this program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CiSystem {
    Github,
    Gitlab,
}

trait EventSink: Send {
    /// Handles the next event. Output events are looked up in `output`.
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()>;

    /// Called when all events so far were handled.
    fn caught_up(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// How long to wait for the next event before [`Self::ticked`].
    fn tick(&self) -> Option<Duration> {
        None
    }

    /// Called when no event came in time.
    fn ticked(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Makes way on the terminal for something else, until [`Self::show`].
    fn hide(&mut self) {}

    /// The terminal is free again. `said`: the message of whatever used it, if any.
    fn show(&mut self, _said: Option<String>) {}
}

/// Called when a sink cannot go on, with the reason.
type OnSinkFailure = Box<dyn FnOnce(io::Error) + Send>;

/// Runs a sink until the log is closed and fully shown, or the sink's reader is gone. A sink that
/// draws on the terminal respects `gate`.
fn spawn(
    name: &str,
    mut sink: Box<dyn EventSink>,
    dir: &BuildDir,
    growth: Growth,
    gate: Option<Arc<Gate>>,
    failed: OnSinkFailure,
) -> io::Result<JoinHandle<()>> {
    let (reader, output) = (LogReader::open(dir)?, OutputReader::open(dir)?);
    std::thread::Builder::new().name(format!("sink {name}")).spawn(move || {
        if let Err(error) = follow(&mut *sink, reader, output, &growth, gate.as_deref()) {
            tracing::debug!(%error, "a sink has stopped");
            failed(error);
        }
        if let Some(gate) = gate {
            gate.sink_ended();
        }
    })
}

/// For standard output and error: a closed one ends its sink, never the build. So does a full disk
/// behind it; no reader is left for a message.
fn nobody() -> OnSinkFailure {
    Box::new(|_| ())
}

fn follow(
    sink: &mut dyn EventSink,
    mut reader: LogReader,
    mut output: OutputReader,
    growth: &Growth,
    gate: Option<&Gate>,
) -> io::Result<()> {
    let mut seen = Heads::default();
    loop {
        while let Some(event) = reader.next_event()? {
            make_way(sink, gate);
            sink.event(&event, &mut output)?;
        }
        sink.caught_up()?;
        // The log may have grown beyond what was to be shown.
        if seen.closed && reader.position() >= seen.events {
            return Ok(());
        }
        let heads = growth.wait(seen, sink.tick());
        make_way(sink, gate);
        if heads == seen {
            sink.ticked()?;
        }
        seen = heads;
    }
}

fn make_way(sink: &mut dyn EventSink, gate: Option<&Gate>) {
    if let Some(gate) = gate.filter(|gate| gate.is_closed()) {
        sink.hide();
        let said = gate.wait();
        sink.show(said);
    }
}
