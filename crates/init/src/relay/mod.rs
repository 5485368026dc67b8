//! `runner-relay DIR [shims]`: connects to PID 1's socket for a runner on another machine.
//!
//! The runner starts it over a daemon's exec API, in the container of a PID 1 that waits at a
//! socket in DIR. It speaks `abi::relay` on its input and output, and the runner's usual protocol
//! with PID 1: descriptors become channels, and channels descriptors. With `shims` it also accepts
//! the shims' connections. It ends with its input; that closes the socket and so ends the
//! container.

mod channel;
mod channels;
mod words;

use crate::abi::{
    self, HEADER_LEN, Header, MAX_FDS, Pid1Reply, REPLY_LEN, SHIM_SOCKET, flags, relay, reply,
    request, stage,
};
use crate::sys::{self, Errno, Fd, POLLHUP, POLLIN, POLLOUT, Pages, PollFd, SysResult, nodes};
use channel::{ChannelKind, RelayChannel};
use channels::RelayChannels;
use words::WordStreams;

const NOT_REACHED: i32 = abi::NOT_REACHED;
const BROKEN: i32 = 70;
/// Longest path of a socket, in bytes.
const PATH_MAX: usize = 108;
/// Entries of the poll set before the channels.
const FIXED: usize = 3;

struct Relay {
    control: Fd,
    shims: Option<Fd>,
    words: WordStreams,
    channels: RelayChannels,
    /// Number of the next shim's channel.
    next_shim: u64,
}

/// Runs the program and returns its exit code.
pub(crate) fn run(dir: &[u8], wants_shims: bool) -> i32 {
    sys::hide_from_tracers();
    sys::set_name(c"runner-relay");
    sys::ignore_broken_pipes();
    nodes::raise_descriptor_limit();
    let Some(control) = reach(dir) else {
        sys::complain(b"runner-relay: the container's first process cannot be reached\n");
        return NOT_REACHED;
    };
    match Relay::new(control, dir, wants_shims).and_then(|mut relay| relay.serve()) {
        Ok(()) => 0,
        Err(_) => {
            sys::complain(b"runner-relay: internal error\n");
            BROKEN
        }
    }
}

/// Connects to PID 1, which may not be listening yet.
fn reach(dir: &[u8]) -> Option<Fd> {
    let mut path = [0; PATH_MAX];
    let path = path_in(dir, relay::SOCKET, &mut path)?;
    for _ in 0..relay::PATIENCE_MS {
        if let Ok(control) = sys::connect(path) {
            return Some(control);
        }
        sys::rest();
    }
    None
}

fn path_in<'p>(dir: &[u8], name: &str, into: &'p mut [u8; PATH_MAX]) -> Option<&'p [u8]> {
    let end = dir.len() + 1 + name.len();
    let path = into.get_mut(..end)?;
    path[..dir.len()].copy_from_slice(dir);
    path[dir.len()] = b'/';
    path[dir.len() + 1..].copy_from_slice(name.as_bytes());
    Some(path)
}

impl Relay {
    fn new(control: Fd, dir: &[u8], wants_shims: bool) -> SysResult<Self> {
        let shims = if wants_shims {
            let mut path = [0; PATH_MAX];
            let path = path_in(dir, SHIM_SOCKET, &mut path).ok_or(Errno::NAMETOOLONG)?;
            // Every user of the container may connect.
            sys::umask(0);
            Some(sys::stream::listen(path)?)
        } else {
            None
        };
        let (words, channels) = (WordStreams::new()?, RelayChannels::new());
        Ok(Relay { control, shims, words, channels, next_shim: relay::FIRST_SHIM })
    }

    fn serve(&mut self) -> SysResult<()> {
        let mut body = Pages::new(relay::MAX_BODY)?;
        let mut polled = [const { PollFd::idle() }; FIXED + relay::MAX_CHANNELS];
        loop {
            polled[0] = PollFd::new(self.words.input(), POLLIN);
            polled[1] = PollFd::new(&self.control, POLLIN);
            polled[2] = match &self.shims {
                Some(listener) if self.channels.has_room_for_shim() => {
                    PollFd::new(listener, POLLIN)
                }
                _ => PollFd::idle(),
            };
            let used = self.channels.fill(&mut polled[FIXED..]);
            match sys::poll(&mut polled[..FIXED + used]) {
                Err(Errno::INTR) => continue,
                other => drop(other?),
            }
            self.channels.pass(&polled[FIXED..FIXED + used], &mut self.words)?;
            if polled[1].ready(POLLIN | POLLHUP) && !self.hear()? {
                return Ok(());
            }
            if polled[2].ready(POLLIN) {
                self.let_in()?;
            }
            if polled[0].ready(POLLIN | POLLHUP) {
                match self.words.next(&mut body)? {
                    Some(header) => {
                        self.obey(header, &body.bytes()[..header.body_len as usize])?;
                    }
                    None => return Ok(()),
                }
            }
            self.channels.tell_exits(&mut self.words)?;
        }
    }

    /// Accepts a shim's connection.
    fn let_in(&mut self) -> SysResult<()> {
        // It may have disconnected already.
        let Some(Ok(shim)) = self.shims.as_ref().map(sys::stream::accept) else { return Ok(()) };
        let id = self.next_shim;
        self.next_shim += 1;
        let channel = RelayChannel::new(id, shim, ChannelKind::Socket)?;
        self.words.tell(relay::SHIM, id, &[])?;
        self.channels.add(channel);
        Ok(())
    }

