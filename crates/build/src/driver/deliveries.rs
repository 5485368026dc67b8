//! What the driver needs of the code that sends copies of the log.
//!
//! Implemented by `deliveries`. The driver says when the last of the build's output is logged, and
//! reports what did not arrive.

use runner_engine::Fut;

/// Copies of the log being sent to other places.
pub trait LogDeliveries: Send + Sync {
    /// Called when all output of commands is logged. Resolves when it has arrived or was given up;
    /// returns a message for each copy that was given up.
    fn finish(&self) -> Fut<'_, Vec<String>>;

    /// Gives up what has not arrived yet, because the user is in a hurry.
    fn hurry(&self);
}
