//! Podman's API service, started for one build where none listens.
//!
//! Used by `find`. It ends by itself when nobody has asked it anything for a while, so that a killed
//! runner leaves none.

use super::client::{AnsweringDaemon, connect};
use super::storage::{Storage, Traces};
use bollard::Docker;
use futures_util::StreamExt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::pin::pin;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// How long it stays without a client.
const IDLE_S: u32 = 5;
/// How long it has to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(5);
/// How often it is asked.
const PACE: Duration = Duration::from_millis(10);

/// Most of what it says that is read.
const MAX_COMPLAINTS: u64 = 64 << 10;

/// The service. It ends when this is dropped.
#[derive(Debug)]
pub struct PodmanService {
    child: Child,
    address: String,
    complaints: File,
    traces: Traces,
    /// Listens to it.
    client: Option<AbortHandle>,
}

impl PodmanService {
    /// Starts the service with its socket in `place`, a folder that only the caller may enter.
    pub(super) fn start(
        runtime: Option<&str>,
        place: &Path,
        storage: &Storage,
    ) -> io::Result<Self> {
        // One with another runtime may end while this one begins.
        let socket = place.join(runtime.unwrap_or("podman")).with_extension("sock");
        let address = format!("unix://{}", socket.display());
        let complaints = tempfile::tempfile()?;
        let traces = storage.traces();
        let mut command = storage.command();
        if let Some(runtime) = runtime {
            command.args(["--runtime", runtime]);
        }
        let child = command
            .args(["system", "service", "--time", &IDLE_S.to_string(), &address])
            // Podman leaves the archives of images that it was sent among temporary files.
            .env("TMPDIR", place)
            // Ctrl-C at the terminal is for the build; this is needed until its end.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints.try_clone()?)
            .spawn()?;
        Ok(PodmanService { child, address, complaints, client: None, traces })
    }

    /// The daemon, once it answers.
    pub(super) async fn ready(&mut self) -> Result<AnsweringDaemon, String> {
        let begin = Instant::now();
        loop {
            // It has no other way to tell.
            let why = match connect(&self.address).await {
                Ok(answering) => {
                    tracing::debug!(time = ?begin.elapsed(), "Podman's service answers");
                    return Ok(answering);
                }
                Err(silence) => silence.text,
            };
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended at once ({status}): {}", self.complaint()));
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("it does not answer: {why}; {}", self.complaint()));
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// Keeps it from ending for want of clients, as long as this value is there.
    pub(super) fn keep(&mut self, client: &Docker) {
        let client = client.clone();
        let listening = tokio::spawn(async move {
            let mut events = pin!(client.events(None));
            while let Some(Ok(_)) = events.next().await {}
        });
        self.client = Some(listening.abort_handle());
    }

    /// The last thing it has said.
    fn complaint(&self) -> String {
        let mut text = String::new();
        let mut file = &self.complaints;
        // What cannot be read is not told.
        let _ = file.rewind().and_then(|()| file.take(MAX_COMPLAINTS).read_to_string(&mut text));
        text.lines().next_back().unwrap_or("it does not say why").to_owned()
    }
}

impl Drop for PodmanService {
    fn drop(&mut self) {
        // It would wait for its clients.
        if let Some(client) = self.client.take() {
            client.abort();
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = runner_sandbox::wait_or_kill(&mut self.child, END);
        self.traces.clear();
    }
}
