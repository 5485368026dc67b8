//! Uploads objects: small ones in one request, others in parts, several at a time.

use super::download::header;
use super::request::{CRC32, S3Client, S3Request};
use super::{Object, S3, S3Error, xml};
use bytes::Bytes;
use http::Method;
use std::io::{self, Read};
use std::sync::{Arc, PoisonError};
use tokio::task::JoinSet;

/// Bytes of the first parts.
const PART: u64 = 8 << 20;
/// Most parts of one object that S3 takes.
const MAX_PARTS: u64 = 10_000;
/// Parts sent at the same time.
const AT_ONCE: usize = 4;
/// Bytes of the largest object that S3 takes.
const MAX_OBJECT: u64 = 5 << 40;

/// Called with the number of bytes that have arrived.
pub(super) type OnProgress<'a> = &'a (dyn Fn(u64) + Send + Sync);

impl S3 {
    /// Uploads an object. Reads `body` to its end on a blocking thread. If reading fails, neither
    /// the object nor a part of it remains.
    pub async fn put(
        &self,
        object: &Object,
        body: impl Read + Send + 'static,
        told: OnProgress<'_>,
    ) -> Result<(), S3Error> {
        let mut body = Some(body);
        let first = read_part(&mut body, PART, object).await?;
        if (first.len() as u64) < PART {
            return self.put_bytes(object, first, told).await;
        }
        let upload = MultipartUpload::begin(self, object).await?;
        match upload.send(first, body, told).await {
            Ok(parts) => upload.complete(parts).await,
            // Dropping `upload` discards the parts.
            Err(error) => Err(error),
        }
    }

    /// Uploads an object from memory.
    pub async fn put_bytes(
        &self,
        object: &Object,
        body: Bytes,
        told: OnProgress<'_>,
    ) -> Result<(), S3Error> {
        let length = body.len() as u64;
        let request = described(Method::PUT, object).body(body);
        let request = if self.client.checks { request.checked().await } else { request };
        let sent = self.client.call(&request).await;
        sent.map_err(|failure| S3Error::new("put", object, failure))?;
        told(length);
        Ok(())
    }
}

/// A request with the object's content type, encoding, access and metadata.
fn described(method: Method, object: &Object) -> S3Request<'_> {
    let request = S3Request::new(method, &object.bucket, &object.key)
        .header("content-type", object.content_type.as_deref())
        .header("content-encoding", object.content_encoding.as_deref())
        .header("x-amz-acl", object.is_owners.then_some("bucket-owner-full-control"));
    object.metadata.iter().fold(request, |request, (name, value)| {
        request.header(format!("x-amz-meta-{name}"), Some(value))
    })
}

#[derive(Debug)]
pub(super) struct UploadedPart {
    pub(super) number: u64,
    pub(super) etag: String,
    /// Its checksum as the server computed it.
    pub(super) crc32: Option<String>,
}

/// Reads the next part; shorter than `size` only at the end.
async fn read_part<R: Read + Send + 'static>(
    body: &mut Option<R>,
    size: u64,
    object: &Object,
) -> Result<Bytes, S3Error> {
    let Some(mut reader) = body.take() else { return Ok(Bytes::new()) };
    let read = tokio::task::spawn_blocking(move || {
        let mut part = Vec::new();
        let result = reader.by_ref().take(size).read_to_end(&mut part);
        (reader, result.map(|_| part))
    });
    let (reader, part) =
        read.await.map_err(|error| S3Error::unreadable(object, &io::Error::other(error)))?;
    *body = Some(reader);
    part.map(Bytes::from).map_err(|error| S3Error::unreadable(object, &error))
}

/// Bytes of a part. Parts grow so that the largest object stays within S3's limit of parts.
fn part_size(number: u64) -> u64 {
    PART << ((number - 1) / (MAX_PARTS / 10))
}

/// An upload in parts. Unless it is completed, dropping it aborts it on the server.
struct MultipartUpload<'s> {
    s3: &'s S3,
    object: Object,
    id: String,
    is_complete: bool,
}

