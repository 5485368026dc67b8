//! What runs beside the build, as far as the driver sees to it.

use runner_engine::{Container, EngineError, Fut};

/// Started before the build's container is made; ended by whoever has made it.
pub trait Beside: Send + Sync {
    /// Starts it, unless it is up; resolves when it is, or with why it is not.
    fn start(&self) -> Fut<'_, Result<(), EngineError>>;

    /// Opens the ways to it from the build's container, which has been made and in which nothing runs yet.
    fn open<'b>(&'b self, build: &'b dyn Container) -> Fut<'b, Result<(), EngineError>>;

    /// Nobody waits for it any more.
    fn give_up(&self);
}
