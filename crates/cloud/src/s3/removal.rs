//! What leaves a bucket: objects, looked at one by one and removed many at once, and uploads that nobody
//! completes.
//!
//! Used by `outputs::cache` for caches in buckets. An object is removed only if it is still the one that was
//! looked at, where the server knows that condition; others remove it whatever it is by then.

use super::{Object, PAUSE, S3, S3Error};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use std::collections::{HashMap, HashSet};

/// S3 removes so many objects at one request.
const BATCH: usize = 1000;
/// How often what a server could not remove just now is tried again.
const AGAIN: u32 = 3;

/// What a server tells of an object.
#[derive(Clone, Debug)]
pub struct Looked {
    pub size: u64,
    /// When it was last written, in seconds since 1970, by the server's clock, where it tells.
    pub modified: Option<i64>,
    /// Differs where the object differs.
    pub etag: Option<String>,
    metadata: HashMap<String, String>,
}

impl Looked {
    /// The metadata it was put with.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }
}

/// An object that is to go, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Doomed {
    pub key: String,
    pub etag: Option<String>,
}

/// What has become of objects that were to go.
#[derive(Debug, Default)]
pub struct Removal {
    /// Keys of what is gone.
    pub gone: HashSet<String>,
    /// Keys of what was written anew after it was looked at, and stays.
    pub changed: HashSet<String>,
    /// Why something else stays.
    pub failures: Vec<S3Error>,
}

/// An upload in parts that was begun, and neither completed nor thrown away.
#[derive(Clone, Debug)]
pub struct Begun {
    pub key: String,
    pub id: String,
    /// In seconds since 1970, by the server's clock.
    pub since: i64,
}

impl S3 {
    /// What there is to know of an object without its bytes; `None` where there is none.
    pub async fn look(&self, object: &Object) -> Result<Option<Looked>, S3Error> {
        let request = self.client.head_object().bucket(&object.bucket).key(&object.key);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = S3Error::new("look at", object, &error);
                return if error.is_missing_object() { Ok(None) } else { Err(error) };
            }
        };
        Ok(Some(Looked {
            size: answer.content_length.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            modified: answer.last_modified.as_ref().map(DateTime::secs),
            etag: answer.e_tag,
            metadata: answer.metadata.unwrap_or_default(),
        }))
    }

    /// Removes objects. Each that cannot be removed is reported; a request that fails as a whole is the end of it.
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

    /// One request; what may be gone at another time.
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
        let own = |error: &dyn std::error::Error| S3Error::odd("remove", &all, error.to_string());
        let mut objects = Vec::with_capacity(batch.len());
        for Doomed { key, etag } in batch {
            let one = ObjectIdentifier::builder().key(key).set_e_tag(etag.clone()).build();
            objects.push(one.map_err(|error| own(&error))?);
        }
        let delete = Delete::builder().set_objects(Some(objects)).build();
        let answer = self
            .client
            .delete_objects()
            .bucket(bucket)
            .delete(delete.map_err(|error| own(&error))?)
            .send()
            .await
            .map_err(|error| S3Error::new("remove", &all, &error))?;
        let gone = answer.deleted.unwrap_or_default().into_iter().filter_map(|gone| gone.key);
        removal.gone.extend(gone);
        let mut passing = Vec::new();
        let mut told = HashSet::new();
        for problem in answer.errors.unwrap_or_default() {
            let key = problem.key.unwrap_or_default();
            let (code, message) =
                (problem.code.unwrap_or_default(), problem.message.unwrap_or_default());
            told.insert(key.clone());
            match code.as_str() {
                // Somebody else was faster, and it is as it was to be.
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
                let problem = "the server does not say what has become of it".to_owned();
                removal.failures.push(S3Error::odd("remove", &object(key), problem));
            }
        }
        Ok(passing)
    }

    /// Uploads of keys that begin with `prefix`.
    pub async fn begun(&self, bucket: &str, prefix: &str) -> Result<Vec<Begun>, S3Error> {
        let place = Object { bucket: bucket.into(), key: prefix.into(), ..Object::default() };
        let mut begun = Vec::new();
        let (mut key, mut id) = (None, None);
        loop {
            let page = self
                .client
                .list_multipart_uploads()
                .bucket(bucket)
                .prefix(prefix)
                .set_key_marker(key)
                .set_upload_id_marker(id)
                .send()
                .await
                .map_err(|error| S3Error::new("list the uploads of", &place, &error))?;
            begun.extend(page.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
                Some(Begun {
                    key: upload.key?,
                    id: upload.upload_id?,
                    since: upload.initiated.as_ref().map(DateTime::secs)?,
                })
            }));
            (key, id) = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || key.is_none() {
                return Ok(begun);
            }
        }
    }

    /// Throws away what has come of an upload.
    pub async fn abandon(&self, bucket: &str, upload: &Begun) -> Result<(), S3Error> {
        let object = Object { bucket: bucket.into(), key: upload.key.clone(), ..Object::default() };
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(bucket)
            .key(&upload.key)
            .upload_id(&upload.id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = S3Error::new("throw away the upload of", &object, &error);
                // Completed, or thrown away, by somebody else.
                if error.code == "NoSuchUpload" { Ok(()) } else { Err(error) }
            }
        }
    }
}
