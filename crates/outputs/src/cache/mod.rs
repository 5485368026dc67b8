//! The cache: files that one build keeps for the next.
//!
//! Called by the driver in DOWNLOAD_SOURCE and in UPLOAD_ARTIFACTS. Problems are reported and never
//! fail a build. A cache with a key is saved once and never changed; one without is saved again
//! when something in it has changed.

mod bucket;
mod caching;
mod copy;
mod entry;
mod folder;
mod gather;
mod listed;
mod names;
mod new_entry;
mod signature;
mod tar;
mod upkeep;

pub use caching::Caching;
pub use entry::CacheEntry;
pub use folder::CacheFolder;
pub use listed::{LARGEST, ListedCache, OLDEST, Pruned};
pub use signature::Signer;
pub use upkeep::CacheBucket;

use super::folder::FolderKeeper;
use super::meter::Meter;
use super::transfer::keep;
use super::{OutputError, OutputStore, ShellValues};
use gather::{Gathered, gather, patterns};
use names::WantedCache;
use runner_core::event::CacheFacts;
use runner_core::mask::Secrets;
use runner_core::spec;
use runner_engine::CachedTrees;
use runner_engine::files::FilesProgram;
use std::path::Path;
use std::time::SystemTime;

/// Where caches are stored, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTo {
    pub store: OutputStore,
    /// Project name; only builds of this project find the cache.
    pub project: String,
    /// Signs the caches in a folder.
    pub signer: Signer,
}

impl CacheTo {
    fn folder(&self, path: &Path) -> CacheFolder {
        CacheFolder::signed(path, &self.signer)
    }

    /// Removes old caches and those beyond the size limit. Call it once the build no longer uses
    /// any.
    pub fn tidy(&self) -> Result<(), OutputError> {
        match &self.store {
            OutputStore::Folder(path) => {
                self.folder(path).prune(SystemTime::now() - OLDEST, LARGEST).map(drop)
            }
            // Many machines share a bucket, so none removes anything unasked.
            OutputStore::Bucket(_) => Ok(()),
        }
    }

