//! The logs of builds in the form of CloudWatch Logs: groups, streams, events.
//!
//! Nothing is copied: an event is a line of CodeBuild's log, read from the build's own files on
//! request. For each stream, one position per quarter of a megabyte is remembered, so that
//! following a log costs only what is new.

mod filter;
mod pattern;
mod stream;
#[cfg(test)]
mod tests;

pub use filter::{FilteredLines, LineKey, LogFilter, number};
pub use pattern::FilterPattern;
pub use stream::{From, LinePage, LogLine, TimeRange};

use crate::db::streams::{self, StoredStream};
use crate::db::{Db, DbError};
use runner_folder::state::{BuildDir, Home};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use stream::StreamIndex;

/// Number of streams whose positions are remembered.
const REMEMBERED: usize = 1024;

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("The specified log group does not exist.")]
    NoGroup,
    #[error("The specified log stream does not exist.")]
    NoStream,
    #[error(transparent)]
    Db(#[from] DbError),
    #[error("the log of build {0} cannot be read: {1}")]
    Read(String, io::Error),
}

/// Indexes of streams, by the uuids of their builds.
#[derive(Default)]
pub(crate) struct StreamIndexes {
    known: HashMap<String, (u64, Arc<Mutex<StreamIndex>>)>,
    /// Counts accesses, to find the least recently used index.
    looks: u64,
}

impl StreamIndexes {
    fn of(&mut self, uuid: &str) -> Arc<Mutex<StreamIndex>> {
        self.looks += 1;
        if self.known.len() >= REMEMBERED && !self.known.contains_key(uuid) {
            let mut ages: Vec<u64> = self.known.values().map(|(looked, _)| *looked).collect();
            let (_, middle, _) = ages.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            self.known.retain(|_, (looked, _)| *looked > middle);
        }
        let (looked, index) = self.known.entry(uuid.to_owned()).or_default();
        *looked = self.looks;
        Arc::clone(index)
    }
}

/// A stream with the times of its first and last line.
#[derive(Clone, Debug)]
pub struct DescribedStream {
    pub stream: StoredStream,
    /// Times of its first and its latest line.
    pub first: Option<i64>,
    pub last: Option<i64>,
}

/// Reads several streams. Blocks.
pub(crate) struct StreamReader {
    home: Home,
    places: Arc<Mutex<StreamIndexes>>,
}

impl StreamReader {
    pub(crate) fn new(home: Home, places: Arc<Mutex<StreamIndexes>>) -> Self {
        StreamReader { home, places }
    }

    fn dir(&self, uuid: &str) -> BuildDir {
        BuildDir::of(&self.home, uuid)
    }

    /// Whether the build has a log.
    pub(crate) fn is_there(&self, uuid: &str) -> bool {
        self.dir(uuid).events().exists()
    }

    fn index(&self, uuid: &str) -> Arc<Mutex<StreamIndex>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).of(uuid)
    }

    /// Works with the index of a stream.
    pub(crate) fn with<T>(
        &self,
        uuid: &str,
        work: impl FnOnce(&mut StreamIndex, &BuildDir) -> io::Result<T>,
    ) -> Result<T, LogError> {
        let index = self.index(uuid);
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut index, &self.dir(uuid)).map_err(|error| match error.kind() {
            // It was deleted meanwhile.
            io::ErrorKind::NotFound => LogError::NoStream,
            _ => LogError::Read(uuid.to_owned(), error),
        })
    }
}

pub(crate) fn has_group(db: &Db, group: &str) -> Result<(), LogError> {
    let is_there = db.read_now(|connection| streams::has_group(connection, group))?;
    if is_there { Ok(()) } else { Err(LogError::NoGroup) }
}

impl StreamReader {
    pub(crate) fn described(&self, stream: StoredStream) -> DescribedStream {
        let dir = self.dir(&stream.uuid);
        // An unreadable log is still listed; reading it returns the error.
        let first = stream::first_time(&dir).unwrap_or_default();
        let last = stream::last_time(&dir).unwrap_or_default();
        DescribedStream { stream, first, last: last.or(first) }
    }
}
