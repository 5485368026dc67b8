//! Runs one script in a build and stores its output, until it ends or must end.

use super::node::NodeOrder;
use crate::deliveries::DeliveryWriter;
use nix::sys::signal::Signal;
use runner_client::{ClientError, SharedClient};
use runner_core::document::command_run::ScriptEnd;
use runner_wire::control::{ControlRequest, ControlResponse, Script};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Bytes read at once, and the most kept in memory.
const CHUNK: usize = 64 << 10;
/// The wanted capacity of the script's pipes in bytes, if the machine allows it.
const PIPE: usize = 256 << 10;
/// How long a script has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// Longest wait for the build to report the script's death.
const DEAD: Duration = Duration::from_secs(5);
/// The message for a build that no longer responds.
const HAS_ENDED: &str = "the build has ended";

/// A script to run.
pub(super) struct RunScript {
    pub(super) link: SharedClient,
    pub(super) asked: Script,
    pub(super) files: [File; 2],
    pub(super) timeout: Duration,
    pub(super) told: watch::Receiver<NodeOrder>,
    /// Told about new output for AWS.
    pub(super) writing: Option<Arc<DeliveryWriter>>,
}

/// What remains of a script besides its end.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) files: Option<[OutputFile; 2]>,
    /// Lines to append to its errors.
    pub(super) notes: Vec<String>,
    /// Why some output was not stored.
    pub(super) unkept: Option<String>,
    /// Whether it was ended because this program is shutting down.
    pub(super) is_stopped: bool,
}

/// The file of one output.
#[derive(Debug)]
pub(super) struct OutputFile {
    pub(super) file: File,
    pub(super) is_at_line_start: bool,
    /// Bytes that may still be stored.
    room: u64,
    failed: Option<String>,
}

/// Most bytes stored of one output. Otherwise a script that repeats itself for hours would fill the
/// endpoint's disk.
const MOST_OUTPUT: u64 = 256 << 20;

impl OutputFile {
    pub(super) fn new(file: File) -> Self {
        OutputFile { file, is_at_line_start: true, room: MOST_OUTPUT, failed: None }
    }

    /// Stores bytes. If that fails, the script goes on: its work matters more than its output.
    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let Some(room) = self.room.checked_sub(bytes.len() as u64) else {
            self.failed = Some(format!(
                "it is longer than {} MiB; the rest is not stored",
                MOST_OUTPUT >> 20
            ));
            return;
        };
        self.room = room;
        match self.file.write_all(bytes) {
            Ok(()) => self.is_at_line_start = bytes.ends_with(b"\n"),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }
}

/// Runs a script.
pub(super) async fn run(run: RunScript) -> (ScriptEnd, Ran) {
    let RunScript { mut link, asked, files, timeout, mut told, writing } = run;
    let mut ran = Ran::default();
    let outputs = files.map(OutputFile::new);
    let request = ControlRequest::Script(asked);
    let opened = tokio::select! {
        opened = link.ask(&request) => opened,
        why = is_to_end(&mut told) => {
            // The build ends what it started for a client that disconnects.
            drop(link);
            return never_run(why, outputs);
        }
    };
    let fds = match opened {
        Ok(ControlResponse::Opened { .. }) => link.take_fds(),
        Ok(other) => return not_run(ClientError::from(other), outputs, ran),
        Err(error) => return not_run(error, outputs, ran),
    };
    let copies = match copies(fds, outputs, writing.as_ref()) {
        Ok(copies) => copies,
        Err(error) => return (ScriptEnd::NotStarted(1, error.to_string()), ran),
    };
    let end = follow(link, timeout, told, &mut ran).await;
    let mut kept = Vec::new();
    for mut copy in copies {
        // The script has ended. Gives up a copy that still hangs.
        match tokio::time::timeout(DEAD, &mut copy).await {
            Ok(Ok(output)) => kept.push(output),
            _ => {
                copy.abort();
                ran.unkept = Some("it could not be written in time".to_owned());
            }
        }
    }
    let failed = kept.iter().find_map(|output: &OutputFile| output.failed.clone());
    ran.unkept = ran.unkept.or(failed);
    ran.files = kept.try_into().ok();
    (end, ran)
}

/// The result of a script ended before it ran.
pub(super) fn never_run(why: ScriptEndReason, outputs: [OutputFile; 2]) -> (ScriptEnd, Ran) {
    let is_stopped = why == ScriptEndReason::Stopped;
    (why.end(), Ran { files: Some(outputs), is_stopped, ..Ran::default() })
}

pub(super) fn not_run(
    error: ClientError,
    outputs: [OutputFile; 2],
    mut ran: Ran,
) -> (ScriptEnd, Ran) {
    ran.files = Some(outputs);
    let end = match error {
        // 125 is this program's code for its own failures; clients of AWS get 1.
        ClientError::Refused { code: 125, message } => ScriptEnd::NotStarted(1, message),
        ClientError::Refused { code, message } => ScriptEnd::NotStarted(code.into(), message),
        // The script may have run, so it is not retried.
        error @ (ClientError::Silent | ClientError::Stopped { .. }) => {
            ScriptEnd::Gone(error.to_string())
        }
        _ => ScriptEnd::Gone(HAS_ENDED.to_owned()),
    };
    (end, ran)
}