    /// Reads a reply of PID 1. Returns whether PID 1 is still there.
    fn hear(&mut self) -> SysResult<bool> {
        let mut bytes = [0; REPLY_LEN];
        let mut fds = [None, None, None];
        match sys::receive(&self.control, &mut bytes, &mut fds) {
            // A message this short arrives whole.
            Ok(REPLY_LEN) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            _ => return Ok(false),
        }
        let said = Pid1Reply::from_bytes(&bytes);
        let [fd, ..] = fds;
        match fd {
            Some(fd) => self.hand_over(said, fd)?,
            None if said.kind == reply::EXITED => self.channels.exited(said, &mut self.words)?,
            None => self.words.reply(said)?,
        }
        Ok(true)
    }

    /// Passes on a reply's descriptor in a form that the runner can use.
    fn hand_over(&mut self, said: Pid1Reply, fd: Fd) -> SysResult<()> {
        const KIND: u32 = 0o170_000;
        const SOCKET: u32 = 0o140_000;
        const REGULAR: u32 = 0o100_000;
        let id = relay::channel(said.id, relay::GIVEN);
        let stat = nodes::stat_open(&fd)?;
        let kind = match stat.mode & KIND {
            _ if said.kind == reply::TERMINAL => ChannelKind::Terminal,
            SOCKET => ChannelKind::Socket,
            REGULAR => ChannelKind::File,
            // The runner has no use for other kinds, just as on its own machine.
            _ => return self.words.failed(said.id, stage::OPEN, Errno::INVAL),
        };
        if kind != ChannelKind::File {
            if !self.channels.has_room(1) {
                // Closing it ends a terminal's program.
                return self.words.failed(said.id, stage::FORK, Errno::AGAIN);
            }
            self.channels.add(RelayChannel::new(id, fd, kind)?);
            return self.words.reply_with(id, said, relay::STREAM, &[]);
        }
        let writes = sys::stream::is_writable(&fd);
        let size = stat.size as usize;
        if size > abi::MAX_BODY || (writes && !self.channels.has_room(1)) {
            let errno = if size > abi::MAX_BODY { Errno::FBIG } else { Errno::AGAIN };
            return self.words.failed(said.id, stage::OPEN, errno);
        }
        let mut contents = Pages::new(size)?;
        let mut got = 0;
        while got < size {
            match nodes::read_at(&fd, &mut contents.bytes_mut()[got..size], got as u64) {
                Ok(more @ 1..) => got += more,
                // Truncated meanwhile, or opened with O_PATH.
                _ => break,
            }
        }
        let mode = (stat.mode & 0o7777).to_le_bytes();
        self.words.reply_with(id, said, relay::FILE, &[&mode, &contents.bytes()[..got]])?;
        if writes {
            self.channels.add(RelayChannel::new(id, fd, kind)?);
        }
        Ok(())
    }

    fn obey(&mut self, header: Header, body: &[u8]) -> SysResult<()> {
        match header.kind {
            relay::REQUEST => self.ask(body),
            kind => self.channels.obey(kind, header.id, body, &mut self.words),
        }
    }

    /// Passes a request on, with pipes in place of the runner's descriptors.
    fn ask(&mut self, body: &[u8]) -> SysResult<()> {
        let (head, rest) = body.split_at_checked(HEADER_LEN).ok_or(Errno::INVAL)?;
        let header = Header::from_bytes(head.try_into().map_err(|_| Errno::INVAL)?);
        let kinds: &[u64] = match (header.kind, abi::u32_at(rest, 0).unwrap_or(0)) {
            (request::EXEC, how) if how & flags::PTY != 0 => &[],
            (request::EXEC, how) if how & flags::NULL_INPUT != 0 => &[relay::OUTPUT],
            (request::EXEC, _) => &[relay::INPUT, relay::OUTPUT, relay::ERROR],
            _ => &[],
        };
        if !self.channels.has_room(kinds.len()) {
            for which in kinds {
                let word = if *which == relay::INPUT { relay::STOP } else { relay::END };
                self.words.tell(word, relay::channel(header.id, *which), &[])?;
            }
            return self.words.failed(header.id, stage::FORK, Errno::AGAIN);
        }
        let mut theirs = [const { None }; MAX_FDS];
        for (which, place) in kinds.iter().zip(&mut theirs) {
            let (reader, writer) = sys::stream::pipe()?;
            let (ours, kind, end) = if *which == relay::INPUT {
                (writer, ChannelKind::Input, reader)
            } else {
                (reader, ChannelKind::Output, writer)
            };
            self.channels.add(RelayChannel::new(relay::channel(header.id, *which), ours, kind)?);
            *place = Some(end);
        }
        let number = |at: usize| theirs.get(at).and_then(Option::as_ref).map_or(-1, Fd::number);
        match kinds.len() {
            0 => self.pass_on(body, &[]),
            // Output and error are one pipe.
            1 => self.pass_on(body, &[number(0), number(0)]),
            _ => self.pass_on(body, &[number(0), number(1), number(2)]),
        }
    }

    fn pass_on(&self, mut bytes: &[u8], mut fds: &[i32]) -> SysResult<()> {
        while !bytes.is_empty() {
            match sys::stream::send_with(&self.control, bytes, fds) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fds = &[];
                }
                Err(Errno::AGAIN) => {
                    let _ = sys::poll(&mut [PollFd::new(&self.control, POLLOUT)]);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
