//! Everything that happens in a build, as one event type that is logged, streamed and replayed.
//!
//! `machine::build` makes the events, and the log writer adds output events. All sinks read them,
//! live or from the file. Events own their data. They do not contain output bytes: an output event
//! holds the position of its bytes in `output.log`.

mod checkpoint;
mod facts;
mod notice;
#[cfg(test)]
mod schema;
mod stop;

pub use crate::phase::Block;
pub use checkpoint::{ChangedFacts, CheckpointFacts, CheckpointKind, Lost, RewoundFacts};
pub use facts::{BatchMember, BuildFacts, BuildspecFacts, CacheFacts, LogsFacts, SecondarySource};
pub use notice::{Notice, NoticeLevel};
pub use stop::{
    BreakpointFacts, BreakpointId, BreakpointOp, ChangedVariable, Intervention, Scene, StopFacts,
    StopKind,
};

use crate::mask::Secrets;
use crate::phase::{Phase, PhaseContext, Status};
use crate::report::ReportFacts;
use crate::time::WallTime;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Version of the event format. Raised when an older reader would misread it.
pub const SCHEMA_VERSION: u32 = 2;

/// The event format as a JSON Schema, draft 2020-12. Output is either as in [`EventBody::Output`],
/// or the bytes themselves, as in the stream for programs.
pub const SCHEMA: &str = include_str!("schema.json");

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Position in the build's log, from 1, without gaps.
    pub seq: u64,
    /// When it was logged.
    pub time: WallTime,
    /// `<project>:<uuid>`.
    pub build_id: String,
    /// What happened.
    pub body: EventBody,
}

