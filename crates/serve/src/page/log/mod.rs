//! A build's log, as the page shows it: parts with heads, and rows below them that are fetched when they are looked at.

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

/// Logs that are kept open.
const OPEN: usize = 16;

/// The logs that were looked at last.
#[derive(Debug, Default)]
pub(super) struct Logs(Mutex<Vec<(String, BuildLog)>>);

/// A build's log.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildLog(Arc<Mutex<Option<LogIndex>>>);

/// What has changed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct News {
    /// To ask with for what comes next.
    version: u64,
    rows: u64,
    bytes: u64,
    /// Where rows of parts begin that have changed, by their places in the list of all.
    sections: Vec<LogPosition>,
    count: usize,
    pauses: Vec<OpenPause>,
    sessions: usize,
    /// When the build was started, and of the last event.
    started: Option<i64>,
    last: i64,
    status: Option<Status>,
    reason: Option<String>,
    /// Rows that are shown first.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Rows>,
    /// How much of the log's events this is.
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
    /// That of a build.
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
    /// Does something with the log as it is now, where that holds up nobody else.
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
                // It may stand between two places.
                *index = None;
            }
            worked
        });
        worked.await.map_err(io::Error::other)?
    }

    /// What has come after a version, with rows to be shown first where they are asked for: around one of them, or where
    /// it matters.
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

    /// What fits a query.
    pub(super) async fn search(&self, dir: &BuildDir, query: Query) -> io::Result<SearchHits> {
        let found = self.with(dir, move |index| {
            let heads = query.heads(index.sections.texts());
            Ok((query, heads, index.snapshot()?))
        });
        let (query, heads, snapshot) = found.await?;
        // Others read the log meanwhile.
        let run = tokio::task::spawn_blocking(move || query.run(heads, snapshot));
        run.await.map_err(io::Error::other)?
    }

    /// Reports of tests and coverage.
    pub(super) async fn reports(&self, dir: &BuildDir) -> io::Result<Vec<ReportFacts>> {
        self.with(dir, |index| Ok(index.sections.reports.clone())).await
    }

    /// Where the output of a part lies.
    pub(super) async fn range(&self, dir: &BuildDir, section: usize) -> io::Result<(u64, u64)> {
        self.with(dir, move |index| index.range(section)).await
    }
}

impl News {
    /// Whether something has come after a version.
    pub(super) fn is_new(&self, since: u64) -> bool {
        self.version > since
    }

    /// Whether the build has ended.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some()
    }
}
