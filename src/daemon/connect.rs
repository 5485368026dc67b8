//! Finds a daemon that answers.
//!
//! Used by the engine, by `auto` and by `doctor`.

use super::address::{Candidates, Program, Surroundings};
use super::service::Service;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a daemon has to say its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one request may take until its answer begins, in seconds: starting a container on a
/// loaded machine is the longest.
const REQUEST_S: u64 = 600;

/// A daemon that answers.
pub(crate) struct Daemon {
    pub(crate) program: Program,
    pub(crate) version: String,
    /// As `DOCKER_HOST` has it.
    pub(crate) address: String,
    pub(crate) client: Docker,
    /// What answers, where it was started for this build alone.
    pub(crate) service: Option<Service>,
}

/// Nothing that answers was found.
#[derive(Debug)]
pub(crate) struct Unreachable {
    program: Program,
    tried: Vec<(String, String)>,
    named_by: Option<String>,
}

impl Unreachable {
    /// How to mend it.
    pub(crate) fn hint(&self) -> String {
        match (&self.named_by, self.program) {
            (Some(name), _) => format!("{name} says where it should be; is it right?"),
            (None, _) if self.tried.iter().any(|(_, why)| why.contains("Permission denied")) => {
                format!(
                    "this user may not talk to it: sudo usermod --append --groups {} USER, then log \
                     in again",
                    self.program.command()
                )
            }
            (None, Program::Docker) => {
                "is it installed and started? sudo systemctl start docker, or set DOCKER_HOST"
                    .to_owned()
            }
            (None, Program::Podman) => {
                "install it (package podman); its service need not be running".to_owned()
            }
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not answer", self.program)?;
        let tried: Vec<String> =
            self.tried.iter().map(|(place, why)| format!("{place}: {why}")).collect();
        if tried.is_empty() { Ok(()) } else { write!(f, " ({})", tried.join("; ")) }
    }
}

/// Finds Docker or Podman. A Podman that does not listen anywhere is started for the caller alone,
/// with its socket in `place`.
pub(crate) async fn find(program: Program, place: &Path) -> Result<Daemon, Unreachable> {
    let variable = |name: &str| std::env::var(name).ok();
    let uid = nix::unistd::geteuid().as_raw();
    let Candidates { addresses, named_by } =
        Surroundings { variable: &variable, uid }.candidates(program);
    let mut tried = Vec::new();
    for address in addresses {
        match connect(&address).await {
            Ok(daemon) => return Ok(daemon),
            // One that is not there is no news, where nobody has said that it should be.
            Err(why) if named_by.is_none() && why.is_absent => {}
            Err(why) => tried.push((address, why.text)),
        }
    }
    if program == Program::Podman && named_by.is_none() && podman().is_some() {
        match serve(None, place).await {
            Ok(daemon) => return Ok(daemon),
            Err(why) => tried.push(("podman system service".to_owned(), why)),
        }
    }
    Err(Unreachable { program, tried, named_by })
}

/// A Podman of the caller's own, with another OCI runtime where one is named.
pub(crate) async fn serve(runtime: Option<&str>, place: &Path) -> Result<Daemon, String> {
    let mut service = Service::start(runtime, place).map_err(|error| error.to_string())?;
    let mut daemon = service.ready().await?;
    service.keep(&daemon.client);
    daemon.service = Some(service);
    Ok(daemon)
}

/// Podman's own program.
pub(crate) fn podman() -> Option<PathBuf> {
    program_on_path("podman")
}

/// A program, where the caller's PATH has it. OCI runtimes often lie beside it.
pub(crate) fn program_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(beside).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Why nothing answers at an address.
pub(crate) struct Silence {
    pub(crate) text: String,
    /// There is not even a socket.
    is_absent: bool,
}

/// Talks to whoever listens there.
pub(crate) async fn connect(address: &str) -> Result<Daemon, Silence> {
    let silence = |text: String| Silence { text, is_absent: false };
    let connected = match address.strip_prefix("unix://") {
        Some(path) if !Path::new(path).exists() => {
            // A folder that may not be entered hides what is in it.
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
        .map_err(|_| silence("it takes the connection and says nothing".to_owned()))?
        .map_err(|error| silence(said(&error)))?;
    let is_podman =
        version.components.unwrap_or_default().iter().any(|part| part.name.starts_with("Podman"));
    let program = if is_podman { Program::Podman } else { Program::Docker };
    let version = version.version.unwrap_or_default();
    Ok(Daemon { program, version, address: address.to_owned(), client, service: None })
}

impl Daemon {
    /// Ends a service of our own, and waits for that.
    pub(crate) async fn end(self) {
        // Here, where its clients still run: it waits for them.
        let _ = tokio::task::spawn_blocking(move || drop(self.service)).await;
    }
}

/// A daemon's refusal or a connection's failure, in one line, down to its cause.
pub(crate) fn said(error: &bollard::errors::Error) -> String {
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
