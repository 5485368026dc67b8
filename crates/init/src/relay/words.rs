//! Reads words of `abi::relay` from standard input and writes them to standard output.
//!
//! Used by the rest of the relay. Both calls block: the runner sends whole words and always reads.

use crate::abi::{HEADER_LEN, Header, Pid1Reply, REPLY_LEN, relay, reply};
use crate::sys::{self, Errno, Fd, Pages, SysResult};

/// The two streams, and a buffer for a word.
pub(super) struct WordStreams {
    input: Fd,
    output: Fd,
    word: Pages,
}

impl WordStreams {
    pub(super) fn new() -> SysResult<Self> {
        let word = Pages::new(HEADER_LEN + relay::MAX_DATA)?;
        Ok(WordStreams { input: Fd::from_number(0), output: Fd::from_number(1), word })
    }

    pub(super) fn input(&self) -> &Fd {
        &self.input
    }

    /// The next word, with its body at the start of `body`; `None` if the runner is gone.
    pub(super) fn next(&self, body: &mut Pages) -> SysResult<Option<Header>> {
        let mut head = [0; HEADER_LEN];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let header = Header::from_bytes(&head);
        let body = body.bytes_mut().get_mut(..header.body_len as usize).ok_or(Errno::TOOBIG)?;
        Ok(if self.fill(body)? { Some(header) } else { None })
    }

    fn fill(&self, bytes: &mut [u8]) -> SysResult<bool> {
        let mut got = 0;
        while got < bytes.len() {
            match sys::read(&self.input, &mut bytes[got..]) {
                Ok(0) => return Ok(false),
                Ok(more) => got += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends a word.
    pub(super) fn tell(&mut self, kind: u32, id: u64, parts: &[&[u8]]) -> SysResult<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let head = Header { body_len: length as u32, kind, id }.to_bytes();
        let word = self.word.bytes_mut();
        if length > relay::MAX_DATA {
            write_all(&self.output, &head)?;
            return parts.iter().try_for_each(|part| write_all(&self.output, part));
        }
        word[..HEADER_LEN].copy_from_slice(&head);
        let mut at = HEADER_LEN;
        for part in parts {
            word[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        write_all(&self.output, &word[..at])
    }

    /// Reads at most `most` bytes from a channel and sends them. Returns their number.
    pub(super) fn tell_read(
        &mut self,
        id: u64,
        from: &Fd,
        most: usize,
    ) -> SysResult<SysResult<usize>> {
        let word = self.word.bytes_mut();
        let end = HEADER_LEN + most.min(relay::MAX_DATA);
        let got = match sys::read(from, &mut word[HEADER_LEN..end]) {
            Ok(got @ 1..) => got,
            other => return Ok(other),
        };
        let head = Header { body_len: got as u32, kind: relay::DATA, id };
        word[..HEADER_LEN].copy_from_slice(&head.to_bytes());
        write_all(&self.output, &word[..HEADER_LEN + got])?;
        Ok(Ok(got))
    }

    /// Sends a reply of PID 1 that has no descriptor.
    pub(super) fn reply(&mut self, said: Pid1Reply) -> SysResult<()> {
        self.reply_with(relay::channel(said.id, relay::GIVEN), said, relay::NOTHING, &[])
    }

    pub(super) fn reply_with(
        &mut self,
        id: u64,
        said: Pid1Reply,
        given: u32,
        parts: &[&[u8]],
    ) -> SysResult<()> {
        let mut head = [0; REPLY_LEN + 4];
        head[..REPLY_LEN].copy_from_slice(&said.to_bytes());
        head[REPLY_LEN..].copy_from_slice(&given.to_le_bytes());
        match parts {
            [mode, contents] => self.tell(relay::REPLY, id, &[&head, mode, contents]),
            _ => self.tell(relay::REPLY, id, &[&head]),
        }
    }

    /// Reports a job that failed here.
    pub(super) fn failed(&mut self, job: u64, stage: u32, errno: Errno) -> SysResult<()> {
        self.reply(Pid1Reply { kind: reply::FAILED, a: stage, id: job, b: errno.0 as u32 })
    }
}

fn write_all(output: &Fd, mut bytes: &[u8]) -> SysResult<()> {
    while !bytes.is_empty() {
        match sys::write(output, bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
