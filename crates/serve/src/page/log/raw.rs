//! A whole log as text, like `runner logs`, or the output of one section.
//!
//! Produced by a thread that waits for a slow client; memory holds a few blocks.

use super::super::routes::VisitorPermits;
use super::search::visible;
use bytes::Bytes;
use runner_folder::events::{CodeBuild, LogReader, OutputReader};
use runner_folder::state::BuildDir;
use std::io::{self, Write};
use tokio::sync::mpsc;

/// Blocks queued for the client.
const WAITING: usize = 4;
/// Bytes of a block.
const BLOCK: usize = 64 << 10;
/// Most bytes of a line that are processed as a whole.
const LINE: usize = 1 << 20;

/// The part of a log to send.
#[derive(Clone, Debug)]
pub(in super::super) struct Raw {
    pub(in super::super) dir: BuildDir,
    /// Only these bytes of the output.
    pub(in super::super) range: Option<(u64, u64)>,
    /// Whether to drop sequences that a terminal would act on.
    pub(in super::super) is_plain: bool,
}

/// Starts to produce the text.
pub(in super::super) fn raw(
    wanted: Raw,
    places: VisitorPermits,
) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let _places = places;
        let mut out = RawBody { sender, block: Vec::new(), line: wanted.is_plain.then(Vec::new) };
        let made = wanted.write(&mut out).and_then(|()| out.end());
        if let Err(error) = made {
            // A client that is gone does not see the error.
            let _ = out.sender.blocking_send(Err(error));
        }
    });
    receiver
}

impl Raw {
    fn write(&self, out: &mut RawBody) -> io::Result<()> {
        let mut output = OutputReader::open(&self.dir)?;
        let Some((mut from, to)) = self.range else {
            let mut log = LogReader::open(&self.dir)?;
            let mut sink = CodeBuild::new(out);
            while let Some(event) = log.next_event()? {
                sink.event(&event, &mut output)?;
            }
            sink.flushed()?;
            return Ok(());
        };
        while from < to {
            let length = (to - from).min(BLOCK as u64);
            out.write_all(output.read(from, length)?)?;
            from += length;
        }
        Ok(())
    }
}

struct RawBody {
    sender: mpsc::Sender<io::Result<Bytes>>,
    block: Vec<u8>,
    /// The incomplete line, if sequences are dropped.
    line: Option<Vec<u8>>,
}

impl RawBody {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(BLOCK) {
            self.block.extend_from_slice(part);
            if self.block.len() >= BLOCK {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        let block = Bytes::from(std::mem::take(&mut self.block));
        self.sender.blocking_send(Ok(block)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn end_line(&mut self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        self.put(visible(&text).as_bytes())
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(line) = self.line.take() {
            self.end_line(&line)?;
        }
        if self.block.is_empty() { Ok(()) } else { self.send() }
    }
}

impl Write for RawBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(mut line) = self.line.take() else {
            return self.put(bytes).map(|()| bytes.len());
        };
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() > LINE {
                self.end_line(&line)?;
                line.clear();
            }
        }
        self.line = Some(line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
