//! Sent messages that are not acknowledged yet.
//!
//! Acknowledgements are not cumulative, and a client never repeats one. If the acknowledgement of a
//! message was lost with its socket, the message would stay here for ever. A sender that resends
//! only its oldest message would then be stuck. This one resends everything that is due, and drops
//! a message when a later acknowledgement proves its arrival.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

/// Maximum number and bytes of unacknowledged messages.
const MAX_MESSAGES: usize = 512;
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Maximum number of messages resent at once.
const BATCH: usize = 64;
/// Minimum and maximum time before a message is resent.
const FIRST_PATIENCE: Duration = Duration::from_millis(200);
const MAX_PATIENCE: Duration = Duration::from_secs(1);
/// Maximum time between resends to a client that does not answer; the time grows up to it.
const LONGEST: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Sent {
    sequence: i64,
    frame: Bytes,
    /// Time of the last send on this socket.
    last: Duration,
    /// Number of sends on this socket.
    times: u32,
    /// Whether it was unacknowledged when an earlier socket was lost.
    is_carried_over: bool,
}

#[derive(Debug)]
pub(super) struct Sender {
    next: i64,
    unacked: VecDeque<Sent>,
    bytes: usize,
    round_trip: Duration,
    variance: Duration,
    patience: Duration,
    /// Whether a later acknowledgement proves the arrival of an earlier message. This is not the
    /// case for a client that handles nothing before somebody has connected to it.
    is_ordered: bool,
}

impl Sender {
    pub(super) fn new() -> Self {
        Sender {
            next: 0,
            unacked: VecDeque::new(),
            bytes: 0,
            round_trip: Duration::from_millis(100),
            variance: Duration::ZERO,
            patience: FIRST_PATIENCE,
            is_ordered: true,
        }
    }

    pub(super) fn set_unordered(&mut self) {
        self.is_ordered = false;
    }

    /// The number of the next message.
    pub(super) fn next_sequence(&self) -> i64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Number of bytes that may still be sent.
    pub(super) fn room(&self) -> usize {
        if self.unacked.len() >= MAX_MESSAGES { 0 } else { MAX_BYTES.saturating_sub(self.bytes) }
    }

    /// Keeps a message until it is acknowledged. It counts as sent only if there is a socket.
    pub(super) fn push(&mut self, frame: Bytes, now: Duration, is_attached: bool) {
        self.bytes += frame.len();
        self.unacked.push_back(Sent {
            sequence: self.next,
            frame,
            last: now,
            times: u32::from(is_attached),
            is_carried_over: false,
        });
        self.next += 1;
    }

    pub(super) fn acknowledged(&mut self, sequence: i64, now: Duration) {
        let Ok(at) = self.unacked.binary_search_by_key(&sequence, |sent| sent.sequence) else {
            // A duplicate, or an unknown number.
            return;
        };
        let Some(sent) = self.unacked.remove(at) else { return };
        self.bytes -= sent.frame.len();
        if sent.times == 1 && !sent.is_carried_over {
            self.measured(now.saturating_sub(sent.last));
        }
        if self.is_ordered && sent.times > 0 {
            // Earlier messages on this socket have arrived. If one is not acknowledged, its
            // acknowledgement was lost with an earlier socket.
            let bytes = &mut self.bytes;
            self.unacked.retain(|earlier| {
                let is_proven =
                    earlier.sequence < sequence && earlier.is_carried_over && earlier.times >= 2;
                *bytes -= if is_proven { earlier.frame.len() } else { 0 };
                !is_proven
            });
        }
    }

    fn measured(&mut self, sample: Duration) {
        let off = self.round_trip.abs_diff(sample);
        self.variance = self.variance * 3 / 4 + off / 4;
        self.round_trip = self.round_trip * 7 / 8 + sample / 8;
        let margin = (self.variance * 4).max(Duration::from_millis(100));
        self.patience = (self.round_trip + margin).min(MAX_PATIENCE);
    }

    /// Returns all messages again, in order, for a new socket.
    pub(super) fn attached(&mut self, now: Duration) -> Vec<Bytes> {
        for sent in &mut self.unacked {
            sent.is_carried_over |= sent.times > 0;
            sent.times = 1;
            sent.last = now;
        }
        self.unacked.iter().map(|sent| sent.frame.clone()).collect()
    }

    /// Returns all overdue messages, in order.
    pub(super) fn overdue(&mut self, now: Duration) -> Vec<Bytes> {
        let patience = self.patience;
        let due = self.unacked.iter_mut().filter(|sent| due(sent, patience) <= now).take(BATCH);
        due.map(|sent| {
            sent.times += 1;
            sent.last = now;
            sent.frame.clone()
        })
        .collect()
    }

    /// When the next message becomes overdue.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.unacked.iter().take(BATCH).map(|sent| due(sent, self.patience)).min()
    }
}

fn due(sent: &Sent, patience: Duration) -> Duration {
    let factor = 1 << sent.times.saturating_sub(1).min(8);
    sent.last + (patience * factor).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sender(messages: u8, now: Duration) -> Sender {
        let mut sender = Sender::new();
        (0..messages).for_each(|n| sender.push(Bytes::from(vec![n]), now, true));
        sender
    }

    fn numbers(frames: &[Bytes]) -> Vec<u8> {
        frames.iter().map(|frame| frame[0]).collect()
    }

    #[test]
    fn everything_overdue_is_sent_again_not_only_the_oldest() {
        let mut sender = sender(3, Duration::ZERO);
        sender.acknowledged(1, Duration::from_millis(1));
        assert!(sender.overdue(Duration::from_millis(5)).is_empty());
        assert_eq!(numbers(&sender.overdue(SECOND)), [0, 2]);
        // Not again at once, and each time a little later.
        assert!(sender.overdue(SECOND).is_empty());
        assert_eq!(numbers(&sender.overdue(SECOND * 5)), [0, 2]);
    }

    /// The acknowledgements of 0 and 1 were lost with the socket, and the client will not repeat
    /// them.
    #[test]
    fn lost_acknowledgements_freeze_nothing() {
        let mut sender = sender(2, Duration::ZERO);
        assert_eq!(numbers(&sender.attached(SECOND)), [0, 1]);
        sender.overdue(SECOND * 3);
        sender.push(Bytes::from_static(&[2]), SECOND * 3, true);
        sender.acknowledged(2, SECOND * 4);
        assert!(sender.is_empty());
        assert_eq!(sender.room(), MAX_BYTES);
    }

    /// On the first socket nothing is proven: a client acknowledges later messages while it cannot
    /// handle the first one.
    #[test]
    fn what_a_client_is_not_ready_for_is_kept() {
        let mut sender = sender(2, Duration::ZERO);
        sender.overdue(SECOND);
        sender.overdue(SECOND * 9);
        sender.acknowledged(1, SECOND * 10);
        assert_eq!(numbers(&sender.overdue(SECOND * 30)), [0]);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut sender = Sender::new();
        for _ in 0..MAX_MESSAGES {
            assert!(sender.room() > 0);
            sender.push(Bytes::from_static(b"x"), Duration::ZERO, true);
        }
        assert_eq!(sender.room(), 0);
        let mut sender = Sender::new();
        sender.push(Bytes::from(vec![0; MAX_BYTES]), Duration::ZERO, false);
        assert_eq!(sender.room(), 0);
    }
}
