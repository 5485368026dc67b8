//! Outgoing replies: sent at once if the socket accepts them, otherwise queued in order.
//!
//! Used by `pid1`. Bounded, because `pid1` accepts no request unless there is room for the replies
//! of all jobs, and a job has at most two.

use crate::abi::{MAX_JOBS, Pid1Reply, REPLY_LEN};
use crate::sys::{self, Errno, Fd, Pages, SysResult};

/// A reply and its descriptor's number, or -1.
const SLOT: usize = REPLY_LEN + 4;
/// Most queued replies: two for each possible job, and some for other requests.
const SLOTS: usize = 2 * MAX_JOBS + 256;
/// With fewer free slots no request is accepted: every job may end first.
const RESERVE: usize = MAX_JOBS + 128;

pub(crate) struct Outbox {
    /// A ring of slots. Untouched memory costs nothing.
    ring: Pages,
    first: usize,
    count: usize,
}

impl Outbox {
    pub(crate) fn new() -> SysResult<Self> {
        Ok(Outbox { ring: Pages::new(SLOT * SLOTS)?, first: 0, count: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether another request may be accepted.
    pub(crate) fn has_room(&self) -> bool {
        SLOTS - self.count > RESERVE
    }

    /// Sends the reply, or queues it until [`Self::flush`].
    pub(crate) fn send(&mut self, control: &Fd, reply: Pid1Reply, fd: Option<Fd>) {
        if self.is_empty() && Self::try_send(control, &reply.to_bytes(), fd.as_ref()) {
            return;
        }
        if self.count == SLOTS {
            // Cannot happen while `has_room` is respected; a lost exit would be worse than ending
            // here.
            sys::exit(71)
        }
        let at = (self.first + self.count) % SLOTS * SLOT;
        let slot = &mut self.ring.bytes_mut()[at..at + SLOT];
        slot[..REPLY_LEN].copy_from_slice(&reply.to_bytes());
        let number = fd.map_or(-1, Fd::into_number);
        slot[REPLY_LEN..].copy_from_slice(&number.to_le_bytes());
        self.count += 1;
    }

    /// Sends as much as the socket accepts.
    pub(crate) fn flush(&mut self, control: &Fd) {
        while self.count > 0 {
            let at = self.first * SLOT;
            let slot = &self.ring.bytes()[at..at + SLOT];
            let (reply, number) = slot.split_at(REPLY_LEN);
            let number = i32::from_le_bytes([number[0], number[1], number[2], number[3]]);
            let fd = (number >= 0).then(|| Fd::from_number(number));
            if !Self::try_send(control, reply, fd.as_ref()) {
                fd.map(Fd::into_number);
                return;
            }
            self.first = (self.first + 1) % SLOTS;
            self.count -= 1;
        }
    }

    /// Whether the reply is dealt with: sent, or nobody is there to read it.
    fn try_send(control: &Fd, bytes: &[u8], fd: Option<&Fd>) -> bool {
        loop {
            match sys::send(control, bytes, fd) {
                // A message this short is sent whole or not at all.
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // The runner is gone: the main loop notices next.
                Err(_) => return true,
            }
        }
    }
}
