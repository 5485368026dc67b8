//! Finds an image on this machine, at Docker or Podman, when no registry gives it.
//!
//! Used by `pull` for its hint. Starts and creates nothing: it asks a daemon only if one listens
//! already, and reads Podman's image list, because Podman seldom listens.

use crate::docker::{self, DaemonProgram};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon may take to say whether it has an image.
const PATIENCE: Duration = Duration::from_secs(3);
/// Podman's image list, relative to its storage.
const LIST: &str = "overlay-images/images.json";

/// The option that takes the image from where it is. The first name found counts.
pub(super) async fn hint(names: &[String]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    for program in [DaemonProgram::Docker, DaemonProgram::Podman] {
        let asked = tokio::time::timeout(PATIENCE, asked(program, names)).await.ok().flatten();
        let found = asked.or_else(|| match program {
            DaemonProgram::Podman => listed(&std::fs::read(storage()?.join(LIST)).ok()?, names),
            DaemonProgram::Docker => None,
        });
        if let Some(name) = found {
            return Some(format!(
                "{program} has an image of that name: --image docker-daemon:{name}"
            ));
        }
    }
    None
}

/// The name under which a listening daemon has the image.
async fn asked(program: DaemonProgram, names: &[String]) -> Option<String> {
    let daemon = docker::listening(program).await?;
    for name in names {
        if daemon.client.inspect_image(name).await.is_ok() {
            return Some(name.clone());
        }
    }
    None
}

/// Storage of this user's Podman, unless a file says otherwise.
fn storage() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/containers/storage".into());
    }
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".local/share"));
    Some(data.or_else(home)?.join("containers/storage"))
}

#[derive(Deserialize)]
struct PodmanImage {
    #[serde(default)]
    names: Vec<String>,
}

/// The listed name of an image with one of these names, or built here under one.
fn listed(list: &[u8], names: &[String]) -> Option<String> {
    let images: Vec<PodmanImage> = serde_json::from_slice(list).ok()?;
    let known: Vec<&String> = images.iter().flat_map(|image| &image.names).collect();
    names.iter().find_map(|name| {
        let built = format!("localhost/{name}");
        known
            .iter()
            .find(|known| **known == name || **known == &built)
            .map(|known| (*known).clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_podmans_list_is_found_by_its_names() {
        let list =
            br#"[{"id": "1", "names": ["localhost/aws/codebuild/standard:7.0"]}, {"id": "2"},
            {"id": "3", "names": ["docker.io/library/node:22"]}]"#;
        let find = |image: &str| match image.parse() {
            Ok(super::super::Image::Registry(reference)) => {
                listed(list, &super::super::Image::local_names(&reference))
            }
            _ => None,
        };
        assert_eq!(
            find("aws/codebuild/standard:7.0").as_deref(),
            Some("localhost/aws/codebuild/standard:7.0")
        );
        assert_eq!(find("node:22").as_deref(), Some("docker.io/library/node:22"));
        assert_eq!(find("node:20"), None);
        assert_eq!(listed(b"x", &["node:22".to_owned()]), None);
    }
}
