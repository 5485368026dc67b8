//! Folds a build's log into its state after each event.
//!
//! The only way from events to a [`BuildView`], for all readers: the driver, which has just logged
//! them, readers of a live log, and the next command, which completes the log of a dead build.

use crate::event::{Event, EventBody};
use crate::view::BuildView;

/// A build's log, folded from its first event on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    view: Option<BuildView>,
    seq: u64,
    output: u64,
}

impl Timeline {
    /// Processes the next event.
    pub fn take(&mut self, event: &Event) {
        self.seq = event.seq;
        if let EventBody::Output { offset, length, .. } = event.body {
            self.output = offset + length;
        }
        match &mut self.view {
            None => self.view = BuildView::from_first(event),
            Some(view) => view.fold(event),
        }
    }

    /// The state of the build; `None` before the first event.
    #[must_use]
    pub fn view(&self) -> Option<&BuildView> {
        self.view.as_ref()
    }

    /// Takes the state of the build.
    #[must_use]
    pub fn into_view(self) -> Option<BuildView> {
        self.view
    }

    /// Position of the last event in the log; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Bytes of `output.log` that the events cover.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::{Phase, Status};
    use crate::time::WallTime;

    fn timeline(bodies: Vec<EventBody>) -> Timeline {
        let mut timeline = Timeline::default();
        for (seq, body) in (1..).zip(bodies) {
            timeline.take(&Event { seq, time: WallTime(0), build_id: "p:u".to_owned(), body });
        }
        timeline
    }

    #[test]
    fn a_build_begins_with_its_first_event() {
        let output = EventBody::Output { command: 1, offset: 7, length: 5 };
        let lost = timeline(vec![output.clone()]);
        assert_eq!((lost.view(), lost.seq(), lost.output()), (None, 1, 12));

        let facts = Box::new(crate::event::BuildFacts::default());
        let whole = timeline(vec![
            EventBody::BuildStarted(facts),
            EventBody::PhaseStarted { phase: Phase::Build },
            EventBody::ContainerStarted {
                engine: "docker".to_owned(),
                image: Some("sha256:1".to_owned()),
            },
            output,
            EventBody::BuildEnded { status: Status::Failed, reason: None },
        ]);
        assert_eq!((whole.seq(), whole.output()), (5, 12));
        let view = whole.into_view().expect("a build");
        assert_eq!((view.phase(), view.status), (Phase::Build, Status::Failed));
        let made = (view.facts.engine.as_str(), view.facts.resolved_image.as_deref());
        assert_eq!(made, ("docker", Some("sha256:1")));
    }
}
