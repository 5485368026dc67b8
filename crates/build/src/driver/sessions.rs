//! What the driver needs of the code that runs sessions.
//!
//! Implemented by `session::Hub`; the driver says when there is a container, and when the build
//! ends.

use runner_core::phase::Status;
use runner_engine::{Container, Fut};
use std::sync::Arc;

/// Programs that people run in the container beside the build.
pub trait Sessions: Send + Sync {
    /// Allows sessions in this container, which replaces any earlier one.
    fn connect(&self, container: Arc<dyn Container>);
    /// Whether anyone is in the container.
    fn has_guests(&self) -> bool;
    /// Whether the container has a shell for sessions.
    fn has_shell(&self) -> Fut<'_, bool>;
    /// Asks every session's programs to end, without waiting.
    fn hang_up(&self);
    /// Closes every session with this message, and allows new ones if there is another container by
    /// then. Returns how many were closed.
    fn put_out(&self, message: String) -> Fut<'_, u64>;
    /// Ends every session; resolves when all are closed.
    fn close(&self, status: Status) -> Fut<'_, ()>;
}
