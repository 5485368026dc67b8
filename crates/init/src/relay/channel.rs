//! A channel: a descriptor in the container whose bytes come from the runner, go there, or both.
//!
//! Owned by `channels`. Never blocks: bytes that the descriptor does not accept yet are kept in a
//! ring, and bytes that the runner does not accept yet stay in the descriptor.

use super::words::WordStreams;
use crate::abi::relay;
use crate::sys::{self, Errno, Fd, POLLIN, POLLOUT, Pages, PollFd, SysResult, nodes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelKind {
    /// A pipe from which a program reads.
    Input,
    /// A pipe to which programs write.
    Output,
    /// The master of a terminal.
    Terminal,
    Socket,
    /// A regular file, replaced as a whole.
    File,
}

pub(super) struct RelayChannel {
    pub(super) id: u64,
    kind: ChannelKind,
    fd: Fd,
    /// Bytes to the runner, until they end.
    source: Option<OutputSource>,
    /// Bytes from the runner, until they end.
    sink: Option<ChannelSink>,
}

struct OutputSource {
    /// Bytes that may be sent before the next credit.
    window: usize,
    /// Bytes available when the program ended and not sent yet.
    owed: usize,
}

#[derive(Default)]
struct ChannelSink {
    ring: Option<Ring>,
    /// Nothing follows the waiting bytes.
    is_ending: bool,
}

impl RelayChannel {
    pub(super) fn new(id: u64, fd: Fd, kind: ChannelKind) -> SysResult<Self> {
        let (reads, writes) = match kind {
            ChannelKind::Input => (false, true),
            ChannelKind::Output => (true, false),
            ChannelKind::Terminal | ChannelKind::Socket => (true, true),
            ChannelKind::File => (false, false),
        };
        if kind != ChannelKind::File {
            sys::stream::never_wait(&fd)?;
        }
        let source = reads.then_some(OutputSource { window: relay::WINDOW, owed: 0 });
        let sink = writes.then(ChannelSink::default);
        Ok(RelayChannel { id, kind, fd, source, sink })
    }

    /// Whether it carries a job's output.
    pub(super) fn is_output_of(&self, job: u64) -> bool {
        self.source.is_some() && self.id < relay::FIRST_SHIM && self.id >> 2 == job
    }

    /// The event to poll for; idle while it waits for the runner.
    pub(super) fn wanted(&self) -> PollFd {
        let reads = self.source.as_ref().is_some_and(|source| source.window > 0);
        let writes = self.sink.as_ref().is_some_and(ChannelSink::has_bytes);
        match (reads, writes) {
            (false, false) => PollFd::idle(),
            (true, false) => PollFd::new(&self.fd, POLLIN),
            (false, true) => PollFd::new(&self.fd, POLLOUT),
            (true, true) => PollFd::new(&self.fd, POLLIN | POLLOUT),
        }
    }

    /// Moves bytes both ways. Returns whether the channel is still open.
    pub(super) fn pass(&mut self, words: &mut WordStreams) -> SysResult<bool> {
        self.write(words)?;
        self.read(words)?;
        Ok(self.is_open())
    }

    fn is_open(&self) -> bool {
        self.source.is_some() || self.sink.is_some() || self.kind == ChannelKind::File
    }

    /// Sends one piece to the runner. Returns whether there may be another.
    fn read(&mut self, words: &mut WordStreams) -> SysResult<bool> {
        let Some(source) = &mut self.source else { return Ok(false) };
        if source.window == 0 {
            return Ok(false);
        }
        match words.tell_read(self.id, &self.fd, source.window)? {
            Ok(got @ 1..) => {
                source.window -= got;
                source.owed = source.owed.saturating_sub(got);
                return Ok(true);
            }
            Err(Errno::INTR) => return Ok(true),
            Err(Errno::AGAIN) => source.owed = 0,
            // A terminal's master ends with an error when no program has it open.
            Ok(0) | Err(_) => {
                self.source = None;
                words.tell(relay::END, self.id, &[])?;
            }
        }
        Ok(false)
    }

    fn write(&mut self, words: &mut WordStreams) -> SysResult<()> {
        let Some(sink) = &mut self.sink else { return Ok(()) };
        if let Some(ring) = &mut sink.ring {
            while !ring.front().is_empty() {
                match sys::write(&self.fd, ring.front()) {
                    Ok(sent) => {
                        ring.take(sent);
                        words.tell(relay::CREDIT, self.id, &[&(sent as u32).to_le_bytes()])?;
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(_) => {
                        // It has no reader any more.
                        self.sink = None;
                        return words.tell(relay::STOP, self.id, &[]);
                    }
                }
            }
        }
        if sink.is_ending {
            self.sink = None;
            if self.kind == ChannelKind::Socket {
                sys::stream::end_writing(&self.fd);
            }
        }
        Ok(())
    }

    /// The program has ended: its output so far is sent before the end is reported.
    pub(super) fn settle(&mut self, words: &mut WordStreams) -> SysResult<bool> {
        if let Some(source) = &mut self.source {
            source.owed = match self.kind {
                // Output to a terminal may not have reached its master yet: only a read that finds
                // nothing tells.
                ChannelKind::Terminal => usize::MAX,
                _ => sys::stream::readable(&self.fd),
            };
        }
        self.pay(words)
    }

    /// Sends the owed bytes as far as the runner accepts them. Returns whether the channel is still
    /// open.
    pub(super) fn pay(&mut self, words: &mut WordStreams) -> SysResult<bool> {
        while self.owes() && self.read(words)? {}
        Ok(self.is_open())
    }

    pub(super) fn owes(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.owed > 0)
    }

    /// Handles a message from the runner. Returns whether the channel is still open.
    pub(super) fn obey(
        &mut self,
        kind: u32,
        body: &[u8],
        words: &mut WordStreams,
    ) -> SysResult<bool> {
        match kind {
            relay::DATA => {
                if let Some(sink) = &mut self.sink {
                    sink.ring()?.put(body)?;
                    self.write(words)?;
                }
            }
            // The runner has closed it; closing a terminal hangs up.
            relay::END if matches!(self.kind, ChannelKind::File | ChannelKind::Terminal) => {
                return Ok(false);
            }
            relay::END => {
                if let Some(sink) = &mut self.sink {
                    sink.is_ending = true;
                    self.write(words)?;
                }
            }
            relay::STOP => self.source = None,
            relay::CREDIT => {
                if let Some(source) = &mut self.source {
                    let more = crate::abi::u32_at(body, 0).unwrap_or(0) as usize;
                    source.window = (source.window + more).min(relay::WINDOW);
                }
                return self.pay(words);
            }
            relay::RESIZE if self.kind == ChannelKind::Terminal => {
                let size = (crate::abi::u16_at(body, 0), crate::abi::u16_at(body, 2));
                if let (Some(rows), Some(cols)) = size {
                    // It may be gone with its program.
                    let _ = sys::set_size(&self.fd, rows, cols);
                }
            }
            relay::PUT if self.kind == ChannelKind::File => self.replace(body)?,
            _ => return Err(Errno::INVAL),
        }
        Ok(self.is_open())
    }

    /// Replaces the file's contents. A full disk is for the build to notice.
    fn replace(&self, body: &[u8]) -> SysResult<()> {
        let mode = crate::abi::u32_at(body, 0).ok_or(Errno::INVAL)?;
        let contents = &body[4..];
        let mut written = 0;
        while written < contents.len() {
            match sys::stream::write_at(&self.fd, &contents[written..], written as u64) {
                Ok(more @ 1..) => written += more,
                Err(Errno::INTR) => {}
                _ => break,
            }
        }
        let _ = nodes::set_length(&self.fd, written as u64);
        let _ = nodes::set_mode(&self.fd, mode);
        Ok(())
    }
}

impl ChannelSink {
    fn has_bytes(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.front().is_empty())
    }

    fn ring(&mut self) -> SysResult<&mut Ring> {
        if self.ring.is_none() {
            self.ring = Some(Ring { pages: Pages::new(relay::WINDOW)?, first: 0, count: 0 });
        }
        self.ring.as_mut().ok_or(Errno::INVAL)
    }
}

