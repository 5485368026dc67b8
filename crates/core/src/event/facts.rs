//! Facts about a build that are known from its start.

use serde::{Deserialize, Serialize};

/// Facts about a build that are known from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildFacts {
    /// Project name.
    pub project: String,
    /// Second half of the build ID.
    pub uuid: String,
    /// Number of the build in its project, from 1.
    pub number: u64,
    /// ARN of the build.
    pub arn: String,
    /// The person who started it.
    pub initiator: String,
    /// The requested image.
    pub image: String,
    /// The engine that runs it. Until there is a container, the requested one.
    pub engine: String,
    /// The container's image, by an unambiguous name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_image: Option<String>,
    /// The requested buildspec.
    pub buildspec: String,
    /// The buildspec file, if it was read from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildspec_file: Option<BuildspecFacts>,
    /// Source directory on the host.
    pub source: String,
    /// Path of the source in the build: `CODEBUILD_SRC_DIR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_in_build: Option<String>,
    /// Commit of the source, if it is a git work tree.
    pub resolved_source_version: Option<String>,
    /// Secondary sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary_sources: Vec<SecondarySource>,
    /// The cache of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFacts>,
    /// Destinations of its log on AWS.
    #[serde(default)]
    pub logs: LogsFacts,
    /// Whether breakpoints pause the build and AWS sessions are allowed.
    pub session_enabled: bool,
    /// Whether the container is privileged.
    #[serde(default)]
    pub privileged: bool,
    /// Programs that are replaced by stand-ins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stubs: Vec<String>,
    /// The batch that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchMember>,
    /// Time limit, in seconds.
    pub timeout_s: u64,
    /// Version of the runner.
    pub runner_version: String,
}

/// The buildspec as a file on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildspecFacts {
    /// Absolute path.
    pub path: String,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of its values, regardless of how they are written (`patch::values`); `None` if they
    /// cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<String>,
}

/// A build's place in a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMember {
    /// ARN of the batch.
    pub arn: String,
    /// Number of the batch in its project.
    pub number: u64,
    /// Identifier of the build in the batch.
    pub identifier: String,
}

/// A secondary source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondarySource {
    /// Its identifier.
    pub identifier: String,
    /// Its directory on the host.
    pub location: String,
    /// Its commit; empty if it is not a git work tree.
    pub version: String,
}

/// The cache of a build, in AWS's terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFacts {
    /// `S3` or `LOCAL`.
    pub r#type: String,
    /// Bucket and prefix, or a directory of the host.
    pub location: String,
}

/// Destinations of a build's log on AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogsFacts {
    /// Log group and log stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloudwatch: Option<(String, String)>,
    /// Bucket and key of the log object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<String>,
}
