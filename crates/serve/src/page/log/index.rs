//! The index of a log's rows.
//!
//! Reads on from the last position, under the caller's lock. Memory holds the sections, a mark for
//! every so many rows and the times of output, but never the output.

use super::rows::{self, CutRow, Style};
use super::sections::{Sections, millis};
use runner_core::event::EventBody;
use runner_folder::events::{LogReader, OutputReader};
use runner_folder::state::BuildDir;
use serde::Serialize;
use std::io;

/// Rows between two marks, at least.
const STEP: u64 = 256;
/// Minimum bytes between two marks.
const APART: u64 = 16 << 10;
/// Bytes read at once.
const BLOCK: u64 = 256 << 10;
/// Output within this many milliseconds shares one time.
const TICK: i64 = 100;
/// Most rows and, roughly, bytes returned at once.
const MOST_ROWS: u64 = 1000;
const MOST_BYTES: usize = 1 << 20;
/// The page keeps rows by so many, and shows at most so many at once before or behind one.
const CHUNK: u64 = 200;
const IN_VIEW: u64 = 100;

/// A position in the output, with the state needed to read rows from there on.
#[derive(Clone, Debug)]
struct IndexMark {
    row: u64,
    offset: u64,
    style: Style,
}

/// The index of one log.
#[derive(Debug)]
pub(super) struct LogIndex {
    dir: BuildDir,
    reader: LogReader,
    output: OutputReader,
    pub(super) sections: Sections,
    marks: Vec<IndexMark>,
    /// Positions in the output, and their times.
    times: Vec<(u64, i64)>,
    /// The start of the last, incomplete row, and its number.
    open: u64,
    row: u64,
    style: Style,
    /// The length of the output.
    end: u64,
}

/// A row and the time of its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in super::super) struct LogRow {
    pub(super) text: String,
    pub(super) time: i64,
}

/// Consecutive rows.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Rows {
    from: u64,
    /// The sequences that set the first row's colours.
    style: String,
    rows: Vec<LogRow>,
}

impl LogIndex {
    pub(super) fn open(dir: &BuildDir) -> io::Result<Self> {
        Ok(LogIndex {
            dir: dir.clone(),
            reader: LogReader::open(dir)?,
            output: OutputReader::open(dir)?,
            sections: Sections::default(),
            marks: Vec::new(),
            times: Vec::new(),
            open: 0,
            row: 0,
            style: Style::default(),
            end: 0,
        })
    }

    /// The number of rows, including an incomplete one.
    pub(super) fn rows(&self) -> u64 {
        self.row + u64::from(self.open < self.end)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.end
    }

    /// The bytes of the log's events that have been read.
    pub(super) fn position(&self) -> u64 {
        self.reader.position()
    }

    /// Reads new events.
    pub(super) fn catch_up(&mut self) -> io::Result<()> {
        while let Some(event) = self.reader.next_event()? {
            if let EventBody::Output { offset, length, .. } = event.body {
                self.sections.seq = event.seq;
                self.sections.last = millis(event.time);
                let time = millis(event.time);
                if self.times.last().is_none_or(|(_, last)| time - last >= TICK) {
                    self.times.push((offset, time));
                }
                self.end = offset + length;
                // Small outputs are scanned together.
                if self.end - self.open >= BLOCK {
                    self.scan()?;
                }
                continue;
            }
            if self.open < self.end && begins(&event.body) {
                self.scan()?;
                self.close();
            }
            if let EventBody::CommandStarted { .. } = event.body {
                self.style = Style::default();
                if let Some(mark) = self.marks.last_mut().filter(|mark| mark.row == self.row) {
                    mark.style = Style::default();
                }
            }
            let row = self.rows();
            if self.sections.take(&event, row) && self.marks.last().is_none_or(|it| it.row < row) {
                self.mark();
            }
        }
        self.scan()
    }