impl<'s> MultipartUpload<'s> {
    async fn begin(s3: &'s S3, object: &Object) -> Result<Self, S3Error> {
        let request = described(Method::POST, object)
            .query("uploads", "")
            .header("x-amz-checksum-algorithm", s3.client.checks.then_some("CRC32"));
        let begun = s3.client.call(&request).await;
        let begun = begun.map_err(|failure| S3Error::new("put", object, failure))?;
        let id = xml::upload_id(&begun.body).map_err(|problem| S3Error::own(object, problem))?;
        Ok(MultipartUpload { s3, object: object.clone(), id, is_complete: false })
    }

    async fn send<R: Read + Send + 'static>(
        &self,
        first: Bytes,
        mut body: Option<R>,
        told: OnProgress<'_>,
    ) -> Result<Vec<UploadedPart>, S3Error> {
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        let mut sent = 0;
        let mut part = first;
        let mut number = 1;
        loop {
            let (size, is_last) = (part.len() as u64, (part.len() as u64) < part_size(number));
            if size > 0 {
                sent += size;
                if sent > MAX_OBJECT {
                    let problem = "it is larger than the 5 TiB that S3 takes".to_owned();
                    return Err(S3Error::own(&self.object, problem));
                }
                let work = send_part(
                    Arc::clone(&self.s3.client),
                    self.object.clone(),
                    self.id.clone(),
                    number,
                    part,
                );
                sending.spawn(async move { (size, work.await) });
            }
            while sending.len() >= AT_ONCE || (is_last && !sending.is_empty()) {
                let Some(done) = sending.join_next().await else { break };
                let (size, done) =
                    done.map_err(|error| S3Error::own(&self.object, error.to_string()))?;
                parts.push(done?);
                told(size);
            }
            if is_last {
                break;
            }
            number += 1;
            part = read_part(&mut body, part_size(number), &self.object).await?;
        }
        parts.sort_unstable_by_key(|part| part.number);
        Ok(parts)
    }

    async fn complete(mut self, parts: Vec<UploadedPart>) -> Result<(), S3Error> {
        let request = S3Request::new(Method::POST, &self.object.bucket, &self.object.key)
            .query("uploadId", &self.id)
            .body(xml::completion(&parts).into());
        let completed = self.s3.client.call(&request).await;
        completed.map_err(|failure| S3Error::new("put", &self.object, failure))?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for MultipartUpload<'_> {
    fn drop(&mut self) {
        // A program that is ending has no runtime any more; the bucket's lifecycle rule removes
        // such parts.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_complete {
            return;
        }
        let client = Arc::clone(&self.s3.client);
        let (object, id) = (self.object.clone(), self.id.clone());
        let abort = async move {
            let request =
                S3Request::new(Method::DELETE, &object.bucket, &object.key).query("uploadId", &id);
            if let Err(failure) = client.call(&request).await {
                let error = S3Error::new("throw away the upload of", &object, failure);
                tracing::warn!(%error, "the parts of an upload stay behind");
            }
        };
        self.s3.aborts.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(abort, &runtime);
    }
}

async fn send_part(
    client: Arc<S3Client>,
    object: Object,
    upload: String,
    number: u64,
    body: Bytes,
) -> Result<UploadedPart, S3Error> {
    let request = S3Request::new(Method::PUT, &object.bucket, &object.key)
        .query("partNumber", number)
        .query("uploadId", &upload)
        .body(body);
    let request = if client.checks { request.checked().await } else { request };
    let sent = client.call(&request).await;
    let sent = sent.map_err(|failure| S3Error::new("put", &object, failure))?;
    let etag = header(&sent.headers, "etag").map(str::to_owned);
    let etag =
        etag.ok_or_else(|| S3Error::own(&object, "the server gives a part no ETag".to_owned()))?;
    let crc32 = header(&sent.headers, CRC32).map(str::to_owned);
    Ok(UploadedPart { number, etag, crc32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_s3_takes_fits_into_its_parts() {
        let all: u64 = (1..=MAX_PARTS).map(part_size).sum();
        assert!(all >= MAX_OBJECT, "{all}");
        // No part may be larger than 5 GiB, and none but the last smaller than 5 MiB.
        assert!((1..=MAX_PARTS).all(|n| (5 << 20..=5 << 30).contains(&part_size(n))));
    }
}
