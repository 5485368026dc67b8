//! Terminal recordings in asciicast version 2: a header, then one timed event per line.
//!
//! <https://docs.asciinema.org/manual/asciicast/v2/>

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The first line of a recording.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CastHeader {
    /// Format version: 2.
    pub version: u32,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<i64>,
    /// The program in the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl CastHeader {
    /// Makes a header for a terminal of this size. A terminal without a size gets 80 by 24.
    #[must_use]
    pub fn new(columns: u16, rows: u16, unix_seconds: i64, title: &str) -> Self {
        let (width, height) = match (columns, rows) {
            (0, _) | (_, 0) => (80, 24),
            size => size,
        };
        let title = Some(title.to_owned());
        CastHeader { version: 2, width, height, timestamp: Some(unix_seconds), title }
    }

    /// The header as the first line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Parses the first line.
    ///
    /// # Errors
    /// It is not a header, or has another version.
    pub fn parse(line: &str) -> Result<Self, String> {
        let header: CastHeader = serde_json::from_str(line)
            .map_err(|error| format!("it is not a recording: {error}"))?;
        match header.version {
            2 => Ok(header),
            other => Err(format!("it is a recording of version {other}, not 2")),
        }
    }
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CastContent {
    /// Text for the terminal.
    Output(String),
    /// A new size: columns and rows.
    Resized(u16, u16),
    /// Not shown: input and marks.
    Other,
}

/// One event of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CastEvent {
    /// Time since the beginning.
    pub at: Duration,
    /// Its content.
    pub shown: CastContent,
}

impl CastEvent {
    /// The event as a line.
    #[must_use]
    pub fn line(&self) -> String {
        let (code, data) = match &self.shown {
            CastContent::Output(text) => ("o", text.clone()),
            CastContent::Resized(columns, rows) => ("r", format!("{columns}x{rows}")),
            CastContent::Other => ("m", String::new()),
        };
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a session")]
        let at = self.at.as_micros() as f64 / 1e6;
        format!("{}\n", json!([at, code, data]))
    }

    /// Parses a line; `None` if it is not an event, such as the last line of a truncated recording.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let parts: Vec<Value> = serde_json::from_str(line).ok()?;
        let [at, code, data] = &parts[..] else { return None };
        let at = Duration::try_from_secs_f64(at.as_f64()?).ok()?;
        let data = data.as_str()?;
        let shown = match code.as_str()? {
            "o" => CastContent::Output(data.to_owned()),
            "r" => {
                let (columns, rows) = data.split_once('x')?;
                CastContent::Resized(columns.parse().ok()?, rows.parse().ok()?)
            }
            _ => CastContent::Other,
        };
        Some(CastEvent { at, shown })
    }
}

/// Converts chunks of bytes to text. A character split between chunks waits for its end.
#[derive(Debug, Default)]
pub struct Texts {
    rest: Vec<u8>,
}

impl Texts {
    /// Returns the text of all complete characters. Invalid bytes are replaced.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            // Only the last character can be incomplete; other invalid bytes stay invalid.
            Err(_) => self.rest.len() - self.unfinished(),
        };
        let text = String::from_utf8_lossy(&self.rest[..whole]).into_owned();
        self.rest.drain(..whole);
        text
    }

    /// Number of bytes at the end that begin a character.
    fn unfinished(&self) -> usize {
        let end = &self.rest[self.rest.len().saturating_sub(3)..];
        for (at, byte) in end.iter().enumerate().rev() {
            let length = match byte {
                0x80..=0xbf => continue,
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => 1,
            };
            let there = end.len() - at;
            return if there < length { there } else { 0 };
        }
        0
    }

    /// Returns the incomplete rest.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let header = CastHeader::new(0, 24, 1_700_000_000, "sh");
        assert_eq!((header.width, header.height), (80, 24));
        assert_eq!(CastHeader::parse(&header.line()), Ok(header));
        for bad in ["", "{}", "[1]", r#"{"version":3,"width":1,"height":1}"#] {
            assert!(CastHeader::parse(bad).is_err(), "{bad}");
        }
        let at = Duration::from_micros(1_250_001);
        for shown in
            [CastContent::Output("a\u{1b}[1m\"é".to_owned()), CastContent::Resized(100, 30)]
        {
            let event = CastEvent { at, shown };
            assert_eq!(CastEvent::parse(&event.line()), Some(event));
        }
        for bad in
            ["", "[", "[1,\"o\"]", "[-1,\"o\",\"\"]", "[1e300,\"o\",\"\"]", "[1,\"r\",\"x\"]"]
        {
            assert_eq!(CastEvent::parse(bad), None, "{bad}");
        }
        let other = CastEvent::parse("[1,\"i\",\"x\"]").expect("an event");
        assert_eq!(other.shown, CastContent::Other);
    }

    #[test]
    fn characters_in_pieces() {
        let text = "aé€𝄞z";
        for size in 1..text.len() {
            let mut texts = Texts::default();
            let mut read: String =
                text.as_bytes().chunks(size).map(|piece| texts.push(piece)).collect();
            read += &texts.finish();
            assert_eq!(read, text, "{size}");
        }
        let mut texts = Texts::default();
        assert_eq!(texts.push(b"a\xff\xe2"), "a\u{fffd}");
        assert_eq!(texts.push(b"b"), "\u{fffd}b");
        assert_eq!(texts.push(b"\xf0\x9f"), "");
        assert_eq!(texts.finish(), "\u{fffd}");
    }
}