    /// Finds the rows in new output.
    fn scan(&mut self) -> io::Result<()> {
        let mut at = self.open;
        while at < self.end {
            let length = (self.end - at).min(BLOCK);
            let block = self.output.read(at, length)?;
            let is_plain = self.style.stays(block);
            let mut used = 0;
            loop {
                let rest = &block[used..];
                let many = is_plain.then(|| rows::many(rest)).flatten();
                let one = || rows::cut(rest).map(|CutRow { length, .. }| (length, 1));
                let Some((length, count)) = many.or_else(one) else { break };
                let (row, offset) = (self.row, at + used as u64);
                if self.marks.last().is_none_or(|it| is_due(it, row, offset)) {
                    self.marks.push(IndexMark { row, offset, style: self.style.clone() });
                }
                if !is_plain {
                    self.style.take(&rest[..length]);
                }
                used += length;
                self.row += count;
            }
            at += used as u64;
            self.open = at;
            if used == 0 {
                break;
            }
        }
        let is_due = self.marks.last().is_none_or(|it| is_due(it, self.row, self.open));
        if self.open < self.end && is_due {
            self.mark();
        }
        Ok(())
    }

    /// Ends an incomplete row, since the next output belongs to another section.
    fn close(&mut self) {
        if self.open < self.end {
            if let Ok(rest) = self.output.read(self.open, self.end - self.open) {
                self.style.take(rest);
            }
            self.open = self.end;
            self.row += 1;
            self.mark();
        }
    }

    /// Marks the start of the next row.
    fn mark(&mut self) {
        if self.marks.last().is_none_or(|mark| mark.row < self.row) {
            let style = self.style.clone();
            self.marks.push(IndexMark { row: self.row, offset: self.open, style });
        }
    }

    /// Reads rows, beginning at `from`.
    pub(super) fn read(&mut self, from: u64, count: u64) -> io::Result<Rows> {
        let mut found = Rows { from, style: String::new(), rows: Vec::new() };
        let (mut bytes, mut is_first) = (0, true);
        let last = from.saturating_add(count.min(MOST_ROWS)).min(self.rows());
        self.walk(from, |row| {
            if row.number >= last || bytes > MOST_BYTES {
                return false;
            }
            if std::mem::take(&mut is_first) {
                found.style = row.style.text();
            }
            bytes += row.text.len();
            let text = String::from_utf8_lossy(row.text).into_owned();
            found.rows.push(LogRow { text, time: row.time });
            true
        })?;
        Ok(found)
    }

    /// Rows that a page shows first: around one that it names, or else at the end of what has
    /// failed, or of what goes on.
    pub(super) fn first(&mut self, named: Option<u64>) -> io::Result<Option<Rows>> {
        let rows = self.rows();
        let end = match (named, &self.sections.end) {
            (Some(row), _) => row.saturating_add(1),
            (None, None) => rows,
            (None, Some(_)) => match self.sections.failed() {
                Some(at) => self.sections.all.get(at + 1).map_or(rows, |next| next.row),
                // All is folded.
                None => return Ok(None),
            },
        };
        let Some(last) = end.min(rows).checked_sub(1) else { return Ok(None) };
        let from = last.saturating_sub(IN_VIEW) / CHUNK * CHUNK;
        let to = ((last + IN_VIEW) / CHUNK + 1) * CHUNK;
        self.read(from, to - from).map(Some)
    }

