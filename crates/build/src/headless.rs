//! A build in a process of its own: how it is asked for, and what it answers.
//!
//! The process is this same program, `runner __build` (`src/cli/headless.rs`). The request is its standard input,
//! from memory: it holds values. One line of JSON on its standard output says which build has begun, or why none
//! has.

use super::BuildRequest;
use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The verb, which no help names.
pub const VERB: &str = "__build";
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

/// What is said of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadlessAnswer {
    /// The build is under way.
    Started { id: String, uuid: String, folder: PathBuf },
    /// There is none.
    Failed(HeadlessRefusal),
}

/// Why a build has not begun.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeadlessRefusal {
    /// What the program exits with.
    pub code: u8,
    pub message: String,
    pub hints: Vec<String>,
}

/// Starts the process; its standard output is piped, and its standard error goes to `stderr`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`]: the request cannot be written as JSON, because a path is not UTF-8.
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

/// What the process answers; `None` where it has ended without a word. Asked once.
pub fn answer(child: &mut Child) -> io::Result<Option<HeadlessAnswer>> {
    let Some(stdout) = child.stdout.take() else { return Ok(None) };
    let mut line = String::new();
    BufReader::new(stdout.take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line).ok())
}
