//! `run --detach`: runs the build in another process, which outlives this one and has neither its
//! terminal nor its signals.

use super::error::{CliError, OURS};
use runner_build::BuildRequest;
use runner_build::headless::{self, HeadlessAnswer, HeadlessRefusal};
use std::io;
use std::process::{Child, Stdio};

/// Starts the build. Returns its id once it has begun.
pub(super) fn start(request: &BuildRequest) -> Result<String, CliError> {
    let (_, id, _) = begin("--detach", request)?;
    Ok(id)
}

/// Starts a detached build, as `option` requests. Returns its process, id and uuid.
pub(super) fn begin(
    option: &str,
    request: &BuildRequest,
) -> Result<(Child, String, String), CliError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            CliError::usage(format!("{option}: the build cannot be handed over: {error}"))
                .hint(format!("paths that are not UTF-8 go without {option} only"))
        }
        _ => {
            CliError::ours(format!("cannot start a process for the build: {error}")).because(error)
        }
    };
    // Readers of this program's standard error wait for its end, so the build must not hold it.
    let mut child = headless::spawn(request, Stdio::null()).map_err(failed)?;
    match headless::answer(&mut child).map_err(failed)? {
        Some(HeadlessAnswer::Started { id, uuid, .. }) => Ok((child, id, uuid)),
        Some(HeadlessAnswer::Failed(HeadlessRefusal { code, message, hints })) => {
            // The process is exiting.
            let _ = child.wait();
            Err(CliError::new(code, message).hints(hints))
        }
        None => {
            let ended = match child.wait() {
                Ok(how) => how.to_string(),
                Err(error) => error.to_string(),
            };
            Err(CliError::new(OURS, format!("the build's process did not start it: {ended}"))
                .hint(format!("without {option} it says more")))
        }
    }
}
