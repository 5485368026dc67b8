//! Who a build is: its id, its number, its names in AWS's forms.

use super::buildspec::BuildspecFile;
use super::request::{Accepted, BuildRequest};
use runner_cloud::{ACCOUNT, REGION};
use runner_core::plan::ContainerPaths;
use runner_folder::state::{Home, StateError};
use std::path::{Path, PathBuf};

/// Who the build is.
pub(super) struct BuildIdentity {
    pub(super) uuid: uuid::Uuid,
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) number: u64,
    /// Name of its container.
    pub(super) hostname: String,
    pub(super) initiator: String,
}

impl BuildIdentity {
    /// A new build of a project, or the one that a batch or a service has chosen.
    pub(super) fn new(home: &Home, request: &BuildRequest) -> Result<Self, StateError> {
        let BuildRequest { project, member, accepted, .. } = request;
        let chosen = accepted.as_ref().map(|accepted| accepted.uuid);
        let uuid = chosen.or(member.as_ref().map(|member| member.uuid));
        let uuid = uuid.unwrap_or_else(uuid::Uuid::new_v4);
        let (number, initiator) = match accepted {
            Some(Accepted { number, initiator, .. }) => (*number, initiator.clone()),
            None => (home.next_number(project)?, user()),
        };
        Ok(BuildIdentity {
            uuid,
            id: format!("{project}:{uuid}"),
            arn: format!("arn:aws:codebuild:{REGION}:{ACCOUNT}:build/{project}:{uuid}"),
            number,
            hostname: hostname(&uuid),
            initiator,
        })
    }

    /// Where the build sees its things.
    pub(super) fn places(
        &self,
        root: &str,
        buildspec: &BuildspecFile,
        source: &Path,
    ) -> ContainerPaths {
        let src = self.source_place(root, 0).display().to_string();
        let buildspec = match buildspec.path_in(source) {
            Some(path) => format!("{src}/{}", path.display()),
            None => format!("{root}/readonly/buildspec.yml"),
        };
        ContainerPaths { root: root.to_owned(), source: src, buildspec }
    }

    /// Where it sees its sources, the primary one first: each under a number of nine or ten digits,
    /// as in AWS.
    pub(super) fn source_place(&self, root: &str, number: usize) -> PathBuf {
        let (high, low) = self.uuid.as_u64_pair();
        // A step that never comes back to where it was.
        let seed = high.wrapping_add((low | 1).wrapping_mul(number as u64));
        PathBuf::from(format!("{root}/output/src{}/src", 100_000_000 + seed % 9_900_000_000))
    }
}

/// Whose process this is.
fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| "unknown".to_owned(), |user| user.name)
}

/// Twelve hexadecimal digits, as Docker names its containers, and as Docker does never decimal ones
/// only: a resolver takes such a name for an address.
fn hostname(uuid: &uuid::Uuid) -> String {
    let mut name = uuid.simple().to_string();
    name.truncate(12);
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        name.replace_range(..1, "c");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_is_no_number() {
        let name = |text: &str| hostname(&uuid::Uuid::parse_str(text).expect("an id"));
        assert_eq!(name("d4c47894-91fc-4000-8000-000000000000"), "d4c4789491fc");
        assert_eq!(name("12345678-9012-4000-8000-000000000000"), "c23456789012");
    }
}
