//! Lists and removes caches in a bucket: `runner cache` for buckets.
//!
//! A cache is one object, so it is whole until it is removed, whatever the order of removals; a
//! build that downloads one meanwhile gets all of it or restores nothing. The danger is removing
//! something else: an object whose key only looks like a cache's, or a cache saved again since it
//! was listed. So each object is checked, must identify itself as a cache in its metadata, and is
//! removed only if it has not changed since.

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

/// Objects checked at once.
const AT_ONCE: usize = 16;
/// Parts of an upload begun this long ago are abandoned: no cache takes that long.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket with caches, or a part of a bucket.
#[derive(Debug)]
pub struct CacheBucket {
    s3: S3,
    location: Location,
}

/// The parts of an object's key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ObjectKey {
    object: String,
    project: String,
    paths: String,
    key: Option<String>,
}

impl CacheBucket {
    /// Uses the credentials, Region and endpoint that builds have. Makes no call.
    pub async fn new(location: Location, identity: &CloudIdentity) -> Self {
        CacheBucket { s3: S3::new(&Amazon::load(identity).await), location }
    }

    /// All caches, newest first.
    pub async fn list(&self) -> Result<Vec<ListedCache>, OutputError> {
        Ok(self.look().await?.into_iter().map(|(listed, _)| listed).collect())
    }

    /// Removes caches not saved since `before`, and the oldest beyond `most` bytes.
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

    /// The prefix of every key.
    fn prefix(&self) -> String {
        match self.location.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// All caches, newest first, each with the tag that shows whether it has changed since.
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

    /// One cache; `None` if it is gone or not a cache.
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

    /// Aborts multipart uploads that killed runners left behind.
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

/// Parses a key; `None` if it is not a cache's key below that prefix.
fn name(prefix: &str, object: String) -> Option<ObjectKey> {
    let rest = object.strip_prefix(prefix)?.strip_suffix(END)?;
    let (project, rest) = rest.split_once('/')?;
    let (paths, key) = rest.split_once('/')?;
    // Only the spelling used here is accepted, not an equivalent one.
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
