//! Splits standard input into requests.
//!
//! Used by `files`. All pending replies are sent before waiting for more input.

use super::output::OutputBuffer;
use crate::abi::files::{HEAD_LEN, MAX_DATA};
use crate::abi::u32_at;
use crate::sys::{self, Errno, Fd, Pages};

/// Room for the longest request and a good part of the following ones.
const ROOM: usize = 2 * (MAX_DATA + HEAD_LEN);

pub(super) struct RequestBuffer {
    stdin: Fd,
    buffer: Pages,
    start: usize,
    end: usize,
}

impl RequestBuffer {
    pub(super) fn new() -> sys::SysResult<Self> {
        Ok(RequestBuffer { stdin: Fd::from_number(0), buffer: Pages::new(ROOM)?, start: 0, end: 0 })
    }

    /// The next request's kind and body; `None` at the end of input or if it is malformed.
    pub(super) fn next(&mut self, output: &mut OutputBuffer) -> Option<(u32, &[u8])> {
        let length = loop {
            let waiting = &self.buffer.bytes()[self.start..self.end];
            if let (Some(length), Some(_)) = (u32_at(waiting, 0), u32_at(waiting, 4)) {
                let length = length as usize;
                if length > MAX_DATA {
                    return None;
                }
                if waiting.len() >= HEAD_LEN + length {
                    break length;
                }
            }
            self.fill(output)?;
        };
        let start = self.start;
        self.start += HEAD_LEN + length;
        let bytes = &self.buffer.bytes()[start..self.start];
        Some((u32_at(bytes, 4)?, &bytes[HEAD_LEN..]))
    }

    fn fill(&mut self, output: &mut OutputBuffer) -> Option<()> {
        let (start, end) = (self.start, self.end);
        if start > 0 {
            self.buffer.bytes_mut().copy_within(start..end, 0);
            (self.start, self.end) = (0, end - start);
        }
        output.flush();
        loop {
            match sys::read(&self.stdin, &mut self.buffer.bytes_mut()[self.end..]) {
                Ok(0) => return None,
                Ok(got) => {
                    self.end += got;
                    return Some(());
                }
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }
}