    /// Calls `each` for the rows from `from` on, until it returns `false`.
    fn walk(&mut self, from: u64, each: impl FnMut(FoundRow<'_>) -> bool) -> io::Result<()> {
        let (last, end) = (self.rows(), self.end);
        let places = RowOffsets { marks: &self.marks, times: &self.times, last, end };
        places.walk(&mut self.output, from, each)
    }

    /// A copy to walk through while others read on.
    pub(super) fn snapshot(&self) -> io::Result<LogSnapshot> {
        let (marks, output) = (self.marks.clone(), OutputReader::open(&self.dir)?);
        Ok(LogSnapshot { marks, last: self.rows(), end: self.end, output })
    }

    /// Start and end of a section's output.
    pub(super) fn range(&mut self, section: usize) -> io::Result<(u64, u64)> {
        let row = |at: usize| self.sections.all.get(at).map(|section| section.row);
        let (first, last) =
            (row(section), section.checked_add(1).and_then(row).unwrap_or_else(|| self.rows()));
        let Some(first) = first else { return Err(io::ErrorKind::NotFound.into()) };
        let offset = |row: u64| {
            let at = self.marks.partition_point(|mark| mark.row < row);
            self.marks.get(at).filter(|mark| mark.row == row).map_or(self.end, |mark| mark.offset)
        };
        Ok((offset(first), offset(last)))
    }

    pub(super) fn dir(&self) -> &BuildDir {
        &self.dir
    }
}

/// The state of a log at one time.
pub(super) struct LogSnapshot {
    marks: Vec<IndexMark>,
    last: u64,
    end: u64,
    output: OutputReader,
}

impl LogSnapshot {
    /// Calls `each` for every row, without its time, until it returns `false`.
    pub(super) fn walk(&mut self, each: impl FnMut(FoundRow<'_>) -> bool) -> io::Result<()> {
        let places = RowOffsets { marks: &self.marks, times: &[], last: self.last, end: self.end };
        places.walk(&mut self.output, 0, each)
    }
}

/// The positions of rows.
struct RowOffsets<'a> {
    marks: &'a [IndexMark],
    times: &'a [(u64, i64)],
    /// The number of rows, and the length of the output.
    last: u64,
    end: u64,
}

impl RowOffsets<'_> {
    fn walk(
        &self,
        output: &mut OutputReader,
        from: u64,
        mut each: impl FnMut(FoundRow<'_>) -> bool,
    ) -> io::Result<()> {
        let at = self.marks.partition_point(|mark| mark.row <= from);
        let Some(mark) = at.checked_sub(1).and_then(|at| self.marks.get(at)) else { return Ok(()) };
        let (mut number, mut offset, mut style) = (mark.row, mark.offset, mark.style.clone());
        let mut next = at;
        while number < self.last {
            // A row ends where the next section begins, whatever its bytes are.
            let border = self.marks.get(next).map_or(self.end, |mark| mark.offset);
            let length = (border - offset).min(BLOCK);
            let is_rest = offset + length == border;
            let block = output.read(offset, length)?;
            let mut used = 0;
            while used < block.len() {
                let rest = &block[used..];
                let cut = match rows::cut(rest) {
                    Some(cut) => cut,
                    None if is_rest => CutRow { length: rest.len(), text: rest.len() },
                    None => break,
                };
                if number >= from {
                    let time = time_of(self.times, offset + used as u64);
                    let text = &rest[..cut.text];
                    if !each(FoundRow { number, text, style: &style, time }) {
                        return Ok(());
                    }
                }
                style.take(&rest[..cut.length]);
                used += cut.length;
                number += 1;
            }
            offset += used as u64;
            if offset == border {
                match self.marks.get(next) {
                    Some(mark) if mark.row == number => {
                        style.clone_from(&mark.style);
                        next += 1;
                    }
                    _ => return Ok(()),
                }
            } else if used == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A row found by a walk.
pub(super) struct FoundRow<'a> {
    pub(super) number: u64,
    pub(super) text: &'a [u8],
    pub(super) style: &'a Style,
    pub(super) time: i64,
}

/// Whether an event begins a section and so ends the row before.
fn begins(body: &EventBody) -> bool {
    !matches!(
        body,
        EventBody::PhaseEnded { .. }
            | EventBody::Progress(_)
            | EventBody::SessionOpened { .. }
            | EventBody::SessionClosed { .. }
            | EventBody::Resumed { .. }
            | EventBody::EndpointOpened { .. }
            | EventBody::EndpointFailed { .. }
            | EventBody::Breakpoint(_)
            | EventBody::Checkpoint(_)
    )
}

fn time_of(times: &[(u64, i64)], offset: u64) -> i64 {
    let at = times.partition_point(|(from, _)| *from <= offset);
    at.checked_sub(1).and_then(|at| times.get(at)).map_or(0, |(_, time)| *time)
}

/// Whether a place is worth a mark: short rows have few.
fn is_due(last: &IndexMark, row: u64, offset: u64) -> bool {
    row.saturating_sub(last.row) >= STEP && offset.saturating_sub(last.offset) >= APART
}
