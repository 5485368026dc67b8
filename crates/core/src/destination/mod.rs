//! Where AWS keeps what sessions show and commands write: a log group, a bucket, or both.
//!
//! Made from session preferences (`document`), from a call of Run Command, from an ECS cluster's configuration;
//! carried out by `serve`. [`events`] are what a log group gets.

pub mod events;

use serde::{Deserialize, Serialize};

/// All places of one output.
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
    /// Whether nothing begins where the group is not encrypted with a key of AWS KMS.
    pub must_be_encrypted: bool,
    /// Whether the group is made where it is missing.
    pub is_made: bool,
    /// What it gets, and when.
    pub form: Form,
}

/// What a log group gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// The text, at the end.
    AtEnd,
    /// The text, while it grows.
    Text,
    /// Lines in JSON with who and what, while the text grows.
    Json,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What keys begin with; empty for nothing.
    pub prefix: String,
    /// Whether nothing begins where the bucket is not encrypted.
    pub must_be_encrypted: bool,
}

impl Bucket {
    /// The key of something in it.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        match self.prefix.trim_matches('/') {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        }
    }
}

impl Destinations {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.group.is_none() && self.bucket.is_none()
    }

    /// Whether something can only begin when encryption is known.
    #[must_use]
    pub fn must_be_encrypted(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.must_be_encrypted)
            || self.bucket.as_ref().is_some_and(|bucket| bucket.must_be_encrypted)
    }

    /// In words; nothing where there are none.
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
