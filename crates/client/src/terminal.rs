//! The caller's own terminal: modes changed and restored, size.
//!
//! A guard restores the mode whatever happens: at the end, on an error,
//! in a panic; signals that would kill this program arrive as something to read while it is held.

use nix::sys::termios::{
    FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcflush, tcgetattr,
    tcsetattr,
};
use runner_wire::control::TerminalSize;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};

/// A terminal in another mode until this goes out of scope.
#[derive(Debug)]
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Every key as it is typed, Ctrl-C included.
    pub fn raw() -> io::Result<Self> {
        Self::enter(cfmakeraw)
    }

    /// Single keys without echo; Ctrl-C and Ctrl-Z keep their meaning.
    pub fn keys() -> io::Result<Self> {
        let guard = Self::enter(|mode| {
            mode.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        })?;
        // What was typed before the question was asked is no answer to it.
        tcflush(io::stdin(), FlushArg::TCIFLUSH)?;
        Ok(guard)
    }

    /// Ctrl-C and its like are not shown as `^C`: behind a line that is drawn it would begin another one, and the
    /// first would be cleared no more.
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
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

/// The size of the terminal this program writes to.
pub(crate) fn size() -> Option<TerminalSize> {
    let of = |fd: BorrowedFd<'_>| rustix::termios::tcgetwinsize(fd).ok();
    let size = of(io::stdout().as_fd()).or_else(|| of(io::stdin().as_fd()))?;
    Some(TerminalSize { rows: size.ws_row, cols: size.ws_col })
}

/// Whether there is a terminal to type at, and this program may read it: not in the background.
pub fn can_be_asked() -> bool {
    io::stdin().is_terminal()
        && io::stderr().is_terminal()
        && nix::unistd::tcgetpgrp(io::stdin()).ok() == Some(nix::unistd::getpgrp())
}
