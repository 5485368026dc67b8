//! This program's standard output and error.
//!
//! Messages go to standard error, one write per line, so that lines of several programs do not mix.
//! The result goes to standard output: if its reader is gone, it has read enough; any other failure
//! is reported.

use nix::errno::Errno;
use runner_core::plain;
use std::io::{self, IsTerminal, Write};

/// Prints a message to standard error, made safe for a terminal.
pub fn say(text: &str) {
    tell(format!("runner: {}\n", plain::lines(text)));
}

/// The same for complete lines that are already safe for a terminal.
pub fn tell(lines: impl AsRef<[u8]>) {
    for line in lines.as_ref().split_inclusive(|&byte| byte == b'\n') {
        // Without standard error the message is lost.
        let _ = io::stderr().write_all(line);
    }
}

/// Writes a result or a part of it. Returns whether it still has a reader.
pub fn answer(text: impl AsRef<[u8]>) -> io::Result<bool> {
    let mut out = CheckedStdout;
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if is_gone(&error) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Whether the output shows colours and the user wants them.
pub fn has_colors(output: &impl IsTerminal) -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
        && output.is_terminal()
}

/// Standard output with errors that name it.
#[derive(Clone, Copy, Debug)]
pub struct CheckedStdout;

/// A failed write to standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
struct NotWritten(io::Error);

/// Marks an error as one of standard output.
pub fn of_output(error: io::Error) -> io::Error {
    match not_written(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), NotWritten(error)),
    }
}

fn not_written(error: &io::Error) -> Option<&NotWritten> {
    error.get_ref()?.downcast_ref()
}

/// Whether the reader is gone: a pipe's other end, or a terminal.
pub fn is_gone(error: &io::Error) -> bool {
    let errno = not_written(error).map_or(error, |inner| &inner.0).raw_os_error();
    error.kind() == io::ErrorKind::BrokenPipe
        || errno == Some(Errno::EIO as i32) && io::stdout().is_terminal()
}

impl Write for CheckedStdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(of_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(of_output)
    }
}
