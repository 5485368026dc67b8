//! The connections of a port session: sockets, and bytes waiting to be written to them.

use bytes::BufMut;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// Most connections at once.
const MAX_CONNECTIONS: usize = 1024;
/// Most bytes waiting for destinations, over all connections. Beyond that the client keeps the
/// rest.
pub(super) const MAX_BUFFERED: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Connections {
    list: BTreeMap<u32, PortConnection>,
    /// Sockets received; the first one belongs to the next response read.
    sockets: VecDeque<OwnedFd>,
    buffered: usize,
    /// The connection read last.
    last: u32,
}

#[derive(Default)]
struct PortConnection {
    socket: Option<TcpStream>,
    input: VecDeque<u8>,
    /// Whether the client has ended it; earlier bytes are still written.
    is_finished: bool,
    /// Whether the destination has sent everything.
    is_read: bool,
}

impl Connections {
    pub(super) fn buffered(&self) -> usize {
        self.buffered
    }

    pub(super) fn has(&self, id: u32) -> bool {
        self.list.contains_key(&id)
    }

    /// Adds a connection that is being made; `false` if that is not possible.
    pub(super) fn add(&mut self, id: u32) -> bool {
        if self.list.len() >= MAX_CONNECTIONS || self.list.contains_key(&id) {
            return false;
        }
        self.list.insert(id, PortConnection::default());
        true
    }

    pub(super) fn remove(&mut self, id: u32) {
        if let Some(connection) = self.list.remove(&id) {
            self.buffered -= connection.input.len();
        }
    }

    /// Queues bytes from the client. Drops those for a closed connection.
    pub(super) fn write(&mut self, id: u32, bytes: &[u8]) {
        if let Some(connection) = self.list.get_mut(&id).filter(|one| !one.is_finished) {
            connection.input.extend(bytes);
            self.buffered += bytes.len();
        }
    }

    /// Notes that the client has ended a connection.
    pub(super) fn finish(&mut self, id: u32) {
        if let Some(connection) = self.list.get_mut(&id) {
            connection.is_finished = true;
        }
    }

    pub(super) fn keep_sockets(&mut self, sockets: Vec<OwnedFd>) {
        self.sockets.extend(sockets);
    }

    /// Gives the next socket to this connection. Closes it if the connection is gone.
    pub(super) fn connect(&mut self, id: u32) -> io::Result<()> {
        let socket = self.sockets.pop_front();
        if let (Some(connection), Some(socket)) = (self.list.get_mut(&id), socket) {
            connection.socket = Some(stream(socket)?);
        }
        Ok(())
    }

    /// Writes as much as the destinations take now.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) {
        let mut gone = Vec::new();
        for (id, connection) in &mut self.list {
            let before = connection.input.len();
            let is_sound = connection.write(context);
            self.buffered -= before - connection.input.len();
            let is_finished = connection.is_finished && connection.input.is_empty();
            if !is_sound && !connection.is_read {
                // The destination reads no more; its remaining output and its end are still read.
                self.buffered -= connection.input.len();
                connection.input.clear();
            } else if is_finished || !is_sound {
                gone.push(*id);
            }
        }
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// At most `most` bytes from one of the connections, after `headroom` reserved bytes; `None` at
    /// its end. Takes the connections in turn.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        headroom: usize,
        most: usize,
    ) -> Poll<(u32, Option<Vec<u8>>)> {
        let (after, before) = (self.last.saturating_add(1).., ..=self.last);
        let order: Vec<u32> =
            self.list.range(after).chain(self.list.range(before)).map(|(id, _)| *id).collect();
        for id in order {
            let Some(connection) = self.list.get_mut(&id) else { continue };
            if let Poll::Ready(read) = connection.read(context, headroom, most) {
                self.last = id;
                return Poll::Ready((id, read));
            }
        }
        Poll::Pending
    }
}

impl PortConnection {
    /// Writes what it can. Returns whether more may be written.
    fn write(&mut self, context: &mut Context<'_>) -> bool {
        let Some(socket) = &self.socket else { return true };
        while !self.input.is_empty() {
            match socket.try_write(self.input.as_slices().0) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match socket.poll_write_ready(context) {
                        Poll::Pending => return true,
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return false,
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    fn read(
        &mut self,
        context: &mut Context<'_>,
        headroom: usize,
        most: usize,
    ) -> Poll<Option<Vec<u8>>> {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.is_read) else {
            return Poll::Pending;
        };
        loop {
            if ready!(socket.poll_read_ready(context)).is_err() {
                self.is_read = true;
                return Poll::Ready(None);
            }
            let mut message = Vec::with_capacity(headroom + most);
            message.resize(headroom, 0);
            match socket.try_read_buf(&mut (&mut message).limit(most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    self.is_read = true;
                    return Poll::Ready(None);
                }
                Ok(_) => return Poll::Ready(Some(message)),
            }
        }
    }
}

/// Makes a received socket readable and writable here: a TCP socket, or one end of a pair whose
/// other end goes to a daemon.
fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    TcpStream::from_std(std::net::TcpStream::from(socket))
}
