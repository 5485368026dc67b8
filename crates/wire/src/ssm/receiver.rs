//! Puts numbered messages of the client back in order.

use super::message::Payload;
use std::collections::BTreeMap;

/// How many numbers ahead of its turn a message may arrive, and the maximum bytes of waiting
/// messages.
const MAX_AHEAD: i64 = 4096;
const MAX_BYTES: usize = 1 << 20;
/// Memory of a waiting message besides its payload, in bytes.
const OVERHEAD: usize = 64;

/// Whether the caller can handle a message whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It handles the message.
    Takes,
    /// It keeps the message until it can handle it.
    Keeps,
    /// It cannot handle the message now.
    No,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageTurn {
    /// It is next: handle it, acknowledge it, then look for followers.
    Now,
    /// It waits until its turn, or until the caller can handle it. Acknowledge it.
    Early,
    /// A duplicate. Acknowledge it again, because the first acknowledgement may be lost.
    Again,
    /// Dropped; the client will resend it.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Receiver {
    expected: i64,
    early: BTreeMap<i64, (Payload, Vec<u8>)>,
    bytes: usize,
}

impl Receiver {
    /// Decides about a message. If it is next and can be handled, it counts as received.
    pub(super) fn turn(
        &mut self,
        sequence: i64,
        payload: Payload,
        body: &[u8],
        readiness: Readiness,
    ) -> MessageTurn {
        if sequence < 0 {
            return MessageTurn::Refused;
        }
        if sequence < self.expected || self.early.contains_key(&sequence) {
            return MessageTurn::Again;
        }
        if sequence == self.expected {
            match readiness {
                Readiness::No => return MessageTurn::Refused,
                Readiness::Takes => {
                    self.expected += 1;
                    return MessageTurn::Now;
                }
                Readiness::Keeps => {}
            }
        }
        let cost = body.len() + OVERHEAD;
        if sequence - self.expected > MAX_AHEAD || self.bytes + cost > MAX_BYTES {
            return MessageTurn::Refused;
        }
        self.bytes += cost;
        self.early.insert(sequence, (payload, body.to_vec()));
        MessageTurn::Early
    }

    /// Returns the next waiting message whose turn it is now.
    pub(super) fn follower(&mut self) -> Option<(Payload, Vec<u8>)> {
        let (payload, body) = self.early.remove(&self.expected)?;
        self.bytes -= body.len() + OVERHEAD;
        self.expected += 1;
        Some((payload, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_restored() {
        let mut receiver = Receiver::default();
        let mut come = |n: i64| receiver.turn(n, Payload::Bytes, &[n as u8], Readiness::Takes);
        assert_eq!(come(2), MessageTurn::Early);
        assert_eq!(come(1), MessageTurn::Early);
        assert_eq!(come(2), MessageTurn::Again);
        assert_eq!(come(0), MessageTurn::Now);
        assert_eq!(come(0), MessageTurn::Again);
        let mut rest = Vec::new();
        while let Some((_, body)) = receiver.follower() {
            rest.push(body[0]);
        }
        assert_eq!(rest, [1, 2]);
        assert_eq!(receiver.bytes, 0);
    }

    #[test]
    fn nonsense_and_floods_are_refused() {
        let mut receiver = Receiver::default();
        for far in [-1, i64::MIN, MAX_AHEAD + 1, i64::MAX] {
            assert_eq!(
                receiver.turn(far, Payload::Bytes, b"x", Readiness::Takes),
                MessageTurn::Refused
            );
        }
        let body = vec![0; 64 << 10];
        let taken = (1..MAX_AHEAD)
            .filter(|n| {
                receiver.turn(*n, Payload::Bytes, &body, Readiness::Takes) == MessageTurn::Early
            })
            .count();
        assert_eq!(taken, MAX_BYTES / (body.len() + OVERHEAD));
        assert_eq!(receiver.turn(0, Payload::Bytes, b"x", Readiness::No), MessageTurn::Refused);
        assert_eq!(receiver.turn(0, Payload::Bytes, &body, Readiness::Keeps), MessageTurn::Refused);
        assert_eq!(receiver.turn(0, Payload::Bytes, b"x", Readiness::Takes), MessageTurn::Now);
    }

    #[test]
    fn what_nobody_takes_yet_is_kept_in_its_order() {
        let mut receiver = Receiver::default();
        for n in 0..3 {
            let turn = receiver.turn(n, Payload::Bytes, &[n as u8], Readiness::Keeps);
            assert_eq!(turn, MessageTurn::Early);
        }
        assert_eq!(receiver.turn(0, Payload::Bytes, b"x", Readiness::Keeps), MessageTurn::Again);
        for n in 0..3 {
            assert_eq!(receiver.follower(), Some((Payload::Bytes, vec![n])));
        }
        assert_eq!((receiver.follower(), receiver.bytes), (None, 0));
    }
}
