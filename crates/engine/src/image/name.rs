//! Image names as users write them.
//!
//! Called by `cli::values`. A name says where an image comes from; its content is known only after
//! preparation.

use super::curated;
use oci_spec::distribution::Reference;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The image that a build starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Image {
    /// The tools of this machine.
    Host,
    /// A root file system, as a directory or a tar.
    Rootfs(PathBuf),
    /// An image in a registry or in the store.
    Registry(Reference),
    /// An OCI image layout and the tag of an image in it.
    Layout(PathBuf, Option<String>),
    /// An OCI image layout in a tar.
    OciArchive(PathBuf),
    /// An archive of `docker save`.
    DockerArchive(PathBuf),
    /// An image at a Docker daemon, by name or id.
    DockerDaemon(String),
}

impl Image {
    /// Names that a registry's image may have in Docker or Podman. Empty for a registry with a
    /// port: such a registry is usually local and knows its own images.
    pub(super) fn local_names(reference: &Reference) -> Vec<String> {
        if reference.registry().contains(':') {
            return Vec::new();
        }
        let whole = reference.whole();
        let short = whole.strip_prefix("docker.io/library/").or(whole.strip_prefix("docker.io/"));
        let others = short.map(str::to_owned).into_iter().chain(curated::console_name(&whole));
        let mut names: Vec<String> = others.collect();
        names.push(whole);
        names
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Image::Host => f.write_str("host"),
            Image::Rootfs(path) => write!(f, "rootfs:{}", path.display()),
            Image::Registry(reference) => write!(f, "{}", reference.whole()),
            Image::Layout(path, None) => write!(f, "oci:{}", path.display()),
            Image::Layout(path, Some(tag)) => write!(f, "oci:{}:{tag}", path.display()),
            Image::OciArchive(path) => write!(f, "oci-archive:{}", path.display()),
            Image::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
            Image::DockerDaemon(reference) => write!(f, "docker-daemon:{reference}"),
        }
    }
}

impl From<Image> for String {
    fn from(image: Image) -> Self {
        image.to_string()
    }
}

impl TryFrom<String> for Image {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

const FORMS: &str = "write host, rootfs:DIR, rootfs:TAR, oci:DIR[:TAG], oci-archive:FILE, \
                     docker-archive:FILE, docker-daemon:NAME, or an image of a registry like NAME[:TAG]";

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Image::Host);
        }
        let path = |path: &str| match path {
            "" => Err(format!("there is no path after `:` in `{text}`; {FORMS}")),
            path => std::path::absolute(path).map_err(|error| error.to_string()),
        };
        match text.split_once(':') {
            Some(("rootfs", rest)) => Ok(Image::Rootfs(path(rest)?)),
            Some(("oci-archive", rest)) => Ok(Image::OciArchive(path(rest)?)),
            Some(("docker-archive", rest)) => Ok(Image::DockerArchive(path(rest)?)),
            Some(("docker-daemon", "")) => Err(format!("`{text}` names no image; {FORMS}")),
            Some(("docker-daemon", rest)) => Ok(Image::DockerDaemon(rest.to_owned())),
            Some(("oci", rest)) => {
                // A directory's name may contain a colon, too.
                let (dir, tag) = match rest.rsplit_once(':') {
                    Some((dir, tag)) if !tag.contains('/') && !path(rest)?.is_dir() => {
                        (dir, Some(tag.to_owned()))
                    }
                    _ => (rest, None),
                };
                Ok(Image::Layout(path(dir)?, tag))
            }
            _ => {
                // No registry's image starts like this.
                if text.starts_with(['/', '.', '~']) {
                    return Err(format!(
                        "`{text}` is a path; for a root file system write rootfs:{text}"
                    ));
                }
                let public = curated::public_name(text)?;
                let reference = public.as_deref().unwrap_or(text).parse();
                let wrong = |error| format!("`{text}`: {error}; {FORMS}");
                Ok(Image::Registry(reference.map_err(wrong)?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let shown = |text: &str| text.parse::<Image>().map(|image| image.to_string());
        for (text, whole) in [
            ("host", "host"),
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("ubuntu:24.04", "docker.io/library/ubuntu:24.04"),
            ("a/b", "docker.io/a/b:latest"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            (
                "public.ecr.aws/codebuild/amazonlinux2-x86_64-standard:5.0",
                "public.ecr.aws/codebuild/amazonlinux2-x86_64-standard:5.0",
            ),
            ("aws/codebuild/standard:7.0", "public.ecr.aws/codebuild/standard:7.0"),
            ("rootfs:/a", "rootfs:/a"),
            ("oci:/a:b", "oci:/a:b"),
            ("oci:/a", "oci:/a"),
            ("oci-archive:/a.tar", "oci-archive:/a.tar"),
            ("docker-archive:/a.tar", "docker-archive:/a.tar"),
            ("docker-daemon:a/b:c", "docker-daemon:a/b:c"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(whole));
        }
        for bad in [
            "",
            "aws/codebuild/windows-base:1",
            "/root",
            "./root",
            "rootfs:",
            "a/UPPER",
            "a:b:c",
            "oci:",
        ] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }
}
