//! One build's log as a stream of events.
//!
//! A line has a number, starting from 0, and a time, which never decreases; both depend only on the
//! build's files, so that they are stable across restarts. A [`StreamIndex`] remembers positions
//! between lines.

use runner_core::event::EventBody;
use runner_folder::events::{LineReader, LinesState, LogReader, OutputReader};
use runner_folder::state::BuildDir;
use std::collections::VecDeque;
use std::fs;
use std::io;

/// Bytes of text between two remembered positions.
const STEP: usize = 256 << 10;
/// Maximum bytes of an incomplete line that a position copies, unless the last position is far
/// away.
const SHORT: usize = 4 << 10;
const FAR: usize = 16 * STEP;
/// Bytes of a page, as CloudWatch Logs counts them, and the overhead of each event.
pub(super) const PAGE: usize = 1 << 20;
pub(super) const OVERHEAD: usize = 26;
/// Bytes at the end of the events that are searched for the last line's.
const TAIL: u64 = 64 << 10;

/// One line of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    pub seq: u64,
    /// Milliseconds since 1970.
    pub time: i64,
    pub text: String,
}

impl LogLine {
    pub(super) fn size(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

/// A range of times from `start`, excluding `end`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeRange {
    pub start: Option<i64>,
    pub end: Option<i64>,
}

impl TimeRange {
    fn is_before(self, time: i64) -> bool {
        self.start.is_some_and(|start| time < start)
    }

    fn is_behind(self, time: i64) -> bool {
        self.end.is_some_and(|end| time >= end)
    }
}

/// Where a page lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Head,
    Tail,
    /// Begins with the line of this number.
    Forward(u64),
    /// Ends before the line of this number.
    Backward(u64),
}

/// Consecutive lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LinePage {
    pub entries: Vec<LogLine>,
    /// Number of the first line, and of the one after the last.
    pub first: u64,
    pub next: u64,
}

/// A position between two events of the build's log.
#[derive(Clone, Debug, Default)]
pub(super) struct StreamPlace {
    /// Offset in `events.jsonl`.
    position: u64,
    /// The number of the next line.
    pub(super) seq: u64,
    lines: LinesState,
    /// The incomplete line so far.
    rest: Vec<u8>,
}

impl StreamPlace {
    /// No later line has an earlier time.
    fn time(&self) -> i64 {
        i64::try_from(self.lines.time).unwrap_or(i64::MAX)
    }
}

/// The result of reading on.
pub(super) struct Read {
    pub(super) entries: Vec<LogLine>,
    pub(super) bytes: usize,
    /// Whether there is nothing more so far.
    pub(super) is_end: bool,
}

/// Reads events from a position until they have added this many bytes, or until there are no more.
pub(super) fn read_on(dir: &BuildDir, place: &mut StreamPlace, most: usize) -> io::Result<Read> {
    let mut events = LogReader::open_at(dir, place.position)?;
    let mut output = OutputReader::open(dir)?;
    let mut lines = LineReader::from(std::mem::take(&mut place.lines));
    let mut read = Read { entries: Vec::new(), bytes: 0, is_end: false };
    let mut read_all = || -> io::Result<()> {
        while read.bytes < most {
            let Some(event) = events.next_event()? else {
                read.is_end = true;
                return Ok(());
            };
            let text = lines.text(&event, &mut output)?;
            read.bytes += text.len();
            place.rest.extend(text);
            let is_over = matches!(event.body, EventBody::BuildEnded { .. });
            let (seq, entries) = (&mut place.seq, &mut read.entries);
            lines.cut(&mut place.rest, is_over, |line| {
                let time = i64::try_from(line.time).unwrap_or(i64::MAX);
                entries.push(LogLine { seq: *seq, time, text: line.text });
                *seq += 1;
            });
            place.position = events.position();
        }
        Ok(())
    };
    let done = read_all();
    place.lines = lines.into_state();
    done.map(|()| read)
}

/// Remembered positions of a stream, in order.
#[derive(Debug, Default)]
pub(crate) struct StreamIndex {
    places: Vec<StreamPlace>,
    /// Where reading continues.
    end: StreamPlace,
    /// Bytes of text since the last remembered position.
    since: usize,
}

impl StreamIndex {
    /// Reads on until `is_enough` of the current end, or to what was the end at first: a build may
    /// write faster than this reads.
    pub(super) fn reach(
        &mut self,
        dir: &BuildDir,
        is_enough: impl Fn(&StreamPlace) -> bool,
    ) -> io::Result<()> {
        let length = fs::metadata(dir.events())?.len();
        while !is_enough(&self.end) && self.end.position < length {
            // After an error the previous end is kept; the next read begins there.
            let mut end = self.end.clone();
            let read = read_on(dir, &mut end, STEP)?;
            self.end = end;
            self.since += read.bytes;
            if self.since >= STEP && (self.end.rest.len() <= SHORT || self.since >= FAR) {
                self.places.push(self.end.clone());
                self.since = 0;
            }
            if read.is_end {
                break;
            }
        }
        Ok(())
    }

    /// The last position that precedes all lines from this time on.
    pub(super) fn before(&mut self, dir: &BuildDir, time: i64) -> io::Result<StreamPlace> {
        self.reach(dir, |end| end.time() >= time)?;
        Ok(self.nth(self.places.partition_point(|place| place.time() < time)))
    }

