//! Visitors of the page: browsers, identified by a cookie and a key.
//!
//! The cookie alone would not do: browsers send it to every port of this machine, including a
//! build's server. Only scripts of this page can read the key, which they send in a header; a
//! script that steals the key has no cookie. Both are stored as digests, in memory. So an endpoint
//! that takes over an address from another program knows nobody.

use super::secret::SecretDigest;
use super::ticket::Tickets;
use runner_folder::state::LinkFor;
use runner_host::clock;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a visitor is remembered after the last request.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Most visitors; a new one replaces the one silent for longest.
const MOST: usize = 64;
/// Most waiting requests of one visitor.
const WAITS: usize = 64;
/// Most terminal connections of one visitor.
const SOCKETS: usize = 64;
/// Most downloads of one visitor, so that others can download, too.
const DOWNLOADS: usize = 4;
/// Most things whose first view by a visitor is recorded.
const MOST_SEEN: usize = 4096;

/// All visitors.
#[derive(Debug, Default)]
pub(super) struct Visitors(Mutex<Vec<VisitorEntry>>);

#[derive(Debug)]
struct VisitorEntry {
    cookie: SecretDigest,
    key: SecretDigest,
    heard: Duration,
    visitor: Arc<Visitor>,
}

/// A visitor.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: u64,
    pub(super) may: LinkFor,
    pub(super) waits: Arc<Semaphore>,
    pub(super) sockets: Arc<Semaphore>,
    pub(super) downloads: Arc<Semaphore>,
    /// The visitor's only permit to scan something whole.
    pub(super) scan: Arc<Semaphore>,
    pub(super) tickets: Tickets,
    seen: Mutex<HashSet<String>>,
}

/// What a browser sends from now on.
pub(super) struct Credentials {
    pub(super) cookie: String,
    pub(super) key: String,
}

impl Visitors {
    /// Adds a visitor with a link.
    pub(super) fn enter(&self, may: LinkFor) -> io::Result<Credentials> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let ((cookie, cookie_text), (key, key_text)) = (SecretDigest::new()?, SecretDigest::new()?);
        let visitor = Arc::new(Visitor {
            id: LAST.fetch_add(1, Ordering::Relaxed),
            may,
            waits: Arc::new(Semaphore::new(WAITS)),
            sockets: Arc::new(Semaphore::new(SOCKETS)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS)),
            scan: Arc::new(Semaphore::new(1)),
            tickets: Tickets::default(),
            seen: Mutex::default(),
        });
        let now = clock::boot();
        let mut entries = self.lock();
        entries.retain(|entry| now.saturating_sub(entry.heard) < LIFE);
        if entries.len() >= MOST
            && let Some(oldest) = (0..entries.len()).min_by_key(|at| entries[*at].heard)
        {
            entries.swap_remove(oldest);
        }
        entries.push(VisitorEntry { cookie, key, heard: now, visitor });
        Ok(Credentials { cookie: cookie_text, key: key_text })
    }

    /// The visitor with this cookie and key.
    pub(super) fn find(&self, cookie: &str, key: &str) -> Option<Arc<Visitor>> {
        let key = SecretDigest::of(key);
        self.find_by(cookie, |entry| entry.key.is(key))
    }

    /// The visitor with this cookie, and a ticket instead of the key.
    pub(super) fn with_ticket(
        &self,
        cookie: &str,
        ticket: &str,
        uuid: &str,
    ) -> Option<Arc<Visitor>> {
        self.find_by(cookie, |entry| entry.visitor.tickets.take(ticket, uuid))
    }

    fn find_by(&self, cookie: &str, fits: impl Fn(&VisitorEntry) -> bool) -> Option<Arc<Visitor>> {
        let (cookie, now) = (SecretDigest::of(cookie), clock::boot());
        let mut entries = self.lock();
        let is_alive = |entry: &VisitorEntry| now.saturating_sub(entry.heard) < LIFE;
        let entry = entries.iter_mut().find(|entry| entry.cookie.is(cookie))?;
        if !is_alive(entry) || !fits(entry) {
            return None;
        }
        entry.heard = now;
        Some(Arc::clone(&entry.visitor))
    }

    /// Forgets the visitor with this cookie and key.
    pub(super) fn leave(&self, cookie: &str, key: &str) {
        let (cookie, key) = (SecretDigest::of(cookie), SecretDigest::of(key));
        self.lock().retain(|entry| !(entry.cookie.is(cookie) && entry.key.is(key)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<VisitorEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Whether the visitor may do more than look.
    pub(super) fn is_owner(&self) -> bool {
        self.may == LinkFor::Owner
    }

    /// Whether the visitor may see this build.
    pub(super) fn sees(&self, uuid: &str) -> bool {
        match &self.may {
            LinkFor::Owner => true,
            LinkFor::Reader(build) => build == uuid,
        }
    }

    /// Whether the visitor sees something for the first time.
    pub(super) fn looks_first(&self, what: String) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_SEEN {
            seen.clear();
        }
        seen.insert(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_shows_both_of_the_same_visit() {
        let visitors = Visitors::default();
        let one = visitors.enter(LinkFor::Owner).expect("entered");
        let other = visitors.enter(LinkFor::Reader("u".to_owned())).expect("entered");
        assert!(visitors.find(&one.cookie, &one.key).is_some_and(|visitor| visitor.is_owner()));
        let reader = visitors.find(&other.cookie, &other.key).expect("known");
        assert!(!reader.is_owner() && reader.sees("u") && !reader.sees("v"));
        assert!(visitors.find(&one.cookie, &other.key).is_none());
        assert!(visitors.find(&other.cookie, &one.key).is_none());
        assert!(visitors.find(&one.cookie, "").is_none());
        assert!(visitors.find("", &one.key).is_none());
        visitors.leave(&one.cookie, &other.key);
        assert!(visitors.find(&one.cookie, &one.key).is_some());
        visitors.leave(&one.cookie, &one.key);
        assert!(visitors.find(&one.cookie, &one.key).is_none());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let visitors = Visitors::default();
        let first = visitors.enter(LinkFor::Owner).expect("entered");
        for _ in 0..MOST {
            visitors.enter(LinkFor::Owner).expect("entered");
        }
        assert!(visitors.find(&first.cookie, &first.key).is_none());
        assert_eq!(visitors.lock().len(), MOST);
    }

    #[test]
    fn a_first_look_is_one() {
        let visitors = Visitors::default();
        let shown = visitors.enter(LinkFor::Owner).expect("entered");
        let visitor = visitors.find(&shown.cookie, &shown.key).expect("known");
        assert!(visitor.looks_first("a".to_owned()) && !visitor.looks_first("a".to_owned()));
    }
}
