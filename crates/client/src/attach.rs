//! `runner attach`: an interactive session on the caller's own terminal.
//!
//! The response carries the program's terminal, so keys and output do not pass through the build's
//! owner. One loop waits for everything that can be ready, with no thread and no runtime. It never
//! blocks in one direction while the other could go on: otherwise a paste into a program that
//! echoes would hang.

use super::connection::{Client, ClientError};
use super::ended::{SessionEnd, ended, told_of};
use super::terminal::{RawMode, size};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use runner_core::debug::{self, Decision};
use runner_core::plain::line;
use runner_host::signals::SignalReader;
use runner_host::stdio::{is_gone, of_output};
use runner_wire::control::{ACTIVITY_PACE, ControlRequest, ControlResponse, OpenProgram};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// Bytes shown at once.
const CHUNK: usize = 64 << 10;
/// A read of this size may have left bytes behind.
const MUCH: usize = 1 << 10;
/// Bytes; more than a terminal ever holds.
const REST: usize = 1 << 20;

/// Runs an interactive session on this terminal: a shell, or the program of `argv`. Reads signals,
/// changes of the window's size among them, from `signals`.
pub fn attach(
    mut client: Client,
    argv: Vec<String>,
    user: Option<String>,
    signals: &SignalReader,
) -> Result<SessionEnd, ClientError> {
    let term = std::env::var("TERM").ok();
    let open = OpenProgram { argv, terminal: size(), term, user, ..OpenProgram::default() };
    let mut last_size = open.terminal;
    match client.ask(&ControlRequest::Open(open))? {
        ControlResponse::Opened { .. } => {}
        other => return Err(other.into()),
    }
    let lost = ClientError::Lost;
    let [program]: [OwnedFd; 1] = client
        .take_fds()
        .try_into()
        .map_err(|_| lost(io::Error::other("the program's terminal did not come along")))?;
    let mode = RawMode::raw().map_err(lost)?;
    let mut shown = OutputView::new(&program);
    let mut typed = Keystrokes::new(&program);
    let mut keys = vec![0; 4096];
    let mut told = None;
    loop {
        // More typing is read only once the earlier keys are on their way.
        let wants_input = !typed.is_pending();
        let room = if wants_input { PollFlags::empty() } else { PollFlags::POLLOUT };
        let stdin = io::stdin();
        let mut ready = vec![
            PollFd::new(client.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let mut watch = |wanted: bool, fd| {
            wanted.then(|| {
                ready.push(fd);
                ready.len() - 1
            })
        };
        let input_at = watch(wants_input, PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        let flags = PollFlags::POLLIN | room;
        let program_at = watch(!shown.is_over, PollFd::new(program.as_fd(), flags));
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done.map_err(|errno| lost(errno.into()))?,
        };
        let is_ready = |at: usize| ready[at].any().unwrap_or(true);
        let [socket, signal] = [0, 1].map(is_ready);
        let [input, output] = [input_at, program_at].map(|at| at.is_some_and(is_ready));
        if output {
            typed.flush();
            shown.show_some()?;
        }
        while socket && let Some(frame) = client.poll_frame()? {
            if let Some(message) = frame.as_deref().and_then(told_of) {
                shown.say(&message)?;
                continue;
            }
            let ended = ended(frame)?;
            // It wrote all this before it ended.
            shown.show_rest()?;
            drop(mode);
            return Ok(ended);
        }
        if signal {
            match signals.next() {
                Some(Signal::SIGWINCH) => {
                    let now = size();
                    if let Some(now) = now.filter(|_| now != last_size) {
                        client.tell(&ControlRequest::Resize(now));
                    }
                    last_size = now;
                }
                Some(other) => {
                    drop(mode);
                    let code = u8::try_from(128 + other as i32).unwrap_or(125);
                    return Ok(SessionEnd { code, message: None });
                }
                None => {}
            }
        }
        if input {
            let read = nix::unistd::read(&stdin, &mut keys).unwrap_or(0);
            let mut rest = &keys[..read];
            let mut is_over = rest.is_empty();
            while !rest.is_empty() {
                let (typing, left) = typed.push(rest);
                rest = left;
                match typing {
                    Typing::GoOn => {}
                    Typing::Detach => {
                        is_over = true;
                        break;
                    }
                    Typing::Help => shown.say(HELP)?,
                    Typing::Decide(decision) => shown.say(&decide(&client, decision))?,
                }
            }
            if is_over {
                drop(mode);
                let message = Some("detached; the build continues".to_owned());
                return Ok(SessionEnd { code: 0, message });
            }
        }
        if (input || output) && told.is_none_or(|at: Instant| at.elapsed() >= ACTIVITY_PACE) {
            client.tell(&ControlRequest::Active);
            told = Some(Instant::now());
        }
    }
}

/// Sends the decision after a stop. Returns the result, as one line.
fn decide(client: &Client, decision: Decision) -> String {
    let verb = decision.kind().verb();
    let decided = Client::connect_as(client.dir(), debug::DecisionClient::Shell)
        .and_then(|mut other| other.ask(&ControlRequest::Decide(decision)));
    match decided {
        Ok(_) => verb.to_owned(),
        Err(error) => format!("{verb}: {error}"),
    }
}

/// The program's output on its way to this terminal.
struct OutputView<'a> {
    from: &'a OwnedFd,
    buffer: Vec<u8>,
    /// Whether the output has ended.
    is_over: bool,
}

impl<'a> OutputView<'a> {
    fn new(from: &'a OwnedFd) -> Self {
        OutputView { from, buffer: vec![0; CHUNK], is_over: false }
    }

    /// Writes a line of our own to the terminal in raw mode.
    fn say(&self, text: &str) -> Result<(), ClientError> {
        let mut stdout = io::stdout().lock();
        let said = stdout.write_all(format!("\r\nrunner: {}\r\n", line(text)).as_bytes());
        match said.and_then(|()| stdout.flush()) {
            Err(error) if !is_gone(&error) => Err(ClientError::Output(of_output(error))),
            _ => Ok(()),
        }
    }

    /// Shows what can be read without waiting. Returns the number of bytes.
    fn show_some(&mut self) -> Result<usize, ClientError> {
        let mut filled = 0;
        while let Some(space) = self.buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
            match nix::unistd::read(self.from, space) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => break,
                // EIO: the last process that had the terminal open is gone.
                Ok(0) | Err(_) => {
                    self.is_over = true;
                    break;
                }
                Ok(read) => {
                    filled += read;
                    if read < MUCH {
                        break;
                    }
                }
            }
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&self.buffer[..filled]).and_then(|()| stdout.flush()) {
            // A terminal that is gone takes nothing; its hang-up ends this program.
            Err(error) if is_gone(&error) => Ok(filled),
            Err(error) => Err(ClientError::Output(of_output(error))),
            Ok(()) => Ok(filled),
        }
    }

    /// Shows the rest of an ended program's output. Other processes may still write more.
    fn show_rest(&mut self) -> Result<(), ClientError> {
        let mut left = REST;
        while left > 0 && !self.is_over {
            match self.show_some()? {
                0 => break,
                shown => left = left.saturating_sub(shown),
            }
        }
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Typing {
    GoOn,
    Detach,
    Help,
    Decide(Decision),
}

/// The keys after a tilde.
const HELP: &str = "~. detaches; at a stop: ~T retry, ~K skip, ~N step, ~R resume; ~~ is a ~";

impl Typing {
    /// The meaning of a key after a tilde.
    fn of(key: u8) -> Option<Self> {
        Some(match key {
            b'.' => Typing::Detach,
            b'?' => Typing::Help,
            b'T' => Typing::Decide(Decision::Retry { text: None }),
            b'K' => Typing::Decide(Decision::Skip { to: None }),
            b'N' => Typing::Decide(Decision::Step),
            b'R' => Typing::Decide(Decision::Resume),
            _ => return None,
        })
    }
}

/// Typed keys on their way to the build. At the start of a line `~.` detaches, as in ssh, and other
/// letters decide what follows a stop. They are capitals because `~name` is a home directory.
struct Keystrokes<'a> {
    to: &'a OwnedFd,
    pending: Vec<u8>,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    LineStart,
    Tilde,
    Elsewhere,
}

