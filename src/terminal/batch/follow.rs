//! Follows one build of a batch by its log.

use crate::terminal::EventSink;
use crate::terminal::json::JsonLines;
use crate::terminal::notices::debugged;
use crate::terminal::pauses::PauseNotices;
use crate::terminal::ways::WaysIn;
use runner_batch::Started;
use runner_core::event::{EventBody, NoticeLevel};
use runner_core::timeline::Timeline;
use runner_folder::events::{LogReader, OutputReader};
use runner_host::clock;
use runner_host::stdio::CheckedStdout;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(super) struct FollowedChild {
    pub(super) name: String,
    pub(super) started: Started,
    /// When it was started.
    pub(super) since: Duration,
    pub(super) timeline: Timeline,
    /// When its command began.
    pub(super) command_since: Duration,
    readers: Option<(LogReader, OutputReader)>,
    pauses: PauseNotices,
    json: Option<JsonLines<CheckedStdout>>,
}

impl FollowedChild {
    pub(super) fn new(
        name: String,
        started: Started,
        ways: WaysIn,
        json: Option<JsonLines<CheckedStdout>>,
    ) -> Self {
        let now = clock::boot();
        FollowedChild {
            name,
            started,
            since: now,
            timeline: Timeline::default(),
            command_since: now,
            readers: None,
            pauses: PauseNotices::new(ways),
            json,
        }
    }

    /// Reads what is new. Returns lines for the user.
    pub(super) fn read_on(&mut self) -> io::Result<Vec<String>> {
        // Cleared before the first look, so that nothing that comes during it is missed.
        self.started.has_grown.store(false, Ordering::Release);
        if self.readers.is_none() {
            let dir = &self.started.dir;
            let (Ok(log), Ok(output)) = (LogReader::open(dir), OutputReader::open(dir)) else {
                return Ok(Vec::new());
            };
            self.readers = Some((log, output));
        }
        let Some((log, output)) = &mut self.readers else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        while let Some(event) = log.next_event()? {
            self.timeline.take(&event);
            lines.extend(self.pauses.take(&event));
            match &event.body {
                EventBody::CommandStarted { .. } => self.command_since = clock::boot(),
                EventBody::Notice(notice) => {
                    let shown = notice.shown().into_iter();
                    let shown = shown.filter(|(level, _)| *level > NoticeLevel::Note);
                    lines.extend(shown.map(|(level, text)| format!("{}{text}", level.prefix())));
                }
                body => lines.extend(debugged(body)),
            }
            if let Some(json) = &mut self.json {
                json.event(&event, output)?;
            }
        }
        if let Some(json) = &mut self.json {
            json.caught_up()?;
        }
        Ok(lines)
    }
}
