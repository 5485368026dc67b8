//! Gathers replies into large writes.
//!
//! Called by all of `files`; writes standard output.

use crate::abi::files::{FileFacts, HEAD_LEN, MAX_DATA, end, reply};
use crate::sys::nodes::Stat;
use crate::sys::{self, Errno, Fd, Pages};

/// As much as a pipe can hold, and little enough for a processor's cache.
const ROOM: usize = 2 * MAX_DATA;
/// Smallest useful read, in bytes; with less room the buffer is flushed first.
const LEAST_READ: usize = 16 << 10;

pub(super) struct OutputBuffer {
    stdout: Fd,
    buffer: Pages,
    filled: usize,
}

impl OutputBuffer {
    pub(super) fn new() -> sys::SysResult<Self> {
        Ok(OutputBuffer { stdout: Fd::from_number(1), buffer: Pages::new(ROOM)?, filled: 0 })
    }

    /// Sends everything gathered. Without a reader there is nothing left to do.
    pub(super) fn flush(&mut self) {
        let mut rest = &self.buffer.bytes()[..self.filled];
        while !rest.is_empty() {
            match sys::write(&self.stdout, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(_) => sys::exit(super::FAILED),
            }
        }
        self.filled = 0;
    }

    pub(super) fn root(&mut self, stat: &Stat) {
        self.put(reply::ROOT, &[&facts(stat, 0).to_bytes()]);
    }

    pub(super) fn entry(&mut self, stat: &Stat, path: &[u8], target: &[u8]) {
        self.put(reply::ENTRY, &[&facts(stat, path.len()).to_bytes(), path, target]);
    }

    pub(super) fn failed(&mut self, stage: u32, errno: Errno, path: &[u8]) {
        self.put(reply::FAILED, &[&stage.to_le_bytes(), &errno.0.to_le_bytes(), path]);
    }

    pub(super) fn data(&mut self, bytes: &[u8]) {
        self.put(reply::DATA, &[bytes]);
    }

    pub(super) fn hole(&mut self, length: u64) {
        self.put(reply::HOLE, &[&length.to_le_bytes()]);
    }

    pub(super) fn end(&mut self, how: u32, errno: Option<Errno>) {
        let errno = errno.map_or(0, |errno| errno.0);
        self.put(reply::END, &[&how.to_le_bytes(), &errno.to_le_bytes()]);
    }

    pub(super) fn whole(&mut self) {
        self.end(end::WHOLE, None);
    }

    pub(super) fn sync(&mut self) {
        self.put(reply::SYNC, &[]);
    }

    /// Lets `read` put at most `wanted` bytes directly into the send buffer. Returns their number.
    pub(super) fn read_data(
        &mut self,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> sys::SysResult<usize>,
    ) -> sys::SysResult<usize> {
        let wanted = wanted.min(MAX_DATA);
        if ROOM - self.filled < HEAD_LEN + wanted.min(LEAST_READ) {
            self.flush();
        }
        let start = self.filled + HEAD_LEN;
        let end = (start + wanted).min(ROOM);
        let got = read(&mut self.buffer.bytes_mut()[start..end])?;
        if got > 0 {
            self.head(reply::DATA, got);
            self.filled += got;
        }
        Ok(got)
    }

    fn put(&mut self, kind: u32, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if ROOM - self.filled < HEAD_LEN + length {
            self.flush();
        }
        self.head(kind, length);
        for part in parts {
            let start = self.filled;
            self.filled += part.len();
            self.buffer.bytes_mut()[start..start + part.len()].copy_from_slice(part);
        }
    }

    fn head(&mut self, kind: u32, length: usize) {
        let head = &mut self.buffer.bytes_mut()[self.filled..self.filled + HEAD_LEN];
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[4..].copy_from_slice(&kind.to_le_bytes());
        self.filled += HEAD_LEN;
    }
}

fn facts(stat: &Stat, path_len: usize) -> FileFacts {
    FileFacts {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        names: stat.names,
        size: stat.size,
        device: stat.device,
        inode: stat.inode,
        modified: stat.modified,
        modified_ns: stat.modified_ns,
        blocks: u32::try_from(stat.blocks).unwrap_or(u32::MAX),
        path_len: path_len as u32,
    }
}
