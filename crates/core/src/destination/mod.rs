//! Where AWS stores session transcripts and command output: a log group, a bucket, or both.
//!
//! Built from session preferences (`document`), a Run Command call, or an ECS cluster's config.
//! `serve` writes to them. [`events`] makes the events for a log group.

pub mod events;

use serde::{Deserialize, Serialize};

/// All destinations of one output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Destinations {
    /// CloudWatch Logs.
    pub group: Option<LogGroup>,
    /// S3.
    pub bucket: Option<Bucket>,
}

/// A log group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogGroup {
    /// Its name.
    pub name: String,
    /// Whether to refuse to start if the group is not encrypted with a KMS key.
    pub must_be_encrypted: bool,
    /// Whether to create the group if it is missing.
    pub is_made: bool,
    /// What is sent, and when.
    pub form: Form,
}

/// What is sent to a log group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// The whole text, at the end.
    AtEnd,
    /// The text, as it grows.
    Text,
    /// JSON events with context, as the text grows.
    Json,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Prefix of keys; empty for none.
    pub prefix: String,
    /// Whether to refuse to start if the bucket is not encrypted.
    pub must_be_encrypted: bool,
}

impl Bucket {
    /// Returns the key of an object with this name.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        match self.prefix.trim_matches('/') {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }
}

impl Destinations {
    /// Whether there is no destination.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.is_none() && self.bucket.is_none()
    }

    /// Whether to check encryption before starting.
    #[must_use]
    pub fn must_be_encrypted(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.must_be_encrypted)
            || self.bucket.as_ref().is_some_and(|bucket| bucket.must_be_encrypted)
    }

    /// The destinations for users; empty if there are none.
    #[must_use]
    pub fn words(&self) -> String {
        let group = self.group.as_ref().map(|group| format!("log group {}", group.name));
        let bucket = self.bucket.as_ref().map(|bucket| format!("bucket {}", bucket.name));
        let places: Vec<String> = group.into_iter().chain(bucket).collect();
        places.join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_words() {
        let bucket = |prefix: &str| Bucket {
            name: "b".to_owned(),
            prefix: prefix.to_owned(),
            must_be_encrypted: true,
        };
        for (prefix, key) in
            [("", "x.log"), ("/", "x.log"), ("a/b", "a/b/x.log"), ("/a/", "a/x.log")]
        {
            assert_eq!(bucket(prefix).key("x.log"), key);
        }
        let mut all = Destinations { group: None, bucket: Some(bucket("")) };
        assert!(all.must_be_encrypted() && !all.is_empty());
        assert_eq!(all.words(), "bucket b");
        let form = Form::AtEnd;
        let (name, is_made) = ("g".to_owned(), false);
        all.group = Some(LogGroup { name, must_be_encrypted: false, is_made, form });
        assert_eq!(all.words(), "log group g and bucket b");
        assert!(Destinations::default().is_empty() && !Destinations::default().must_be_encrypted());
    }
}