/// The kind of an event. In JSON, a `type` and its `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EventBody {
    /// The build exists. Always the first event.
    BuildStarted(Box<BuildFacts>),
    /// A phase begins.
    PhaseStarted {
        /// The phase.
        phase: Phase,
    },
    /// A phase is over.
    PhaseEnded {
        /// The phase.
        phase: Phase,
        /// Final status.
        status: Status,
        /// Reasons for the status.
        contexts: Vec<PhaseContext>,
        /// Duration in milliseconds.
        duration_ms: u64,
    },
    /// The container has started.
    ContainerStarted {
        /// The engine that runs it.
        engine: String,
        /// Unambiguous name of its image; `None` if it was made from this machine or from a
        /// directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    /// A log line of CodeBuild's agent.
    Agent {
        /// The line without its prefix.
        text: String,
    },
    /// A command of the buildspec starts.
    CommandStarted {
        /// Number of the command in this build, from 1.
        command: u32,
        /// The phase it belongs to.
        phase: Phase,
        /// Whether it is in `commands` or `finally`.
        block: Block,
        /// Its index in that list, from 0.
        index: u32,
        /// Its text.
        text: String,
        /// Its line in the buildspec, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
    },
    /// A command has ended, and its output is in the log.
    CommandEnded {
        /// Its number.
        command: u32,
        /// How it ended.
        outcome: CommandOutcome,
        /// Duration in milliseconds.
        duration_ms: u64,
    },
    /// Output of a command, or of processes it left running.
    Output {
        /// The command's number.
        command: u32,
        /// Start of the bytes in `output.log`.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A message for the user; not part of CodeBuild's log.
    Notice(Notice),
    /// The build waits for a person.
    Paused {
        /// Number of the pause.
        #[serde(rename = "breakpoint")]
        pause: PauseId,
        /// Why it paused.
        #[serde(default)]
        kind: PauseKind,
        /// The current command, or the next one.
        command: u32,
        /// Working directory of the process that called, otherwise of the command.
        directory: String,
        /// Seconds until the build goes on by itself if nobody connects.
        resumes_in_s: Option<u64>,
        /// Why it cannot go on. When it is resumed, it ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stuck: Option<Stuck>,
        /// The stop, if the build is at one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Box<StopFacts>>,
    },
    /// A person made a decision that changes the build.
    Intervened(Box<Intervention>),
    /// A command of the buildspec is skipped.
    CommandSkipped {
        /// The phase it belongs to.
        phase: Phase,
        /// Whether it is in `commands` or `finally`.
        block: Block,
        /// Its index in that list, from 0.
        index: u32,
        /// Its text.
        text: String,
    },
    /// A checkpoint was taken, or could not be taken.
    Checkpoint(CheckpointFacts),
    /// File changes of a run.
    FilesChanged(ChangedFacts),
    /// The build went back to the state before a run.
    Rewound(Box<RewoundFacts>),
    /// A breakpoint was set or removed.
    Breakpoint(BreakpointFacts),
    /// A breakpoint logged a text instead of stopping.
    Logged {
        /// The breakpoint.
        id: BreakpointId,
        /// The current run.
        run: u32,
        /// The text.
        text: String,
    },
    /// A pause has ended.
    Resumed {
        /// Number of the pause.
        #[serde(rename = "breakpoint")]
        pause: PauseId,
        /// Why it ended.
        by: ResumedBy,
    },
    /// AWS clients can reach the build.
    EndpointOpened {
        /// Address on this machine, as `HOST:PORT`.
        address: String,
    },
    /// AWS clients cannot reach the build.
    EndpointFailed {
        /// The reason.
        problem: String,
    },
    /// A session has opened.
    SessionOpened {
        /// Number of the session in this build, from 1.
        session: u64,
        /// The program in it.
        program: String,
    },
    /// A session has closed.
    SessionClosed {
        /// Its number.
        session: u64,
        /// Why it closed.
        how: String,
    },
    /// Values of the exported variables.
    Exported {
        /// In buildspec order.
        variables: Vec<ExportedVariable>,
    },
    /// A test or coverage report was read.
    Report(Box<ReportFacts>),
    /// An artifact was stored.
    ArtifactStored(StoredArtifact),
    /// Progress of a slow transfer.
    Progress(TransferProgress),
    /// The build is over. Always the last event.
    BuildEnded {
        /// Final status.
        status: Status,
        /// Why it failed, in one sentence.
        reason: Option<String>,
    },
}

impl EventBody {
    /// Masks secrets in every text that may come from a buildspec, a build or a session.
    pub fn mask(&mut self, secrets: &Secrets) {
        if secrets.is_empty() {
            return;
        }
        match self {
            EventBody::Agent { text }
            | EventBody::CommandStarted { text, .. }
            | EventBody::CommandEnded { outcome: CommandOutcome::NotStarted(text), .. }
            | EventBody::SessionOpened { program: text, .. }
            | EventBody::SessionClosed { how: text, .. }
            | EventBody::CommandSkipped { text, .. }
            | EventBody::Logged { text, .. }
            | EventBody::Breakpoint(BreakpointFacts { text, .. })
            | EventBody::EndpointOpened { address: text }
            | EventBody::EndpointFailed { problem: text }
            | EventBody::BuildEnded { reason: Some(text), .. } => secrets.mask_text(text),
            EventBody::Notice(notice) => {
                secrets.mask_text(&mut notice.text);
                notice.hint.iter_mut().for_each(|hint| secrets.mask_text(hint));
            }
            EventBody::Intervened(intervention) => {
                intervention.text.iter_mut().for_each(|text| secrets.mask_text(text));
            }
            EventBody::Paused { directory, stuck, stop, .. } => {
                secrets.mask_text(directory);
                if let Some(stop) = stop {
                    secrets.mask_text(&mut stop.text);
                    stop.scene.mask(secrets);
                }
                if let Some(stuck) = stuck {
                    secrets.mask_text(&mut stuck.reason);
                }
            }
            EventBody::PhaseEnded { contexts, .. } => {
                for context in contexts {
                    secrets.mask_text(&mut context.message);
                }
            }
            EventBody::Exported { variables } => {
                for variable in variables {
                    secrets.mask_text(&mut variable.value);
                }
            }
            EventBody::Checkpoint(facts) => {
                facts.why.iter_mut().for_each(|why| secrets.mask_text(why));
            }
            EventBody::FilesChanged(facts) => {
                facts.why.iter_mut().for_each(|why| secrets.mask_text(why));
            }
            EventBody::Rewound(facts) => {
                facts.processes.iter_mut().for_each(|lost| secrets.mask_text(&mut lost.name));
            }
            EventBody::Report(facts) => facts.mask(secrets),
            EventBody::ArtifactStored(artifact) => secrets.mask_text(&mut artifact.location),
            EventBody::Progress(progress) => secrets.mask_text(&mut progress.what),
            EventBody::BuildStarted(_)
            | EventBody::PhaseStarted { .. }
            | EventBody::ContainerStarted { .. }
            | EventBody::CommandEnded { .. }
            | EventBody::Output { .. }
            | EventBody::Resumed { .. }
            | EventBody::BuildEnded { reason: None, .. } => {}
        }
    }
}

/// Number of a pause in its build, from 1. Assigned by the machine and never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PauseId(pub u64);

impl PauseId {
    /// The number of the next pause.
    #[must_use]
    pub fn next(self) -> Self {
        PauseId(self.0 + 1)
    }
}

/// The cause of a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseKind {
    /// A process of the build called `codebuild-breakpoint` and waits.
    #[default]
    Called,
    /// The build cannot go on, and a person may want to look into it.
    Stuck,
    /// The build has stopped for a person's decision.
    Stop,
}

