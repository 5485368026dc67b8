//! Folds events into the state of a build, which `ps` shows and the record is made from.
//!
//! Updated by `timeline`; used by `record`, `crates/build/src/control` and the sinks.

use crate::debug::{CommandPlace, DecisionKind};
use crate::event::{
    BuildFacts, Event, EventBody, ExportedVariable, Intervention, Notice, NoticeLevel, PauseId,
    StopFacts, StoredArtifact,
};
use crate::phase::{Block, Phase, PhaseContext, Status};
use crate::report::ReportRecord;
use crate::time::WallTime;
use std::collections::BTreeSet;

/// The state of a build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildView {
    /// Facts known from the start.
    pub facts: BuildFacts,
    /// When it was started.
    pub started: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// Current status.
    pub status: Status,
    /// Why it failed, in one sentence.
    pub reason: Option<String>,
    /// Phases begun so far, in order.
    pub phases: Vec<PhaseView>,
    /// The current command.
    pub command: Option<CommandView>,
    /// Open pauses, oldest first.
    pub paused: Vec<PauseId>,
    /// Number of pauses so far.
    pub pauses: u32,
    /// The current stop.
    pub stop: Option<(PauseId, StopFacts)>,
    /// Decisions of people, with their times.
    pub interventions: Vec<(WallTime, Intervention)>,
    /// Commands skipped on request: phase, list and index.
    pub skipped: BTreeSet<(Phase, Block, u32)>,
    /// The first warnings and hints.
    pub notices: Vec<(WallTime, Notice)>,
    /// Exported variables and their values.
    pub exported: Vec<ExportedVariable>,
    /// Reports on tests and coverage.
    pub reports: Vec<ReportRecord>,
    /// Stored artifacts.
    pub artifacts: Vec<StoredArtifact>,
    /// Address for AWS clients, as `HOST:PORT`.
    pub endpoint: Option<String>,
    /// Numbers of open sessions.
    pub sessions: Vec<u64>,
    /// Time of the last event.
    pub last_event: WallTime,
}

/// Maximum number of notices kept.
const MOST_NOTICES: usize = 100;

/// A phase that has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseView {
    /// The phase.
    pub phase: Phase,
    /// Its status.
    pub status: Status,
    /// When it began.
    pub started: WallTime,
    /// When it ended.
    pub ended: Option<WallTime>,
    /// Duration in milliseconds.
    pub duration_ms: Option<u64>,
    /// Reasons for the status.
    pub contexts: Vec<PhaseContext>,
}

/// A running command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandView {
    /// Its number in the build.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// When it started.
    pub since: WallTime,
}

impl BuildView {
    /// Makes the state after the first event; `None` if that does not start a build.
    pub(crate) fn from_first(event: &Event) -> Option<Self> {
        let EventBody::BuildStarted(facts) = &event.body else { return None };
        Some(BuildView {
            facts: (**facts).clone(),
            started: event.time,
            ended: None,
            status: Status::InProgress,
            reason: None,
            phases: Vec::new(),
            command: None,
            paused: Vec::new(),
            pauses: 0,
            stop: None,
            interventions: Vec::new(),
            skipped: BTreeSet::new(),
            notices: Vec::new(),
            exported: Vec::new(),
            reports: Vec::new(),
            artifacts: Vec::new(),
            endpoint: None,
            sessions: Vec::new(),
            last_event: event.time,
        })
    }

