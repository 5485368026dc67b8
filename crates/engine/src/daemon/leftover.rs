//! Removes what a killed runner left at a daemon.
//!
//! Used by the sweep, outside of any runtime. The container itself ended with its runner, whose
//! socket its first process holds; only one that never started can be left.

use super::create::{LABEL, name_of};
use crate::docker::{DaemonProgram, connect, podman, said};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
};
use std::collections::HashMap;
use std::io;
use std::process::{Command, Stdio};

/// Removes a build's containers and the image made for it. Fails if the daemon could not be asked.
pub(crate) fn remove_leftover(
    program: &str,
    address: Option<&str>,
    image: Option<&str>,
    build: &str,
) -> io::Result<()> {
    match address {
        Some(address) => {
            let runtime = runner_host::runtime::start().map_err(io::Error::other)?;
            runtime.block_on(at_daemon(address, image, build))
        }
        None if program == DaemonProgram::Podman.command() => by_command(image, build),
        None => Ok(()),
    }
}

async fn at_daemon(address: &str, image: Option<&str>, build: &str) -> io::Result<()> {
    let refused = |error: &bollard::errors::Error| io::Error::other(said(error));
    let daemon = connect(address).await.map_err(|silence| {
        io::Error::other(format!(
            "{address} does not answer ({}); its container may still be listed there: {}",
            silence.text,
            name_of(build)
        ))
    })?;
    let label = format!("{LABEL}={build}");
    let filters = HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = daemon.client.list_containers(Some(options)).await.map_err(|e| refused(&e))?;
    for id in containers.into_iter().filter_map(|container| container.id) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match daemon.client.remove_container(&id, Some(options)).await {
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            }) => {}
            done => done.map_err(|e| refused(&e))?,
        }
    }
    if let Some(image) = image {
        // The image may never have been made.
        let _ = daemon.client.remove_image(image, None::<RemoveImageOptions>, None).await;
    }
    Ok(())
}

/// Runs Podman's command where Podman has no service.
fn by_command(image: Option<&str>, build: &str) -> io::Result<()> {
    let Some(podman) = podman() else { return Ok(()) };
    let run = |arguments: &[&str]| {
        runner_sandbox::with_inherited_descriptors(&mut Command::new(&podman))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
    };
    let removed = run(&["rm", "--force", "--ignore", "--volumes", "--time", "0", &name_of(build)])?;
    if let Some(image) = image {
        // The image may never have been made.
        let _ = run(&["rmi", "--ignore", image]);
    }
    if removed.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&removed.stderr).trim().to_owned();
    Err(io::Error::other(format!("podman cannot remove {}: {said}", name_of(build))))
}
