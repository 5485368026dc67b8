//! Reads a log's segments backwards, line by line.

use super::lookup::Matching;
use super::segments::Segments;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes read at a time.
const PIECE: u64 = 64 << 10;
/// Most bytes of a line that is parsed; far more than any written line.
const MAX_LINE: usize = 1 << 20;

/// A file and its unread part.
struct UnreadPart {
    file: File,
    /// Its inode, since segments are renamed.
    number: u64,
    /// Where the part that was not taken ends.
    end: u64,
    /// The bytes read before `end`.
    held: Vec<u8>,
}

impl UnreadPart {
    /// Finds the line before `end`. Returns where it begins; `None` once the budget is used up.
    /// Returns an overlong line in parts.
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

    /// Where the held bytes begin.
    fn start(&self) -> u64 {
        self.end - self.held.len() as u64
    }

    /// Drops the part from `start` on, which was taken.
    fn end_at(&mut self, start: u64) {
        let kept = usize::try_from(start - self.start()).unwrap_or_default();
        self.held.truncate(kept);
        self.end = start;
    }
}

/// All lines of a log.
pub(super) struct Backwards {
    /// The newest file last. No file is empty.
    parts: Vec<UnreadPart>,
    /// The next matching line, and where it begins.
    peeked: Option<(Matching, u64)>,
}

impl Backwards {
    pub(super) fn of(segments: &Segments) -> io::Result<Self> {
        let mut parts = Vec::new();
        for path in segments.all()? {
            let file = match File::open(&path) {
                Ok(file) => file,
                // It does not exist yet, or was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let data = file.metadata()?;
            // A file renamed while the list is made appears under both names.
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

    /// Continues at the end of a page. Returns whether that place exists. File 0 is the very end.
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

    /// The file and offset where the part that was not taken ends.
    pub(super) fn place(&self) -> (u64, u64) {
        self.parts.last().map_or((0, 0), |part| (part.number, part.end))
    }

    /// Whether nothing is left.
    pub(super) fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether the next line is known.
    pub(super) fn is_settled(&self) -> bool {
        self.peeked.is_some() || self.is_over()
    }

    /// The time of the next matching line.
    pub(super) fn next_time(&self) -> Option<i64> {
        self.peeked.as_ref().map(|(line, _)| line.time)
    }

    /// Takes the next matching line.
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

    /// Looks for the next matching line within the budget.
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
