//! Batches of `runner batch`, which have an owner and no row: reads them from their folders.

use crate::db::DbError;
use crate::db::batches::{AfterBatch, BatchFilter};
use crate::db::builds;
use crate::service::Service;
use crate::service::queue::{Deleted, Launcher};
use runner_core::batch::BuildBatch;
use runner_folder::state::{
    BatchDir, Home, RecordVersion, StateError, batches_with_records, listed_batches,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What lists need of such batches, from their records at the last look.
#[derive(Default)]
pub(crate) struct Records(Mutex<HashMap<String, Summary>>);

struct Summary {
    written: RecordVersion,
    id: String,
    project: String,
    status: &'static str,
    after: AfterBatch,
}

impl Records {
    /// The entries for one page of a list, unsorted. Reads only records that are new since the last
    /// look; blocks.
    fn listed(
        &self,
        home: &Home,
        filter: &BatchFilter,
        is_descending: bool,
        after: Option<AfterBatch>,
    ) -> Result<Vec<(String, AfterBatch)>, StateError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut there = HashSet::new();
        for (uuid, written) in batches_with_records(home)? {
            if known.get(&uuid).is_none_or(|summary| summary.written != written)
                && let Some(record) = read(home, &uuid)
            {
                known.insert(uuid.clone(), summary(&uuid, &record, written));
            }
            there.insert(uuid);
        }
        known.retain(|uuid, _| there.contains(uuid));
        let is_wanted = |summary: &&Summary| {
            filter.project.as_ref().is_none_or(|project| *project == summary.project)
                && filter.status.as_ref().is_none_or(|status| status == summary.status)
                && after.is_none_or(|after| (summary.after < after) == is_descending)
                && Some(summary.after) != after
        };
        Ok(known
            .values()
            .filter(is_wanted)
            .map(|summary| (summary.id.clone(), summary.after))
            .collect())
    }
}

fn summary(uuid: &str, record: &BuildBatch, written: RecordVersion) -> Summary {
    // Rows count upwards from one, so these numbers differ from theirs and from one another.
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(15).collect();
    let place = i64::from_str_radix(&digits, 16).unwrap_or_default();
    Summary {
        written,
        id: record.id.clone(),
        project: record.project_name.clone(),
        status: record.build_batch_status.name(),
        after: ((record.start_time * 1000.0) as i64, -1 - place),
    }
}

/// The record of such a batch; `None` if it cannot be read.
fn read(home: &Home, uuid: &str) -> Option<BuildBatch> {
    match BatchDir::of(home, uuid).record() {
        Ok(record) => record.filter(|record| record.id.ends_with(uuid)),
        Err(error) => {
            tracing::warn!(%error, %uuid, "the record of a batch cannot be read");
            None
        }
    }
}

/// Repairs batches whose owner was killed.
fn sweep_dead(home: &Home, launcher: &dyn Launcher) {
    let is_dead = |dir: &BatchDir| matches!(dir.take_over(), Ok(Some(_)));
    if listed_batches(home).is_ok_and(|listed| listed.iter().any(is_dead)) {
        launcher.sweep();
    }
}

impl Service {
    /// The records of those batches among these uuids that `runner batch` started, in order.
    pub async fn found_batches(
        &self,
        uuids: Vec<String>,
    ) -> Result<Vec<Option<BuildBatch>>, DbError> {
        let (home, launcher) = (self.home.clone(), Arc::clone(&self.queue.launcher));
        let look = move || {
            sweep_dead(&home, &*launcher);
            // No other name can be a folder's.
            let named = |uuid: &String| uuid::Uuid::try_parse(uuid).ok();
            let record = |uuid: uuid::Uuid| read(&home, &uuid.hyphenated().to_string());
            uuids.iter().map(|uuid| named(uuid).and_then(record)).collect()
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| DbError::Closed)
    }

    /// A page of the list of all batches: ids, and the position after which the list continues.
    pub async fn list_batches(
        &self,
        filter: BatchFilter,
        is_descending: bool,
        after: Option<AfterBatch>,
        most: usize,
    ) -> Result<Vec<(String, AfterBatch)>, DbError> {
        let mut page = self.list_own_batches(filter.clone(), is_descending, after, most).await?;
        let (home, records) = (self.home.clone(), Arc::clone(&self.records));
        let launcher = Arc::clone(&self.queue.launcher);
        let look = move || {
            sweep_dead(&home, &*launcher);
            records.listed(&home, &filter, is_descending, after)
        };
        let found = tokio::task::spawn_blocking(look).await.map_err(|_| DbError::Closed)?;
        page.extend(found.map_err(|error| DbError::File(error.to_string()))?);
        page.sort_by_key(|(_, after)| *after);
        if is_descending {
            page.reverse();
        }
        page.truncate(most);
        Ok(page)
    }

    /// Deletes such a batch with its builds, if it has ended.
    pub async fn delete_found_batch(&self, record: &BuildBatch) -> Result<Deleted, DbError> {
        let uuid = |arn: &str| arn.rsplit(':').next().unwrap_or_default().to_owned();
        let dir = BatchDir::of(&self.home, &uuid(&record.id));
        if !record.complete {
            return Ok(Deleted { alive: vec![record.arn.clone()], ..Deleted::default() });
        }
        let builds: Vec<String> = record.builds().map(uuid).collect();
        self.refresh().await?;
        let known = {
            let builds = builds.clone();
            self.db.read(move |connection| builds::get_all(connection, &builds)).await?
        };
        let is_known = builds.into_iter().zip(known).filter_map(|(uuid, row)| row.map(|_| uuid));
        let mut deleted = self.delete_builds(is_known.collect()).await?;
        if deleted.alive.is_empty() && deleted.failed.is_empty() {
            let removed = tokio::task::spawn_blocking(move || dir.remove()).await;
            let removed = removed
                .map_err(|_| DbError::Closed)?
                .map_err(|error| DbError::File(format!("the batch's folder stays: {error}")))?;
            if !removed {
                deleted.alive.push(record.arn.clone());
            }
        }
        Ok(deleted)
    }
}
