//! The logs of builds, as CloudWatch Logs shows logs: groups, streams, events.
//!
//! Nothing is copied: an event is a line of CodeBuild's log, cut from the build's own files when somebody asks. Of a stream stands in
//! memory where its lines begin, one place for each quarter of a megabyte, so that who follows a log costs what is new.

mod filter;
mod pattern;
mod stream;
#[cfg(test)]
mod tests;

pub use filter::{Filter, Found, Key, number};
pub use pattern::Pattern;
pub use stream::{Entry, From, Page, Range};

use crate::db::streams::{self, Stream};
use crate::db::{Db, DbError};
use crate::service::Service;
use runner_folder::state::{BuildDir, Home};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use stream::Index;

/// Streams whose places are remembered.
const REMEMBERED: usize = 1024;

/// Why a log is not read.
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

/// Places in streams, by the uuids of their builds.
#[derive(Default)]
pub(crate) struct Places {
    known: HashMap<String, (u64, Arc<Mutex<Index>>)>,
    /// Counts looks, to forget what has not been looked at for longest.
    looks: u64,
}

impl Places {
    fn of(&mut self, uuid: &str) -> Arc<Mutex<Index>> {
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

/// A log as it is described.
#[derive(Clone, Debug)]
pub struct Described {
    pub stream: Stream,
    /// Times of its first and its last line so far.
    pub first: Option<i64>,
    pub last: Option<i64>,
}

/// What a number of streams is read with; blocks.
pub(crate) struct Reader {
    home: Home,
    places: Arc<Mutex<Places>>,
}

impl Reader {
    fn dir(&self, uuid: &str) -> BuildDir {
        BuildDir::of(&self.home, uuid)
    }

    /// Whether the build has a log.
    fn is_there(&self, uuid: &str) -> bool {
        self.dir(uuid).events().exists()
    }

    fn index(&self, uuid: &str) -> Arc<Mutex<Index>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).of(uuid)
    }

    /// Works on the places of a stream.
    fn with<T>(
        &self,
        uuid: &str,
        work: impl FnOnce(&mut Index, &BuildDir) -> io::Result<T>,
    ) -> Result<T, LogError> {
        let index = self.index(uuid);
        let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut index, &self.dir(uuid)).map_err(|error| match error.kind() {
            // It has been deleted meanwhile.
            io::ErrorKind::NotFound => LogError::NoStream,
            _ => LogError::Read(uuid.to_owned(), error),
        })
    }
}

impl Service {
    fn reader(&self) -> Reader {
        Reader { home: self.home.clone(), places: Arc::clone(&self.places) }
    }

    /// Reads the database and logs where that holds up nobody else.
    async fn read_logs<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Db, &Reader) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        self.refresh().await?;
        let (db, reader) = (self.db.clone(), self.reader());
        let read = tokio::task::spawn_blocking(move || read(&db, &reader));
        read.await.unwrap_or(Err(LogError::Db(DbError::Closed)))
    }

    /// Names of groups with the times of their beginning, in the order of their bytes.
    pub async fn log_groups(
        &self,
        wanted: streams::Groups,
        after: Option<String>,
        most: usize,
    ) -> Result<Vec<(String, i64)>, LogError> {
        self.read_logs(move |db, _| {
            Ok(db.read_now(|connection| {
                streams::groups(connection, &wanted, after.as_deref(), most)
            })?)
        })
        .await
    }

    /// The projects of which a group has logs, for whoever judges.
    pub async fn projects_of_group(&self, group: &str) -> Result<Vec<String>, DbError> {
        let group = group.to_owned();
        self.db.read(move |connection| streams::projects(connection, &group)).await
    }

    /// The stream of this name, if there is one, for whoever judges.
    pub async fn log_stream(&self, group: &str, name: &str) -> Result<Option<Stream>, DbError> {
        self.refresh().await?;
        let (group, name) = (group.to_owned(), name.to_owned());
        self.db.read(move |connection| streams::get(connection, &group, &name)).await
    }

    /// Streams of a group.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn log_streams(
        &self,
        wanted: streams::Wanted,
        after: Option<streams::After>,
        most: usize,
    ) -> Result<Vec<(Described, streams::After)>, LogError> {
        self.read_logs(move |db, reader| {
            has_group(db, &wanted.group)?;
            let (mut found, mut after) = (Vec::new(), after);
            while found.len() < most {
                let some = db.read_now(|connection| {
                    streams::list(connection, &wanted, after.as_ref(), most)
                })?;
                let is_last = some.len() < most;
                for stream in some {
                    let place = stream.after(wanted.order);
                    if found.len() < most && reader.is_there(&stream.uuid) {
                        found.push((reader.described(stream), place.clone()));
                    }
                    if found.len() < most {
                        after = Some(place);
                    }
                }
                if is_last {
                    break;
                }
            }
            Ok(found)
        })
        .await
    }

    /// Lines of one stream.
    ///
    /// # Errors
    /// There is no such stream.
    pub async fn log_events(
        &self,
        group: String,
        name: String,
        range: Range,
        from: From,
        limit: usize,
    ) -> Result<Page, LogError> {
        self.read_logs(move |db, reader| {
            let stream = db.read_now(|connection| streams::get(connection, &group, &name))?;
            match stream.filter(|stream| reader.is_there(&stream.uuid)) {
                Some(stream) => {
                    reader.with(&stream.uuid, |index, dir| index.page(dir, range, from, limit))
                }
                None => {
                    has_group(db, &group)?;
                    Err(LogError::NoStream)
                }
            }
        })
        .await
    }

    /// Lines of a group that match.
    ///
    /// # Errors
    /// There is no such group.
    pub async fn filter_log_events(&self, filter: Filter) -> Result<Found, LogError> {
        self.read_logs(move |db, reader| {
            has_group(db, &filter.group)?;
            filter.run(db, reader)
        })
        .await
    }
}

fn has_group(db: &Db, group: &str) -> Result<(), LogError> {
    let is_there = db.read_now(|connection| streams::has_group(connection, group))?;
    if is_there { Ok(()) } else { Err(LogError::NoGroup) }
}

impl Reader {
    fn described(&self, stream: Stream) -> Described {
        let dir = self.dir(&stream.uuid);
        // One that cannot be read is there all the same; whoever reads it hears why.
        let first = stream::first_time(&dir).unwrap_or_default();
        let last = stream::last_time(&dir).unwrap_or_default();
        Described { stream, first, last: last.or(first) }
    }
}
