//! What a build needs of its display within the process that runs it; a build can also run without
//! one.

use runner_engine::Fut;
use runner_engine::image::PullProgress;
use runner_folder::events::Growth;
use runner_folder::state::BuildDir;
use std::io;

/// A build that is ready and listens on its control socket; nothing of it is logged yet.
pub struct ReadyBuild<'a> {
    pub id: &'a str,
    pub uuid: &'a str,
    pub dir: &'a BuildDir,
    /// Wakes readers of the log.
    pub growth: Growth,
}

/// Displays a build. It reads the build's folder and uses its control socket; nothing it does
/// affects the build's result.
pub trait Face {
    /// Begins the display. Called in the runtime.
    fn begin(&mut self, begun: &ReadyBuild<'_>) -> io::Result<()>;

    /// Where progress bars are drawn while images are pulled.
    fn pulls(&self) -> PullProgress {
        PullProgress::default()
    }

    /// The build is over; visitors are told the reason.
    fn close(&mut self, _reason: String) -> Fut<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Resolves when everything is displayed.
    fn shown(&mut self) -> Fut<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The build stops waiting although not everything was displayed.
    fn unread(&mut self) {}
}