impl<'a> Keystrokes<'a> {
    fn new(to: &'a OwnedFd) -> Self {
        Keystrokes { to, pending: Vec::new(), escape: Escape::LineStart }
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes keys up to the first that has a meaning here. Returns that meaning and the keys after
    /// it.
    fn push<'k>(&mut self, keys: &'k [u8]) -> (Typing, &'k [u8]) {
        for (at, &key) in keys.iter().enumerate() {
            if self.escape == Escape::Tilde
                && let Some(typing) = Typing::of(key)
            {
                self.escape = Escape::LineStart;
                self.flush();
                return (typing, &keys[at + 1..]);
            }
            match (self.escape, key) {
                (Escape::LineStart, b'~') => {
                    self.escape = Escape::Tilde;
                    continue;
                }
                // A doubled tilde stands for one tilde.
                (Escape::Tilde, b'~') | (Escape::LineStart | Escape::Elsewhere, _) => {}
                (Escape::Tilde, _) => self.pending.push(b'~'),
            }
            self.pending.push(key);
            self.escape =
                if matches!(key, b'\r' | b'\n') { Escape::LineStart } else { Escape::Elsewhere };
        }
        self.flush();
        (Typing::GoOn, &[])
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            match nix::unistd::write(self.to, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => break,
                // The terminal of an ended program takes nothing; the owner reports how the program
                // ended.
                Err(_) => self.pending.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_tilde_at_the_start_of_a_line_is_special() {
        let typed = |keys: &[&str]| {
            let (ours, _theirs) = UnixStream::pair().expect("a pair");
            let ours = OwnedFd::from(ours);
            let mut typed = Keystrokes::new(&ours);
            keys.iter().map(|keys| typed.push(keys.as_bytes()).0).last()
        };
        assert_eq!(typed(&["~."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls\r", "~", "."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls ~."]), Some(Typing::GoOn));
        assert_eq!(typed(&["\r~~."]), Some(Typing::GoOn));
        assert_eq!(typed(&["~R"]), Some(Typing::Decide(Decision::Resume)));
        // A home directory.
        assert_eq!(typed(&["~root\r"]), Some(Typing::GoOn));
        assert_eq!(typed(&["~?"]), Some(Typing::Help));
    }
}
