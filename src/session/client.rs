//! The client's end of a session: `runner attach` and `runner exec`.
//!
//! One loop over everything that can be ready, no thread and no runtime. Nothing in it waits for one
//! direction while the other could go on, or a paste into a program that echoes would stand still.

use super::terminal::{RawMode, Signals, size};
use crate::control::{Client, ClientError, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use runner_wire::control::{Answer, Open, Request};
use runner_wire::frame::{Frame, Kind, encode};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Bytes moved at once.
const CHUNK: usize = 64 << 10;

/// How a session ended for its client.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code for this program.
    pub(crate) code: u8,
    /// One line for the person.
    pub(crate) message: Option<String>,
}

/// Runs an interactive session on this terminal. `signals` are those that arrive as something to
/// read; the window's size among them.
pub(crate) fn attach(
    mut client: Client,
    user: Option<String>,
    signals: &Signals,
) -> Result<Ended, ClientError> {
    let term = std::env::var("TERM").ok();
    let open = Open { argv: Vec::new(), terminal: size(), term, user };
    let mut last_size = open.terminal;
    match client.ask(&Request::Open(open))? {
        Answer::Opened { .. } => {}
        other => return Err(other.into()),
    }
    let lost = ClientError::Lost;
    let mode = RawMode::raw().map_err(lost)?;
    let mut typed = Typed::new(client.sender().map_err(lost)?);
    let mut keys = vec![0; 4096];
    loop {
        // Typing is read only when what was typed before is on its way.
        let wants_input = !typed.is_pending();
        let socket =
            if wants_input { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
        let stdin = io::stdin();
        let mut ready = [
            PollFd::new(client.as_fd(), socket),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        let watched = if wants_input { &mut ready[..] } else { &mut ready[..2] };
        match poll(watched, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done.map_err(|errno| lost(errno.into()))?,
        };
        let [socket, signal, input] = ready.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        if !socket.is_empty() {
            typed.flush().map_err(lost)?;
            while let Some(frame) = client.poll_frame()? {
                if let Some(ended) = shown(frame)? {
                    drop(mode);
                    return Ok(ended);
                }
            }
        }
        if !signal.is_empty() {
            match signals.next() {
                Some(Signal::SIGWINCH) => {
                    let now = size();
                    if let Some(now) = now.filter(|_| now != last_size) {
                        typed.request(&Request::Resize(now)).map_err(lost)?;
                    }
                    last_size = now;
                }
                Some(other) => {
                    drop(mode);
                    let code = u8::try_from(128 + other as i32).unwrap_or(125);
                    return Ok(Ended { code, message: None });
                }
                None => {}
            }
        }
        if wants_input && !input.is_empty() {
            let read = nix::unistd::read(&stdin, &mut keys).unwrap_or(0);
            if read == 0 || typed.push(&keys[..read]).map_err(lost)? == Typing::Detach {
                drop(mode);
                let message = Some("detached; the build goes on".to_owned());
                return Ok(Ended { code: 0, message });
            }
        }
    }
}

/// Shows a frame; the end of the session where it is one.
fn shown(frame: Option<Frame>) -> Result<Option<Ended>, ClientError> {
    let Some(frame) = frame else { return Err(ClientError::Closed) };
    if frame.kind == Kind::Data {
        let mut stdout = io::stdout().lock();
        // A terminal that has gone takes nothing; its hang-up ends this program.
        let _ = stdout.write_all(&frame.body).and_then(|()| stdout.flush());
        return Ok(None);
    }
    let answer =
        serde_json::from_slice(&frame.body).map_err(|error| ClientError::Lost(error.into()))?;
    ended(answer).map(Some)
}

fn ended(answer: Answer) -> Result<Ended, ClientError> {
    match answer {
        Answer::Exited { code } => Ok(Ended { code, message: None }),
        Answer::Closed { message, code } => Ok(Ended { code, message: Some(message) }),
        other => Err(other.into()),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Typing {
    GoOn,
    Detach,
}

/// What is typed, on its way to the build. At the start of a line `~.` detaches, as in ssh.
struct Typed {
    sender: Sender,
    pending: Vec<u8>,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    LineStart,
    Tilde,
    Elsewhere,
}

impl Typed {
    fn new(sender: Sender) -> Self {
        Typed { sender, pending: Vec::new(), escape: Escape::LineStart }
    }

    fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn push(&mut self, keys: &[u8]) -> io::Result<Typing> {
        let mut bytes = Vec::with_capacity(keys.len() + 1);
        for &key in keys {
            match (self.escape, key) {
                (Escape::LineStart, b'~') => {
                    self.escape = Escape::Tilde;
                    continue;
                }
                (Escape::Tilde, b'.') => return Ok(Typing::Detach),
                // Typed twice it stands for itself.
                (Escape::Tilde, b'~') | (Escape::LineStart | Escape::Elsewhere, _) => {}
                (Escape::Tilde, _) => bytes.push(b'~'),
            }
            bytes.push(key);
            self.escape =
                if matches!(key, b'\r' | b'\n') { Escape::LineStart } else { Escape::Elsewhere };
        }
        if !bytes.is_empty() {
            self.pending.extend(encode(Kind::Data, &bytes).map_err(io::Error::other)?);
        }
        self.flush()?;
        Ok(Typing::GoOn)
    }

    /// Takes its place behind what was typed before.
    fn request(&mut self, request: &Request) -> io::Result<()> {
        let body = serde_json::to_vec(request)?;
        self.pending.extend(encode(Kind::Message, &body).map_err(io::Error::other)?);
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.sender.send_some(&self.pending) {
                Ok(sent) => drop(self.pending.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Runs one program with this program's own standard input, output and error.
pub(crate) fn exec(
    mut client: Client,
    argv: Vec<String>,
    user: Option<String>,
    signals: &Signals,
) -> Result<Ended, ClientError> {
    let open = Open { argv, terminal: None, term: None, user };
    match client.ask(&Request::Open(open))? {
        Answer::Opened { .. } => {}
        other => return Err(other.into()),
    }
    let lost = ClientError::Lost;
    let fds: [OwnedFd; 3] = client
        .take_fds()
        .try_into()
        .map_err(|_| lost(io::Error::other("the program's pipes did not come along")))?;
    let [stdin, stdout, stderr] = fds;
    let mut input = Input::new(stdin).map_err(lost)?;
    let mut outputs = [
        Copy { from: Some(stdout), to: io::stdout().as_fd().try_clone_to_owned().map_err(lost)? },
        Copy { from: Some(stderr), to: io::stderr().as_fd().try_clone_to_owned().map_err(lost)? },
    ];
    loop {
        let mut ready = vec![
            PollFd::new(client.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let stdin = io::stdin();
        let input_at = input.poll_fd(&stdin).map(|fd| {
            ready.push(fd);
            ready.len() - 1
        });
        let output_at = outputs.each_ref().map(|output| {
            let from = output.from.as_ref()?;
            ready.push(PollFd::new(from.as_fd(), PollFlags::POLLIN));
            Some(ready.len() - 1)
        });
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            done => done.map_err(|errno| lost(errno.into()))?,
        };
        let is_ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(ready);
        for (output, at) in outputs.iter_mut().zip(output_at) {
            if at.is_some_and(|at| is_ready[at]) {
                output.move_some().map_err(lost)?;
            }
        }
        if input_at.is_some_and(|at| is_ready[at]) {
            input.move_some(&stdin).map_err(lost)?;
        }
        if is_ready[1]
            && let Some(signal) = signals.next()
        {
            client.send(&Request::Signal(signal as i32))?;
        }
        if is_ready[0] {
            while let Some(frame) = client.poll_frame()? {
                let ended = shown(frame)?;
                if let Some(ended) = ended {
                    // It wrote all this before it ended.
                    for output in &mut outputs {
                        output.move_rest().map_err(lost)?;
                    }
                    return Ok(ended);
                }
            }
        }
    }
}

/// One of the program's outputs and where it goes.
struct Copy {
    from: Option<OwnedFd>,
    to: OwnedFd,
}

impl Copy {
    fn move_some(&mut self) -> io::Result<usize> {
        let Some(from) = &self.from else { return Ok(0) };
        let mut buffer = vec![0; CHUNK];
        let got = match nix::unistd::read(from, &mut buffer) {
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(0),
            done => done?,
        };
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            match nix::unistd::write(&self.to, rest) {
                Ok(written) => rest = &rest[written..],
                Err(nix::errno::Errno::EINTR) => {}
                // Our reader has gone; the program learns it the same way.
                Err(nix::errno::Errno::EPIPE) => {
                    self.from = None;
                    return Ok(got);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        if got == 0 {
            self.from = None;
        }
        Ok(got)
    }

    /// Moves what is there now, whoever may still write more.
    fn move_rest(&mut self) -> io::Result<()> {
        let Some(from) = &self.from else { return Ok(()) };
        let mut left = rustix::io::ioctl_fionread(from)?;
        while left > 0 && self.from.is_some() {
            left = left.saturating_sub(self.move_some()? as u64);
        }
        Ok(())
    }
}

/// This program's input on its way to the program in the build.
struct Input {
    to: Option<OwnedFd>,
    pending: Vec<u8>,
    is_over: bool,
}

impl Input {
    fn new(to: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&to, true)?;
        Ok(Input { to: Some(to), pending: Vec::new(), is_over: false })
    }

    fn poll_fd<'a>(&'a self, stdin: &'a io::Stdin) -> Option<PollFd<'a>> {
        let to = self.to.as_ref()?;
        Some(if self.pending.is_empty() {
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN)
        } else {
            PollFd::new(to.as_fd(), PollFlags::POLLOUT)
        })
    }

    fn move_some(&mut self, stdin: &io::Stdin) -> io::Result<()> {
        if self.pending.is_empty() {
            let mut buffer = vec![0; CHUNK];
            match nix::unistd::read(stdin, &mut buffer) {
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(()),
                // A terminal that has gone, or one this program may not read: the end of input.
                Err(_) | Ok(0) => self.is_over = true,
                Ok(got) => {
                    buffer.truncate(got);
                    self.pending = buffer;
                }
            }
        }
        if let Some(to) = &self.to {
            match nix::unistd::write(to, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                // The program reads no more.
                Err(_) => {
                    self.pending.clear();
                    self.is_over = true;
                }
            }
        }
        if self.is_over && self.pending.is_empty() {
            self.to = None;
        }
        Ok(())
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
            let mut typed = Typed::new(Sender::new(ours));
            keys.iter().map(|keys| typed.push(keys.as_bytes()).expect("sent")).next_back()
        };
        assert_eq!(typed(&["~."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls\r", "~", "."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls ~."]), Some(Typing::GoOn));
        assert_eq!(typed(&["\r~~."]), Some(Typing::GoOn));
    }
}
