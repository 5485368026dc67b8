//! The variables a build begins with, as far as CodeBuild's own agent sets them.
//!
//! Used by `app`, which lays them below and above those of buildspec and command line.

use super::identity::{ACCOUNT, Identity, REGION};
use crate::clock;
use crate::engine::Image;
use crate::source::SourceFacts;
use runner_core::env::Variables;
use runner_core::plan::Places;

/// What CodeBuild's agent sets (`spec/buildspec.md` 4.4), as far as there is something to say.
pub(super) fn managed(
    identity: &Identity,
    image: &Image,
    facts: &SourceFacts,
    places: &Places,
) -> Variables {
    let Identity { uuid, id, arn, number, hostname, initiator } = identity;
    let gopath = places.source.strip_suffix("/src").unwrap_or(&places.source);
    let version = facts.branch.clone().or_else(|| facts.commit.clone());
    let mut variables: Vec<(&str, String)> = vec![
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
        ("CODEBUILD_GOPATH", gopath.to_owned()),
        ("CODEBUILD_INITIATOR", initiator.clone()),
        ("CODEBUILD_KMS_KEY_ID", format!("arn:aws:kms:{REGION}:{ACCOUNT}:alias/aws/s3")),
        ("CODEBUILD_LAST_EXIT", "0".to_owned()),
        ("CODEBUILD_LOG_PATH", uuid.to_string()),
        ("CODEBUILD_SOURCE_REPO_URL", facts.url.clone().unwrap_or_default()),
        ("CODEBUILD_SOURCE_VERSION", version.unwrap_or_default()),
        ("CODEBUILD_SRC_DIR", places.source.clone()),
        ("CODEBUILD_START_TIME", clock::wall().epoch_millis().to_string()),
        ("GOPATH", gopath.to_owned()),
        ("HOSTNAME", hostname.clone()),
        ("OLDPWD", format!("{}/readonly", places.root)),
        ("PWD", places.source.clone()),
        ("SHLVL", "2".to_owned()),
    ];
    if let Some(commit) = &facts.commit {
        variables.push(("CODEBUILD_RESOLVED_SOURCE_VERSION", commit.clone()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
