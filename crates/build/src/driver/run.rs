//! The loop: wait for one input, apply it, log the events, perform the effects.
//!
//! Started by `build`. It meets the outside world only in `select`; the machine decides what an
//! input means.

use super::SharedSnapshot;
use super::effects::{Effects, initial_snapshot};
use super::inbox::{DriverCommand, Inbox};
use super::watchdog::{SignalRequests, Watchdog};
use super::world::World;
use runner_core::event::{Event, EventBody, Notice};
use runner_core::machine::{BuildMachine, MachineEffect, MachineInput, MachineStep};
use runner_core::mask::SharedSecrets;
use runner_core::phase::{PhaseContext, Status, StatusCode};
use runner_core::timeline::Timeline;
use runner_core::view::BuildView;
use runner_folder::events::LogWriter;
use runner_host::clock;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// The parts of a driver.
pub struct DriverParts {
    pub world: World,
    pub log: LogWriter,
    pub inbox: Inbox,
    pub commands: mpsc::Receiver<DriverCommand>,
    /// The requests made by signals.
    pub asked: watch::Receiver<SignalRequests>,
    pub watchdog: Watchdog,
    /// Updated after each step.
    pub progress: watch::Sender<BuildProgressView>,
}

/// A finished build.
pub struct EndedBuild {
    /// `None` if there was no event.
    pub view: Option<BuildView>,
    /// Whether the log could be completed; the view is complete in any case.
    pub logged: io::Result<()>,
    /// Whether container and layer are removed.
    pub is_clear: bool,
}

/// A build's state, for its displays.
#[derive(Clone, Debug, Default)]
pub struct BuildProgressView {
    /// `None` before the first event.
    pub view: Option<BuildView>,
    /// When the build times out, on the boot clock; `None` while the clock stands still.
    pub times_out: Option<Duration>,
    /// When its pause ends by itself, on the boot clock; `None` while someone is connected.
    pub pause_ends: Option<Duration>,
    /// Whether the build has ended.
    pub is_over: bool,
}

/// Runs one build.
pub struct Driver {
    pub(super) machine: BuildMachine,
    effects: Effects,
    log: LogWriter,
    pub(super) secrets: SharedSecrets,
    commands: mpsc::Receiver<DriverCommand>,
    asked: watch::Receiver<SignalRequests>,
    /// The signal requests handled so far.
    heard: SignalRequests,
    watchdog: Watchdog,
    progress: watch::Sender<BuildProgressView>,
    pub(super) timeline: Timeline,
    /// Events not yet written because the disk was full.
    unwritten: Vec<EventBody>,
    /// Once the build has ended: whether nothing of it is left.
    finished: Option<bool>,
    /// Requesters waiting for the command to stand still.
    pub(super) pausing: Vec<oneshot::Sender<Option<String>>>,
    pub(super) snapshot: SharedSnapshot,
}

/// What wakes the loop.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum DriverWake {
    Command(DriverCommand),
    Signal,
    /// The machine's deadline has passed.
    Time,
}

impl Driver {
    pub fn new(parts: DriverParts) -> Self {
        let plan = Arc::clone(&parts.world.plan);
        let snapshot = initial_snapshot(&plan.layers, &plan.places.source);
        let shared = Arc::clone(&parts.world.guests.snapshot);
        *shared.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        let secrets = parts.world.secrets.clone();
        let effects = Effects::new(Arc::new(parts.world), parts.inbox, parts.log.clone());
        parts.watchdog.kills_with(effects.kill());
        Driver {
            machine: BuildMachine::new(plan),
            effects,
            log: parts.log,
            secrets,
            commands: parts.commands,
            asked: parts.asked,
            heard: SignalRequests::default(),
            watchdog: parts.watchdog,
            progress: parts.progress,
            timeline: Timeline::default(),
            unwritten: Vec::new(),
            finished: None,
            pausing: Vec::new(),
            snapshot: shared,
        }
    }

