//! Displays a build: its sinks, the key menu, and the endpoint for AWS's clients.

use super::annotations::Annotations;
use super::gate::Gate;
use super::json::JsonLines;
use super::keys::Menu;
use super::notices::Notices;
use super::pretty::Pretty;
use super::sections::LogSections;
use super::summary::EndSummary;
use super::ways::WaysIn;
use super::{AnnotationPlaces, CiSystem, EventSink, nobody, spawn};
use crate::door::{Door, DoorParts};
use nix::sys::signal::Signal;
use runner_build::{self as build, ReadyBuild};
use runner_client::{RawMode, can_be_asked};
use runner_core::spec::Diagnostic;
use runner_engine::Fut;
use runner_engine::image::{Curtain, PullProgress};
use runner_folder::events::CodeBuild;
use runner_folder::state::Home;
use runner_host::signals::SignalReader;
use runner_host::stdio::{CheckedStdout, has_colors, is_gone, of_output, say};
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The format of standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Pretty,
    CodeBuild,
    Json,
}

/// How to display a build.
pub(crate) struct FaceOptions {
    pub(crate) format: LogFormat,
    /// Print only errors to standard error.
    pub(crate) quiet: bool,
    /// Whether the build pauses and allows sessions.
    pub(crate) sessions: bool,
    /// What the endpoint for AWS's clients needs.
    pub(crate) door: DoorParts,
    /// Whether the build ends if nobody responds to a pause.
    pub(crate) ends_pauses: bool,
    /// Whether to give hints on failures.
    pub(crate) hints: bool,
    /// The CI system that shows the log.
    pub(crate) system: Option<CiSystem>,
    /// For GitHub: paths of failures, and problems of the buildspec.
    pub(crate) annotations: Option<(AnnotationPlaces, Vec<Diagnostic>)>,
}

/// Shows one build at this program's terminal.
pub(crate) struct TerminalFace {
    shown: FaceOptions,
    home: Home,
    gate: Arc<Gate>,
    /// Keeps typed keys from being shown while a line is drawn.
    mode: Option<RawMode>,
    /// Signals when the terminal's window is resized.
    resizes: Option<SignalReader>,
    door: Option<Door>,
    threads: Vec<JoinHandle<()>>,
    /// Why standard output is incomplete although it may have a reader.
    broken_output: Arc<Mutex<Option<String>>>,
    uuid: String,
}

impl TerminalFace {
    /// Must be called before any thread starts, since it blocks a signal.
    pub(crate) fn new(shown: FaceOptions, home: &Home) -> io::Result<Self> {
        Ok(TerminalFace {
            shown,
            home: home.clone(),
            gate: Arc::default(),
            mode: None,
            resizes: Some(SignalReader::listen(&[Signal::SIGWINCH])?),
            door: None,
            threads: Vec::new(),
            broken_output: Arc::default(),
            uuid: String::new(),
        })
    }

    /// Why standard output is incomplete although it may have a reader.
    pub(crate) fn broken_output(&self) -> Option<String> {
        self.broken_output.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until everything is shown.
    pub(crate) fn join(&mut self) {
        std::mem::take(&mut self.threads).into_iter().map(JoinHandle::join).count();
    }

    fn has_menu(&self) -> bool {
        self.shown.format == LogFormat::Pretty
            && self.shown.sessions
            && io::stdin().is_terminal()
            && io::stderr().is_terminal()
    }

    fn start_sinks(&mut self, begun: &ReadyBuild<'_>, ways: WaysIn) -> io::Result<()> {
        let program = self.shown.hints.then(|| ways.program.clone());
        let ending = || EndSummary::new(program.as_deref());
        let (name, sink, gate): (_, Box<dyn EventSink>, _) = match self.shown.format {
            LogFormat::Pretty => {
                let color = has_colors(&io::stdout());
                let (term, gate) = (console::Term::stdout(), Arc::clone(&self.gate));
                let pretty = Pretty::new(term, ways.clone(), ending(), gate, color);
                ("pretty", Box::new(pretty), Some(Arc::clone(&self.gate)))
            }
            LogFormat::CodeBuild => {
                let sink = CodeBuild::new(CheckedStdout).for_people(io::stdout().is_terminal());
                let sink: Box<dyn EventSink> = match self.shown.system {
                    Some(system) => Box::new(LogSections::new(sink, system)),
                    None => Box::new(sink),
                };
                ("codebuild", sink, None)
            }
            LogFormat::Json => ("json", Box::new(JsonLines::new(CheckedStdout)), None),
        };
        let spawn = |name, sink, gate, failed| {
            spawn(name, sink, begun.dir, begun.growth.clone(), gate, failed)
        };
        let broken = Arc::clone(&self.broken_output);
        let failed = Box::new(move |error| {
            let told = (!is_gone(&error)).then(|| of_output(error).to_string());
            *broken.lock().unwrap_or_else(PoisonError::into_inner) = told;
        });
        self.threads.push(spawn(name, sink, gate, failed)?);
        if self.shown.format != LogFormat::Pretty {
            let notices = Notices::new(io::stderr(), ways, ending(), self.shown.quiet);
            self.threads.push(spawn("notices", Box::new(notices), None, nobody())?);
        }
        if let Some((places, problems)) = self.shown.annotations.take() {
            let mut sink = Annotations::new(io::stderr(), places);
            sink.problems(&problems)?;
            self.threads.push(spawn("annotations", Box::new(sink), None, nobody())?);
        }
        Ok(())
    }
}

impl build::Face for TerminalFace {
    fn begin(&mut self, begun: &ReadyBuild<'_>) -> io::Result<()> {
        begun.uuid.clone_into(&mut self.uuid);
        let has_menu = self.has_menu();
        if self.shown.format == LogFormat::Pretty && can_be_asked() {
            // Without it, half a line may be left on the screen.
            self.mode = RawMode::unechoed().ok();
        }
        let mut ways = WaysIn::new(&self.home, begun.uuid, has_menu, self.shown.sessions);
        ways.ends_pauses = self.shown.ends_pauses;
        self.start_sinks(begun, ways)?;
        if self.shown.sessions {
            self.door = Some(Door::new(&self.home, begun.dir, self.shown.door.clone()));
        }
        if let Some(signals) = self.resizes.take().filter(|_| has_menu) {
            let menu = Menu { dir: begun.dir.clone(), gate: Arc::clone(&self.gate), signals };
            self.threads.push(menu.spawn()?);
        }
        Ok(())
    }

    fn pulls(&self) -> PullProgress {
        let gate = Arc::clone(&self.gate);
        let curtain: Curtain =
            Arc::new(move |is_drawn| if is_drawn { gate.close() } else { gate.open(None) });
        PullProgress {
            is_visible: io::stderr().is_terminal() && !self.shown.quiet,
            curtain: (self.shown.format == LogFormat::Pretty).then_some(curtain),
        }
    }

    fn close(&mut self, reason: String) -> Fut<'_, ()> {
        let door = self.door.take();
        Box::pin(async {
            if let Some(door) = door {
                door.close(reason).await;
            }
        })
    }

    fn shown(&mut self) -> Fut<'_, ()> {
        let threads = std::mem::take(&mut self.threads);
        Box::pin(async {
            // Not joined on this thread: clients of the socket must be told of the end meanwhile.
            let join = move || threads.into_iter().map(JoinHandle::join).count();
            let _ = tokio::task::spawn_blocking(join).await;
        })
    }

    fn unread(&mut self) {
        say(&format!("the build's output is not read; to see it all: runner logs {}", self.uuid));
    }
}