/// A build that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// Why, in one sentence.
    pub reason: String,
    /// Whether a session can open a shell in the container.
    pub has_shell: bool,
}

/// A stored artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredArtifact {
    /// Identifier of a secondary artifact; `None` for the primary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// A path on this machine, or an ARN.
    pub location: String,
    /// Number of files.
    pub files: u64,
    /// Bytes of the files before packing.
    pub bytes: u64,
    /// SHA-256 of the ZIP, in hexadecimal; only for a ZIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// MD5 of the ZIP, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// Whether the buildspec's name overrides the project's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_name: bool,
}

/// Progress of a transfer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferProgress {
    /// What is transferred, in a few words.
    pub what: String,
    /// Bytes transferred.
    pub done: u64,
    /// Total bytes; 0 if unknown.
    pub total: u64,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum CommandOutcome {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It never ran, for this reason.
    NotStarted(String),
    /// The build was ended while it ran.
    Cut,
}

impl CommandOutcome {
    /// Whether the next command may run.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        *self == CommandOutcome::Exited(0)
    }
}

impl fmt::Display for CommandOutcome {
    /// Formatted like Go's process state, for CodeBuild's messages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandOutcome::Exited(code) => write!(formatter, "exit status {code}"),
            CommandOutcome::Signaled(signal) => match signal_name(*signal) {
                Some(name) => write!(formatter, "signal: {name}"),
                None => write!(formatter, "signal: signal {signal}"),
            },
            CommandOutcome::NotStarted(reason) => formatter.write_str(reason),
            CommandOutcome::Cut => formatter.write_str("stopped"),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => return None,
    })
}

/// Why a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumedBy {
    /// Somebody used `codebuild-resume` in the container, `runner resume` or a key.
    User,
    /// A person made a decision at a stop.
    Decision,
    /// Nobody connected within `--break-timeout`.
    Timeout,
    /// The waiting process has ended.
    Gone,
    /// The build was ended.
    Ended,
}

/// A line that is not a valid event.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// Not JSON, or without the expected fields.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a later version of the runner.
    #[error("event of form {0}, this program reads up to {SCHEMA_VERSION}")]
    TooNew(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventHead<'a> {
    schema_version: u32,
    seq: u64,
    time: WallTime,
    #[serde(borrow)]
    build_id: Cow<'a, str>,
}

