//! Podman's API service, started for one build if none listens.
//!
//! Used by `find`. The service ends by itself after a while without requests, so a killed runner
//! leaves none behind.

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

/// How long the service stays up without a client.
const IDLE_S: u32 = 5;
/// How long the service may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the service may take to end.
const END: Duration = Duration::from_secs(5);
/// How often to check whether the service answers.
const PACE: Duration = Duration::from_millis(10);

/// Most bytes read of its error output.
const MAX_COMPLAINTS: u64 = 64 << 10;

/// A running service. Dropping it ends the service.
#[derive(Debug)]
pub struct PodmanService {
    child: Child,
    address: String,
    complaints: File,
    traces: Traces,
    /// Follows the service's events, which keeps it from ending.
    client: Option<AbortHandle>,
}

impl PodmanService {
    /// Starts the service with its socket in `place`, a folder that only the caller may enter.
    pub(super) fn start(
        runtime: Option<&str>,
        place: &Path,
        storage: &Storage,
    ) -> io::Result<Self> {
        // A service with another runtime may end while this one begins.
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
            // Podman leaves the image archives it receives among temporary files.
            .env("TMPDIR", place)
            // Ctrl-C at the terminal is for the build, which needs the service until its end.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints.try_clone()?)
            .spawn()?;
        Ok(PodmanService { child, address, complaints, client: None, traces })
    }

    /// The daemon, once the service answers.
    pub(super) async fn ready(&mut self) -> Result<AnsweringDaemon, String> {
        let begin = Instant::now();
        loop {
            // The service does not report that it is ready.
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

    /// Keeps the service from ending for lack of clients while this value lives.
    pub(super) fn keep(&mut self, client: &Docker) {
        let client = client.clone();
        let listening = tokio::spawn(async move {
            let mut events = pin!(client.events(None));
            while let Some(Ok(_)) = events.next().await {}
        });
        self.client = Some(listening.abort_handle());
    }

    /// The last line of its error output.
    fn complaint(&self) -> String {
        let mut text = String::new();
        let mut file = &self.complaints;
        // Output that cannot be read is not reported.
        let _ = file.rewind().and_then(|()| file.take(MAX_COMPLAINTS).read_to_string(&mut text));
        text.lines().next_back().unwrap_or("it does not say why").to_owned()
    }
}

impl Drop for PodmanService {
    fn drop(&mut self) {
        // The service would wait for its clients.
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
