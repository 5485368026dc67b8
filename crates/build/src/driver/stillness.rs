//! Stops a command in the middle, and lets it continue.
//!
//! Used by `effects`, which gives the orders, and by `command`, which runs the command. Orders are
//! carried out in sequence: an earlier order to stop never takes effect after a later one to
//! continue.

use super::inbox::Inbox;
use super::watch::RunWatch;
use nix::sys::signal::Signal;
use runner_core::event::Scene;
use runner_core::machine::{MachineInput, Standstill, Wants};
use runner_engine::{Container, FreezeKind, ProgramSignals, SignalReach};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// How a build can notice that it was stopped.
const SEEN: &str = "the build's processes are stopped by SIGSTOP, and sessions go on; a parent that waits \
                    for stopped children, or a shell with job control, notices it";

/// An order.
#[derive(Clone, Copy, Debug)]
pub(super) enum StillnessOrder {
    Freeze { command: u32 },
    Thaw,
    Cut { command: u32 },
}

/// Carries out orders. Clones share the same state.
#[derive(Clone, Default)]
pub(super) struct Stillness(Arc<Mutex<StillnessState>>);

#[derive(Default)]
struct StillnessState {
    run: Option<CurrentRun>,
    orders: Option<mpsc::UnboundedSender<(StillnessOrder, Arc<dyn Container>)>>,
}

/// The current run.
#[derive(Clone)]
pub(super) struct CurrentRun {
    pub(super) watch: RunWatch,
    pub(super) signals: ProgramSignals,
}

impl Stillness {
    /// Notes that a run has begun, or that the last one has ended.
    pub(super) fn is_of(&self, run: Option<CurrentRun>) {
        self.lock().run = run;
    }

    /// Sets what breakpoints need to know of the current run.
    pub(super) fn watch(&self, wants: Wants) {
        if let Some(run) = &self.lock().run {
            run.watch.set(wants);
        }
    }

    pub(super) fn order(
        &self,
        order: StillnessOrder,
        container: Arc<dyn Container>,
        inbox: &Inbox,
    ) {
        let mut state = self.lock();
        let orders = state.orders.get_or_insert_with(|| {
            let (orders_tx, orders_rx) = mpsc::unbounded_channel();
            let (stillness, answers) = (self.clone(), inbox.clone());
            inbox.perform("stop the command in its middle", async move {
                stillness.obey(orders_rx, &answers).await;
            });
            orders_tx
        });
        // If the task has panicked, that is reported separately.
        let _ = orders.send((order, container));
    }

    async fn obey(
        &self,
        mut orders: mpsc::UnboundedReceiver<(StillnessOrder, Arc<dyn Container>)>,
        inbox: &Inbox,
    ) {
        while let Some((order, container)) = orders.recv().await {
            let run = self.lock().run.clone();
            match order {
                StillnessOrder::Freeze { command } => {
                    let frozen = container.freeze().await;
                    let run = run.filter(|run| run.watch.command() == command);
                    let result = frozen.map_err(|error| error.to_string()).map(|how| {
                        let output = run.as_ref().map(|run| {
                            run.watch.stands_still(true);
                            Scene::last_lines(&run.watch.output(Scene::BYTES))
                        });
                        Standstill {
                            output: output.unwrap_or_default(),
                            notice: (how == FreezeKind::Signalled).then(|| SEEN.to_owned()),
                        }
                    });
                    inbox.send(MachineInput::Frozen { command, result }).await;
                }
                StillnessOrder::Thaw => goes_on(&*container, run.as_ref()).await,
                StillnessOrder::Cut { command } => {
                    if let Some(run) = run.as_ref().filter(|run| run.watch.command() == command) {
                        run.signals.send(Signal::SIGKILL as i32, SignalReach::Session).await;
                    }
                    goes_on(&*container, run.as_ref()).await;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, StillnessState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn goes_on(container: &dyn Container, run: Option<&CurrentRun>) {
    container.thaw().await;
    if let Some(run) = run {
        run.watch.stands_still(false);
    }
}
