//! `run --detach`: the build in another process, which outlives this one.
//!
//! That process is [`super::headless`]. It gets the request over a pipe, says over another which build has begun,
//! and has neither this terminal nor its signals.

use super::error::{CliError, OURS};
use super::headless::{Answer, BUILD_ARG};
use runner_build::BuildRequest;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Most bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// Starts the build; its id once it has begun.
pub(super) fn start(request: &BuildRequest) -> Result<String, CliError> {
    let request = serde_json::to_vec(request).map_err(|error| {
        CliError::usage(format!("--detach: the build cannot be handed over: {error}"))
            .hint("paths that are not UTF-8 go without --detach only")
    })?;
    let failed = |error: io::Error| {
        CliError::ours(format!("cannot start a process for the build: {error}")).because(error)
    };
    let mut child = Command::new("/proc/self/exe")
        .arg0("runner")
        .arg(BUILD_ARG)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Who could read it has gone by the time that anything is said there.
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    match serde_json::from_slice(&hand_over(&mut child, &request).map_err(failed)?) {
        Ok(Answer::Started { id, .. }) => Ok(id),
        Ok(Answer::Failed { code, message, hints }) => {
            Err(CliError::new(code, message).hints(hints))
        }
        Err(_) => {
            let ended = match child.wait() {
                Ok(how) => how.to_string(),
                Err(error) => error.to_string(),
            };
            Err(CliError::new(OURS, format!("the build's process did not start it: {ended}"))
                .hint("without --detach it says more"))
        }
    }
}

/// Sends the request; what is answered.
fn hand_over(child: &mut Child, request: &[u8]) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(request) {
            // What it has to say about that is still to be read.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
            _ => {}
        }
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut answer)?;
    }
    Ok(answer)
}
