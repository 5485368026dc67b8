//! The clock of sessions and tokens.
//!
//! The creator of the gateway passes it to `registry`, which passes it on. Nothing here reads the
//! machine's clock directly, so an hour without a client takes a moment in a test.

use runner_host::clock;
use std::time::Duration;
#[cfg(test)]
use tokio::sync::watch;

/// A clock to read and to wait for.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock; it counts time asleep.
    Machine,
    /// A clock that a test advances.
    #[cfg(test)]
    Turned(watch::Receiver<Duration>),
}

impl Clock {
    /// The time since an arbitrary start; never goes back.
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
