//! Removes objects from a bucket, many at once, and aborts uploads that nobody completes.
//!
//! Used by `outputs::cache` for caches in buckets. An object is removed only if it has not changed
//! since it was looked at. Servers that do not know this condition remove it in any case.

use super::download::header;
use super::request::S3Request;
use super::{Object, PAUSE, S3, S3Error, xml};
use aws_smithy_types::date_time::Format;
use http::{HeaderMap, Method};
use std::collections::HashSet;

/// Most objects that S3 removes in one request.
const BATCH: usize = 1000;
/// How often a removal that failed for the moment is retried.
const AGAIN: u32 = 3;

/// The response to `HEAD` for an object.
#[derive(Clone, Debug)]
pub struct ObjectHead {
    pub size: u64,
    /// Last modification, in seconds since 1970 by the server's clock, if the server tells.
    pub modified: Option<i64>,
    /// Changes with the object's content.
    pub etag: Option<String>,
    headers: HeaderMap,
}

impl ObjectHead {
    /// A value of the metadata stored with the object.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        header(&self.headers, &format!("x-amz-meta-{name}"))
    }
}

/// An object to remove, with its tag at the time it was looked at.
#[derive(Clone, Debug)]
pub struct Doomed {
    pub key: String,
    pub etag: Option<String>,
}

/// The outcome of a removal.
#[derive(Debug, Default)]
pub struct Removal {
    /// Keys of the removed objects.
    pub gone: HashSet<String>,
    /// Keys of objects that stay because they changed after they were looked at.
    pub changed: HashSet<String>,
    /// Why other objects stay.
    pub failures: Vec<S3Error>,
}

/// A multipart upload that was neither completed nor aborted.
#[derive(Clone, Debug)]
pub struct PendingUpload {
    pub key: String,
    pub id: String,
    /// Its start, in seconds since 1970 by the server's clock.
    pub since: i64,
}

impl S3 {
    /// An object's properties, without its bytes; `None` if it does not exist.
    pub async fn look(&self, object: &Object) -> Result<Option<ObjectHead>, S3Error> {
        let request = S3Request::new(Method::HEAD, &object.bucket, &object.key);
        let headers = match self.client.call(&request).await {
            Ok(answer) => answer.headers,
            Err(failure) => {
                let error = S3Error::new("look at", object, failure);
                return if error.is_missing_object() { Ok(None) } else { Err(error) };
            }
        };
        let size = header(&headers, "content-length").and_then(|size| size.parse().ok());
        let modified = header(&headers, "last-modified");
        Ok(Some(ObjectHead {
            size: size.unwrap_or(0),
            modified: modified.and_then(|time| xml::seconds(time, Format::HttpDate)),
            etag: header(&headers, "etag").map(str::to_owned),
            headers,
        }))
    }

    /// Removes objects. Reports each one that stays; stops if a request fails as a whole.
    pub async fn remove(&self, bucket: &str, doomed: &[Doomed]) -> Removal {
        let mut removal = Removal::default();
        for batch in doomed.chunks(BATCH) {
            let mut left = batch.to_vec();
            let mut attempt = 0;
            while !left.is_empty() {
                let passing = match self.remove_batch(bucket, &left, &mut removal).await {
                    Ok(passing) => passing,
                    Err(error) => {
                        removal.failures.push(error);
                        return removal;
                    }
                };
                attempt += 1;
                if attempt > AGAIN {
                    removal.failures.extend(passing.into_iter().map(|(_, error)| error));
                    break;
                }
                if !passing.is_empty() {
                    tracing::debug!(count = passing.len(), attempt, "removing objects again");
                    tokio::time::sleep(PAUSE * attempt).await;
                }
                left = passing.into_iter().map(|(doomed, _)| doomed).collect();
            }
        }
        removal
    }

    /// Sends one request. Returns the objects whose removal may succeed later.
    async fn remove_batch(
        &self,
        bucket: &str,
        batch: &[Doomed],
        removal: &mut Removal,
    ) -> Result<Vec<(Doomed, S3Error)>, S3Error> {
        let object =
            |key: &str| Object { bucket: bucket.into(), key: key.into(), ..<_>::default() };
        let first = batch.first().map_or("", |doomed| doomed.key.as_str());
        let all = match batch.len() {
            1 => object(first),
            count => object(&format!("{first} and {} more", count - 1)),
        };
        // S3 demands a checksum of this body.
        let request = S3Request::new(Method::POST, bucket, "")
            .query("delete", "")
            .body(xml::deletion(batch).into())
            .checked()
            .await;
        let answer = self.client.call(&request).await;
        let answer = answer.map_err(|failure| S3Error::new("remove", &all, failure))?;
        let answer =
            xml::deleted(&answer.body).map_err(|problem| S3Error::odd("remove", &all, problem))?;
        removal.gone.extend(answer.gone);
        let mut passing = Vec::new();
        let mut told = HashSet::new();
        for xml::DeleteError { key, code, message } in answer.problems {
            told.insert(key.clone());
            match code.as_str() {
                // Someone else has removed it already.
                "NoSuchKey" | "NotFound" => {}
                "PreconditionFailed" | "ConditionalRequestConflict" => {
                    removal.changed.insert(key);
                }
                _ => {
                    let error = S3Error::of_code("remove", &object(&key), code, &message);
                    match batch.iter().find(|doomed| doomed.key == key) {
                        Some(doomed) if error.may_pass() => passing.push((doomed.clone(), error)),
                        _ => removal.failures.push(error),
                    }
                }
            }
        }
        for Doomed { key, .. } in batch {
            if !removal.gone.contains(key) && !told.contains(key) {
                let problem = "the server does not report its result".to_owned();
                removal.failures.push(S3Error::odd("remove", &object(key), problem));
            }
        }
        Ok(passing)
    }

    /// Open uploads whose keys begin with `prefix`.
    pub async fn begun(&self, bucket: &str, prefix: &str) -> Result<Vec<PendingUpload>, S3Error> {
        let place = Object { bucket: bucket.into(), key: prefix.into(), ..Object::default() };
        let mut begun = Vec::new();
        let mut next: Option<(String, String)> = None;
        loop {
            let mut request = S3Request::new(Method::GET, bucket, "")
                .query("uploads", "")
                .query("prefix", prefix);
            if let Some((key, id)) = &next {
                request = request.query("key-marker", key).query("upload-id-marker", id);
            }
            let doing = "list the uploads of";
            let answer = self.client.call(&request).await;
            let answer = answer.map_err(|failure| S3Error::new(doing, &place, failure))?;
            let page = xml::uploads(&answer.body)
                .map_err(|problem| S3Error::odd(doing, &place, problem))?;
            begun.extend(page.begun);
            match page.next {
                None => return Ok(begun),
                // A server that starts over at the front would keep us asking for ever.
                marker if marker == next => return Ok(begun),
                marker => next = marker,
            }
        }
    }

    /// Aborts an upload and discards its parts.
    pub async fn abandon(&self, bucket: &str, upload: &PendingUpload) -> Result<(), S3Error> {
        let object = Object { bucket: bucket.into(), key: upload.key.clone(), ..Object::default() };
        let request =
            S3Request::new(Method::DELETE, bucket, &upload.key).query("uploadId", &upload.id);
        match self.client.call(&request).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                let error = S3Error::new("throw away the upload of", &object, failure);
                // Someone else has completed or aborted it.
                if error.code == "NoSuchUpload" { Ok(()) } else { Err(error) }
            }
        }
    }
}
