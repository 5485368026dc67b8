//! A daemon's client: finds out who answers at an address, and words its refusals.
//!
//! Used by `find`, and by `service` to see whether the service it started answers.

use super::address::DaemonProgram;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::path::Path;
use std::time::Duration;

/// How long a daemon may take to report its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a response may take to begin, in seconds. Starting a container on a loaded machine
/// takes longest.
const REQUEST_S: u64 = 600;

/// A daemon that answers, and its address.
pub struct AnsweringDaemon {
    pub program: DaemonProgram,
    pub version: String,
    /// In the form of `DOCKER_HOST`.
    pub address: String,
    pub client: Docker,
}

/// Why nothing answers at an address.
pub struct Silence {
    pub text: String,
    /// Whether not even a socket exists.
    pub(super) is_absent: bool,
}

/// Connects to the daemon at an address.
pub async fn connect(address: &str) -> Result<AnsweringDaemon, Silence> {
    let silence = |text: String| Silence { text, is_absent: false };
    let connected = match address.strip_prefix("unix://") {
        Some(path) if !Path::new(path).exists() => {
            // A folder without access hides what is in it.
            let text = match std::fs::symlink_metadata(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => error.to_string(),
                _ => return Err(Silence { text: "no such socket".to_owned(), is_absent: true }),
            };
            return Err(silence(text));
        }
        Some(path) => Docker::connect_with_unix(path, REQUEST_S, API_DEFAULT_VERSION),
        None => Docker::connect_with_host(address)
            .map(|docker| docker.with_timeout(Duration::from_secs(REQUEST_S))),
    };
    let client = connected.map_err(|error| silence(said(&error)))?;
    let asked = async {
        let client = client.negotiate_version().await?;
        let version = client.version().await?;
        Ok::<_, bollard::errors::Error>((client, version))
    };
    let (client, version) = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| silence("it accepts the connection and does not answer".to_owned()))?
        .map_err(|error| silence(said(&error)))?;
    let is_podman =
        version.components.unwrap_or_default().iter().any(|part| part.name.starts_with("Podman"));
    let program = if is_podman { DaemonProgram::Podman } else { DaemonProgram::Docker };
    let version = version.version.unwrap_or_default();
    Ok(AnsweringDaemon { program, version, address: address.to_owned(), client })
}

/// A daemon's refusal or a connection failure with its cause, in one line.
pub fn said(error: &bollard::errors::Error) -> String {
    use std::error::Error;
    if let bollard::errors::Error::DockerResponseServerError { message, .. } = error {
        return message.trim().replace('\n', " ");
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
