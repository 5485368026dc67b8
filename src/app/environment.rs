//! The variables a build begins with, as far as CodeBuild's own agent sets them.
//!
//! Used by `app`, which lays them below and above those of buildspec and command line.

use super::identity::{ACCOUNT, Identity, REGION};
use crate::clock;
use crate::credentials::Endpoint;
use crate::engine::{Image, SourceMount};
use crate::source::SourceFacts;
use runner_core::env::Variables;
use runner_core::event::SecondarySource;
use runner_core::plan::Places;
use std::path::PathBuf;

/// A source of the build, looked at.
pub(super) struct BuildSource {
    /// None for the primary one.
    pub(super) id: Option<String>,
    pub(super) dir: PathBuf,
    pub(super) target: PathBuf,
    pub(super) facts: SourceFacts,
}

impl BuildSource {
    /// As the record has it, if it is a secondary one.
    pub(super) fn secondary(&self) -> Option<SecondarySource> {
        Some(SecondarySource {
            identifier: self.id.clone()?,
            location: self.dir.display().to_string(),
            version: self.facts.commit.clone().unwrap_or_default(),
        })
    }

    pub(super) fn mount(self) -> SourceMount {
        SourceMount {
            dir: self.dir,
            target: self.target,
            extras: self.facts.outside,
            files: self.facts.rewritten,
        }
    }

    /// Its own variables; those of a secondary one have its identifier behind their names.
    fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let facts = &self.facts;
        let version = facts.branch.clone().or_else(|| facts.commit.clone());
        let suffix = self.id.as_ref().map_or_else(String::new, |id| format!("_{id}"));
        [
            ("CODEBUILD_SRC_DIR", self.target.display().to_string()),
            ("CODEBUILD_SOURCE_REPO_URL", facts.url.clone().unwrap_or_default()),
            ("CODEBUILD_SOURCE_VERSION", version.unwrap_or_default()),
        ]
        .into_iter()
        .map(move |(name, value)| (format!("{name}{suffix}"), value))
    }
}

/// What CodeBuild's agent sets (`spec/buildspec.md` 4.4), as far as there is something to say: not
/// what names services of AWS's own hosts, which are not here.
pub(super) fn managed(
    identity: &Identity,
    image: &Image,
    sources: &[BuildSource],
    places: &Places,
) -> Variables {
    let Identity { uuid, id, arn, number, hostname, initiator } = identity;
    let gopath = places.source.strip_suffix("/src").unwrap_or(&places.source);
    let variables: Vec<(&str, String)> = vec![
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("CODEBUILD_BUILD_ARN", arn.clone()),
        ("CODEBUILD_BUILD_ID", id.clone()),
        ("CODEBUILD_BUILD_IMAGE", image.to_string()),
        ("CODEBUILD_BUILD_NUMBER", number.to_string()),
        ("CODEBUILD_BUILD_SUCCEEDING", "1".to_owned()),
        (
            "CODEBUILD_BUILD_URL",
            format!(
                "https://{REGION}.console.aws.amazon.com/codebuild/home?region={REGION}\
                     #/builds/{id}/view/new"
            ),
        ),
        ("CODEBUILD_CI", "true".to_owned()),
        ("CODEBUILD_CONTAINER_NAME", "default".to_owned()),
        ("CODEBUILD_GOPATH", gopath.to_owned()),
        ("CODEBUILD_INITIATOR", initiator.clone()),
        ("CODEBUILD_KMS_KEY_ID", format!("arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3")),
        ("CODEBUILD_LAST_EXIT", "0".to_owned()),
        // As AWS's own local agent says it, for buildspecs that ask.
        ("CODEBUILD_LOCAL_BUILD", "true".to_owned()),
        ("CODEBUILD_LOG_PATH", uuid.to_string()),
        ("CODEBUILD_START_TIME", clock::wall().epoch_millis().to_string()),
        ("HOSTNAME", hostname.clone()),
        ("OLDPWD", format!("{}/readonly", places.root)),
        ("PWD", places.source.clone()),
        ("SHLVL", "2".to_owned()),
    ];
    let commit = sources.first().and_then(|source| source.facts.commit.clone());
    let commit = commit.map(|commit| ("CODEBUILD_RESOLVED_SOURCE_VERSION".to_owned(), commit));
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(sources.iter().flat_map(BuildSource::variables))
        .chain(commit)
        .collect()
}

/// How the build's tools find their credentials.
pub(super) fn credentials(endpoint: Endpoint) -> Variables {
    let Endpoint { url, token, region, .. } = endpoint;
    let variables = [
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url),
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_REGION", region),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
