//! Starts a container with our program mounted into it. The program connects to a socket in that
//! mount.
//!
//! The engine uses this wherever the daemon sees this machine's files. Whether it does shows here,
//! before anything of the build has begun.

use super::held::HeldByDaemon;
use super::{DaemonEngine, PATIENCE, create};
use crate::docker::{self, Daemon, said};
use crate::init::InitClient;
use crate::{ContainerSpec, EngineError, EngineNote, NetworkAccess, READONLY};
use runner_host::private::listen;
use runner_wire::abi::{BREAKPOINT_NAME, CONTAINER_NAME, NOT_REACHED};
use std::fs;
use std::io;
use std::sync::Arc;

/// Name of our program's socket in the mounted folder.
const SOCKET: &str = "init.sock";
/// crun's message on a machine with both versions of control groups.
const HYBRID: &str = "cgroups in hybrid mode not supported";

/// Why the container did not start.
pub(super) enum MountedStartError {
    /// The daemon is on another machine, in a virtual machine or outside of this container. Holds
    /// the symptom.
    Elsewhere(String),
    Failed(EngineError),
}

impl MountedStartError {
    fn ours(doing: &str, error: &io::Error) -> Self {
        MountedStartError::Failed(EngineError::fault(format!("cannot {doing}: {error}"), None))
    }
}

/// Starts the container. Returns the connection to its first process.
pub(super) async fn start(
    engine: &DaemonEngine,
    held: &mut HeldByDaemon,
    spec: &ContainerSpec,
    image: &str,
) -> Result<Arc<InitClient>, MountedStartError> {
    let ours = MountedStartError::ours;
    let bin = spec.readonly.join("bin");
    fs::hard_link(bin.join(BREAKPOINT_NAME), bin.join(CONTAINER_NAME))
        .map_err(|error| ours("put the container's first process in place", &error))?;
    fs::write(spec.readonly.join(create::PROFILE), runner_sandbox::seccomp_profile())
        .map_err(|error| ours("write the filter of system calls", &error))?;
    if !spec.mounts.is_empty() {
        fs::create_dir(spec.readonly.join(create::NOTHING))
            .map_err(|error| ours("make an empty directory", &error))?;
    }
    let socket = spec.readonly.join(SOCKET);
    // Any user may connect: the container's root may be any user here.
    let listener =
        listen(&socket, 0o666).map_err(|error| ours("listen for the container", &error))?;
    let start = create::ContainerStart {
        entrypoint: vec![
            format!("{READONLY}/bin/{CONTAINER_NAME}"),
            format!("{READONLY}/{SOCKET}"),
        ],
        mounts: true,
    };
    let begun = begin(engine, held, spec, image, start).await;
    if spec.loopback_port.is_some() && spec.network != NetworkAccess::Host {
        (engine.tell)(EngineNote::NoCredentials);
    }
    let init = match begun {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            connected = tokio::time::timeout(PATIENCE, listener.accept()) => match connected {
                Ok(Ok((stream, _))) => InitClient::greeted(stream)
                    .await
                    .map_err(|error| ours("talk to the container", &error)),
                Ok(Err(error)) => Err(ours("hear from the container", &error)),
                Err(_) => Err(MountedStartError::Elsewhere(
                    "the container's first process does not connect".to_owned(),
                )),
            },
            code = held.ended() => Err(match code {
                // The container sees the socket, but runs on another kernel than the one that
                // listens.
                Some(code) if code == i64::from(NOT_REACHED) => MountedStartError::Elsewhere(
                    "the container's first process cannot connect".to_owned(),
                ),
                Some(code) => MountedStartError::Failed(ended_at_once(&format!(" (exit code {code})"))),
                None => MountedStartError::Failed(ended_at_once("")),
            }),
        },
    };
    // Stop listening. Nothing of the build has run yet.
    drop(listener);
    let _ = fs::remove_file(&socket);
    let _ = fs::remove_file(spec.readonly.join(create::PROFILE));
    init
}

fn ended_at_once(how: &str) -> EngineError {
    EngineError::fault(format!("the container has ended at once{how}"), None)
}

/// Has the daemon create and start the container, with another OCI runtime if that is needed.
async fn begin(
    engine: &DaemonEngine,
    held: &mut HeldByDaemon,
    spec: &ContainerSpec,
    image: &str,
    start: create::ContainerStart,
) -> Result<(), MountedStartError> {
    let program = held.daemon.program;
    let body = create::body(spec, &engine.build, program, image, start);
    let mut begun = attempt(held, &body).await;
    if let Err(error) = &begun
        && said(error).contains(HYBRID)
        && let Some(daemon) = with_runc(engine).await
    {
        // The first attempt must leave nothing in the way of the second.
        held.remove().await;
        std::mem::replace(&mut held.daemon, daemon).end().await;
        begun = attempt(held, &body).await;
    }
    begun.map_err(|error| {
        let text = said(&error);
        // On another machine the mount of our own program is the first to fail.
        if is_foreign(&text) {
            return MountedStartError::Elsewhere(text);
        }
        let hint = text.contains(HYBRID).then_some(
            "crun does not take a machine with both versions of control groups; install runc, which \
             Podman then uses: apt-get install runc",
        );
        MountedStartError::Failed(EngineError::fault(
            format!("{program} cannot start the container: {text}"),
            hint,
        ))
    })
}

async fn attempt(
    held: &HeldByDaemon,
    body: &bollard::models::ContainerCreateBody,
) -> Result<(), bollard::errors::Error> {
    held.create(body.clone()).await?;
    held.start().await
}

/// Whether the daemon's message says that it does not know a path.
fn is_foreign(text: &str) -> bool {
    ["bind source path does not exist", "no such file or directory", "invalid mount config"]
        .iter()
        .any(|said| text.contains(said))
        && text.contains("readonly")
}

/// A Podman that uses runc.
async fn with_runc(engine: &DaemonEngine) -> Option<Daemon> {
    docker::podman()?;
    docker::program_on_path("runc")?;
    let daemon = docker::serve(Some("runc"), &engine.place, &engine.storage).await.ok()?;
    (engine.tell)(EngineNote::UsesRunc);
    Some(daemon)
}
