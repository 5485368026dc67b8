//! Starts a container at a daemon that does not see this machine's files, and talks to its PID 1 through
//! the daemon's exec API.
//!
//! Used by the engine where `mounted` finds that it cannot be done there. What is mounted elsewhere is
//! brought there as an archive. PID 1 waits for one program that is started by an exec, the relay, whose
//! streams carry PID 1's whole protocol (`carrier`). From there on it is an [`InitClient`] as any other.

mod archive;
mod carrier;
mod copies;
mod flows;

use super::held::HeldByDaemon;
use super::{DaemonEngine, PATIENCE, create};
use crate::daemon::said;
use crate::engine::init::InitClient;
use crate::engine::limits;
use crate::engine::{ContainerSpec, EngineError, Note};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::StreamExt;
use runner_wire::abi::relay::{SHIMS, SOCKET, WAITS};
use runner_wire::abi::{BREAKPOINT_NAME, CONTAINER_NAME, RELAY_NAME, SHIM_SOCKET};
use std::fs;
use std::io;
use std::sync::Arc;
use tokio::net::UnixStream;

/// Longest piece of the relay's output that is taken at once.
const PIECE: usize = 64 << 10;

/// Starts it; its first process. `how` says why it is not done in the ordinary way.
pub(super) async fn start(
    engine: &DaemonEngine,
    held: &mut HeldByDaemon,
    spec: &ContainerSpec,
    image: &str,
    how: &str,
) -> Result<Arc<InitClient>, EngineError> {
    let program = held.daemon.program;
    let elsewhere =
        format!("{program} at {} does not see this machine's files", held.daemon.address);
    tracing::debug!(how, "{elsewhere}");
    if let Some(mount) = spec.mounts.first() {
        return Err(EngineError::fault(
            format!("{elsewhere}, so it cannot mount {} ({how})", mount.source.display()),
            Some(
                "without --mount the build runs there all the same: its source is copied; or run the \
                 runner where the daemon is",
            ),
        ));
    }
    (engine.tell)(Note::ThroughExec { elsewhere });
    tell_missing(engine, held, spec);
    // What the attempt has left.
    held.remove().await;
    let refused = |error: &dyn std::fmt::Display| {
        EngineError::fault(format!("{program} cannot start the container: {error}"), None)
    };
    begin(engine, held, spec, image).await.map_err(|error| refused(&error))?;
    tokio::select! {
        connected = tokio::time::timeout(PATIENCE, connect(held, spec)) => match connected {
            Ok(connected) => connected.map_err(|error| refused(&error)),
            Err(_) => Err(refused(&"its first process does not answer")),
        },
        code = held.ended() => {
            let code = code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
            Err(refused(&format!("it has ended at once{code}")))
        }
    }
}

/// What was asked for and is not there.
fn tell_missing(engine: &DaemonEngine, held: &HeldByDaemon, spec: &ContainerSpec) {
    if spec.limits.is_any() {
        let options = limits::options(&spec.limits);
        (engine.tell)(Note::EnforcedUnseen { options, by: held.daemon.program });
    }
    if spec.loopback_port.is_some() {
        (engine.tell)(Note::NoCredentials);
    }
}

/// Has the daemon make it, puts our program into it, and has it started.
async fn begin(
    engine: &DaemonEngine,
    held: &HeldByDaemon,
    spec: &ContainerSpec,
    image: &str,
) -> io::Result<()> {
    let bin = spec.readonly.join("bin");
    fs::hard_link(bin.join(BREAKPOINT_NAME), bin.join(RELAY_NAME))?;
    let folder = spec.readonly.clone();
    let packed = tokio::task::spawn_blocking(move || archive::archive(&folder)).await;
    let packed = packed.map_err(io::Error::other)??;
    let start = create::Start {
        entrypoint: vec![
            format!("{}/bin/{CONTAINER_NAME}", create::READONLY),
            format!("{}/{SOCKET}", create::READONLY),
            WAITS.to_owned(),
        ],
        mounts: false,
    };
    let refused = |error: bollard::errors::Error| io::Error::other(said(&error));
    let body = create::body(spec, &engine.build, held.daemon.program, image, start);
    held.create(body).await.map_err(refused)?;
    let to = UploadToContainerOptionsBuilder::new().path("/").build();
    let upload = bollard::body_full(packed.into());
    let client = &held.daemon.client;
    client.upload_to_container(&held.name, Some(to), upload).await.map_err(refused)?;
    held.start().await.map_err(refused)
}

/// Starts the relay and greets PID 1 through it.
async fn connect(held: &HeldByDaemon, spec: &ContainerSpec) -> io::Result<Arc<InitClient>> {
    let refused = |error: bollard::errors::Error| io::Error::other(said(&error));
    let shims = Some(spec.readonly.join(SHIM_SOCKET)).filter(|socket| socket.exists());
    let mut command =
        vec![format!("{}/bin/{RELAY_NAME}", create::READONLY), create::READONLY.to_owned()];
    command.extend(shims.iter().map(|_| SHIMS.to_owned()));
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: Some("0:0".to_owned()),
        cmd: Some(command),
        ..CreateExecOptions::default()
    };
    let client = &held.daemon.client;
    let exec = client.create_exec(&held.name, options).await.map_err(refused)?;
    let how = StartExecOptions { output_capacity: Some(PIECE), ..StartExecOptions::default() };
    let started = client.start_exec(&exec.id, Some(how)).await.map_err(refused)?;
    let StartExecResults::Attached { output, input } = started else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let said = output.filter_map(|said| {
        let bytes = match said {
            Ok(LogOutput::StdOut { message }) => Some(Ok(message.to_vec())),
            Ok(other) => {
                tracing::warn!(%other, "the relay complains");
                None
            }
            Err(error) => Some(Err(io::Error::other(error))),
        };
        std::future::ready(bytes)
    });
    let (ours, theirs) = UnixStream::pair()?;
    carrier::Carrier::start(theirs, input, said, shims);
    InitClient::greeted(ours).await
}

#[cfg(test)]
mod tests;
