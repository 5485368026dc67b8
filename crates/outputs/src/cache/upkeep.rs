//! Caches in a bucket, listed and removed: `runner cache` for buckets.
//!
//! A cache is one object, so it is whole until it is gone, whatever the order in which several go; a build
//! that fetches one meanwhile has all of it or puts nothing in place. What could go wrong is to remove
//! something else: an object whose name only looks like a cache's, or a cache that a build has saved anew
//! since it was listed. So each is looked at, says by its metadata that it is one, and goes only as it was
//! then.

use super::super::OutputError;
use super::bucket::{COUNTS, DIGEST, END, NO_KEY, counts};
use super::listed::{ListedCache, Pruned, superfluous};
use super::names::{decode, encode, is_paths};
use futures_util::{StreamExt, TryStreamExt, stream};
use runner_cloud::s3::{Doomed, Location, ObjectHead, S3};
use runner_cloud::{Amazon, CloudIdentity};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::ready;
use std::time::{Duration, SystemTime};

/// Objects that are looked at at once.
const AT_ONCE: usize = 16;
/// Parts of an upload that was begun so long ago belong to nobody any more: no cache takes that long.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket with caches, or a part of one.
#[derive(Debug)]
pub struct CacheBucket {
    s3: S3,
    location: Location,
}

/// What an object's key says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ObjectKey {
    object: String,
    project: String,
    paths: String,
    key: Option<String>,
}

impl CacheBucket {
    /// With the credentials, Region and endpoint that builds have. No call is made.
    pub async fn new(location: Location, identity: &CloudIdentity) -> Self {
        CacheBucket { s3: S3::new(&Amazon::load(identity).await), location }
    }

    /// Everything in it, the newest first.
    pub async fn list(&self) -> Result<Vec<ListedCache>, OutputError> {
        Ok(self.look().await?.into_iter().map(|(listed, _)| listed).collect())
    }

    /// Removes what was not saved since `before`, and beyond `most` bytes the oldest.
    pub async fn prune(&self, before: SystemTime, most: u64) -> Result<Pruned, OutputError> {
        let (mut listed, mut etags) = (Vec::new(), HashMap::new());
        for (entry, etag) in self.look().await? {
            etags.insert(entry.id.clone(), etag);
            listed.push(entry);
        }
        let gone = superfluous(listed, before, most);
        let doomed: Vec<Doomed> = gone
            .iter()
            .map(|entry| Doomed { key: entry.id.clone(), etag: etags.remove(&entry.id).flatten() })
            .collect();
        let removal = self.s3.remove(&self.location.bucket, &doomed).await;
        Ok(Pruned {
            removed: gone.into_iter().filter(|entry| removal.gone.contains(&entry.id)).collect(),
            renewed: removal.changed.len(),
            failures: removal.failures.into_iter().map(OutputError::from).collect(),
            abandoned: self.throw_away_abandoned().await,
        })
    }

    /// What every key has to begin with.
    fn prefix(&self) -> String {
        match self.location.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// Everything in it, the newest first, with what tells whether it has changed since.
    async fn look(&self) -> Result<Vec<(ListedCache, Option<String>)>, OutputError> {
        let (bucket, prefix) = (&self.location.bucket, self.prefix());
        let mut named = Vec::new();
        self.s3.visit(bucket, &prefix, |one| named.extend(name(&prefix, one.key))).await?;
        let mut found: Vec<_> = stream::iter(named)
            .map(|named| self.look_at(named))
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|found| ready(Ok(found)))
            .try_collect()
            .await?;
        found.sort_by_key(|(listed, _)| Reverse((listed.created, listed.id.clone())));
        Ok(found)
    }

    /// One of them; `None` where it is gone already, or no cache.
    async fn look_at(
        &self,
        named: ObjectKey,
    ) -> Result<Option<(ListedCache, Option<String>)>, OutputError> {
        let ObjectKey { object, project, paths, key } = named;
        let place = Location { prefix: String::new(), ..self.location.clone() }.object(&object);
        let Some(looked) = self.s3.look(&place).await? else { return Ok(None) };
        if looked.metadata(DIGEST).is_none() {
            return Ok(None);
        }
        let (files, _) = counts(looked.metadata(COUNTS));
        let ObjectHead { size: bytes, modified, etag, .. } = looked;
        let modified = modified.and_then(|seconds| u64::try_from(seconds).ok());
        // An unknown age does not make a cache old.
        let saved = modified.map_or_else(since_1970, Duration::from_secs);
        let created = u64::try_from(saved.as_millis()).unwrap_or(u64::MAX);
        let used = SystemTime::UNIX_EPOCH + saved;
        Ok(Some((
            ListedCache { id: object, project, paths, key, files, bytes, created, used },
            etag,
        )))
    }

    /// Multipart uploads that killed runners left behind.
    async fn throw_away_abandoned(&self) -> Result<usize, OutputError> {
        let (bucket, prefix) = (&self.location.bucket, self.prefix());
        let before = since_1970().saturating_sub(ABANDONED).as_secs();
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let mut count = 0;
        for upload in self.s3.begun(bucket, &prefix).await? {
            if upload.since < before && name(&prefix, upload.key.clone()).is_some() {
                self.s3.abandon(bucket, &upload).await?;
                count += 1;
            }
        }
        Ok(count)
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// What a key says, if it is one of a cache below that prefix.
fn name(prefix: &str, object: String) -> Option<ObjectKey> {
    let rest = object.strip_prefix(prefix)?.strip_suffix(END)?;
    let (project, rest) = rest.split_once('/')?;
    let (paths, key) = rest.split_once('/')?;
    // Only in the spelling used here, not in an equivalent one.
    let text = |encoded: &str| {
        String::from_utf8(decode(encoded)?).ok().filter(|text| encode(text.as_bytes()) == encoded)
    };
    let project = text(project).filter(|project| !project.is_empty())?;
    let key = match key {
        NO_KEY => None,
        key => Some(text(key)?),
    };
    let paths = Some(paths).filter(|paths| is_paths(paths))?.to_owned();
    Some(ObjectKey { project, paths, key, object })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_caches_are_told_from_others() {
        let read = |prefix: &str, key: &str| {
            name(prefix, key.to_owned()).map(|named| (named.project, named.paths, named.key))
        };
        let paths = "0123456789abcdef";
        let wanted =
            |key: Option<&str>| Some(("demo".to_owned(), paths.to_owned(), key.map(str::to_owned)));
        for (prefix, key, of) in [
            ("", "demo/0123456789abcdef/k-1.tar.gz", Some("k-1")),
            ("a/b/", "a/b/demo/0123456789abcdef/k%201/x.tar.gz", Some("k 1/x")),
            ("a/", "a/demo/0123456789abcdef/.tar.gz", Some("")),
            ("a/", "a/demo/0123456789abcdef/%.tar.gz", None),
        ] {
            assert_eq!(read(prefix, key), wanted(of), "{key}");
        }
        for (prefix, key) in [
            ("", "a/demo/0123456789abcdef/k.tar.gz"),
            ("a/", "demo/0123456789abcdef/k.tar.gz"),
            ("", "demo/0123456789abcdef/k.zip"),
            ("", "demo/0123456789ABCDEF/k.tar.gz"),
            ("", "demo/0123/k.tar.gz"),
            ("", "/0123456789abcdef/k.tar.gz"),
            ("", "demo/0123456789abcdef/%FF.tar.gz"),
            ("", "demo/0123456789abcdef/k%2D1.tar.gz"),
            ("", "demo/0123456789abcdef.tar.gz"),
        ] {
            assert_eq!(read(prefix, key), None, "{key}");
        }
    }
}
