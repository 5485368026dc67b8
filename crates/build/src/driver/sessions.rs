//! What the driver needs of sessions, whoever offers them.
//!
//! Implemented by `session::Hub`; the driver tells it when there is a container, and when the build
//! ends.

use runner_core::phase::Status;
use runner_engine::{Container, Fut};
use std::sync::Arc;

/// Programs that people run in the container beside the build.
pub trait Sessions: Send + Sync {
    /// The container is there; sessions may be opened. It takes the place of one before it.
    fn connect(&self, container: Arc<dyn Container>);
    /// Whether anybody is in the container.
    fn has_guests(&self) -> bool;
    /// Whether a session finds a shell in the container.
    fn has_shell(&self) -> Fut<'_, bool>;
    /// Asks every session's programs to end, without waiting.
    fn hang_up(&self);
    /// Closes every session with these words, and lets new ones in where there is another container then; how
    /// many there were.
    fn put_out(&self, message: String) -> Fut<'_, u64>;
    /// Ends every session; resolves when all are closed.
    fn close(&self, status: Status) -> Fut<'_, ()>;
}
