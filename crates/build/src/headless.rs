//! A build in a separate process: the request and the answer.
//!
//! The process is this same program, `runner __build` (`src/cli/headless.rs`). It reads the
//! request, which contains secret values, from standard input, a file in memory. It writes one line
//! of JSON to its standard output: which build has begun, or why none has.

use super::BuildRequest;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The subcommand, which no help text mentions.
pub const VERB: &str = "__build";
/// Maximum bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadlessAnswer {
    /// The build is running.
    Started { id: String, uuid: String, folder: PathBuf },
    /// The build did not begin.
    Failed(HeadlessRefusal),
}

/// Why a build did not begin.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeadlessRefusal {
    /// The program's exit code.
    pub code: u8,
    pub message: String,
    pub hints: Vec<String>,
}

/// Starts the process. Its standard output is piped; its standard error goes to `stderr`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`]: the request cannot be written as JSON because a path is not
/// UTF-8.
pub fn spawn(request: &BuildRequest, stderr: Stdio) -> io::Result<Child> {
    let request = serde_json::to_vec(request)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut input = File::from(rustix::fs::memfd_create("request", MemfdFlags::CLOEXEC)?);
    input.write_all(&request)?;
    input.seek(SeekFrom::Start(0))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("runner").arg(VERB).stdin(input).stdout(Stdio::piped()).stderr(stderr);
    command.spawn()
}

/// Reads the process's answer; `None` if it exited without one. Call it once.
pub fn answer(child: &mut Child) -> io::Result<Option<HeadlessAnswer>> {
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let mut line = String::new();
    BufReader::new(stdout.take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).ok())
}
