//! This program's standard output and error.
//!
//! What it tells beside its answer goes to standard error, one write a line, so that lines of several
//! programs do not tear each other. Its answer goes to standard output: a reader that has gone has read
//! enough, and the writer reports any other failure.

use nix::errno::Errno;
use runner_core::plain;
use std::io::{self, IsTerminal, Write};

/// Tells something beside the answer; nothing of it drives a terminal.
pub fn say(text: &str) {
    tell(format!("runner: {}\n", plain::lines(text)));
}

/// The same of lines that are whole and fit for a terminal already.
pub fn tell(lines: impl AsRef<[u8]>) {
    for line in lines.as_ref().split_inclusive(|&byte| byte == b'\n') {
        // Without a standard error there is nobody to tell.
        let _ = io::stderr().write_all(line);
    }
}

/// Writes an answer, or a part of it; whether there was still somebody to read it.
pub fn answer(text: impl AsRef<[u8]>) -> io::Result<bool> {
    let mut out = CheckedStdout;
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if is_gone(&error) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Whether colours are shown, and wanted, there.
pub fn has_colors(output: &impl IsTerminal) -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
        && output.is_terminal()
}

/// Standard output whose errors say what could not be written.
#[derive(Clone, Copy, Debug)]
pub struct CheckedStdout;

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
struct NotWritten(io::Error);

/// An error of standard output, said to be one.
pub fn of_output(error: io::Error) -> io::Error {
    match not_written(&error) {
        Some(_) => error,
        None => io::Error::new(error.kind(), NotWritten(error)),
    }
}

fn not_written(error: &io::Error) -> Option<&NotWritten> {
    error.get_ref()?.downcast_ref()
}

/// Whether the reader has gone: the other end of a pipe, or a terminal.
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