    /// The position with this index; the first is the start.
    fn nth(&self, number: usize) -> StreamPlace {
        number.checked_sub(1).map_or_else(StreamPlace::default, |at| self.places[at].clone())
    }

    pub(crate) fn page(
        &mut self,
        dir: &BuildDir,
        range: TimeRange,
        from: From,
        limit: usize,
    ) -> io::Result<LinePage> {
        match from {
            From::Head => self.forward(dir, range, None, limit),
            From::Forward(seq) => self.forward(dir, range, Some(seq), limit),
            From::Tail => self.backward(dir, range, None, limit),
            From::Backward(seq) => self.backward(dir, range, Some(seq), limit),
        }
    }

    fn forward(
        &mut self,
        dir: &BuildDir,
        range: TimeRange,
        from: Option<u64>,
        limit: usize,
    ) -> io::Result<LinePage> {
        let seq = from.unwrap_or(0);
        self.reach(dir, |end| {
            end.seq >= seq && range.start.is_none_or(|start| end.time() >= start)
        })?;
        let is_good = |place: &StreamPlace| {
            place.seq <= seq || range.start.is_some_and(|start| place.time() < start)
        };
        let mut place = self.nth(self.places.partition_point(is_good));
        let (mut entries, mut bytes) = (Vec::new(), 0);
        'pages: loop {
            let read = read_on(dir, &mut place, STEP)?;
            for entry in read.entries {
                if entry.seq < seq || range.is_before(entry.time) {
                    continue;
                }
                bytes += entry.size();
                let is_full = entries.len() == limit || bytes > PAGE && !entries.is_empty();
                if is_full || range.is_behind(entry.time) {
                    place.seq = entry.seq;
                    break 'pages;
                }
                entries.push(entry);
            }
            if read.is_end {
                break;
            }
        }
        // An empty page: the next read begins at the same line.
        let (first, next) = match (entries.first(), entries.last()) {
            (Some(first), Some(last)) => (first.seq, last.seq + 1),
            _ => (from.unwrap_or(place.seq), from.unwrap_or(place.seq)),
        };
        Ok(LinePage { entries, first, next })
    }

    /// The last lines of a range, read piece by piece from the end.
    fn backward(
        &mut self,
        dir: &BuildDir,
        range: TimeRange,
        before: Option<u64>,
        limit: usize,
    ) -> io::Result<LinePage> {
        self.reach(dir, |end| {
            before.is_some_and(|seq| end.seq >= seq)
                || range.end.is_some_and(|time| end.time() >= time)
        })?;
        let is_good = |place: &StreamPlace| {
            before.is_none_or(|seq| place.seq < seq) && !range.is_behind(place.time())
        };
        let mut number = self.places.partition_point(is_good);
        let mut stop = self.places.get(number).map_or(self.end.seq, |place| place.seq);
        let (mut entries, mut bytes) = (VecDeque::new(), 0);
        'pieces: loop {
            let piece = self.piece(dir, number, stop)?;
            for entry in piece.into_iter().rev() {
                if before.is_some_and(|seq| entry.seq >= seq) || range.is_behind(entry.time) {
                    continue;
                }
                bytes += entry.size();
                let is_full = entries.len() == limit || bytes > PAGE && !entries.is_empty();
                if is_full || range.is_before(entry.time) {
                    break 'pieces;
                }
                entries.push_front(entry);
            }
            if number == 0 {
                break;
            }
            stop = self.nth(number).seq;
            number -= 1;
        }
        let none = before.unwrap_or(self.end.seq);
        let (first, next) = match (entries.front(), entries.back()) {
            (Some(first), Some(last)) => (first.seq, last.seq + 1),
            _ => (none, none),
        };
        Ok(LinePage { entries: entries.into(), first, next })
    }

    /// The lines from a position up to the line `stop`.
    fn piece(&self, dir: &BuildDir, number: usize, stop: u64) -> io::Result<Vec<LogLine>> {
        let mut place = self.nth(number);
        let mut all = Vec::new();
        while place.seq < stop {
            let read = read_on(dir, &mut place, STEP)?;
            all.extend(read.entries);
            if read.is_end {
                break;
            }
        }
        all.retain(|entry| entry.seq < stop);
        Ok(all)
    }
}

/// The time of the first line.
pub(super) fn first_time(dir: &BuildDir) -> io::Result<Option<i64>> {
    let mut place = StreamPlace::default();
    loop {
        // One event at a time.
        let read = read_on(dir, &mut place, 1)?;
        if let Some(first) = read.entries.first() {
            return Ok(Some(first.time));
        }
        if read.is_end {
            return Ok(None);
        }
    }
}

/// The time of the last event that adds text, if it is near the end.
pub(super) fn last_time(dir: &BuildDir) -> io::Result<Option<i64>> {
    let mut reader = LogReader::open_near_end(dir, TAIL)?;
    let mut last = None;
    while let Some(event) = reader.next_event()? {
        let adds = matches!(
            event.body,
            EventBody::Agent { .. }
                | EventBody::PhaseEnded { .. }
                | EventBody::CommandStarted { .. }
                | EventBody::CommandEnded { .. }
                | EventBody::Output { .. }
        );
        if adds {
            last = Some(event.time.epoch_millis());
        }
    }
    Ok(last)
}
