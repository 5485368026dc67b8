//! A build's identity: its id, its number, its names in AWS's forms.

use super::buildspec::BuildspecFile;
use super::request::{Accepted, BuildRequest};
use runner_cloud::{ACCOUNT, REGION};
use runner_core::plan::ContainerPaths;
use runner_folder::state::{Home, StateError};
use std::path::{Path, PathBuf};

/// A build's identity.
pub(super) struct BuildIdentity {
    pub(super) uuid: uuid::Uuid,
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) number: u64,
    /// Host name of its container.
    pub(super) hostname: String,
    pub(super) initiator: String,
}

impl BuildIdentity {
    /// A new build of a project, or the identity that a batch or a service has chosen.
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

    /// The build's paths in the container.
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

    /// The path of a source in the container; the primary source is number 0. As in AWS, each is
    /// under a number of nine or ten digits.
    pub(super) fn source_place(&self, root: &str, number: usize) -> PathBuf {
        let (high, low) = self.uuid.as_u64_pair();
        // The step is odd, so that it never returns to its start.
        let seed = high.wrapping_add((low | 1).wrapping_mul(number as u64));
        PathBuf::from(format!("{root}/output/src{}/src", 100_000_000 + seed % 9_900_000_000))
    }
}

/// Name of the user who runs this process.
fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| "unknown".to_owned(), |user| user.name)
}

/// Twelve hexadecimal digits, as in Docker's host names, and like those never decimal only: a
/// resolver would take such a name for an address.
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