    /// The cache in AWS's terms.
    pub fn facts(&self) -> CacheFacts {
        match &self.store {
            OutputStore::Folder(path) => {
                CacheFacts { r#type: "LOCAL".to_owned(), location: path.display().to_string() }
            }
            OutputStore::Bucket(location) => {
                let location = location.to_string().trim_start_matches("s3://").to_owned();
                CacheFacts { r#type: "S3".to_owned(), location }
            }
        }
    }
}

/// State of a build's cache, from its restore to its save.
#[derive(Debug, Default)]
pub struct CacheState {
    wanted: Option<WantedCache>,
    /// Digest of the restored cache.
    restored: Option<String>,
    /// Protects what the build sees from removal.
    entry: Option<CacheEntry>,
}

impl Caching {
    /// Resolves which cache is meant and, in a folder, looks for it. `before` is the result of the
    /// search made before the container existed. An error of the folder is not reported here: it
    /// recurs, and is reported, when the cache is restored.
    pub async fn find(&self, cache: &spec::Cache, to: &CacheTo, before: CacheState) -> CacheState {
        let wanted = match self.wanted(cache, to).await {
            Ok(wanted) => wanted,
            Err(problem) => {
                self.at
                    .teller
                    .warn(format!("cache: {problem}; the build continues without it"))
                    .await;
                return CacheState::default();
            }
        };
        let entry = match &to.store {
            _ if before.entry.is_some() => before.entry,
            OutputStore::Folder(path) if cache.restore && !cache.paths.is_empty() => {
                to.folder(path).find(&wanted).ok().flatten()
            }
            _ => None,
        };
        CacheState { wanted: Some(wanted), restored: None, entry }
    }

    /// Restores the cache. Returns what saving needs later. `found` may already be in the
    /// container.
    pub async fn restore(
        &self,
        cache: &spec::Cache,
        to: &CacheTo,
        found: CacheState,
    ) -> CacheState {
        let CacheState { wanted: Some(wanted), entry, .. } = found else { return found };
        if let Some(entry) = entry {
            return self.restore_found(wanted, entry).await;
        }
        let mut state = CacheState { wanted: Some(wanted.clone()), ..CacheState::default() };
        if !cache.restore || cache.paths.is_empty() {
            return state;
        }
        let restored = match &to.store {
            OutputStore::Folder(path) => match to.folder(path).find(&wanted) {
                Ok(Some(entry)) => return self.restore_found(wanted, entry).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            },
            OutputStore::Bucket(location) => {
                bucket::restore(self, &self.at.s3().await, location, &wanted).await
            }
        };
        match restored {
            Ok(Some(digest)) => state.restored = Some(digest),
            Ok(None) => {
                let text = match &wanted.key {
                    Some(key) => format!("cache: none for the key {key}"),
                    None => "cache: none yet".to_owned(),
                };
                self.note(text).await;
            }
            Err(error) => self.complain("cannot be restored", &error).await,
        }
        state
    }

    async fn restore_found(&self, wanted: WantedCache, entry: CacheEntry) -> CacheState {
        let facts = entry.facts.clone();
        let is_there = self.at.container.has_cache();
        if !is_there {
            self.tell_why_copied(&entry).await;
        }
        let entry = if is_there { Ok(entry) } else { copy::restore(self, entry).await };
        let (restored, entry) = match entry {
            Ok(entry) => {
                self.tell_restored(&facts.key, facts.files, facts.bytes, &wanted).await;
                (Some(facts.digest), is_there.then_some(entry))
            }
            Err(error) => {
                self.complain("cannot be restored", &error).await;
                (None, None)
            }
        };
        CacheState { wanted: Some(wanted), restored, entry }
    }

    /// Saves the cache for the next build.
    pub async fn save(&self, cache: &spec::Cache, to: &CacheTo, state: &CacheState) {
        let Some(wanted) = &state.wanted else { return };
        if !cache.save || cache.paths.is_empty() {
            return;
        }
        if let Err(error) = self.try_to_save(cache, to, wanted, state).await {
            self.complain("cannot be saved", &error).await;
        }
    }

    async fn try_to_save(
        &self,
        cache: &spec::Cache,
        to: &CacheTo,
        wanted: &WantedCache,
        state: &CacheState,
    ) -> Result<(), OutputError> {
        let is_there = match &to.store {
            _ if wanted.key.is_none() => false,
            OutputStore::Folder(path) => to.folder(path).has(wanted)?,
            OutputStore::Bucket(location) => {
                bucket::has(&self.at.s3().await, location, wanted).await?
            }
        };
        if is_there {
            // A key's content never changes.
            return Ok(());
        }
        let patterns = patterns(&cache.paths, &self.at.values, &self.at.source);
        let gathered = gather(&self.origin(), &patterns).await?;
        if gathered.files() == 0 {
            self.note("cache: nothing to save: no file matches its paths".to_owned()).await;
            return Ok(());
        }
        if wanted.key.is_none() && state.restored.as_ref() == Some(&gathered.digest()) {
            return Ok(());
        }
        let (files, bytes) = (gathered.files(), gathered.bytes());
        match &to.store {
            OutputStore::Folder(path) => {
                self.save_in_folder(to.folder(path), wanted, gathered).await?;
            }
            OutputStore::Bucket(location) => {
                bucket::save(self, &self.at.s3().await, location, wanted, gathered).await?;
            }
        }
        let key = wanted.key.as_ref().map_or(String::new(), |key| format!(" under the key {key}"));
        self.note(format!("cache: saved {files} file(s), {bytes} bytes{key}")).await;
        Ok(())
    }

    async fn save_in_folder(
        &self,
        folder: CacheFolder,
        wanted: &WantedCache,
        gathered: Gathered,
    ) -> Result<(), OutputError> {
        let (build, wanted) = (self.at.build.clone(), wanted.clone());
        let (meter, bytes) = (Meter::default(), gathered.bytes());
        let chosen = gathered.chosen(&self.at.source);
        let files = FilesProgram::start(&*self.at.container).await?;
        let counted = meter.clone();
        let work = tokio::task::spawn_blocking(move || {
            let new = folder.begin(&build)?;
            new.make_others(&gathered)?;
            let shared = folder.naming().map(|naming| new.shared(naming)).transpose()?;
            let mut keeper = FolderKeeper::sharing(new.place()?, counted, shared);
            let mut changed = Vec::new();
            keep(files, &chosen, &mut keeper, &mut |text| changed.push(text))?;
            if let Some(text) = changed.into_iter().next() {
                // The next build would restore something that no build wrote.
                return Err(OutputError::Other(text));
            }
            folder.finish(new, &wanted, &gathered).map(drop)
        });
        let saved = meter.during(&self.at.teller, "cache", bytes, work).await;
        saved.map_err(|error| OutputError::Other(error.to_string()))?
    }

    /// Resolves the buildspec's cache settings.
    async fn wanted(&self, cache: &spec::Cache, to: &CacheTo) -> Result<WantedCache, String> {
        let secrets = self.at.secrets.get();
        let evaluate = async |text: &String| {
            let value = self.at.values.evaluate(&*self.at.container, text).await;
            value.map_err(|problem| format!("cannot evaluate the key {text}: {problem}"))
        };
        let key = match &cache.key {
            Some(key) => Some(to.without_secrets(key, evaluate(key).await?, &secrets)?),
            None => None,
        };
        let mut fallback = Vec::new();
        if key.is_some() {
            for text in &cache.fallback_keys {
                fallback.push(to.without_secrets(text, evaluate(text).await?, &secrets)?);
            }
        }
        Ok(WantedCache::new(cache, &to.project, key, fallback))
    }
}

impl CacheTo {
    /// A key that reveals no secret and matches no other key. In a folder each secret is replaced
    /// by a pseudonym. A bucket's caches are also for other machines: there, no replacement exists
    /// that only those who know the secret could compute.
    fn without_secrets(
        &self,
        text: &str,
        key: String,
        secrets: &Secrets,
    ) -> Result<String, String> {
        let hidden = |secret: &[u8]| match &self.store {
            OutputStore::Folder(_) => self.signer.pseudonym(secret),
            OutputStore::Bucket(_) => None,
        };
        let mut is_hidden = true;
        let masked = secrets.replace_in(&key, |secret| {
            let pseudonym = hidden(secret);
            is_hidden &= pseudonym.is_some();
            format!("***{}", pseudonym.unwrap_or_default())
        });
        match masked {
            None => Ok(key),
            Some(masked) if is_hidden => Ok(masked),
            Some(_) => Err(format!("a secret is in the key {text}, which others could read there")),
        }
    }
}

impl CacheState {
    /// Looks for a cache in a folder before there is a container; possible if nothing in its key
    /// has to be evaluated. An error here recurs, and is reported, when the cache is restored.
    pub fn found_before(cache: &spec::Cache, to: &CacheTo) -> Self {
        let mut keys = cache.key.iter().chain(&cache.fallback_keys);
        let OutputStore::Folder(path) = &to.store else { return CacheState::default() };
        if !cache.restore
            || cache.paths.is_empty()
            || keys.any(|key| ShellValues::has_to_evaluate(key))
        {
            return CacheState::default();
        }
        let fallback = if cache.key.is_some() { cache.fallback_keys.clone() } else { Vec::new() };
        let wanted = WantedCache::new(cache, &to.project, cache.key.clone(), fallback);
        let entry = to.folder(path).find(&wanted).ok().flatten();
        CacheState { entry, wanted: Some(wanted), restored: None }
    }

    /// Number of files and bytes of the cache found in a folder.
    pub fn found(&self) -> Option<(u64, u64)> {
        self.entry.as_ref().map(|entry| (entry.facts.files, entry.facts.bytes))
    }

    /// The trees that may become part of a container: only those of a cache that this user's runner
    /// saved here.
    pub fn trees(&self) -> Option<CachedTrees> {
        self.entry.as_ref().filter(|entry| entry.is_ours)?.trees()
    }
}