impl Event {
    /// The event as one line of JSON, without a line break.
    ///
    /// # Errors
    /// None in practice: our types always serialize. The serializer's signature requires it.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        self.line_with(&serde_json::to_string(&self.body)?)
    }

    /// Like [`Self::to_line`], with `body` for `type` and `data`: a JSON object.
    ///
    /// # Errors
    /// As [`Self::to_line`].
    pub fn line_with(&self, body: &str) -> Result<String, serde_json::Error> {
        let head = EventHead {
            schema_version: SCHEMA_VERSION,
            seq: self.seq,
            time: self.time,
            build_id: (&self.build_id).into(),
        };
        // Two objects become one. serde's way to do that (flatten) copies every value through a
        // buffer and spoils error messages.
        let mut line = serde_json::to_string(&head)?;
        line.pop();
        line.push(',');
        line.push_str(body.strip_prefix('{').unwrap_or(body));
        Ok(line)
    }

    /// Parses a line written by [`Self::to_line`].
    ///
    /// # Errors
    /// The line is not an event, or comes from a later version.
    pub fn from_line(line: &str) -> Result<Self, BadLine> {
        let head: EventHead<'_> = serde_json::from_str(line)?;
        if head.schema_version > SCHEMA_VERSION {
            return Err(BadLine::TooNew(head.schema_version));
        }
        let body = serde_json::from_str(line)?;
        Ok(Event { seq: head.seq, time: head.time, build_id: head.build_id.into_owned(), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_the_same_event() {
        for body in [
            EventBody::Output { command: 3, offset: 1 << 40, length: 65536 },
            EventBody::CommandEnded {
                command: 1,
                outcome: CommandOutcome::Signaled(9),
                duration_ms: 5,
            },
            EventBody::CommandEnded { command: 1, outcome: CommandOutcome::Cut, duration_ms: 5 },
            EventBody::PhaseStarted { phase: Phase::PreBuild },
            EventBody::Agent { text: "a \"quoted\"\nline".to_owned() },
        ] {
            let event = Event { seq: 7, time: WallTime(1), build_id: "p:u".to_owned(), body };
            let line = event.to_line().expect("serialises");
            assert!(!line.contains('\n'));
            assert_eq!(Event::from_line(&line).expect("reads back"), event);
        }
    }

    #[test]
    fn the_form_is_the_published_one() {
        let event = Event {
            seq: 1,
            time: WallTime(0),
            build_id: "p:u".to_owned(),
            body: EventBody::PhaseStarted { phase: Phase::DownloadSource },
        };
        assert_eq!(
            event.to_line().expect("serialises"),
            "{\"schemaVersion\":2,\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\
             \"buildId\":\"p:u\",\"type\":\"phase_started\",\"data\":{\"phase\":\"DOWNLOAD_SOURCE\"}}"
        );
        let newer = event.to_line().expect("serialises").replace("on\":2", "on\":3");
        assert!(matches!(Event::from_line(&newer), Err(BadLine::TooNew(3))));
    }

    #[test]
    fn events_of_the_first_form_are_read() {
        let head = "{\"schemaVersion\":1,\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\
                    \"buildId\":\"p:u\",";
        let paused = "\"type\":\"paused\",\"data\":{\"breakpoint\":1,\"command\":2,\
                      \"directory\":\"/d\",\"resumesInS\":null}}";
        let event = Event::from_line(&format!("{head}{paused}")).expect("an event");
        let EventBody::Paused { kind, stuck: None, stop: None, .. } = event.body else {
            panic!("{event:?}")
        };
        assert_eq!(kind, PauseKind::Called);
        let resumed = "\"type\":\"resumed\",\"data\":{\"breakpoint\":1,\"by\":\"user\"}}";
        assert!(Event::from_line(&format!("{head}{resumed}")).is_ok());
    }

    #[test]
    fn outcomes_read_as_go_prints_them() {
        assert_eq!(CommandOutcome::Exited(2).to_string(), "exit status 2");
        assert_eq!(CommandOutcome::Signaled(9).to_string(), "signal: killed");
        assert_eq!(CommandOutcome::Signaled(34).to_string(), "signal: signal 34");
    }
}
