//! The end of an endpoint that ends with its build: whoever follows the build hears how it has ended.

use runner_host::clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long they have to ask once more.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who has not asked for so long has gone.
const GONE: Duration = Duration::from_secs(3);
/// Most who are known to follow.
const MOST: usize = 256;

/// Who follows which build: since when they have had their last answer; none while they wait for one.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<FarewellInner>);

#[derive(Debug, Default)]
struct FarewellInner {
    known: Mutex<HashMap<(u64, String), Option<Duration>>>,
    changed: Notify,
}

impl Followers {
    /// A visitor asks what has come.
    pub(super) fn asks(&self, visitor: u64, uuid: &str) -> FarewellWait {
        let key = (visitor, uuid.to_owned());
        let mut known = self.lock();
        if known.len() < MOST {
            known.insert(key.clone(), None);
        }
        FarewellWait { followers: self.clone(), key }
    }

    /// Waits, a little, until all who follow have heard of the end.
    pub async fn hear(&self) {
        let heard = async {
            loop {
                let changed = self.0.changed.notified();
                let now = clock::boot();
                let is_there = |since: &Option<Duration>| {
                    since.is_none_or(|since| now.saturating_sub(since) < GONE)
                };
                if !self.lock().values().any(is_there) {
                    return;
                }
                changed.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, heard).await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(u64, String), Option<Duration>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits for an answer. Who goes before it has gone.
pub(super) struct FarewellWait {
    followers: Followers,
    key: (u64, String),
}

impl FarewellWait {
    /// They have been told, of the end perhaps.
    pub(super) fn told(self, is_over: bool) {
        if let Some(since) = self.followers.lock().get_mut(&self.key).filter(|_| !is_over) {
            *since = Some(clock::boot());
        }
    }
}

impl Drop for FarewellWait {
    fn drop(&mut self) {
        let mut known = self.followers.lock();
        if known.get(&self.key).is_some_and(Option::is_none) {
            known.remove(&self.key);
        }
        drop(known);
        self.followers.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_holds_up_nothing() {
        let followers = Followers::default();
        let begin = std::time::Instant::now();
        followers.hear().await;
        followers.asks(1, "u").told(true);
        drop(followers.asks(1, "u"));
        followers.hear().await;
        assert!(begin.elapsed() < PATIENCE);
    }

    #[tokio::test]
    async fn who_follows_is_waited_for() {
        let followers = Followers::default();
        followers.asks(1, "u").told(false);
        let other = followers.clone();
        let hears = tokio::spawn(async move { other.hear().await });
        tokio::task::yield_now().await;
        assert!(!hears.is_finished());
        let asking = followers.asks(1, "u");
        tokio::task::yield_now().await;
        assert!(!hears.is_finished());
        asking.told(true);
        hears.await.expect("heard");
    }
}
