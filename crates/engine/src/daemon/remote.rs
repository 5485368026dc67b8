//! Starts a container at a daemon that does not see this machine's files. Reaches its PID 1 through
//! the daemon's exec API and the relay.
//!
//! The engine uses this when `mounted` finds that the daemon does not see this machine's files.

use super::held::HeldByDaemon;
use super::{DaemonEngine, PATIENCE, create};
use crate::docker::said;
use crate::init::InitClient;
use crate::limits;
use crate::relay::RelaySetup;
use crate::{ContainerSpec, EngineError, EngineNote};
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::UploadToContainerOptionsBuilder;
use futures_util::StreamExt;
use std::io;
use std::sync::Arc;

/// Longest piece of the relay's output read at once.
const PIECE: usize = 64 << 10;

/// Starts the container. Returns the connection to its first process. `how` says why `mounted`
/// failed.
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
                "leave out --mount, and the build runs there on a copy of its source; or run the \
                 runner where the daemon is",
            ),
        ));
    }
    (engine.tell)(EngineNote::ThroughExec { elsewhere });
    tell_missing(engine, held, spec);
    // Remove what the first attempt left.
    held.remove().await;
    let refused = |error: &dyn std::fmt::Display| {
        EngineError::fault(format!("{program} cannot start the container: {error}"), None)
    };
    let relay = RelaySetup::new(&spec.readonly);
    begin(engine, held, spec, image, &relay).await.map_err(|error| refused(&error))?;
    tokio::select! {
        connected = tokio::time::timeout(PATIENCE, connect(held, relay)) => match connected {
            Ok(connected) => connected.map_err(|error| refused(&error)),
            Err(_) => Err(refused(&"its first process does not answer")),
        },
        code = held.ended() => {
            let code = code.map(|code| format!(" (exit code {code})")).unwrap_or_default();
            Err(refused(&format!("it has ended at once{code}")))
        }
    }
}

/// Notes each requested feature that is missing.
fn tell_missing(engine: &DaemonEngine, held: &HeldByDaemon, spec: &ContainerSpec) {
    if spec.limits.is_any() {
        let options = limits::options(&spec.limits);
        (engine.tell)(EngineNote::EnforcedUnseen { options, by: held.daemon.program });
    }
    if spec.loopback_port.is_some() {
        (engine.tell)(EngineNote::NoCredentials);
    }
}

/// Has the daemon create the container, copies our program into it and starts it.
async fn begin(
    engine: &DaemonEngine,
    held: &HeldByDaemon,
    spec: &ContainerSpec,
    image: &str,
    relay: &RelaySetup,
) -> io::Result<()> {
    let packed = relay.archive().await?;
    let start = create::ContainerStart { entrypoint: RelaySetup::entrypoint(), mounts: false };
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
async fn connect(held: &HeldByDaemon, relay: RelaySetup) -> io::Result<Arc<InitClient>> {
    let refused = |error: bollard::errors::Error| io::Error::other(said(&error));
    let options = CreateExecOptions {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        user: Some("0:0".to_owned()),
        cmd: Some(relay.command()),
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
    relay.connect(input, said).await
}
