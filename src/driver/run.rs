//! The loop: select one input, apply it, log the events, perform the effects.
//!
//! Started by `app`. It meets the outside world in `select` only; what an input means is the
//! machine's to say.

use super::effects::{Effects, initial_snapshot};
use super::inbox::{Command, Inbox};
use super::world::World;
use crate::clock;
use crate::events::LogWriter;
use runner_core::event::{Event, EventBody};
use runner_core::machine::{BuildMachine, Effect, Input, Step};
use runner_core::mask::SharedSecrets;
use runner_core::phase::{PhaseContext, Status};
use runner_core::plan::BuildPlan;
use runner_core::view::BuildView;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a driver is made of.
pub(crate) struct Parts {
    pub(crate) plan: Arc<BuildPlan>,
    pub(crate) world: World,
    pub(crate) log: LogWriter,
    pub(crate) inbox: Inbox,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// Told after each step.
    pub(crate) progress: watch::Sender<Progress>,
}

/// How a build stands, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// `None` before the first event.
    pub(crate) view: Option<BuildView>,
    /// When the build times out, on the boot clock; none while the clock stands still.
    pub(crate) times_out: Option<Duration>,
    /// The build has ended.
    pub(crate) is_over: bool,
}

/// Runs one build.
pub(crate) struct Driver {
    machine: BuildMachine,
    effects: Effects,
    log: LogWriter,
    secrets: SharedSecrets,
    commands: mpsc::Receiver<Command>,
    progress: watch::Sender<Progress>,
    view: Option<BuildView>,
    /// Events that could not be written yet, because the disk was full.
    unwritten: Vec<EventBody>,
    finished: Option<Status>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Self {
        let snapshot = initial_snapshot(&parts.world.layers, &parts.world.places.source);
        *parts.world.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        let secrets = parts.world.secrets.clone();
        let effects = Effects::new(Arc::new(parts.world), parts.inbox, parts.log.clone());
        Driver {
            machine: BuildMachine::new(parts.plan),
            effects,
            log: parts.log,
            secrets,
            commands: parts.commands,
            progress: parts.progress,
            view: None,
            unwritten: Vec::new(),
            finished: None,
        }
    }

    /// Runs the build to its end. The error is that of a log that could not be completed; the view
    /// is whole all the same.
    pub(crate) async fn run(mut self) -> (Option<BuildView>, io::Result<()>) {
        self.take(Input::Start);
        while self.finished.is_none() {
            match self.next().await {
                Some(Command::Input(input)) => self.take(input),
                Some(Command::Resume(answer)) => {
                    let was_paused = self.machine.is_paused();
                    self.take(Input::Resume);
                    // Who asked and is gone need not know.
                    let _ = answer.send(was_paused);
                }
                None => self.take(Input::Tick),
            }
        }
        let result = self.write_events();
        self.fold_unwritten();
        self.log.close();
        let view = self.view.take();
        self.progress.send_replace(Progress { view: view.clone(), times_out: None, is_over: true });
        (view, result)
    }

    /// The next command; `None` when the machine's deadline has come.
    async fn next(&mut self) -> Option<Command> {
        let Some(deadline) = self.machine.deadline() else { return self.commands.recv().await };
        let left = deadline.saturating_sub(clock::boot());
        tokio::select! {
            biased;
            command = self.commands.recv() => command,
            () = tokio::time::sleep(left) => None,
        }
    }

    fn take(&mut self, input: Input) {
        let now = clock::now();
        let Step { events, effects } = self.machine.apply(input, now);
        self.keep(events);
        if let Err(error) = self.write_events() {
            self.log_failed(&error);
        }
        for effect in effects {
            match effect {
                Effect::Finish { status } => self.finished = Some(status),
                Effect::Release { .. }
                | Effect::Provision
                | Effect::DownloadSource
                | Effect::Run(_)
                | Effect::Terminate
                | Effect::Kill
                | Effect::Upload { .. }
                | Effect::Finalize { .. } => self.effects.perform(effect),
            }
        }
        self.progress.send_modify(|progress| {
            progress.view.clone_from(&self.view);
            progress.times_out = self.machine.times_out();
        });
    }

    /// To be written next. From here on no event holds a secret.
    fn keep(&mut self, events: Vec<EventBody>) {
        let secrets = self.secrets.get();
        self.unwritten.extend(events.into_iter().map(|mut event| {
            event.mask(&secrets);
            event
        }));
    }

    fn write_events(&mut self) -> io::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let events = self.log.append(self.unwritten.iter().cloned(), clock::wall())?;
        self.unwritten.clear();
        for event in events {
            self.fold(&event);
        }
        Ok(())
    }

    fn fold(&mut self, event: &Event) {
        match &mut self.view {
            None => self.view = BuildView::from_first(event),
            Some(view) => view.fold(event),
        }
    }

    /// What never got into the log is part of the build's record all the same.
    fn fold_unwritten(&mut self) {
        for body in std::mem::take(&mut self.unwritten) {
            let event = Event { seq: 0, time: clock::wall(), build_id: String::new(), body };
            self.fold(&event);
        }
    }

    /// A log that cannot be written ends the build. What could not be logged is kept: once the
    /// build's layer is gone there may be room again.
    fn log_failed(&mut self, error: &io::Error) {
        let message = format!("the build's log cannot be written: {error}");
        let fault = Input::Fault(PhaseContext::new("INTERNAL_SERVICE_ERROR", message));
        let Step { events, effects } = self.machine.apply(fault, clock::now());
        self.keep(events);
        self.log.use_reserve();
        for effect in effects {
            self.effects.perform(effect);
        }
    }
}
