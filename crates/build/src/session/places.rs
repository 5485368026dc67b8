//! Limits how many Run Command scripts run in a build at once, whatever endpoints sent them.

use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// The number of running scripts.
#[derive(Debug)]
pub(super) struct ScriptPlaces {
    /// Makes waiting scripts proceed in the order in which they came.
    turn: Mutex<()>,
    taken: watch::Sender<usize>,
}

/// A running script's place, released on drop.
#[derive(Debug)]
pub struct ScriptPlace(Arc<ScriptPlaces>);

impl ScriptPlaces {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(ScriptPlaces { turn: Mutex::new(()), taken: watch::Sender::new(0) })
    }

    /// Waits until fewer than `limit` places are taken, and takes one.
    pub(super) async fn enter(self: &Arc<Self>, limit: usize) -> ScriptPlace {
        let _turn = self.turn.lock().await;
        let mut taken = self.taken.subscribe();
        // Cannot fail: the sender lives in `self`.
        let _ = taken.wait_for(|taken| *taken < limit.max(1)).await;
        self.taken.send_modify(|taken| *taken += 1);
        ScriptPlace(Arc::clone(self))
    }
}

impl Drop for ScriptPlace {
    fn drop(&mut self) {
        self.0.taken.send_modify(|taken| *taken -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn places_are_given_in_order_up_to_the_limit() {
        let places = ScriptPlaces::new();
        let now = |limit| places.enter(limit).now_or_never();
        let (one, two) = (now(2), now(2));
        assert!(one.is_some() && two.is_some() && now(2).is_none());
        // A lower limit counts the places of others too; a waiter that was dropped blocks nobody.
        let mut low = Box::pin(places.enter(1));
        assert!((&mut low).now_or_never().is_none());
        drop(one);
        assert!((&mut low).now_or_never().is_none());
        let mut next = Box::pin(places.enter(2));
        assert!((&mut next).now_or_never().is_none(), "the first comes first");
        drop(low);
        assert!((&mut next).now_or_never().is_some());
        drop(two);
        assert!(now(1).is_some());
    }
}