/// Waiting bytes, up to the most that may be in flight.
struct Ring {
    pages: Pages,
    first: usize,
    count: usize,
}

impl Ring {
    /// The next bytes, as far as they are contiguous.
    fn front(&self) -> &[u8] {
        let end = (self.first + self.count).min(relay::WINDOW);
        &self.pages.bytes()[self.first..end]
    }

    fn take(&mut self, count: usize) {
        self.first = (self.first + count) % relay::WINDOW;
        self.count -= count;
    }

    /// Fails if the runner sends more than it may.
    fn put(&mut self, bytes: &[u8]) -> SysResult<()> {
        if self.count + bytes.len() > relay::WINDOW {
            return Err(Errno::TOOBIG);
        }
        let at = (self.first + self.count) % relay::WINDOW;
        let (here, there) = bytes.split_at(bytes.len().min(relay::WINDOW - at));
        let room = self.pages.bytes_mut();
        room[at..at + here.len()].copy_from_slice(here);
        room[..there.len()].copy_from_slice(there);
        self.count += bytes.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_ring_gives_back_what_was_put_in() {
        let mut ring =
            Ring { pages: Pages::new(relay::WINDOW).expect("memory"), first: 0, count: 0 };
        let bytes: Vec<u8> = (0..relay::WINDOW).map(|at| (at % 251) as u8).collect();
        let (mut put, mut got) = (0, Vec::new());
        for size in [relay::WINDOW, 1, 7, 100_000, relay::WINDOW / 2, 65_537] {
            let room = relay::WINDOW - ring.count;
            let piece = &bytes[..size.min(room)];
            ring.put(piece).expect("room");
            put += piece.len();
            let front = ring.front().len().min(size / 2 + 1);
            got.extend_from_slice(&ring.front()[..front]);
            ring.take(front);
        }
        assert_eq!(ring.put(&bytes), Err(Errno::TOOBIG));
        while !ring.front().is_empty() {
            let front = ring.front().len();
            got.extend_from_slice(ring.front());
            ring.take(front);
        }
        assert_eq!(got.len(), put);
    }
}
