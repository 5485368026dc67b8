//! The lines of a name's segments from the last to the first.

use super::lookup::Matching;
use super::segments::Segments;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// How much is read at a time.
const PIECE: u64 = 64 << 10;
/// Longest line that is looked at: far longer than any that is written.
const MAX_LINE: usize = 1 << 20;

/// A file, and how much of it is still to be looked at.
struct UnreadPart {
    file: File,
    /// Its inode: segments change their names.
    number: u64,
    /// Where what has not been taken ends.
    end: u64,
    /// What was read before `end`.
    held: Vec<u8>,
}

impl UnreadPart {
    /// The line that ends at `end`, and where it begins; `None` once nothing more may be read. A line that is too long
    /// comes in parts.
    fn last_line(&mut self, budget: &mut u64) -> io::Result<Option<u64>> {
        loop {
            let before = self.held.len().saturating_sub(1);
            if let Some(at) = self.held[..before].iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(self.start() + at as u64 + 1));
            }
            if self.start() == 0 || self.held.len() > MAX_LINE {
                return Ok(Some(self.start()));
            }
            if *budget == 0 {
                return Ok(None);
            }
            let length = PIECE.min(self.start());
            let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
            self.file.read_exact_at(&mut piece, self.start() - length)?;
            *budget = budget.saturating_sub(length);
            piece.extend_from_slice(&self.held);
            self.held = piece;
        }
    }

    /// Where what is held begins.
    fn start(&self) -> u64 {
        self.end - self.held.len() as u64
    }

    /// What begins there has been looked at.
    fn end_at(&mut self, start: u64) {
        let kept = usize::try_from(start - self.start()).unwrap_or_default();
        self.held.truncate(kept);
        self.end = start;
    }
}

/// All lines of a name.
pub(super) struct Backwards {
    /// The newest last. None is empty.
    parts: Vec<UnreadPart>,
    /// The next one that matches, and where it begins.
    peeked: Option<(Matching, u64)>,
}

impl Backwards {
    pub(super) fn of(segments: &Segments) -> io::Result<Self> {
        let mut parts = Vec::new();
        for path in segments.all()? {
            let file = match File::open(&path) {
                Ok(file) => file,
                // There is none yet, or it was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let data = file.metadata()?;
            // One that is put aside while the list is made is met under both names.
            let is_known = parts.iter().any(|part: &UnreadPart| part.number == data.ino());
            if data.is_file() && data.len() > 0 && !is_known {
                parts.push(UnreadPart {
                    file,
                    number: data.ino(),
                    end: data.len(),
                    held: Vec::new(),
                });
            }
        }
        parts.reverse();
        Ok(Backwards { parts, peeked: None })
    }

    /// Begins where a page has ended; whether that place is there. File 0 is the very end.
    pub(super) fn go_to(&mut self, number: u64, end: u64) -> bool {
        if number == 0 {
            self.parts.clear();
            return true;
        }
        let Some(at) = self.parts.iter().position(|part| part.number == number) else {
            return false;
        };
        self.parts.truncate(at + 1);
        let part = &mut self.parts[at];
        let is_in = (1..=part.end).contains(&end);
        part.end = part.end.min(end);
        is_in
    }

    /// Where what has not been taken ends: a file, and a place in it.
    pub(super) fn place(&self) -> (u64, u64) {
        self.parts.last().map_or((0, 0), |part| (part.number, part.end))
    }

    /// Whether there is nothing more.
    pub(super) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it is known what comes next.
    pub(super) fn is_settled(&self) -> bool {
        self.peeked.is_some() || self.is_over()
    }

    /// The time of the next line that matches.
    pub(super) fn next_time(&self) -> Option<i64> {
        self.peeked.as_ref().map(|(line, _)| line.time)
    }

    /// Takes the next line that matches.
    pub(super) fn take(&mut self) -> Option<Matching> {
        let (line, start) = self.peeked.take()?;
        self.end_at(start);
        Some(line)
    }

    fn end_at(&mut self, start: u64) {
        if let Some(part) = self.parts.last_mut() {
            part.end_at(start);
        }
        self.parts.pop_if(|part| part.end == 0);
    }

    /// Looks for the next line that matches, as long as something may be read.
    pub(super) fn peek(
        &mut self,
        budget: &mut u64,
        parsed: impl Fn(&[u8]) -> Option<Matching>,
    ) -> io::Result<()> {
        while self.peeked.is_none() {
            let Some(part) = self.parts.last_mut() else { break };
            let Some(start) = part.last_line(budget)? else { break };
            let from = usize::try_from(start - part.start()).unwrap_or_default();
            let line = part.held[from..].trim_ascii_end();
            match parsed(line) {
                Some(line) => self.peeked = Some((line, start)),
                None => self.end_at(start),
            }
        }
        Ok(())
    }
}