    /// Processes the next event.
    pub(crate) fn fold(&mut self, event: &Event) {
        self.last_event = event.time;
        match &event.body {
            EventBody::BuildStarted(_)
            | EventBody::Agent { .. }
            | EventBody::Output { .. }
            | EventBody::Progress(_)
            | EventBody::Breakpoint(_)
            | EventBody::Checkpoint(_)
            | EventBody::FilesChanged(_)
            | EventBody::Logged { .. } => {}
            EventBody::Rewound(rewound) => {
                self.go_back(rewound.place);
                let is_before = |(phase, block, index): &(Phase, Block, u32)| {
                    let place = rewound.place;
                    (*phase, *block, *index) < (place.phase.into(), place.block, place.index)
                };
                self.skipped.retain(is_before);
                self.command = None;
            }
            EventBody::Notice(notice) => {
                let counts = notice.level != NoticeLevel::Note || notice.hint.is_some();
                if counts && self.notices.len() < MOST_NOTICES {
                    self.notices.push((event.time, notice.clone()));
                }
            }
            EventBody::ContainerStarted { engine, image } => {
                self.facts.engine.clone_from(engine);
                self.facts.resolved_image.clone_from(image);
            }
            EventBody::ArtifactStored(artifact) => self.artifacts.push(artifact.clone()),
            EventBody::PhaseStarted { phase } => self.phases.push(PhaseView {
                phase: *phase,
                status: Status::InProgress,
                started: event.time,
                ended: None,
                duration_ms: None,
                contexts: Vec::new(),
            }),
            EventBody::PhaseEnded { status, contexts, duration_ms, .. } => {
                if let Some(phase) = self.phases.last_mut() {
                    phase.status = *status;
                    phase.ended = Some(event.time);
                    phase.duration_ms = Some(*duration_ms);
                    phase.contexts.clone_from(contexts);
                }
            }
            EventBody::CommandStarted { command, text, phase, block, index, .. } => {
                self.skipped.remove(&(*phase, *block, *index));
                self.command =
                    Some(CommandView { number: *command, text: text.clone(), since: event.time });
            }
            EventBody::CommandEnded { .. } => self.command = None,
            EventBody::Exported { variables } => self.exported.clone_from(variables),
            EventBody::Report(facts) => self.reports.push(facts.report.clone()),
            EventBody::Paused { pause, stop, .. } => {
                self.paused.push(*pause);
                self.pauses += 1;
                if let Some(stop) = stop {
                    self.stop = Some((*pause, (**stop).clone()));
                }
            }
            EventBody::Resumed { pause, .. } => {
                self.paused.retain(|open| open != pause);
                self.stop.take_if(|(stop, _)| stop == pause);
            }
            EventBody::CommandSkipped { phase, block, index, .. } => {
                self.skipped.insert((*phase, *block, *index));
            }
            EventBody::Intervened(intervention) => {
                if let (DecisionKind::Rerun, Some(place)) = (intervention.what, intervention.place)
                {
                    self.go_back(place);
                }
                self.interventions.push((event.time, (**intervention).clone()));
            }
            EventBody::EndpointOpened { address } => self.endpoint = Some(address.clone()),
            EventBody::EndpointFailed { .. } => self.endpoint = None,
            EventBody::SessionOpened { session, .. } => self.sessions.push(*session),
            EventBody::SessionClosed { session, .. } => self.sessions.retain(|s| s != session),
            EventBody::BuildEnded { status, reason } => {
                self.status = *status;
                self.reason.clone_from(reason);
                self.ended = Some(event.time);
                self.command = None;
                self.paused.clear();
                self.stop = None;
                self.endpoint = None;
                self.sessions.clear();
            }
        }
    }

    /// Reopens the phase of a place and drops all later phases.
    fn go_back(&mut self, place: CommandPlace) {
        let phase = Phase::from(place.phase);
        self.phases.retain(|entered| entered.phase <= phase);
        if let Some(open) = self.phases.last_mut().filter(|last| last.phase == phase) {
            open.status = Status::InProgress;
            open.ended = None;
            open.duration_ms = None;
            open.contexts.clear();
        }
    }

    /// The current phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phases.last().map_or(Phase::Submitted, |phase| phase.phase)
    }

    /// `<project>:<uuid>`.
    #[must_use]
    pub fn build_id(&self) -> String {
        format!("{}:{}", self.facts.project, self.facts.uuid)
    }
}
