//! Downloads of objects.

use super::request::{CRC32, S3Client, S3Request};
use super::{Object, PAUSE, S3, S3Error};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method};
use reqwest::Response;
use std::sync::Arc;

/// How often in a row a download is resumed.
const RESUMPTIONS: u32 = 4;

impl S3 {
    /// Begins to fetch an object; `None` if it does not exist.
    pub async fn get(&self, object: &Object) -> Result<Option<Download>, S3Error> {
        let request = S3Request::new(Method::GET, &object.bucket, &object.key)
            .header("x-amz-checksum-mode", self.client.checks.then_some("ENABLED"));
        let response = match self.client.stream(&request).await {
            Ok(response) => response,
            Err(failure) => {
                let error = S3Error::new("fetch", object, failure);
                return if error.is_missing_object() { Ok(None) } else { Err(error) };
            }
        };
        let headers = response.headers().clone();
        Ok(Some(Download {
            client: Arc::clone(&self.client),
            object: object.clone(),
            length: header(&headers, "content-length").and_then(|length| length.parse().ok()),
            sum: header(&headers, CRC32).and_then(whole_sum),
            hasher: crc32fast::Hasher::new(),
            headers,
            at: 0,
            failures: 0,
            response,
        }))
    }
}

/// A header's value, if it is text.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The checksum of a whole object; `None` if it is one of the parts' checksums.
fn whole_sum(text: &str) -> Option<u32> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// A download in progress.
pub struct Download {
    client: Arc<S3Client>,
    object: Object,
    headers: HeaderMap,
    length: Option<u64>,
    sum: Option<u32>,
    hasher: crc32fast::Hasher,
    at: u64,
    failures: u32,
    response: Response,
}

impl Download {
    /// Bytes of the whole object, if the server tells.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// A value of the metadata stored with the object.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        header(&self.headers, &format!("x-amz-meta-{name}"))
    }

    /// The next bytes; `None` at the end. Resumes a broken connection at the same offset, for the
    /// same version of the object only.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let problem = match self.client.chunk(&mut self.response).await {
                Ok(Some(bytes)) => {
                    self.at += bytes.len() as u64;
                    self.failures = 0;
                    self.hasher.update(&bytes);
                    return Ok(Some(bytes));
                }
                Ok(None) if self.length.is_none_or(|length| length == self.at) => {
                    return self.check().map(|()| None);
                }
                Ok(None) => "the answer ended early".to_owned(),
                // All bytes are here; a bad end of the connection does not matter.
                Err(_) if self.length == Some(self.at) => return self.check().map(|()| None),
                Err(problem) => problem,
            };
            self.failures += 1;
            if self.failures > RESUMPTIONS {
                return Err(S3Error::cut("fetch", &self.object, self.at, self.length, problem));
            }
            tracing::debug!(at = self.at, problem, "taking up a download again");
            tokio::time::sleep(PAUSE * self.failures).await;
            self.resume().await?;
        }
    }

    /// Compares the received bytes with the stored checksum.
    fn check(&self) -> Result<(), S3Error> {
        match self.sum {
            Some(sum) if self.hasher.clone().finalize() != sum => {
                let problem = "its bytes are not those that were put: the checksum differs";
                Err(S3Error::odd("fetch", &self.object, problem.to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn resume(&mut self) -> Result<(), S3Error> {
        let request = S3Request::new(Method::GET, &self.object.bucket, &self.object.key)
            .header("range", Some(&format!("bytes={}-", self.at)))
            .header("if-match", header(&self.headers, "etag"));
        let response = self.client.stream(&request).await;
        let response = response.map_err(|failure| S3Error::new("fetch", &self.object, failure))?;
        // A server without support for ranges begins again at the front.
        if self.at > 0 && response.status() != http::StatusCode::PARTIAL_CONTENT {
            let problem = "the server sends the whole object instead of the requested part";
            return Err(S3Error::cut("fetch", &self.object, self.at, self.length, problem));
        }
        let range = header(response.headers(), "content-range");
        let wanted = format!("bytes {}-", self.at);
        if self.at > 0 && !range.is_some_and(|range| range.starts_with(&wanted)) {
            let problem = format!("the server sends another part than was asked for: {range:?}");
            return Err(S3Error::cut("fetch", &self.object, self.at, self.length, problem));
        }
        self.response = response;
        Ok(())
    }
}