    /// Runs the build to its end.
    pub async fn run(mut self) -> EndedBuild {
        self.take(MachineInput::Start);
        let is_clear = loop {
            if let Some(is_clear) = self.finished {
                break is_clear;
            }
            match self.next().await {
                DriverWake::Command(DriverCommand::Input(input)) => self.hear_of(input),
                DriverWake::Command(command) => self.answer(command),
                DriverWake::Signal => self.hear(),
                DriverWake::Time => self.take(MachineInput::Tick),
            }
        };
        let logged = self.write_events();
        self.fold_unwritten();
        self.log.close();
        let view = self.timeline.into_view();
        let last =
            BuildProgressView { view: view.clone(), is_over: true, ..BuildProgressView::default() };
        self.progress.send_replace(last);
        EndedBuild { view, logged, is_clear }
    }

    async fn next(&mut self) -> DriverWake {
        let deadline = self.machine.deadline();
        let time = async {
            match deadline {
                Some(at) => tokio::time::sleep(at.saturating_sub(clock::boot())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // The sender cannot be gone: it belongs to the watchdog, which `self` holds.
            _ = self.asked.changed() => DriverWake::Signal,
            Some(command) = self.commands.recv() => DriverWake::Command(command),
            () = time => DriverWake::Time,
        }
    }

    /// Handles new requests made by signals.
    fn hear(&mut self) {
        let asked = *self.asked.borrow_and_update();
        let slept = asked.slept.saturating_sub(self.heard.slept);
        if slept > Duration::ZERO {
            self.take(MachineInput::Slept(slept));
        }
        for number in self.heard.stops..asked.stops {
            let at_once = number > 0;
            if !at_once {
                let text = format!("{}: stopping the build; once more ends it at once", asked.name);
                self.take(MachineInput::Notice(Notice::note(text)));
            }
            self.take(MachineInput::Stop { at_once });
        }
        self.heard = asked;
        self.watchdog.heard();
    }

    pub(super) fn take(&mut self, input: MachineInput) {
        let now = clock::now();
        let MachineStep { events, effects } = self.machine.apply(input, now);
        // Set these before anything in this step can hang.
        let (deadline, times_out) = (self.machine.deadline(), self.machine.times_out());
        let is_limit = times_out.is_some() && times_out == deadline;
        let if_late = if is_limit { Status::TimedOut } else { Status::Fault };
        self.watchdog.step(deadline, self.machine.verdict(), if_late);
        self.keep(events);
        if let Err(error) = self.write_events() {
            self.log_failed(&error);
        }
        for effect in effects {
            match effect {
                MachineEffect::Finish { is_clear, .. } => self.finished = Some(is_clear),
                MachineEffect::Release { .. }
                | MachineEffect::Provision
                | MachineEffect::Prepare(_)
                | MachineEffect::Run(_)
                | MachineEffect::Checkpoint { .. }
                | MachineEffect::Rewind { .. }
                | MachineEffect::Terminate
                | MachineEffect::Kill
                | MachineEffect::Hurry
                | MachineEffect::Freeze { .. }
                | MachineEffect::Thaw
                | MachineEffect::Cut { .. }
                | MachineEffect::Watch(_)
                | MachineEffect::Upload { .. }
                | MachineEffect::Finalize { .. } => self.effects.perform(effect),
            }
        }
        self.progress.send_modify(|progress| {
            match (&mut progress.view, self.timeline.view()) {
                (Some(shown), Some(view)) => shown.clone_from(view),
                (shown, view) => *shown = view.cloned(),
            }
            progress.times_out = self.machine.times_out();
            progress.pause_ends = self.machine.pause_ends();
        });
    }

    /// Queues events to be written. From here on no event holds a secret.
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
        events.iter().for_each(|event| self.timeline.take(event));
        Ok(())
    }

    /// Adds events that never reached the log to the build's record.
    fn fold_unwritten(&mut self) {
        for body in std::mem::take(&mut self.unwritten) {
            let seq = self.timeline.seq() + 1;
            let event = Event { seq, time: clock::wall(), build_id: String::new(), body };
            self.timeline.take(&event);
        }
    }

    /// An unwritable log ends the build. Unlogged events are kept: once the build's layer is
    /// removed there may be room again.
    fn log_failed(&mut self, error: &io::Error) {
        let message = format!("the build's log cannot be written: {error}");
        let fault =
            MachineInput::Fault(PhaseContext::new(StatusCode::InternalServiceError, message));
        let MachineStep { events, effects } = self.machine.apply(fault, clock::now());
        self.keep(events);
        self.log.use_reserve();
        for effect in effects {
            self.effects.perform(effect);
        }
    }
}
