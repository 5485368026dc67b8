//! Time, as sessions and tokens have it.
//!
//! Handed to `registry` by whoever makes the gateway, and by it to all that wait: nothing in here asks
//! the machine itself, so that an hour without a client is a moment in a test.

use runner_host::clock;
use std::time::Duration;
#[cfg(test)]
use tokio::sync::watch;

/// A clock, and a way to wait for it.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's, its sleep included.
    Machine,
    /// One that a test turns forward.
    #[cfg(test)]
    Turned(watch::Receiver<Duration>),
}

impl Clock {
    /// Since some moment, never going back.
    pub(super) fn now(&self) -> Duration {
        match self {
            Clock::Machine => clock::boot(),
            #[cfg(test)]
            Clock::Turned(hands) => *hands.borrow(),
        }
    }

    /// Resolves at that time.
    pub(super) async fn until(&self, time: Duration) {
        match self {
            Clock::Machine => tokio::time::sleep(time.saturating_sub(clock::boot())).await,
            #[cfg(test)]
            Clock::Turned(hands) => {
                let mut hands = hands.clone();
                if hands.wait_for(|now| *now >= time).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}
