//! Talks to PID 1 over a single stream, for an engine without a socket into its container.
//!
//! Such an engine only has to put files into a container before it starts, and to run a command in
//! it with its streams attached. Our program is copied in as an archive; as PID 1 it waits for the
//! relay, which is that command. The relay's input and output carry PID 1's whole protocol
//! (`carrier`); on top of it runs an ordinary [`InitClient`] (docs/adr/0057, 0084).

mod archive;
mod carrier;
mod copies;
mod flows;

use super::READONLY;
use super::init::InitClient;
use carrier::Carrier;
use futures_util::Stream;
use runner_wire::abi::relay::{SHIMS, SOCKET, WAITS};
use runner_wire::abi::{BREAKPOINT_NAME, CONTAINER_NAME, RELAY_NAME, SHIM_SOCKET};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWrite;
use tokio::net::UnixStream;

/// The contents of a container's [`READONLY`] folder, and the way to its PID 1.
pub(super) struct RelaySetup {
    /// The folder on this machine.
    readonly: PathBuf,
    /// The socket for shims, if it exists.
    shims: Option<PathBuf>,
}

impl RelaySetup {
    /// For a container that gets a copy of this folder.
    pub(super) fn new(readonly: &Path) -> Self {
        let shims = Some(readonly.join(SHIM_SOCKET)).filter(|socket| socket.exists());
        RelaySetup { readonly: readonly.to_path_buf(), shims }
    }

    /// An archive of the folder with our programs, to unpack at `/` before the container starts.
    pub(super) async fn archive(&self) -> io::Result<Vec<u8>> {
        let bin = self.readonly.join("bin");
        for name in [CONTAINER_NAME, RELAY_NAME] {
            match fs::hard_link(bin.join(BREAKPOINT_NAME), bin.join(name)) {
                // The engine tried another way before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => done?,
            }
        }
        let folder = self.readonly.clone();
        let packed = tokio::task::spawn_blocking(move || archive::archive(&folder)).await;
        packed.map_err(io::Error::other)?
    }

    /// The container's entrypoint.
    pub(super) fn entrypoint() -> Vec<String> {
        vec![
            format!("{READONLY}/bin/{CONTAINER_NAME}"),
            format!("{READONLY}/{SOCKET}"),
            WAITS.to_owned(),
        ]
    }

    /// The relay's command, to run as root in the container.
    pub(super) fn command(&self) -> Vec<String> {
        let mut command = vec![format!("{READONLY}/bin/{RELAY_NAME}"), READONLY.to_owned()];
        command.extend(self.shims.iter().map(|_| SHIMS.to_owned()));
        command
    }

    /// Greets PID 1 through that command's input and output. Call it in the runtime.
    pub(super) async fn connect(
        self,
        input: impl AsyncWrite + Unpin + Send + 'static,
        output: impl Stream<Item = io::Result<Vec<u8>>> + Unpin + Send + 'static,
    ) -> io::Result<Arc<InitClient>> {
        let (ours, theirs) = UnixStream::pair()?;
        Carrier::start(theirs, input, output, self.shims);
        InitClient::greeted(ours).await
    }
}

#[cfg(test)]
mod tests;
