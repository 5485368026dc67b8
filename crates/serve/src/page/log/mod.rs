//! A build's log as the page shows it: sections with heads, and rows that are fetched when they
//! come into view.

mod index;
mod live;
mod raw;
mod rows;
mod search;
mod sections;
#[cfg(test)]
mod tests;

pub(super) use live::wait;
pub(super) use raw::{Raw, raw};
pub(super) use search::{Query, SearchHits};

use index::{LogIndex, Rows};
use runner_core::phase::Status;
use runner_core::report::ReportFacts;
use runner_folder::state::BuildDir;
use sections::{OpenPause, Section};
use serde::Serialize;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Most open logs.
const OPEN: usize = 16;

/// The most recently used logs.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<Vec<(String, BuildLog)>>);

/// A build's log.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildLog(Arc<Mutex<Option<LogIndex>>>);

/// Changes of a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct News {
    /// The version to ask with next time.
    version: u64,
    rows: u64,
    bytes: u64,
    /// Changed sections, with their positions in the list.
    sections: Vec<LogPosition>,
    count: usize,
    pauses: Vec<OpenPause>,
    sessions: usize,
    /// The time of the build's start, and of the last event.
    started: Option<i64>,
    last: i64,
    status: Option<Status>,
    reason: Option<String>,
    /// Rows that are shown first.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Rows>,
    /// The bytes of the log's events that this covers.
    #[serde(skip)]
    pub(super) position: u64,
}

#[derive(Debug, Serialize)]
struct LogPosition {
    at: usize,
    #[serde(flatten)]
    section: Section,
}

impl Logs {
    /// The log of a build.
    pub(super) fn of(&self, uuid: &str) -> BuildLog {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = match open.iter().position(|(known, _)| known == uuid) {
            Some(at) => open.remove(at).1,
            None => BuildLog::default(),
        };
        open.push((uuid.to_owned(), log.clone()));
        if open.len() > OPEN {
            open.remove(0);
        }
        log
    }
}

impl BuildLog {
    /// Works with the current index on a blocking thread.
    async fn with<T: Send + 'static>(
        &self,
        dir: &BuildDir,
        work: impl FnOnce(&mut LogIndex) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (log, dir) = (self.clone(), dir.clone());
        let worked = tokio::task::spawn_blocking(move || {
            let mut index = log.0.lock().unwrap_or_else(PoisonError::into_inner);
            if index.as_ref().is_none_or(|index| index.dir().path() != dir.path()) {
                *index = Some(LogIndex::open(&dir)?);
            }
            let found = index.as_mut().ok_or(io::ErrorKind::NotFound)?;
            let worked = found.catch_up().and_then(|()| work(found));
            if worked.is_err() {
                // The index may be inconsistent.
                *index = None;
            }
            worked
        });
        worked.await.map_err(io::Error::other)?
    }

    /// What has come after a version, with rows to be shown first where they are asked for: around
    /// one of them, or where it matters.
    pub(super) async fn news(
        &self,
        dir: &BuildDir,
        since: u64,
        first: Option<Option<u64>>,
    ) -> io::Result<News> {
        self.with(dir, move |index| {
            let first = first.map_or(Ok(None), |row| index.first(row))?;
            let sections = index.sections.since(since).into_iter();
            let sections =
                sections.map(|(at, section)| LogPosition { at, section: section.clone() });
            let (status, reason) = index.sections.end.clone().unzip();
            Ok(News {
                version: index.sections.seq,
                rows: index.rows(),
                bytes: index.bytes(),
                sections: sections.collect(),
                count: index.sections.all.len(),
                pauses: index.sections.pauses.clone(),
                sessions: index.sections.sessions,
                started: index.sections.started,
                last: index.sections.last,
                status,
                reason: reason.flatten(),
                first,
                position: index.position(),
            })
        })
        .await
    }

    pub(super) async fn rows(&self, dir: &BuildDir, from: u64, count: u64) -> io::Result<Rows> {
        self.with(dir, move |index| index.read(from, count)).await
    }

    /// Searches the log.
    pub(super) async fn search(&self, dir: &BuildDir, query: Query) -> io::Result<SearchHits> {
        let found = self.with(dir, move |index| {
            let heads = query.heads(index.sections.texts());
            Ok((query, heads, index.snapshot()?))
        });
        let (query, heads, snapshot) = found.await?;
        // Others can read the log meanwhile.
        let run = tokio::task::spawn_blocking(move || query.run(heads, snapshot));
        run.await.map_err(io::Error::other)?
    }

    /// The reports of tests and coverage.
    pub(super) async fn reports(&self, dir: &BuildDir) -> io::Result<Vec<ReportFacts>> {
        self.with(dir, |index| Ok(index.sections.reports.clone())).await
    }

    /// Start and end of a section's output.
    pub(super) async fn range(&self, dir: &BuildDir, section: usize) -> io::Result<(u64, u64)> {
        self.with(dir, move |index| index.range(section)).await
    }
}

impl News {
    /// Whether there are changes since a version.
    pub(super) fn is_new(&self, since: u64) -> bool {
        self.version > since
    }

    /// Whether the build has ended.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some()
    }
}
