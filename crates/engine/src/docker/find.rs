//! Finds a daemon that answers.
//!
//! Used by the engine, by `auto` and by `doctor`.

use super::address::{CallerEnvironment, Candidates, DaemonProgram};
use super::client::{AnsweringDaemon, connect};
use super::service::PodmanService;
use super::storage::Storage;
use bollard::Docker;
use std::fmt;
use std::path::{Path, PathBuf};

/// A daemon that answered.
pub struct Daemon {
    pub program: DaemonProgram,
    pub version: String,
    /// In the form of `DOCKER_HOST`.
    pub address: String,
    pub client: Docker,
    /// The Podman service, if it was started for this build alone.
    pub service: Option<PodmanService>,
}

impl Daemon {
    fn new(answering: AnsweringDaemon, service: Option<PodmanService>) -> Self {
        let AnsweringDaemon { program, version, address, client } = answering;
        Daemon { program, version, address, client, service }
    }

    /// Ends our own service and waits for it.
    pub async fn end(self) {
        // Drop it while the runtime still runs its clients: it waits for them.
        let _ = tokio::task::spawn_blocking(move || drop(self.service)).await;
    }
}

/// Why no daemon was found.
#[derive(Debug)]
pub struct Unreachable {
    program: DaemonProgram,
    tried: Vec<(String, String)>,
    named_by: Option<String>,
}

impl Unreachable {
    /// How to fix it.
    pub fn hint(&self) -> String {
        match (&self.named_by, self.program) {
            (Some(name), _) => format!("is {name} right?"),
            (None, _) if self.tried.iter().any(|(_, why)| why.contains("Permission denied")) => {
                format!(
                    "this user may not talk to it: sudo usermod --append --groups {} USER, then log \
                     in again",
                    self.program.command()
                )
            }
            (None, DaemonProgram::Docker) => {
                "is it installed and started? sudo systemctl start docker, or set DOCKER_HOST"
                    .to_owned()
            }
            (None, DaemonProgram::Podman) => {
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

/// Finds Docker or Podman. If Podman listens nowhere, starts it for the caller alone, with its
/// socket in `place` and its containers in `storage`.
pub async fn find(
    program: DaemonProgram,
    place: &Path,
    storage: &Storage,
) -> Result<Daemon, Unreachable> {
    let Candidates { addresses, named_by } = candidates(program);
    let mut tried = Vec::new();
    for address in addresses {
        match connect(&address).await {
            Ok(answering) => return Ok(Daemon::new(answering, None)),
            // A missing daemon is worth a message only if the caller named it.
            Err(why) if named_by.is_none() && why.is_absent => {}
            Err(why) => tried.push((address, why.text)),
        }
    }
    if program == DaemonProgram::Podman && named_by.is_none() && podman().is_some() {
        match serve(None, place, storage).await {
            Ok(daemon) => return Ok(daemon),
            Err(why) => tried.push(("podman system service".to_owned(), why)),
        }
    }
    Err(Unreachable { program, tried, named_by })
}

/// A daemon that already listens; starts nothing.
pub async fn listening(program: DaemonProgram) -> Option<Daemon> {
    for address in candidates(program).addresses {
        if let Ok(answering) = connect(&address).await {
            return Some(Daemon::new(answering, None));
        }
    }
    None
}

fn candidates(program: DaemonProgram) -> Candidates {
    let variable = |name: &str| std::env::var(name).ok();
    let uid = nix::unistd::geteuid().as_raw();
    CallerEnvironment { variable: &variable, uid }.candidates(program)
}

/// Starts a Podman for the caller alone, with another OCI runtime if `runtime` names one.
pub async fn serve(
    runtime: Option<&str>,
    place: &Path,
    storage: &Storage,
) -> Result<Daemon, String> {
    let mut service =
        PodmanService::start(runtime, place, storage).map_err(|error| error.to_string())?;
    let answering = service.ready().await?;
    service.keep(&answering.client);
    Ok(Daemon::new(answering, Some(service)))
}

/// The path of Podman's program.
pub fn podman() -> Option<PathBuf> {
    program_on_path("podman")
}

/// The path of a program on the caller's PATH, or in the sbin folders, where OCI runtimes often
/// are.
pub fn program_on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let beside = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(beside).map(|dir| dir.join(name)).find(|file| file.is_file())
}
