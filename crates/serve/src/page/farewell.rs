//! The end of an endpoint that ends with its build: visitors who follow the build learn how it
//! ended.

use runner_host::clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long followers have to ask once more.
const PATIENCE: Duration = Duration::from_secs(3);
/// A follower who has not asked for this long is gone.
const GONE: Duration = Duration::from_secs(3);
/// Most followers that are tracked.
const MOST: usize = 256;

/// The followers of builds, each with the time of the last response; `None` while a request is
/// pending.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<FarewellInner>);

#[derive(Debug, Default)]
struct FarewellInner {
    known: Mutex<HashMap<(u64, String), Option<Duration>>>,
    changed: Notify,
}

impl Followers {
    /// Notes that a visitor waits for news.
    pub(super) fn asks(&self, visitor: u64, uuid: &str) -> FarewellWait {
        let key = (visitor, uuid.to_owned());
        let mut known = self.lock();
        if known.len() < MOST {
            known.insert(key.clone(), None);
        }
        FarewellWait { followers: self.clone(), key }
    }

    /// Waits briefly until all followers have learned of the end.
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

/// A pending request. A follower who leaves before the response is forgotten.
pub(super) struct FarewellWait {
    followers: Followers,
    key: (u64, String),
}

impl FarewellWait {
    /// Notes the response. A follower who was told of the end is done.
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
