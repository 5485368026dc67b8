//! What moves caches: where it finds things, and whom it tells.
//!
//! Made by the driver. What is done with it is in `cache`, and for buckets in `bucket`.

use super::super::transfer::{Keeper, keep};
use super::super::{Leavings, OutputError, Teller, Values};
use super::gather::{Gathered, Origin};
use super::names::Wanted;
use crate::amazon::s3::S3;
use crate::amazon::{Amazon, Identity};
use crate::engine::Container;
use crate::engine::files::Files;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// What moves caches.
pub(crate) struct Caching {
    pub(crate) container: Arc<dyn Container>,
    pub(crate) teller: Teller,
    pub(crate) values: Values,
    /// `CODEBUILD_SRC_DIR`.
    pub(crate) source: String,
    /// What is not cached.
    pub(crate) leavings: Leavings,
    pub(crate) build: String,
    /// A folder of the build's own.
    pub(crate) scratch: PathBuf,
    pub(crate) identity: Identity,
    /// Becomes true when nobody waits for it any more.
    pub(crate) cancel: watch::Receiver<bool>,
}

impl Caching {
    pub(super) fn origin(&self) -> Origin<'_> {
        Origin {
            container: &*self.container,
            source: &self.source,
            leavings: &self.leavings,
            teller: &self.teller,
        }
    }

    pub(super) async fn tell_restored(
        &self,
        key: &Option<String>,
        files: u64,
        bytes: u64,
        wanted: &Wanted,
    ) {
        let of = match key {
            Some(key) if *key != *wanted.key.as_deref().unwrap_or_default() => {
                format!(" of the similar key {key}")
            }
            Some(key) => format!(" of the key {key}"),
            None => String::new(),
        };
        let how = if self.container.has_cache() { ", as a layer" } else { "" };
        self.note(format!("cache{of}: restored {files} file(s), {bytes} bytes{how}")).await;
    }

    pub(super) async fn keep_with<K: Keeper + Send + 'static>(
        &self,
        gathered: &Gathered,
        mut keeper: K,
    ) -> Result<K, OutputError> {
        let chosen = gathered.chosen(&self.source);
        let files = Files::start(&*self.container).await?;
        let work = tokio::task::spawn_blocking(move || {
            let mut changed = Vec::new();
            keep(files, &chosen, &mut keeper, &mut |_, text| changed.push(text))?;
            match changed.into_iter().next() {
                Some(text) => Err(OutputError::Other(text)),
                None => Ok(keeper),
            }
        });
        work.await.map_err(|error| OutputError::Other(error.to_string()))?
    }

    pub(super) async fn s3(&self) -> S3 {
        S3::new(&Amazon::load(&self.identity).await)
    }

    pub(super) async fn note(&self, text: String) {
        self.teller.note(text).await;
    }

    pub(super) async fn complain(&self, what: &str, error: &OutputError) {
        self.teller.warn(format!("the cache {what}: {error}; the build goes on")).await;
        if let Some(hint) = error.hint() {
            self.note(format!("hint: {hint}")).await;
        }
    }
}
