//! Who has opened the page: browsers, by a cookie and a key.
//!
//! The cookie alone would not do: browsers send it to every port of this machine, to a build's server among them. The key
//! lies where scripts of this page alone can read it, and goes out in a header; a script that got hold of the key alone
//! would have no cookie. Both are kept as digests, in memory: an endpoint that starts at an address which another program
//! has had meanwhile knows nobody.

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

/// How long a visitor is known after they have been heard of last.
const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Visitors at once; the one that has been silent for longest makes room.
const MOST: usize = 64;
/// Requests of one visitor that wait for something to happen.
const WAITS: usize = 64;
/// Terminals that one visitor is connected to.
const SOCKETS: usize = 64;
/// Files that one visitor downloads: others find a place whatever one does with theirs.
const DOWNLOADS: usize = 4;
/// Things of which a visitor's first look is recorded.
const MOST_SEEN: usize = 4096;

/// Those who have opened it.
#[derive(Debug, Default)]
pub(super) struct Visitors(Mutex<Vec<VisitorEntry>>);

#[derive(Debug)]
struct VisitorEntry {
    cookie: SecretDigest,
    key: SecretDigest,
    heard: Duration,
    visitor: Arc<Visitor>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) id: u64,
    pub(super) may: LinkFor,
    pub(super) waits: Arc<Semaphore>,
    pub(super) sockets: Arc<Semaphore>,
    pub(super) downloads: Arc<Semaphore>,
    /// The one look through something whole that is a visitor's.
    pub(super) scan: Arc<Semaphore>,
    pub(super) tickets: Tickets,
    seen: Mutex<HashSet<String>>,
}

/// What a browser shows from now on.
pub(super) struct Credentials {
    pub(super) cookie: String,
    pub(super) key: String,
}

impl Visitors {
    /// Takes in one who has shown a link.
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

    /// Who shows both.
    pub(super) fn find(&self, cookie: &str, key: &str) -> Option<Arc<Visitor>> {
        let key = SecretDigest::of(key);
        self.find_by(cookie, |entry| entry.key.is(key))
    }

    /// Who shows a cookie, and a ticket instead of the key.
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

    /// Forgets one who shows both.
    pub(super) fn leave(&self, cookie: &str, key: &str) {
        let (cookie, key) = (SecretDigest::of(cookie), SecretDigest::of(key));
        self.lock().retain(|entry| !(entry.cookie.is(cookie) && entry.key.is(key)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<VisitorEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    /// Whether they may do more than look.
    pub(super) fn is_owner(&self) -> bool {
        self.may == LinkFor::Owner
    }

    /// Whether they may look at this build.
    pub(super) fn sees(&self, uuid: &str) -> bool {
        match &self.may {
            LinkFor::Owner => true,
            LinkFor::Reader(build) => build == uuid,
        }
    }

    /// Whether it is their first look at something.
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
