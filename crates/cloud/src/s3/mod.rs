//! S3 as its client: objects put, fetched, listed and removed.
//!
//! Used by `outputs` for artifacts, caches and logs. What is put is visible whole or not at all: a
//! large object goes up in parts, which are thrown away again where one of them fails or nobody waits
//! for the rest. What is fetched goes on where a connection was cut. Memory holds a few parts,
//! whatever the size of the object.

mod error;
mod removal;
mod upload;

pub use error::S3Error;
pub use removal::{Doomed, Looked};

use super::patience::Patient;
use super::{Amazon, CONNECT};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::StalledStreamProtectionConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a server may be silent before a request is made again: as long as the SDK itself waits for an
/// answer that has stopped coming.
const SILENCE: Duration = Duration::from_secs(20);
/// How often in a row a download is taken up again, and the pause before.
const RESUMPTIONS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

impl Location {
    /// Reads `s3://bucket` or `s3://bucket/prefix`; `None` where it does not begin like that.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(is_name) {
            let text =
                format!("`{bucket}` cannot be the name of a bucket: write s3://BUCKET/PREFIX");
            return Some(Err(text));
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Some(Ok(Location { bucket: bucket.to_owned(), prefix }))
    }

    /// An object below it.
    pub fn object(&self, name: &str) -> Object {
        let key = match (self.prefix.as_str(), name) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}/{name}"),
        };
        Object { bucket: self.bucket.clone(), key, ..Object::default() }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(f, "s3://{}{slash}{}", self.bucket, self.prefix)
    }
}

/// An object and the metadata it is put with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Without `x-amz-meta-`.
    pub metadata: Vec<(String, String)>,
}

impl Object {
    /// Its long name.
    pub fn arn(&self) -> String {
        format!("arn:aws:s3:::{}/{}", self.bucket, self.key)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// One line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    /// When it was last written, in seconds since 1970.
    pub modified: i64,
}

/// S3, as somebody.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Client,
    /// Uploads that are being thrown away.
    aborts: Arc<Mutex<JoinSet<()>>>,
}

impl S3 {
    /// With the credentials, Region and endpoint that every AWS tool finds. No call is made.
    pub fn new(amazon: &Amazon) -> Self {
        let config = &amazon.config;
        let own = std::env::var("AWS_ENDPOINT_URL_S3").is_ok_and(|url| !url.is_empty());
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).build();
        // Requests are watched over by `Patient`: in one piece, as they are here, a body is gone at once as
        // far as the SDK can see.
        let answers = StalledStreamProtectionConfig::enabled()
            .upload_enabled(false)
            .grace_period(SILENCE)
            .build();
        let mut builder = aws_sdk_s3::config::Builder::from(config)
            .timeout_config(timeouts)
            .stalled_stream_protection(answers);
        if let Some(client) = config.http_client() {
            builder = builder.http_client(Patient { client, silence: SILENCE });
        }
        if config.region().is_none() {
            builder = builder.region(aws_sdk_s3::config::Region::new(super::REGION));
        }
        // A server that is not AWS's has no name for each bucket.
        let is_elsewhere =
            own || config.endpoint_url().is_some() || amazon.configured_endpoint("s3").is_some();
        let builder = builder.force_path_style(is_elsewhere);
        S3 { client: Client::from_conf(builder.build()), aborts: Arc::default() }
    }

    /// Begins to fetch an object; `None` where there is none.
    pub async fn get(&self, object: &Object) -> Result<Option<Download>, S3Error> {
        let request = self.client.get_object().bucket(&object.bucket).key(&object.key);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = S3Error::new("fetch", object, &error);
                return if error.is_missing_object() { Ok(None) } else { Err(error) };
            }
        };
        Ok(Some(Download {
            client: self.client.clone(),
            object: object.clone(),
            etag: answer.e_tag.clone(),
            metadata: answer.metadata.clone().unwrap_or_default(),
            length: answer.content_length.and_then(|length| u64::try_from(length).ok()),
            at: 0,
            failures: 0,
            body: Some(answer.body),
        }))
    }

    /// The objects whose keys begin with `prefix`, in the order of their keys.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<Listed>, S3Error> {
        let mut listed = Vec::new();
        self.visit(bucket, prefix, |one| listed.push(one)).await?;
        Ok(listed)
    }

    /// The same one after the other, for a bucket whose list is longer than what is wanted of it.
    pub async fn visit(
        &self,
        bucket: &str,
        prefix: &str,
        mut visit: impl FnMut(Listed),
    ) -> Result<(), S3Error> {
        let place = Object { bucket: bucket.into(), key: prefix.into(), ..Object::default() };
        let mut pages =
            self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| S3Error::new("list", &place, &error))?;
            for entry in page.contents.unwrap_or_default() {
                let Some(key) = entry.key else { continue };
                visit(Listed {
                    key,
                    size: entry.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    modified: entry.last_modified.as_ref().map_or(0, DateTime::secs),
                });
            }
        }
        Ok(())
    }

    /// Waits until what was begun and given up is thrown away at the server, too.
    pub async fn settle(&self) {
        let mut aborts =
            std::mem::take(&mut *self.aborts.lock().unwrap_or_else(PoisonError::into_inner));
        while aborts.join_next().await.is_some() {}
    }
}

/// An object on its way here.
pub struct Download {
    client: Client,
    object: Object,
    etag: Option<String>,
    metadata: std::collections::HashMap<String, String>,
    length: Option<u64>,
    at: u64,
    failures: u32,
    body: Option<ByteStream>,
}

impl Download {
    /// Bytes of the whole object, where the server tells.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The metadata it was put with.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(String::as_str)
    }

    /// The next bytes; `None` when all have come. A connection that breaks is made again, from there
    /// on and for the same object only.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let problem = match &mut self.body {
                Some(body) => match body.next().await {
                    Some(Ok(bytes)) => {
                        self.at += bytes.len() as u64;
                        self.failures = 0;
                        return Ok(Some(bytes));
                    }
                    None if self.length.is_none_or(|length| length == self.at) => return Ok(None),
                    None => "the answer ended early".to_owned(),
                    Some(Err(error)) => super::chain(&error),
                },
                None => String::new(),
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

    async fn resume(&mut self) -> Result<(), S3Error> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.object.bucket)
            .key(&self.object.key)
            .range(format!("bytes={}-", self.at))
            .set_if_match(self.etag.clone())
            .send()
            .await
            .map_err(|error| S3Error::new("fetch", &self.object, &error))?;
        self.body = Some(answer.body);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_buckets_and_prefixes() {
        let parse = |text: &str| Location::parse(text).map(|read| read.map(|l| l.to_string()));
        for (text, wanted) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a/b/", "s3://my.bucket-1/a/b"),
        ] {
            assert_eq!(parse(text), Some(Ok(wanted.to_owned())), "{text}");
        }
        assert_eq!(parse("out"), None);
        for bad in ["s3://", "s3://x", "s3:///prefix", "s3://Bucket/x", "s3://bu cket"] {
            assert!(matches!(parse(bad), Some(Err(_))), "{bad}");
        }
        let location = Location { bucket: "b".into(), prefix: "a/b".into() };
        assert_eq!(location.object("c").key, "a/b/c");
        assert_eq!(location.object("").key, "a/b");
    }
}
