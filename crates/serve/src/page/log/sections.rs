//! Divides a build's log into sections: phases, commands and notices, each with the start of its
//! output.
//!
//! Takes events, whether the log is growing or read at once.

use runner_core::event::{CommandOutcome, Event, EventBody, PauseId, StopFacts, Stuck};
use runner_core::phase::{Block, Phase, PhaseContext, Status};
use runner_core::report::ReportFacts;
use runner_core::time::WallTime;
use serde::Serialize;
use std::collections::HashMap;

/// Most bytes of a head's text.
const MOST_TEXT: usize = 16 << 10;
/// Most reports shown for a build.
const MOST_REPORTS: usize = 100;

/// A section of the log: its head, and the rows below it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Section {
    /// The first row below its head.
    pub(super) row: u64,
    /// Milliseconds since 1970.
    time: i64,
    #[serde(flatten)]
    kind: SectionKind,
    /// The number of the event that last changed it.
    #[serde(skip)]
    seq: u64,
}

/// The kind of a section, with the content of its head.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", rename_all_fields = "camelCase")]
enum SectionKind {
    Phase {
        phase: Phase,
        status: Option<Status>,
        duration_ms: Option<u64>,
        contexts: Vec<PhaseContext>,
    },
    Command {
        command: u32,
        block: Block,
        index: u32,
        text: String,
        line: Option<u32>,
        /// The result, in the log's words.
        outcome: Option<String>,
        has_failed: bool,
        code: Option<i32>,
        duration_ms: Option<u64>,
    },
    Note {
        /// `note`, `warning`, `error`, `agent`, `pause`, `person`.
        level: &'static str,
        text: String,
        hint: Option<String>,
    },
}

/// A pause that has not ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenPause {
    #[serde(skip)]
    id: PauseId,
    time: i64,
    command: u32,
    text: String,
    directory: String,
    stuck: Option<Stuck>,
    stop: Option<Box<StopFacts>>,
}

/// All sections so far, and the state of the build.
#[derive(Debug, Default)]
pub(super) struct Sections {
    pub(super) all: Vec<Section>,
    /// Positions of phases and commands that have not ended.
    phase: Option<usize>,
    commands: HashMap<u32, usize>,
    /// The text of the last command that began.
    command: String,
    pub(super) pauses: Vec<OpenPause>,
    pub(super) sessions: usize,
    pub(super) reports: Vec<ReportFacts>,
    pub(super) end: Option<(Status, Option<String>)>,
    /// The number of the last event.
    pub(super) seq: u64,
    pub(super) started: Option<i64>,
    pub(super) last: i64,
}

impl Sections {
    /// Processes an event other than output; `row` is the next row. Returns whether a section has
    /// begun.
    pub(super) fn take(&mut self, event: &Event, row: u64) -> bool {
        let before = self.all.len();
        self.seq = event.seq;
        self.last = event.time.epoch_millis();
        let begin = |kind| Section { row, time: event.time.epoch_millis(), kind, seq: event.seq };
        match &event.body {
            EventBody::BuildStarted(_) => self.started = Some(self.last),
            EventBody::PhaseStarted { phase } => {
                if *phase == Phase::Completed {
                    return false;
                }
                self.phase = Some(before);
                let (phase, contexts) = (*phase, Vec::new());
                self.all.push(begin(SectionKind::Phase {
                    phase,
                    status: None,
                    duration_ms: None,
                    contexts,
                }));
            }
            EventBody::PhaseEnded { phase: _, status, contexts, duration_ms } => {
                self.end_phase(event.seq, *status, contexts, *duration_ms);
            }
            EventBody::CommandStarted { command, block, index, text, line, .. } => {
                self.commands.insert(*command, before);
                self.command = cut(text);
                self.all.push(begin(SectionKind::Command {
                    command: *command,
                    block: *block,
                    index: *index,
                    text: cut(text),
                    line: *line,
                    outcome: None,
                    has_failed: false,
                    code: None,
                    duration_ms: None,
                }));
            }
            EventBody::CommandEnded { command, outcome, duration_ms } => {
                self.end_command(event.seq, *command, outcome, *duration_ms);
            }
            EventBody::BuildEnded { status, reason } => {
                self.end = Some((*status, reason.clone()));
                self.pauses.clear();
                self.sessions = 0;
            }
            EventBody::Report(facts) => {
                if self.reports.len() < MOST_REPORTS {
                    self.reports.push((**facts).clone());
                }
            }
            EventBody::SessionOpened { .. } => self.sessions += 1,
            EventBody::SessionClosed { .. } => self.sessions = self.sessions.saturating_sub(1),
            EventBody::Resumed { pause, .. } => self.pauses.retain(|open| open.id != *pause),
            body => {
                if let EventBody::Paused { .. } = body {
                    self.pause(event);
                }
                if let Some((level, text, hint)) = note(body) {
                    let text = cut(&text);
                    self.all.push(begin(SectionKind::Note { level, text, hint }));
                }
            }
        }
        self.all.len() > before
    }

