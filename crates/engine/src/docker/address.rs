//! Where daemons listen: from environment variables and Docker's contexts, else the usual places.
//!
//! Used by `find`.

use serde::Deserialize;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The program a daemon belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonProgram {
    Docker,
    Podman,
}

impl DaemonProgram {
    /// The name of its command.
    pub fn command(self) -> &'static str {
        match self {
            DaemonProgram::Docker => "docker",
            DaemonProgram::Podman => "podman",
        }
    }
}

impl fmt::Display for DaemonProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DaemonProgram::Docker => "Docker",
            DaemonProgram::Podman => "Podman",
        })
    }
}

/// Addresses at which a daemon may answer, and where they come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    /// In the form of `DOCKER_HOST`.
    pub(super) addresses: Vec<String>,
    /// The variable or context that names the only address; `None` for the usual places.
    pub(super) named_by: Option<String>,
}

pub(super) struct CallerEnvironment<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) uid: u32,
}

impl CallerEnvironment<'_> {
    fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn home(&self) -> Option<PathBuf> {
        self.set("HOME").map(PathBuf::from)
    }

    fn runtime_dir(&self) -> String {
        self.set("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", self.uid))
    }

    /// Addresses at which the daemon may answer.
    pub(super) fn candidates(&self, program: DaemonProgram) -> Candidates {
        let variable = match program {
            DaemonProgram::Docker => "DOCKER_HOST",
            DaemonProgram::Podman => "CONTAINER_HOST",
        };
        if let Some(address) = self.set(variable) {
            return Candidates { addresses: vec![address], named_by: Some(variable.to_owned()) };
        }
        let runtime = self.runtime_dir();
        let addresses = match program {
            DaemonProgram::Docker => {
                if let Some((context, address)) = self.context() {
                    let named_by = Some(format!("Docker's context `{context}`"));
                    return Candidates { addresses: vec![address], named_by };
                }
                let mut places = vec![
                    PathBuf::from("/var/run/docker.sock"),
                    Path::new(&runtime).join("docker.sock"),
                ];
                let desktop = [".docker/desktop/docker.sock", ".docker/run/docker.sock"];
                places.extend(
                    self.home().into_iter().flat_map(|home| desktop.map(|place| home.join(place))),
                );
                places
            }
            DaemonProgram::Podman => {
                let own = Path::new(&runtime).join("podman/podman.sock");
                let system = PathBuf::from("/run/podman/podman.sock");
                // A user's own Podman knows that user's images.
                if self.uid == 0 { vec![system] } else { vec![own, system] }
            }
        };
        let addresses =
            addresses.iter().map(|place| format!("unix://{}", place.display())).collect();
        Candidates { addresses, named_by: None }
    }

    /// The context that `docker context use` or `DOCKER_CONTEXT` has chosen, and its address.
    fn context(&self) -> Option<(String, String)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            current_context: Option<String>,
        }
        let folder = self
            .set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(self.home()?.join(".docker")))?;
        let name = self.set("DOCKER_CONTEXT").or_else(|| {
            let text = fs::read(folder.join("config.json")).ok()?;
            serde_json::from_slice::<Config>(&text).ok()?.current_context
        })?;
        if name == "default" {
            return None;
        }
        // Folder names are digests; the files in them hold the context's name.
        fs::read_dir(folder.join("contexts/meta")).ok()?.flatten().find_map(|entry| {
            let text = fs::read(entry.path().join("meta.json")).ok()?;
            let context: DockerContext = serde_json::from_slice(&text).ok()?;
            let address = context.endpoints.docker?.host;
            (context.name == name).then_some((context.name, address))
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerContext {
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<ContextEndpoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContextEndpoint {
    host: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(program: DaemonProgram, uid: u32, variables: &[(&str, &str)]) -> Candidates {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        CallerEnvironment { variable: &variable, uid }.candidates(program)
    }

    #[test]
    fn a_variable_names_the_only_place() {
        let found = candidates(
            DaemonProgram::Docker,
            0,
            &[("DOCKER_HOST", "tcp://docker:2375"), ("HOME", "/h")],
        );
        assert_eq!(found.addresses, ["tcp://docker:2375"]);
        assert_eq!(found.named_by.as_deref(), Some("DOCKER_HOST"));
        let found = candidates(DaemonProgram::Podman, 0, &[("DOCKER_HOST", "tcp://docker:2375")]);
        assert_eq!(found.addresses, ["unix:///run/podman/podman.sock"]);
    }

    #[test]
    fn a_user_has_daemons_of_their_own() {
        let found = candidates(DaemonProgram::Podman, 7, &[]);
        assert_eq!(found.addresses[0], "unix:///run/user/7/podman/podman.sock");
        let found =
            candidates(DaemonProgram::Docker, 7, &[("XDG_RUNTIME_DIR", "/x"), ("DOCKER_HOST", "")]);
        assert_eq!(found.addresses[..2], ["unix:///var/run/docker.sock", "unix:///x/docker.sock"]);
    }

    #[test]
    fn the_chosen_context_of_docker_is_followed() {
        let home = tempfile::tempdir().expect("a folder");
        let meta = home.path().join(".docker/contexts/meta/0a1b");
        fs::create_dir_all(&meta).expect("a folder");
        let text = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://h:1","SkipTLSVerify":false}}}"#;
        fs::write(meta.join("meta.json"), text).expect("written");
        let config = home.path().join(".docker/config.json");
        fs::write(&config, r#"{"auths":{},"currentContext":"far"}"#).expect("written");
        let at = home.path().to_str().expect("text");
        let found = candidates(DaemonProgram::Docker, 7, &[("HOME", at)]);
        assert_eq!(found.addresses, ["tcp://h:1"]);
        let found =
            candidates(DaemonProgram::Docker, 7, &[("HOME", at), ("DOCKER_CONTEXT", "default")]);
        assert_eq!(found.addresses[0], "unix:///var/run/docker.sock");
    }
}
