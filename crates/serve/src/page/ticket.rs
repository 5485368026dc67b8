//! Tickets, with which a browser fetches a file itself, since only scripts can send the key.

use super::secret::SecretDigest;
use runner_host::clock;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a ticket is valid.
const LIFE: Duration = Duration::from_secs(60);
/// Most tickets of one visitor; a new one replaces the oldest.
const MOST: usize = 64;

/// The tickets of a visitor.
#[derive(Debug, Default)]
pub(super) struct Tickets(Mutex<Vec<Ticket>>);

#[derive(Debug)]
struct Ticket {
    digest: SecretDigest,
    /// The uuid of its build.
    uuid: String,
    until: Duration,
}

impl Tickets {
    /// A new ticket for a build's log.
    pub(super) fn make(&self, uuid: &str) -> io::Result<String> {
        let (digest, text) = SecretDigest::new()?;
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() >= MOST {
            tickets.remove(0);
        }
        tickets.push(Ticket { digest, uuid: uuid.to_owned(), until: clock::boot() + LIFE });
        Ok(text)
    }

    /// Uses up a ticket. Returns whether it was valid.
    pub(super) fn take(&self, text: &str, uuid: &str) -> bool {
        let (digest, now) = (SecretDigest::of(text), clock::boot());
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|ticket| now < ticket.until);
        let found = tickets.iter().position(|it| it.digest.is(digest) && it.uuid == uuid);
        found.map(|at| tickets.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_for_one_build() {
        let tickets = Tickets::default();
        let text = tickets.make("u").expect("a ticket");
        assert!(!tickets.take(&text, "v") && !tickets.take("", "u"));
        assert!(tickets.take(&text, "u"));
        assert!(!tickets.take(&text, "u"));
    }
}
