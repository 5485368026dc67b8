//! `runner attach`: an interactive session on the caller's own terminal.
//!
//! One loop over everything that can be ready, no thread and no runtime. Nothing in it waits for one
//! direction while the other could go on, or a paste into a program that echoes would stand still.
//! Started by `cli` and by `keys`.

use super::connection::{Client, ClientError, Sender};
use super::ended::{Ended, shown};
use super::terminal::{RawMode, Signals, size};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use runner_wire::control::{Answer, Open, Request};
use runner_wire::frame::{Kind, encode};
use std::io;
use std::os::fd::AsFd;

/// Runs an interactive session on this terminal. `signals` are those that arrive as something to
/// read; the window's size among them.
pub(crate) fn attach(
    mut client: Client,
    user: Option<String>,
    signals: &Signals,
) -> Result<Ended, ClientError> {
    let term = std::env::var("TERM").ok();
    let open = Open { terminal: size(), term, user, ..Open::default() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_tilde_at_the_start_of_a_line_is_special() {
        let typed = |keys: &[&str]| {
            let (ours, _theirs) = UnixStream::pair().expect("a pair");
            let mut typed = Typed::new(Sender::new(ours));
            let mut last = None;
            for keys in keys {
                last = Some(typed.push(keys.as_bytes()).expect("sent"));
            }
            last
        };
        assert_eq!(typed(&["~."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls\r", "~", "."]), Some(Typing::Detach));
        assert_eq!(typed(&["ls ~."]), Some(Typing::GoOn));
        assert_eq!(typed(&["\r~~."]), Some(Typing::GoOn));
    }
}
