//! What a build needs of who shows it in the process that runs it; without one it runs all the same.

use runner_engine::Fut;
use runner_engine::image::PullProgress;
use runner_folder::events::Growth;
use runner_folder::state::BuildDir;
use std::io;

/// A build that has all it needs and listens on its control socket; nothing of it is logged yet.
pub struct ReadyBuild<'a> {
    pub id: &'a str,
    pub uuid: &'a str,
    pub dir: &'a BuildDir,
    /// Wakes readers of the log.
    pub growth: Growth,
}

/// Who shows a build. It reads the build's folder and speaks to its control socket; nothing of what it does
/// decides about the build.
pub trait Face {
    /// Begins to show it. Called in the runtime.
    fn begin(&mut self, begun: &ReadyBuild<'_>) -> io::Result<()>;

    /// Where bars are drawn while images are pulled.
    fn pulls(&self) -> PullProgress {
        PullProgress::default()
    }

    /// The build is over; whom it has let in hears why.
    fn close(&mut self, _reason: String) -> Fut<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Resolves when all of it is shown.
    fn shown(&mut self) -> Fut<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Not all of it was shown, and that is waited for no more.
    fn unread(&mut self) {}
}
