//! Readers of a build's log: cursors over its two files.
//!
//! Used by every sink, by `runner logs` and by `sweep`. A last line without its line break is
//! incomplete or was torn by a kill; it does not count yet.

use crate::state::BuildDir;
use runner_core::event::Event;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes read at once.
const BLOCK: usize = 64 << 10;

/// Reads events one by one.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// Where the next line starts.
    position: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer already returned.
    used: usize,
}

impl LogReader {
    pub fn open(dir: &BuildDir) -> io::Result<Self> {
        Self::open_at(dir, 0)
    }

    /// Starts at an earlier reader's [`Self::position`].
    pub fn open_at(dir: &BuildDir, position: u64) -> io::Result<Self> {
        Ok(LogReader { file: File::open(dir.events())?, position, buffer: Vec::new(), used: 0 })
    }

    /// Starts at the first complete line among the last `bytes` bytes.
    pub fn open_near_end(dir: &BuildDir, bytes: u64) -> io::Result<Self> {
        let mut reader = Self::open_at(dir, 0)?;
        let length = reader.file.metadata()?.len();
        let Some(begin) = length.checked_sub(bytes) else { return Ok(reader) };
        let mut tail = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        reader.file.read_exact_at(&mut tail, begin)?;
        let line =
            tail.iter().position(|&byte| byte == b'\n').map_or(length, |at| begin + at as u64 + 1);
        reader.position = line;
        Ok(reader)
    }

    /// The next event; `None` at the current end, after which more may come.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(length) = self.buffer[self.used..].iter().position(|&byte| byte == b'\n') {
                let line = &self.buffer[self.used..self.used + length];
                let event = std::str::from_utf8(line)
                    .map_err(io::Error::other)
                    .and_then(|line| Event::from_line(line).map_err(io::Error::other))
                    .map_err(|error| {
                        let place = format!("byte {} of events.jsonl: {error}", self.position);
                        io::Error::new(io::ErrorKind::InvalidData, place)
                    })?;
                self.used += length + 1;
                self.position += length as u64 + 1;
                return Ok(Some(event));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            let old = self.buffer.len();
            self.buffer.resize(old + BLOCK, 0);
            let at = self.position + old as u64;
            let got = self.file.read_at(&mut self.buffer[old..], at);
            self.buffer.truncate(old + *got.as_ref().unwrap_or(&0));
            if got? == 0 {
                // Read half a line again later: a torn one is cut off before another follows.
                self.buffer.clear();
                return Ok(None);
            }
        }
    }

    /// Where the next line starts: the length of all complete lines read.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// Reads output by offset.
#[derive(Debug)]
pub struct OutputReader {
    file: File,
    buffer: Vec<u8>,
}

impl OutputReader {
    pub fn open(dir: &BuildDir) -> io::Result<Self> {
        Ok(OutputReader { file: File::open(dir.output())?, buffer: Vec::new() })
    }

    /// The bytes that an output event names.
    pub fn read(&mut self, offset: u64, length: u64) -> io::Result<&[u8]> {
        self.buffer.resize(usize::try_from(length).map_err(io::Error::other)?, 0);
        self.file.read_exact_at(&mut self.buffer, offset)?;
        Ok(&self.buffer)
    }
}