/// Why this side ends a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptEndReason {
    Late,
    Cancelled,
    Stopped,
}

impl ScriptEndReason {
    fn end(self) -> ScriptEnd {
        match self {
            ScriptEndReason::Late => ScriptEnd::TimedOut,
            ScriptEndReason::Cancelled => ScriptEnd::Cancelled,
            ScriptEndReason::Stopped => ScriptEnd::Gone(runner_folder::state::STOPPED.to_owned()),
        }
    }
}

/// Resolves when the script must end.
pub(super) async fn is_to_end(told: &mut watch::Receiver<NodeOrder>) -> ScriptEndReason {
    match told.wait_for(|told| *told >= NodeOrder::Cancel).await.map(|told| *told) {
        Ok(NodeOrder::Cancel) => ScriptEndReason::Cancelled,
        // The command's task is gone.
        _ => ScriptEndReason::Stopped,
    }
}

/// Follows a script to its end.
async fn follow(
    mut link: SharedClient,
    timeout: Duration,
    mut told: watch::Receiver<NodeOrder>,
    ran: &mut Ran,
) -> ScriptEnd {
    let mut until = Instant::now() + timeout;
    // Why it is being ended, and whether it was killed.
    let mut why: Option<ScriptEndReason> = None;
    let mut is_killed = false;
    loop {
        tokio::select! {
            frame = link.next() => {
                let answer = match frame {
                    Ok(Some(body)) => serde_json::from_slice(&body).ok(),
                    Ok(None) | Err(_) => return why.map_or(ScriptEnd::Gone(HAS_ENDED.to_owned()), ScriptEndReason::end),
                };
                let end = match answer {
                    Some(ControlResponse::Told { message }) => {
                        ran.notes.push(message);
                        continue;
                    }
                    Some(ControlResponse::Exited { code }) => ScriptEnd::Exited(code.into()),
                    Some(ControlResponse::Refused { code, message }) => ScriptEnd::NotStarted(code.into(), message),
                    Some(ControlResponse::Closed { message }) => ScriptEnd::Gone(message),
                    _ => continue,
                };
                return why.map_or(end, ScriptEndReason::end);
            }
            () = tokio::time::sleep_until(until) => match why {
                None => {
                    why = Some(ScriptEndReason::Late);
                    until = signal(&link, Signal::SIGTERM, GRACE).await;
                }
                Some(_) if !is_killed => {
                    is_killed = true;
                    until = signal(&link, Signal::SIGKILL, DEAD).await;
                }
                // The build does not respond: dropping the link asks it to kill the script.
                Some(why) => return why.end(),
            },
            ended = is_to_end(&mut told), if why.is_none() => {
                ran.is_stopped = ended == ScriptEndReason::Stopped;
                why = Some(ended);
                until = signal(&link, Signal::SIGTERM, GRACE).await;
            }
        }
    }
}

/// Sends a signal to the script's process group. Returns the time until which to wait for the
/// effect.
async fn signal(link: &SharedClient, signal: Signal, wait: Duration) -> Instant {
    // If it is not delivered, the next signal follows after the wait.
    let request = ControlRequest::Signal(signal as i32);
    let sent = link.send(&request);
    let _ = tokio::time::timeout(wait, sent).await;
    Instant::now() + wait
}

/// Starts tasks that store the script's output.
fn copies(
    fds: Vec<OwnedFd>,
    outputs: [OutputFile; 2],
    writing: Option<&Arc<DeliveryWriter>>,
) -> io::Result<Vec<JoinHandle<OutputFile>>> {
    if fds.len() != outputs.len() {
        return Err(io::Error::other("the script's pipes did not come along"));
    }
    let mut copies = Vec::new();
    for (fd, output) in fds.into_iter().zip(outputs) {
        // Larger pipes mean fewer context switches; smaller ones work as well.
        let _ = rustix::pipe::fcntl_setpipe_size(&fd, PIPE);
        let from = Receiver::from_owned_fd(fd)?;
        copies.push(tokio::spawn(copy(from, output, writing.cloned())));
    }
    Ok(copies)
}

async fn copy(
    mut from: Receiver,
    mut to: OutputFile,
    writing: Option<Arc<DeliveryWriter>>,
) -> OutputFile {
    let mut space = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut space).await {
            Ok(read @ 1..) => read,
            Ok(0) | Err(_) => return to,
        };
        // Writing to a disk may block.
        let written = tokio::task::spawn_blocking(move || {
            to.write(&space[..read]);
            (to, space)
        });
        (to, space) = match written.await {
            Ok(back) => back,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Some(writing) = &writing {
            writing.wrote();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn an_output_has_a_bound_and_says_so() {
        let file = tempfile::tempfile().expect("a file");
        let mut output = OutputFile { room: 10, ..OutputFile::new(file) };
        output.write(b"12345678\n");
        assert_eq!((&output.failed, output.is_at_line_start), (&None, true));
        output.write(b"ab");
        output.write(b"c");
        assert!(output.failed.as_ref().is_some_and(|why| why.contains("is not stored")));
        let mut text = String::new();
        output.file.rewind().expect("rewound");
        output.file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "12345678\n");
    }
}
