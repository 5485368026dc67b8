//! The audit of the endpoint and its sessions: one record a line, in CloudTrail's form.
//!
//! Records of calls come from `aws`, those of sessions from `facts`. No line holds a token, a
//! secret key, or input or output of a session. Unauthenticated callers can cause any number of
//! refusals, so these go to a second file at a limited rate and cannot displace the first one's
//! records. Each key of a user has two rates as well: calls that change nothing leave no record
//! above the first one, and calls that change something are refused above the second one.

mod backwards;
mod lookup;
mod record;
mod segments;
mod writer;

pub use lookup::{Attribute, AuditLookupError, Lookup, MAX_FOUND, resource_name};
pub use record::AuditDetails;
pub use record::{AuditRecord, AuditedResource, CallSource, CallerIdentity, HIDDEN};

use lookup::AuditPage;
use runner_folder::state::Home;
use runner_host::clock;
use segments::Segments;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use writer::{AuditFiles, AuditWriter};

/// Lines for unauthenticated callers: how many at once, and the time until there is room for one
/// more.
const STRANGERS: Limit = Limit { burst: 100, pause: Duration::from_secs(1) };
/// The same for each user's key, for calls that change nothing.
const USERS: Limit = Limit { burst: 1000, pause: Duration::from_millis(50) };
/// The same for calls that change something. They need a record, so the call is refused above this
/// rate.
const CHANGES: Limit = Limit { burst: 1000, pause: Duration::from_millis(200) };
/// Keys above which full rates are dropped. A key without a rate has a full one.
const MOST_KEYS: usize = 1000;

/// The records in the state folder, readable by the owner alone: `audit.jsonl` and `refused.jsonl`.
#[derive(Debug)]
pub struct Audit {
    files: Arc<AuditFiles>,
    writer: AuditWriter,
    strangers: Mutex<Rate>,
    users: Rates,
    changes: Rates,
    /// When each key's last lookup was recorded.
    lookups: Mutex<BTreeMap<String, Duration>>,
}

impl Audit {
    /// The audit of a state folder. Opens nothing before the first line.
    pub fn of(home: &Home) -> Self {
        Audit::kept(home, None)
    }

    /// Like `of`, and removes files that were put aside longer ago than `kept`.
    pub fn kept(home: &Home, kept: Option<Duration>) -> Self {
        let done = Segments::done(home.root(), kept);
        let files = Arc::new(AuditFiles { done, refused: Segments::refused(home.root()) });
        Audit {
            writer: AuditWriter::new(Arc::clone(&files)),
            files,
            strangers: Mutex::new(Rate::full(STRANGERS, clock::boot())),
            users: Rates::of(USERS),
            changes: Rates::of(CHANGES),
            lookups: Mutex::default(),
        }
    }

    /// Writes a record.
    pub fn write(&self, record: AuditRecord) {
        self.writer.done(record);
    }

    /// Writes a user's call that changed nothing, unless its key exceeds its rate.
    pub fn write_of_user(&self, key: &str, mut record: AuditRecord) {
        let Some(left_out) = self.users.take(key) else { return };
        record.left_out(left_out);
        self.writer.done(record);
    }

    /// Whether a user may change something with this key now.
    pub fn may_change(&self, key: &str) -> bool {
        self.changes.take(key).is_some()
    }

    /// Writes the refusal of an unauthenticated caller, unless there were too many.
    pub fn write_refused(&self, mut record: AuditRecord) {
        let mut rate = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left_out) = rate.take(clock::boot()) else { return };
        drop(rate);
        record.left_out(left_out);
        self.writer.refused(record);
    }

    /// Removes files that were put aside too long ago.
    pub fn sweep(&self) {
        self.writer.sweep();
    }

    /// Makes sure that the next line can be written.
    ///
    /// # Errors
    /// If there is no room for it, or the file cannot be opened.
    pub async fn reserve(&self) -> io::Result<()> {
        self.writer.reserve().await
    }

    /// Resolves when all earlier records are written.
    pub async fn written(&self) {
        self.writer.written().await;
    }

    /// Whether to record a lookup with this key: one a minute. Otherwise a client that polls the
    /// audit would fill it.
    pub fn records_lookup(&self, key: &str) -> bool {
        let now = clock::boot();
        let minute = Duration::from_secs(60);
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        lookups.retain(|_, last| now.saturating_sub(*last) < minute);
        if lookups.contains_key(key) {
            return false;
        }
        lookups.insert(key.to_owned(), now);
        true
    }

    /// Finds records, the newest first. Reads files, so it blocks.
    ///
    /// # Errors
    /// If the token belongs to another lookup, or a file cannot be read.
    pub fn lookup(&self, lookup: &Lookup) -> Result<AuditPage, AuditLookupError> {
        lookup.find(&self.files.done, &self.files.refused)
    }
}

