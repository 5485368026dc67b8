//! The caller's terminal: changes and restores its mode, and reads its size.
//!
//! A guard restores the mode at the end, on an error and in a panic. While the guard lives, signals
//! that would kill this program arrive as input to read.

use nix::sys::termios::{
    FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcflush, tcgetattr,
    tcsetattr,
};
use runner_wire::control::TerminalSize;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

/// Keeps a terminal in another mode until this is dropped.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Passes every key as typed, Ctrl-C included.
    pub fn raw() -> io::Result<Self> {
        Self::enter(cfmakeraw)
    }

    /// Passes single keys without echo; Ctrl-C and Ctrl-Z keep their meaning.
    pub fn keys() -> io::Result<Self> {
        let guard = Self::enter(|mode| {
            mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        })?;
        // Keys typed before the question are no answer to it.
        tcflush(io::stdin(), FlushArg::TCIFLUSH)?;
        Ok(guard)
    }

    /// Hides `^C` for Ctrl-C and similar keys: it would push a drawn status line to a new row, and
    /// the old row would not be cleared any more.
    pub fn unechoed() -> io::Result<Self> {
        Self::enter(|mode| mode.local_flags.remove(LocalFlags::ECHOCTL))
    }

    fn enter(change: impl Fn(&mut Termios)) -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut mode = before.clone();
        change(&mut mode);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &mode)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The size of the terminal that this program writes to.
pub(crate) fn size() -> Option<TerminalSize> {
    let of = |fd: BorrowedFd<'_>| rustix::termios::tcgetwinsize(fd).ok();
    let size = of(io::stdout().as_fd()).or_else(|| of(io::stdin().as_fd()))?;
    Some(TerminalSize { rows: size.ws_row, cols: size.ws_col })
}

/// Whether a user can answer: input is a terminal and this program runs in the foreground.
pub fn can_be_asked() -> bool {
    io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && nix::unistd::tcgetpgrp(io::stdin()).ok() == Some(nix::unistd::getpgrp())
}
