//! Follows a build's log and keeps the resulting state.

use super::LogReader;
use crate::state::BuildDir;
use runner_core::timeline::Timeline;
use runner_core::view::BuildView;
use std::io;

/// Follows one log.
#[derive(Debug)]
pub struct Follower {
    reader: LogReader,
    timeline: Timeline,
}

impl Follower {
    pub fn open(dir: &BuildDir) -> io::Result<Self> {
        Ok(Follower { reader: LogReader::open(dir)?, timeline: Timeline::default() })
    }

    /// The build after all events logged so far; `None` before its first event.
    pub fn catch_up(&mut self) -> io::Result<Option<&BuildView>> {
        while let Some(event) = self.reader.next_event()? {
            self.timeline.take(&event);
        }
        Ok(self.timeline.view())
    }

    /// The state, and the length of the complete lines that it is made from.
    pub(super) fn into_parts(self) -> (Timeline, u64) {
        (self.timeline, self.reader.position())
    }
}
