//! Numbered messages of the client, put in order again.

use super::message::Payload;
use std::collections::BTreeMap;

/// How far ahead of its turn a message may come, and how much may wait for its turn.
const MAX_AHEAD: i64 = 4096;
const MAX_BYTES: usize = 1 << 20;
/// What a waiting message costs beside its bytes.
const OVERHEAD: usize = 64;

/// What may become of a message whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is taken.
    Takes,
    /// It is kept until it can be taken.
    Keeps,
    /// Nobody takes it now.
    No,
}

/// What to do about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageTurn {
    /// It is its turn: hand it on, acknowledge it, look for followers.
    Now,
    /// Kept until its turn, or until somebody takes it, and acknowledged.
    Early,
    /// Known already. Acknowledged again, since the first acknowledgement may be lost.
    Again,
    /// Not taken; the client sends it again.
    Refused,
}

#[derive(Debug, Default)]
pub(super) struct Receiver {
    expected: i64,
    early: BTreeMap<i64, (Payload, Vec<u8>)>,
    bytes: usize,
}

impl Receiver {
    /// Judges a message. One whose turn it is, is counted as taken where it is to be.
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

    /// The next one that has been waiting and whose turn it is now.
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
