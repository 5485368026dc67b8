//! What all code that moves caches needs: the places, and where messages go.
//!
//! Made by the driver and used by `cache` and, for buckets, by `bucket`.

use super::super::transfer::{Keeper, keep};
use super::super::{OutputError, Workplace};
use super::entry::CacheEntry;
use super::gather::{CacheOrigin, Gathered};
use super::names::WantedCache;
use runner_core::event::Notice;
use runner_engine::files::FilesProgram;

/// Shared state for saving and restoring caches.
pub struct Caching {
    pub at: Workplace,
}

impl Caching {
    pub(super) fn origin(&self) -> CacheOrigin<'_> {
        CacheOrigin {
            container: &*self.at.container,
            source: &self.at.source,
            leavings: &self.at.leavings,
            teller: &self.at.teller,
        }
    }

    pub(super) async fn tell_restored(
        &self,
        key: &Option<String>,
        files: u64,
        bytes: u64,
        wanted: &WantedCache,
    ) {
        let of = match key {
            Some(key) if *key != *wanted.key.as_deref().unwrap_or_default() => {
                format!(" of the similar key {key}")
            }
            Some(key) => format!(" of the key {key}"),
            None => String::new(),
        };
        let how = if self.at.container.has_cache() { ", as a layer" } else { "" };
        self.note(format!("cache{of}: restored {files} file(s), {bytes} bytes{how}")).await;
    }

    /// Reports a large cache that was copied but could be a layer if this user's runner had saved
    /// it here.
    pub(super) async fn tell_why_copied(&self, entry: &CacheEntry) {
        let could_be_layer =
            || entry.trees().is_some_and(|trees| self.at.container.can_hold(&trees));
        if !entry.is_ours && entry.is_large() && could_be_layer() {
            let folder = entry.folder().display();
            self.note(format!(
                "cache: copied, since it was not saved by your runner on this machine; runner cache prune \
                 --all {folder}, and the next build saves one that needs no copy"
            ))
            .await;
        }
    }

    pub(super) async fn keep_with<K: Keeper + Send + 'static>(
        &self,
        gathered: &Gathered,
        mut keeper: K,
    ) -> Result<K, OutputError> {
        let chosen = gathered.chosen(&self.at.source);
        let files = FilesProgram::start(&*self.at.container).await?;
        let work = tokio::task::spawn_blocking(move || {
            let mut changed = Vec::new();
            keep(files, &chosen, &mut keeper, &mut |text| changed.push(text))?;
            match changed.into_iter().next() {
                Some(text) => Err(OutputError::Other(text)),
                None => Ok(keeper),
            }
        });
        work.await.map_err(|error| OutputError::Other(error.to_string()))?
    }

    pub(super) async fn note(&self, text: String) {
        self.at.teller.note(text).await;
    }

    pub(super) async fn complain(&self, what: &str, error: &OutputError) {
        let notice = Notice::warning(format!("the cache {what}: {error}; the build continues"));
        self.at.teller.notice(notice.with_hint(error.hint())).await;
    }
}
