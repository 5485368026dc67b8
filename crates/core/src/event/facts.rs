//! What is known of a build from its first moment on.

use serde::{Deserialize, Serialize};

/// What is known of a build from its first moment on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildFacts {
    /// Project name.
    pub project: String,
    /// Second half of the build's id.
    pub uuid: String,
    /// Number of the build in its project, from 1.
    pub number: u64,
    /// AWS's long name for it.
    pub arn: String,
    /// Who started it.
    pub initiator: String,
    /// The image, as asked for.
    pub image: String,
    /// The engine that runs it; the one asked for, as long as there is no container.
    pub engine: String,
    /// The image of its container, by a name that means no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_image: Option<String>,
    /// The buildspec, as asked for.
    pub buildspec: String,
    /// The file it was read from, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildspec_file: Option<BuildspecFacts>,
    /// Source directory on the host.
    pub source: String,
    /// Where the build sees it: `CODEBUILD_SRC_DIR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_in_build: Option<String>,
    /// The commit the source stands at, where it is a git work tree.
    pub resolved_source_version: Option<String>,
    /// Further sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_sources: Vec<SecondarySource>,
    /// The cache it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFacts>,
    /// Where on AWS its log goes.
    #[serde(default)]
    pub logs: LogsFacts,
    /// Whether breakpoints pause and AWS sessions are let in.
    pub session_enabled: bool,
    /// Whether the container has privileges.
    #[serde(default)]
    pub privileged: bool,
    /// Programs that stand-ins take the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<String>,
    /// The batch it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchMember>,
    /// How long it may run, in seconds.
    pub timeout_s: u64,
    /// Version of the program that runs it.
    pub runner_version: String,
}

/// The buildspec as a file of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildspecFacts {
    /// Its path, from the root.
    pub path: String,
    /// Of its text, in hexadecimal digits.
    pub sha256: String,
    /// The same of its values alone, whatever they are written like (`patch::values`); none where they cannot
    /// be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
}

/// A build's place in a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMember {
    /// AWS's long name for the batch.
    pub arn: String,
    /// Number of the batch in its project.
    pub number: u64,
    /// Name of the build in it.
    pub identifier: String,
}

/// A source beside the primary one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondarySource {
    /// Its identifier.
    pub identifier: String,
    /// Its directory on the host.
    pub location: String,
    /// The commit it stands at; empty where it is no git work tree.
    pub version: String,
}

/// The cache of a build, in AWS's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFacts {
    /// `S3` or `LOCAL`.
    pub r#type: String,
    /// Bucket and prefix, or a directory of the host.
    pub location: String,
}

/// Where on AWS a build's log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogsFacts {
    /// Log group and log stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudwatch: Option<(String, String)>,
    /// Bucket and key of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
}
