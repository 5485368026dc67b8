//! What the driver needs of a log that is sent elsewhere, whoever sends it.
//!
//! Implemented by `deliveries`; the driver says when the last of the build's output is logged, and
//! tells the person what did not arrive.

use runner_engine::Fut;

/// Copies of the log under way to other places.
pub trait LogDeliveries: Send + Sync {
    /// All that commands have written is logged. Resolves when it has arrived, or has been given up:
    /// with what is to be told of the latter.
    fn finish(&self) -> Fut<'_, Vec<String>>;

    /// Somebody is in a hurry: what has not arrived by now is given up.
    fn hurry(&self);
}
