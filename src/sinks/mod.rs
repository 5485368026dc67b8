//! Sinks: where a build's events are shown.
//!
//! Each sink reads the log with a cursor of its own on a thread of its own ([`spawn`]), so that a
//! slow one neither slows the build nor the others. All of them see the same events, live or later.

mod annotations;
mod codebuild;
mod gate;
mod json;
mod notices;
mod pretty;

pub(crate) use annotations::{Annotations, Places};
pub(crate) use codebuild::CodeBuild;
pub(crate) use gate::Gate;
pub(crate) use json::Json;
pub(crate) use notices::{AwsWay, Notices, WaysIn};
pub(crate) use pretty::Pretty;

use crate::events::{Heads, LogReader, LogWriter, OutputReader};
use crate::state::BuildDir;
use runner_core::event::Event;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Shows events.
pub(crate) trait Sink: Send {
    /// Takes the next event. Output events are looked up in `output`.
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()>;

    /// Everything there is so far has been taken.
    fn caught_up(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// How often it wants to be woken without an event, for a clock that runs.
    fn tick(&self) -> Option<Duration> {
        None
    }

    /// Time for the clock.
    fn ticked(&mut self) {}

    /// Make way on the terminal for something else, until [`Self::show`].
    fn hide(&mut self) {}

    /// The terminal is free again.
    fn show(&mut self) {}
}

/// Told when a sink cannot go on, and why.
pub(crate) type OnFailure = Box<dyn FnOnce(io::Error) + Send>;

/// Runs a sink until the log is closed and all of it is shown, or the sink's reader has gone. A
/// sink that draws on the terminal heeds `gate`.
pub(crate) fn spawn(
    name: &str,
    mut sink: Box<dyn Sink>,
    dir: &BuildDir,
    log: LogWriter,
    gate: Option<Arc<Gate>>,
    failed: OnFailure,
) -> io::Result<JoinHandle<()>> {
    let (reader, output) = (LogReader::open(dir)?, OutputReader::open(dir)?);
    std::thread::Builder::new().name(format!("sink {name}")).spawn(move || {
        if let Err(error) = follow(&mut *sink, reader, output, &log, gate.as_deref()) {
            tracing::debug!(%error, "a sink has stopped");
            failed(error);
        }
        if let Some(gate) = gate {
            gate.sink_ended();
        }
    })
}

/// For standard output and error: a closed one ends its sink, never the build. So does a full disk
/// behind it; nobody is left there to be told.
pub(crate) fn nobody() -> OnFailure {
    Box::new(|_| ())
}

fn follow(
    sink: &mut dyn Sink,
    mut reader: LogReader,
    mut output: OutputReader,
    log: &LogWriter,
    gate: Option<&Gate>,
) -> io::Result<()> {
    let mut seen = Heads::default();
    loop {
        while let Some(event) = reader.next_event()? {
            make_way(sink, gate);
            sink.event(&event, &mut output)?;
        }
        sink.caught_up()?;
        if seen.closed && reader.position() == seen.events {
            return Ok(());
        }
        let heads = log.wait(seen, sink.tick());
        make_way(sink, gate);
        if heads == seen {
            sink.ticked();
        }
        seen = heads;
    }
}

fn make_way(sink: &mut dyn Sink, gate: Option<&Gate>) {
    if let Some(gate) = gate.filter(|gate| gate.is_closed()) {
        sink.hide();
        gate.wait();
        sink.show();
    }
}

/// Shows a log that is not being written to, or not by this process: from `reader` to its end so
/// far.
pub(crate) fn replay(
    sink: &mut dyn Sink,
    reader: &mut LogReader,
    output: &mut OutputReader,
) -> io::Result<()> {
    while let Some(event) = reader.next_event()? {
        sink.event(&event, output)?;
    }
    sink.caught_up()
}
