//! The logs of builds: finds streams in the database and reads them with `crate::logs`.

use super::Service;
use crate::db::streams::{self, StoredStream};
use crate::db::{Db, DbError};
use crate::logs::{
    DescribedStream, FilteredLines, From, LinePage, LogError, LogFilter, StreamReader, TimeRange,
    has_group,
};
use std::sync::Arc;

impl Service {
    fn reader(&self) -> StreamReader {
        StreamReader::new(self.home.clone(), Arc::clone(&self.places))
    }

    /// Reads the database and logs on a thread where it blocks nobody else.
    async fn read_logs<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Db, &StreamReader) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        self.refresh().await?;
        let (db, reader) = (self.db.clone(), self.reader());
        let read = tokio::task::spawn_blocking(move || read(&db, &reader));
        read.await.unwrap_or(Err(LogError::Db(DbError::Closed)))
    }

    /// Names of groups with their creation times, sorted by bytes.
    pub async fn log_groups(
        &self,
        wanted: streams::GroupSelection,
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

    /// The projects whose logs are in a group, for the check of rights.
    pub async fn projects_of_group(&self, group: &str) -> Result<Vec<String>, DbError> {
        let group = group.to_owned();
        self.db.read(move |connection| streams::projects(connection, &group)).await
    }

    /// The stream of this name, if there is one, for the check of rights.
    pub async fn log_stream(
        &self,
        group: &str,
        name: &str,
    ) -> Result<Option<StoredStream>, DbError> {
        self.refresh().await?;
        let (group, name) = (group.to_owned(), name.to_owned());
        self.db.read(move |connection| streams::get(connection, &group, &name)).await
    }

    /// Streams of a group.
    ///
    /// # Errors
    /// The group does not exist.
    pub async fn log_streams(
        &self,
        wanted: streams::StreamQuery,
        after: Option<streams::AfterStream>,
        most: usize,
    ) -> Result<Vec<(DescribedStream, streams::AfterStream)>, LogError> {
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
    /// The stream does not exist.
    pub async fn log_events(
        &self,
        group: String,
        name: String,
        range: TimeRange,
        from: From,
        limit: usize,
    ) -> Result<LinePage, LogError> {
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

    /// Matching lines of a group.
    ///
    /// # Errors
    /// The group does not exist.
    pub async fn filter_log_events(&self, filter: LogFilter) -> Result<FilteredLines, LogError> {
        self.read_logs(move |db, reader| {
            has_group(db, &filter.group)?;
            filter.run(db, reader)
        })
        .await
    }
}
