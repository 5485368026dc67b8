//! What the driver needs of the containers that run beside the build.

use runner_engine::{Container, EngineError, Fut};

/// Services of a build: started before its container is created, stopped by the owner of this.
pub trait Beside: Send + Sync {
    /// Starts them, unless they run already; resolves when they run, or with an error.
    fn start(&self) -> Fut<'_, Result<(), EngineError>>;

    /// Opens connections to them from the build's container, which exists but runs nothing yet.
    fn open<'b>(&'b self, build: &'b dyn Container) -> Fut<'b, Result<(), EngineError>>;

    /// Cancels the start: nobody waits for it any more.
    fn give_up(&self);
}