/// A rate for each key.
#[derive(Debug)]
struct Rates {
    limit: Limit,
    keys: Mutex<BTreeMap<String, Rate>>,
}

impl Rates {
    fn of(limit: Limit) -> Self {
        Rates { limit, keys: Mutex::default() }
    }

    /// Takes one from a key's rate, like [`Rate::take`].
    fn take(&self, key: &str) -> Option<u64> {
        let now = clock::boot();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST_KEYS && !keys.contains_key(key) {
            keys.retain(|_, rate| !rate.is_full(now));
        }
        keys.entry(key.to_owned()).or_insert_with(|| Rate::full(self.limit, now)).take(now)
    }
}

/// How many at once, and the time until there is room for one more.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: u32,
    pause: Duration,
}

/// A token bucket.
#[derive(Debug)]
struct Rate {
    limit: Limit,
    left: u32,
    /// The time of the last refill.
    counted: Duration,
    left_out: u64,
}

impl Rate {
    fn full(limit: Limit, now: Duration) -> Self {
        Rate { limit, left: limit.burst, counted: now, left_out: 0 }
    }

    fn refill(&mut self, now: Duration) {
        let pause = self.limit.pause;
        let passed = now.saturating_sub(self.counted).as_millis() / pause.as_millis().max(1);
        let gained = u32::try_from(passed).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(gained).min(self.limit.burst);
        self.counted = self.counted.saturating_add(pause.saturating_mul(gained));
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.refill(now);
        self.left == self.limit.burst && self.left_out == 0
    }

    /// Takes one. Returns how many were left out before it; `None` if this one is left out.
    fn take(&mut self, now: Duration) -> Option<u64> {
        self.refill(now);
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_a_rate() {
        let second = Duration::from_secs(1);
        let mut now = second * 1000;
        let mut rate = Rate::full(STRANGERS, now);
        for _ in 0..STRANGERS.burst {
            assert_eq!(rate.take(now), Some(0));
        }
        now += second / 2;
        assert_eq!([rate.take(now), rate.take(now)], [None, None]);
        now += second / 2;
        assert_eq!([rate.take(now), rate.take(now)], [Some(2), None]);
        now += second * 2;
        assert_eq!([rate.take(now), rate.take(now), rate.take(now)], [Some(1), Some(0), None]);
        // The bucket holds no more than the burst.
        now += second * 100_000;
        let written = (0..1000).filter(|_| rate.take(now).is_some()).count();
        assert_eq!(written, STRANGERS.burst as usize);
    }

    #[test]
    fn changes_have_a_rate_for_each_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = Audit::of(&Home::at(dir.path().to_path_buf()).expect("a home"));
        let done = (0..CHANGES.burst * 2).filter(|_| audit.may_change("ann")).count();
        // Meanwhile the clock moves on.
        assert!((CHANGES.burst as usize..CHANGES.burst as usize * 2).contains(&done), "{done}");
        assert!(audit.may_change("eve"));
    }

    #[tokio::test]
    async fn records_are_written_in_their_order_and_by_then() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = Audit::of(&Home::at(dir.path().to_path_buf()).expect("a home"));
        audit.written().await;
        audit.reserve().await.expect("room");
        for name in ["A", "B", "C"] {
            audit.write(AuditRecord::call(CallerIdentity::unknown(), "ssm", name));
        }
        audit.written().await;
        let text = std::fs::read_to_string(dir.path().join("audit.jsonl")).expect("a file");
        let name = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).expect("a record")["eventName"].clone()
        };
        assert_eq!(text.lines().map(name).collect::<Vec<_>>(), ["A", "B", "C"]);
    }

    #[test]
    fn a_lookup_is_recorded_once_a_minute_for_each_key() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = Audit::of(&Home::at(dir.path().to_path_buf()).expect("a home"));
        assert!(audit.records_lookup("a") && audit.records_lookup("b"));
        assert!(!audit.records_lookup("a") && !audit.records_lookup("b"));
    }
}
