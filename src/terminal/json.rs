//! One event a line, for programs.
//!
//! The lines of `events.jsonl` unchanged, except output: the file contains the position of the
//! bytes, these lines contain the bytes, as `text` if they are UTF-8, otherwise as `base64`.

use super::EventSink;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_core::event::{Event, EventBody};
use runner_core::plain;
use runner_folder::events::{LogReader, OutputReader};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

/// Writes the lines to `out`.
pub(crate) struct JsonLines<W: Write + Send> {
    out: io::BufWriter<W>,
    /// The build's name in a batch: the first field of each line.
    tag: String,
    /// The first bytes of an incomplete character, by command.
    halves: HashMap<u32, Vec<u8>>,
}

#[derive(Serialize)]
struct OutputLine<'a> {
    r#type: &'static str,
    data: OutputData<'a>,
}

#[derive(Serialize)]
struct OutputData<'a> {
    command: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl<W: Write + Send> JsonLines<W> {
    pub(crate) fn new(out: W) -> Self {
        let out = io::BufWriter::with_capacity(64 << 10, out);
        JsonLines { out, tag: String::new(), halves: HashMap::new() }
    }

    /// For a build with this name in its batch.
    pub(super) fn tagged(out: W, name: &str) -> Self {
        // Build names consist of letters, digits and underscores.
        JsonLines { tag: format!("\"child\":\"{name}\","), ..Self::new(out) }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let line = plain::json(line);
        match line.strip_prefix('{') {
            Some(rest) => writeln!(self.out, "{{{}{rest}", self.tag),
            None => writeln!(self.out, "{line}"),
        }
    }

    /// Writes the events of a log from this position to its current end.
    pub(crate) fn rest(
        &mut self,
        log: &mut LogReader,
        output: &mut OutputReader,
    ) -> io::Result<()> {
        while let Some(event) = log.next_event()? {
            self.event(&event, output)?;
        }
        self.caught_up()
    }

    fn output(&mut self, event: &Event, command: u32, bytes: &[u8]) -> io::Result<()> {
        let mut joined = self.halves.remove(&command).unwrap_or_default();
        joined.extend_from_slice(bytes);
        // A chunk may split a character; its first bytes wait for the rest.
        let whole = match std::str::from_utf8(&joined) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => joined.len(),
        };
        if whole < joined.len() {
            self.halves.insert(command, joined.split_off(whole));
        }
        self.line(event, command, &joined)
    }

    fn line(&mut self, event: &Event, command: u32, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(bytes).ok();
        let base64 = text.is_none().then(|| STANDARD.encode(bytes));
        let data = OutputData { command, text, base64 };
        let body = serde_json::to_string(&OutputLine { r#type: "output", data })?;
        self.write(&event.line_with(&body)?)
    }
}

impl<W: Write + Send> EventSink for JsonLines<W> {
    fn event(&mut self, event: &Event, output: &mut OutputReader) -> io::Result<()> {
        match &event.body {
            EventBody::Output { command, offset, length } => {
                let bytes = output.read(*offset, *length)?.to_vec();
                return self.output(event, *command, &bytes);
            }
            EventBody::CommandEnded { command, .. } => {
                // An incomplete character at the end stays incomplete.
                if let Some(rest) = self.halves.remove(command) {
                    self.line(event, *command, &rest)?;
                }
            }
            EventBody::BuildEnded { .. } => {
                for (command, rest) in std::mem::take(&mut self.halves) {
                    self.line(event, command, &rest)?;
                }
            }
            _ => {}
        }
        self.write(&event.to_line()?)
    }

    fn caught_up(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