    fn pause(&mut self, event: &Event) {
        let EventBody::Paused { pause, command, directory, stuck, stop, .. } = &event.body else {
            return;
        };
        let of_stop = stop.as_ref().map(|stop| cut(&stop.text));
        self.pauses.push(OpenPause {
            id: *pause,
            time: event.time.epoch_millis(),
            command: *command,
            text: of_stop.unwrap_or_else(|| self.command.clone()),
            directory: directory.clone(),
            stuck: stuck.clone(),
            stop: stop.clone(),
        });
    }

    fn end_phase(&mut self, seq: u64, status: Status, contexts: &[PhaseContext], duration_ms: u64) {
        let Some(section) = self.phase.take().and_then(|at| self.all.get_mut(at)) else { return };
        section.seq = seq;
        if let SectionKind::Phase { status: is, contexts: why, duration_ms: took, .. } =
            &mut section.kind
        {
            *is = Some(status);
            *took = Some(duration_ms);
            *why = contexts.to_vec();
            // AWS gives a successful phase an empty context.
            why.retain(|context| !context.message.is_empty());
        }
    }

    fn end_command(&mut self, seq: u64, command: u32, ended: &CommandOutcome, took: u64) {
        let Some(at) = self.commands.remove(&command) else { return };
        let Some(section) = self.all.get_mut(at) else { return };
        section.seq = seq;
        if let SectionKind::Command { outcome, has_failed, code, duration_ms, .. } =
            &mut section.kind
        {
            *outcome = Some(ended.to_string());
            *has_failed = !ended.succeeded() && *ended != CommandOutcome::Cut;
            *duration_ms = Some(took);
            if let CommandOutcome::Exited(is) = ended {
                *code = Some(*is);
            }
        }
    }

    /// Sections changed after an event, with their positions in the list.
    pub(super) fn since(&self, seq: u64) -> Vec<(usize, &Section)> {
        self.all.iter().enumerate().filter(|(_, section)| section.seq > seq).collect()
    }

    /// The first command that has failed, or phase where no command has.
    pub(super) fn failed(&self) -> Option<usize> {
        let is = |fits: fn(&SectionKind) -> bool| {
            self.all.iter().position(|section| fits(&section.kind))
        };
        is(|kind| matches!(kind, SectionKind::Command { has_failed: true, .. })).or_else(|| {
            is(|kind| matches!(kind, SectionKind::Phase { status: Some(status), .. } if *status != Status::Succeeded))
        })
    }

    /// The texts of heads, for searching.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|section| match &section.kind {
            SectionKind::Phase { phase, .. } => phase.name(),
            SectionKind::Command { text, .. } | SectionKind::Note { text, .. } => text,
        })
    }
}

/// The part of an event that the user should know: level, text and hint.
fn note(body: &EventBody) -> Option<(&'static str, String, Option<String>)> {
    let text = match body {
        EventBody::Notice(notice) => {
            let level = match notice.level {
                runner_core::event::NoticeLevel::Note => "note",
                runner_core::event::NoticeLevel::Warning => "warning",
                runner_core::event::NoticeLevel::Error => "error",
            };
            return Some((level, notice.text.clone(), notice.hint.clone()));
        }
        EventBody::Agent { text } => return Some(("agent", text.clone(), None)),
        EventBody::Paused { directory, stuck, .. } => {
            let text = match stuck {
                Some(stuck) => format!("paused: {}", stuck.reason),
                None => format!("paused in {directory}"),
            };
            return Some(("pause", text, None));
        }
        EventBody::Intervened(done) => {
            let what = done.what.verb();
            match &done.text {
                Some(text) => format!("{} ({}): {what}: {text}", done.by.user, done.by.client),
                None => format!("{} ({}): {what}", done.by.user, done.by.client),
            }
        }
        EventBody::CommandSkipped { text, .. } => format!("skipped: {text}"),
        EventBody::Logged { text, .. } => text.clone(),
        EventBody::Rewound(facts) => {
            format!("rewound to before run {} ({})", facts.to, facts.place)
        }
        EventBody::ArtifactStored(stored) => {
            return Some(("note", format!("artifact: {}", stored.location), None));
        }
        _ => return None,
    };
    Some(("person", text, None))
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(MOST_TEXT);
    text[..end].to_owned()
}

/// The time of an event in milliseconds since 1970.
pub(super) fn millis(time: WallTime) -> i64 {
    time.epoch_millis()
}
