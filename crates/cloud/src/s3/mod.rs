//! Client of S3: puts, fetches, lists and removes objects.
//!
//! Used by `outputs` for artifacts, caches and logs. An upload becomes visible whole or not at all:
//! a large object goes up in parts, which are aborted if one of them fails or the caller stops
//! waiting. A download resumes after a broken connection. Memory holds a few parts, whatever the
//! object's size.

mod download;
mod error;
mod removal;
mod request;
mod upload;
mod xml;

pub use error::S3Error;
pub use removal::{Doomed, ObjectHead};

pub use download::Download;

use super::Amazon;
use http::Method;
use request::{S3Client, S3Request};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The pause before retrying something that partly succeeded.
const PAUSE: Duration = Duration::from_millis(250);

/// `s3://bucket/prefix`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
}

impl Location {
    /// Reads `s3://bucket` or `s3://bucket/prefix`; `None` if the text does not begin with `s3://`.
    pub fn parse(text: &str) -> Option<Result<Self, String>> {
        let rest = text.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
        if bucket.ends_with("--x-s3") {
            let text =
                format!("`{bucket}` is a directory bucket (S3 Express), which is not supported");
            return Some(Err(text));
        }
        if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(is_name) {
            let text =
                format!("`{bucket}` cannot be the name of a bucket: write s3://BUCKET/PREFIX");
            return Some(Err(text));
        }
        let prefix = prefix.trim_matches('/').to_owned();
        Some(Ok(Location { bucket: bucket.to_owned(), prefix }))
    }

    /// An object below this location.
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

/// An object and the metadata to store with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Object {
    pub bucket: String,
    pub key: String,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Names without `x-amz-meta-`, and values.
    pub metadata: Vec<(String, String)>,
    /// Whether the bucket's owner gets full control of an object, even if another account puts it.
    pub is_owners: bool,
}

impl Object {
    /// The object's ARN.
    pub fn arn(&self) -> String {
        format!("arn:aws:s3:::{}/{}", self.bucket, self.key)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
    /// Last modification, in seconds since 1970.
    pub modified: i64,
}

/// S3, called with one identity.
#[derive(Clone, Debug)]
pub struct S3 {
    client: Arc<S3Client>,
    /// Running aborts of uploads.
    aborts: Arc<Mutex<JoinSet<()>>>,
}

impl S3 {
    /// A client with the identity, Region and endpoint of `amazon`. Makes no call.
    pub fn new(amazon: &Amazon) -> Self {
        S3 { client: Arc::new(S3Client::new(amazon)), aborts: Arc::default() }
    }

    /// The objects whose keys begin with `prefix`, sorted by key.
    pub async fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ListedObject>, S3Error> {
        let mut listed = Vec::new();
        self.visit(bucket, prefix, |one| listed.push(one)).await?;
        Ok(listed)
    }

    /// Calls `visit` for each of these objects, for a bucket whose whole list would not be needed.
    pub async fn visit(
        &self,
        bucket: &str,
        prefix: &str,
        mut visit: impl FnMut(ListedObject),
    ) -> Result<(), S3Error> {
        let place = Object { bucket: bucket.into(), key: prefix.into(), ..Object::default() };
        let mut next = None;
        loop {
            let mut request = S3Request::new(Method::GET, bucket, "")
                .query("list-type", 2)
                .query("prefix", prefix);
            if let Some(token) = &next {
                request = request.query("continuation-token", token);
            }
            let answer = self.client.call(&request).await;
            let answer = answer.map_err(|failure| S3Error::new("list", &place, failure))?;
            let page = xml::objects(&answer.body)
                .map_err(|problem| S3Error::odd("list", &place, problem))?;
            page.listed.into_iter().for_each(&mut visit);
            match page.next {
                None => return Ok(()),
                // A server that starts over at the front would keep us asking for ever.
                token if token == next => return Ok(()),
                token => next = token,
            }
        }
    }

    /// The algorithm by which a bucket encrypts objects, such as `aws:kms`; `None` if it does not.
    pub async fn bucket_encryption(&self, bucket: &str) -> Result<Option<String>, S3Error> {
        let place = Object { bucket: bucket.into(), ..Object::default() };
        let request = S3Request::new(Method::GET, bucket, "").query("encryption", "");
        let doing = "look at the encryption of";
        match self.client.call(&request).await {
            Ok(answer) => {
                xml::algorithm(&answer.body).map_err(|problem| S3Error::odd(doing, &place, problem))
            }
            Err(failure) if failure.code == "ServerSideEncryptionConfigurationNotFoundError" => {
                Ok(None)
            }
            Err(failure) => Err(S3Error::new(doing, &place, failure)),
        }
    }

    /// Waits until the server has aborted the uploads that were given up.
    pub async fn settle(&self) {
        let mut aborts =
            std::mem::take(&mut *self.aborts.lock().unwrap_or_else(PoisonError::into_inner));
        while aborts.join_next().await.is_some() {}
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
        for bad in [
            "s3://",
            "s3://x",
            "s3:///prefix",
            "s3://Bucket/x",
            "s3://bu cket",
            "s3://b--usw2-az1--x-s3/x",
        ] {
            assert!(matches!(parse(bad), Some(Err(_))), "{bad}");
        }
        let location = Location { bucket: "b".into(), prefix: "a/b".into() };
        assert_eq!(location.object("c").key, "a/b/c");
        assert_eq!(location.object("").key, "a/b");
    }
}
