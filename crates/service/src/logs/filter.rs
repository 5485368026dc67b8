//! Matching lines of all streams of a group, ordered by time.
//!
//! A stream is opened when its time has come and read piece by piece, so that a request's cost
//! depends on what it examines and not on the size of the group.

use super::pattern::FilterPattern;
use super::stream::{LogLine, PAGE, StreamPlace, read_on};
use super::{LogError, StreamReader};
use crate::db::Db;
use crate::db::streams::{self, StoredStream};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::io;

/// Maximum bytes of text that one request reads.
const LOOKS_AT: usize = 16 << 20;
/// Bytes of a stream read at once while few are open.
const PIECE: usize = 64 << 10;
/// The same while many are open, so that buffered text stays below the limit of a request.
const SMALLEST: usize = 1 << 10;

/// Which lines to find.
#[derive(Clone, Debug)]
pub struct LogFilter {
    pub group: String,
    pub names: streams::Names,
    /// First and last time, both included.
    pub start: Option<i64>,
    pub end: Option<i64>,
    pub pattern: FilterPattern,
    pub limit: usize,
    /// Continue after this line.
    pub after: Option<LineKey>,
}

/// Orders the lines of all streams: time, stream, number.
pub type LineKey = (i64, u64, u64);

/// The lines found, and where to continue.
#[derive(Debug, Default)]
pub struct FilteredLines {
    /// Lines with the names of their streams.
    pub entries: Vec<(String, LineKey, LogLine)>,
    /// The last line that was read, if there may be more.
    pub next: Option<LineKey>,
}

/// A number for a stream, stable across restarts.
#[must_use]
pub fn number(stream: &StoredStream) -> u64 {
    let digest = Sha256::digest(stream.uuid.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

struct StreamCursor {
    stream: StoredStream,
    number: u64,
    place: StreamPlace,
    waiting: VecDeque<LogLine>,
    is_end: bool,
}

/// Merges all streams of a request.
struct Merge<'a> {
    filter: &'a LogFilter,
    reader: &'a StreamReader,
    /// Streams not opened yet, ordered by their first lines.
    later: VecDeque<StoredStream>,
    open: Vec<StreamCursor>,
    /// The first buffered line of each open stream.
    order: BinaryHeap<Reverse<(LineKey, usize)>>,
    /// Bytes of lines that have been taken. Buffered lines of other streams do not count: the next
    /// request would read them again.
    looked: usize,
}

impl LogFilter {
    pub(crate) fn run(&self, db: &Db, reader: &StreamReader) -> Result<FilteredLines, LogError> {
        let since = self.since();
        let later = db.read_now(|connection| {
            streams::between(connection, &self.group, &self.names, since, self.end)
        })?;
        let mut merge = Merge {
            filter: self,
            reader,
            later: later.into(),
            open: Vec::new(),
            order: BinaryHeap::new(),
            looked: 0,
        };
        let (mut found, mut bytes, mut last) = (FilteredLines::default(), 0, None);
        while let Some((key, at)) = merge.first() {
            if self.end.is_some_and(|end| key.0 > end) {
                break;
            }
            let Some(entry) = merge.open[at].waiting.front() else {
                debug_assert!(false, "a stream in the order has a line");
                merge.order.pop();
                continue;
            };
            let is_wanted = self.pattern.matches(&entry.text);
            let size = entry.size();
            let is_full = is_wanted
                && (found.entries.len() == self.limit || bytes > 0 && bytes + size > PAGE);
            if is_full || merge.looked >= LOOKS_AT && last.is_some() {
                found.next = last;
                break;
            }
            let entry = merge.take(at);
            if let Some(entry) = entry.filter(|_| is_wanted) {
                bytes += size;
                found.entries.push((merge.open[at].stream.name.clone(), key, entry));
            }
            last = Some(key);
        }
        Ok(found)
    }

    /// The earliest time of wanted lines; earlier ones are skipped.
    fn since(&self) -> Option<i64> {
        let after = self.after.map(|(time, ..)| time);
        self.start.max(after)
    }

    fn is_over(&self, key: LineKey) -> bool {
        self.start.is_some_and(|start| key.0 < start)
            || self.after.is_some_and(|after| key <= after)
    }
}

impl Merge<'_> {
    /// The earliest buffered line, and its stream.
    fn first(&mut self) -> Option<(LineKey, usize)> {
        loop {
            let next = self.order.peek().map(|Reverse(first)| *first);
            let is_due =
                |stream: &mut StoredStream| next.is_none_or(|(key, _)| stream.begun <= key.0);
            match self.later.pop_front_if(is_due) {
                Some(stream) => self.begin(stream),
                None => return next,
            }
        }
    }

    fn begin(&mut self, stream: StoredStream) {
        let since = self.filter.since().unwrap_or(0);
        let place = self.reader.with(&stream.uuid, |index, dir| index.before(dir, since));
        if let Some(place) = told(&stream, place) {
            let number = number(&stream);
            let waiting = VecDeque::new();
            self.open.push(StreamCursor { stream, number, place, waiting, is_end: false });
            self.fill(self.open.len() - 1);
        }
    }

    /// Takes the earliest line, which this stream has.
    fn take(&mut self, at: usize) -> Option<LogLine> {
        self.order.pop();
        let entry = self.open[at].waiting.pop_front();
        self.looked += entry.as_ref().map_or(0, LogLine::size);
        self.fill(at);
        entry
    }

    /// Reads on until a wanted line is buffered, or to the end.
    fn fill(&mut self, at: usize) {
        let piece = (LOOKS_AT / 4 / self.open.len()).clamp(SMALLEST, PIECE);
        let cursor = &mut self.open[at];
        loop {
            while let Some(entry) = cursor.waiting.front() {
                let key = (entry.time, cursor.number, entry.seq);
                if !self.filter.is_over(key) {
                    self.order.push(Reverse((key, at)));
                    return;
                }
                cursor.waiting.pop_front();
            }
            if cursor.is_end {
                // Only its name is still needed.
                (cursor.place, cursor.waiting) = Default::default();
                return;
            }
            let dir = self.reader.dir(&cursor.stream.uuid);
            let read = read_on(&dir, &mut cursor.place, piece);
            let failed = |error| LogError::Read(cursor.stream.uuid.clone(), error);
            match told(&cursor.stream, read.map_err(failed)) {
                Some(read) => {
                    cursor.is_end = read.is_end;
                    cursor.waiting = read.entries.into();
                }
                None => cursor.is_end = true,
            }
        }
    }
}

/// A log that cannot be read does not hide the others of its group.
fn told<T>(stream: &StoredStream, read: Result<T, LogError>) -> Option<T> {
    read.map_err(|error| match &error {
        LogError::NoStream => {}
        LogError::Read(_, error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => tracing::warn!(%error, stream = %stream.name, "a log is left out"),
    })
    .ok()
}
