//! The spine's one type: everything that happens in a build, as it is logged, streamed and
//! replayed.
//!
//! Made by `machine::build` and, for output, by the log writer; read by every sink, live or from
//! the file. Events own their data. Output bytes are not in them: an output event says where in
//! `output.log` they lie.

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

/// Version of the events' form; raised when a reader of the old form would misread the new one.
pub const SCHEMA_VERSION: u32 = 2;

/// Their form as a JSON Schema, draft 2020-12. Output in it is as in [`EventBody::Output`], or the bytes
/// themselves, as programs are shown it.
pub const SCHEMA: &str = include_str!("schema.json");

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Place in the build's log, from 1, without gaps.
    pub seq: u64,
    /// When it was logged.
    pub time: WallTime,
    /// `<project>:<uuid>`.
    pub build_id: String,
    /// What happened.
    pub body: EventBody,
}

/// What happened. In JSON a `type` and its `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum EventBody {
    /// The build exists. Always the first event.
    BuildStarted(Box<BuildFacts>),
    /// A phase begins.
    PhaseStarted {
        /// Which one.
        phase: Phase,
    },
    /// A phase is over.
    PhaseEnded {
        /// Which one.
        phase: Phase,
        /// How it ended.
        status: Status,
        /// Why.
        contexts: Vec<PhaseContext>,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// There is a container.
    ContainerStarted {
        /// The engine that has made it.
        engine: String,
        /// The image it was made of, by a name that means no other; none where that was this machine, or a
        /// directory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    },
    /// A line that CodeBuild's agent writes into the log at this point.
    Agent {
        /// The line without its prefix.
        text: String,
    },
    /// A command of the buildspec begins.
    CommandStarted {
        /// Number of the command in this build, from 1.
        command: u32,
        /// The phase it belongs to.
        phase: Phase,
        /// Whether it stands under `commands` or `finally`.
        block: Block,
        /// Its place there, from 0.
        index: u32,
        /// Its text.
        text: String,
        /// The line of the buildspec it stands at, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
    },
    /// A command is over and its output is in the log.
    CommandEnded {
        /// Its number.
        command: u32,
        /// How it ended.
        outcome: CommandOutcome,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// Bytes a command, or what it left running, has written.
    Output {
        /// The command's number.
        command: u32,
        /// Where in `output.log` they start.
        offset: u64,
        /// How many there are.
        length: u64,
    },
    /// Something the person at the terminal should know; not part of CodeBuild's log.
    Notice(Notice),
    /// The build waits until somebody lets it go on.
    Paused {
        /// Which pause.
        #[serde(rename = "breakpoint")]
        pause: PauseId,
        /// What brought it about.
        #[serde(default)]
        kind: PauseKind,
        /// The command that was running, or was to be run.
        command: u32,
        /// Working directory of the process that called; else the one the command was to have.
        directory: String,
        /// When the build goes on by itself if nobody connects, in seconds from now.
        resumes_in_s: Option<u64>,
        /// Why it cannot go on; resumed, it ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stuck: Option<Stuck>,
        /// Where the build has stopped, if it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<Box<StopFacts>>,
    },
    /// A person has decided something that changes what a build does.
    Intervened(Box<Intervention>),
    /// A command of the buildspec is not run.
    CommandSkipped {
        /// The phase it belongs to.
        phase: Phase,
        /// Whether it stands under `commands` or `finally`.
        block: Block,
        /// Its place there, from 0.
        index: u32,
        /// Its text.
        text: String,
    },
    /// What the build has written so far is kept, or why it is not.
    Checkpoint(CheckpointFacts),
    /// What a run has changed in the files.
    FilesChanged(ChangedFacts),
    /// The build is back where it was before a run.
    Rewound(Box<RewoundFacts>),
    /// A breakpoint is there, or is no more.
    Breakpoint(BreakpointFacts),
    /// What a breakpoint writes instead of stopping.
    Logged {
        /// Which one.
        id: BreakpointId,
        /// The run at hand.
        run: u32,
        /// What it writes.
        text: String,
    },
    /// A pause is over.
    Resumed {
        /// Which one.
        #[serde(rename = "breakpoint")]
        pause: PauseId,
        /// What ended it.
        by: ResumedBy,
    },
    /// AWS's clients find the build at this address.
    EndpointOpened {
        /// `HOST:PORT`, on this machine.
        address: String,
    },
    /// AWS's clients find the build nowhere.
    EndpointFailed {
        /// Why.
        problem: String,
    },
    /// Somebody has connected.
    SessionOpened {
        /// Number of the session in this build, from 1.
        session: u64,
        /// What runs in it.
        program: String,
    },
    /// A session is over.
    SessionClosed {
        /// Its number.
        session: u64,
        /// What ended it.
        how: String,
    },
    /// Values of the variables that the buildspec exports.
    Exported {
        /// In the order of the buildspec.
        variables: Vec<ExportedVariable>,
    },
    /// A report of tests or coverage has been read.
    Report(Box<ReportFacts>),
    /// An artifact is where it belongs.
    ArtifactStored(StoredArtifact),
    /// How far a transfer is that takes a while.
    Progress(TransferProgress),
    /// The build is over. Always the last event.
    BuildEnded {
        /// How.
        status: Status,
        /// The failure in one sentence, where there is one.
        reason: Option<String>,
    },
}

impl EventBody {
    /// Takes secrets out of every text that a buildspec, a build or a session has a say in.
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

/// Number of a pause in its build, from 1; given by the machine, never twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PauseId(pub u64);

impl PauseId {
    /// That of the pause after this one.
    #[must_use]
    pub fn next(self) -> Self {
        PauseId(self.0 + 1)
    }
}

/// What brings a pause about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseKind {
    /// A process of the build has called `codebuild-breakpoint` and waits.
    #[default]
    Called,
    /// The build cannot go on, and somebody may want to know why.
    Stuck,
    /// The build has stopped, and somebody decides what follows.
    Stop,
}

/// A build that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// Why, in one sentence.
    pub reason: String,
    /// Whether a session finds a shell in the container.
    pub has_shell: bool,
}

/// An artifact where it belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredArtifact {
    /// None for the build's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// A path of this machine, or an ARN.
    pub location: String,
    /// How many files.
    pub files: u64,
    /// Their bytes, before they were packed.
    pub bytes: u64,
    /// Of the ZIP, in hexadecimal digits; of a ZIP alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The same by another algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// Whether the buildspec's name goes before the project's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub override_name: bool,
}

/// How far a transfer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferProgress {
    /// What is transferred, in a few words.
    pub what: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all; 0 where nobody knows.
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
    /// As Go's process state reads, for CodeBuild's messages.
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

/// What ended a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumedBy {
    /// `codebuild-resume` in the container, `runner resume`, or the key.
    User,
    /// What a person has decided at a stop.
    Decision,
    /// Nobody connected for as long as `--break-timeout` says.
    Timeout,
    /// The process that waited is gone.
    Gone,
    /// The build was ended.
    Ended,
}

/// A line that is not an event of ours.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// Not JSON, or not with our fields.
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a later version.
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
    /// One line of JSON, without its line break.
    ///
    /// # Errors
    /// None of our types fails to serialise; the serialiser's signature says it could.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        self.line_with(&serde_json::to_string(&self.body)?)
    }

    /// The same with another text for `type` and `data`: an object in JSON.
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

    /// Reads a line that [`Self::to_line`] has written.
    ///
    /// # Errors
    /// The line is not an event, or one of a later version.
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
