//! Checkpoints as they are taken, and the way back to one: the layer is put back, a new container is made of it, and
//! the shell gets the state it had.
//!
//! Used by `effects`, one at a time. What is kept here lies in the build's layer and goes with it.

use super::housing::Housing;
use super::inbox::Inbox;
use super::shell::{Bookmark, Shell, ShellError, fault};
use super::world::World;
use runner_core::event::{CheckpointKind, Lost};
use runner_core::machine::{CheckpointId, Gone, Input, Kept, Unkept};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_engine::kept::Saved;
use runner_engine::{Container, EngineError};
use runner_sandbox::Living;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Most processes that are named.
const MOST_NAMED: usize = 20;

/// All checkpoints of a build. Clones are of the same.
#[derive(Clone)]
pub(super) struct Checkpoints {
    pub(super) world: Arc<World>,
    pub(super) inbox: Inbox,
    pub(super) housing: Housing,
    pub(super) shell: Arc<Mutex<Option<Shell>>>,
    pub(super) taken: Arc<Mutex<Taken>>,
}

/// What has been kept so far.
#[derive(Default)]
pub(super) struct Taken {
    all: BTreeMap<CheckpointId, Point>,
    /// The one that what the build has written is held against.
    last: Option<Point>,
}

/// A copy of the layer, and the shell's state.
#[derive(Clone)]
struct Point {
    copy: u32,
    shell: Bookmark,
}

impl Checkpoints {
    /// Keeps what there is. `again`: as the last run has begun with it, as far as that is the shell's.
    pub(super) async fn take(&self, id: CheckpointId, again: bool) {
        let Some(container) = self.housing.current() else { return };
        let result = {
            let mut shell = self.shell.lock().await;
            let Some(shell) = shell.as_mut() else { return };
            if again {
                shell.go_back();
            }
            self.keep(id, &*container, shell.bookmark()).await
        };
        self.inbox.send(Input::Checkpointed { id, result }).await;
    }

    async fn keep(
        &self,
        id: CheckpointId,
        container: &dyn Container,
        shell: Bookmark,
    ) -> Result<Kept, Unkept> {
        let began = Instant::now();
        let layer = container.layer().map_err(Unkept::Never)?;
        let mut taken = self.taken.lock().await;
        let living = container.living();
        let last = taken.last.as_ref().map(|point| point.copy);
        let is_quiet = living.is_empty();
        let saved = blocking(move || layer.save(id.0, last, is_quiet)).await;
        let saved = saved.map_err(|error| Unkept::Now(format!("it cannot be copied: {error}")))?;
        let (copy, entries, bytes) = match (saved, last) {
            (Saved::Not(why), _) => return Err(Unkept::Now(why)),
            (Saved::Same, Some(last)) => (last, 0, 0),
            (Saved::Same, None) => (id.0, 0, 0),
            (Saved::Copied { entries, bytes }, _) => (id.0, entries, bytes),
        };
        let point = Point { copy, shell };
        let is_as = |last: &Point| last.copy == point.copy && last.shell == point.shell;
        let is_new = !taken.last.as_ref().is_some_and(is_as);
        taken.all.insert(id, point.clone());
        taken.last = Some(point);
        let why = (!living.is_empty()).then(|| format!("copied while {} ran", named(&living)));
        let ms = millis(began.elapsed());
        Ok(Kept { kind: CheckpointKind::Copied, why, entries, bytes, ms, is_new })
    }

    /// Goes back to one.
    pub(super) async fn rewind(&self, id: CheckpointId) {
        // Where the build has ended meanwhile there is nothing to go back to.
        if let Some(result) = self.go_back(id).await {
            self.inbox.send(Input::Rewound(result)).await;
        }
    }

    async fn go_back(&self, id: CheckpointId) -> Option<Result<Gone, PhaseContext>> {
        let began = Instant::now();
        let old = self.housing.current()?;
        let mut taken = self.taken.lock().await;
        let point = taken.all.get(&id).cloned()?;
        let living = old.living();
        let sessions = self.world.guests.sessions.put_out(PUT_OUT.to_owned()).await;
        let layer = match old.layer() {
            Ok(layer) => layer,
            Err(why) => return Some(Err(lost(&why))),
        };
        drop(old);
        let back = Arc::clone(&layer);
        let put_back = async move {
            let done = blocking(move || back.restore(point.copy)).await;
            done.map_err(|error| {
                EngineError::fault(format!("what was kept cannot be put back: {error}"), None)
            })
        };
        let container = match self.housing.anew(Arc::clone(&layer), put_back).await {
            Ok(container) => container,
            Err(error) => return Some(Err(fault(&error))),
        };
        // A command that was killed with its container lets go of it now.
        let mut shell = self.shell.lock().await;
        let restored = match shell.as_mut() {
            Some(shell) => shell.restore(container, &point.shell).await,
            None => Err(ShellError::Exec(runner_engine::ExecError::ContainerGone)),
        };
        taken.last = Some(point);
        let gone = Gone {
            processes: living.into_iter().take(MOST_NAMED).map(lost_process).collect(),
            sessions,
            ms: millis(began.elapsed()),
        };
        Some(restored.map(|()| gone).map_err(|error| fault(&error)))
    }

    /// Resolves when nothing is kept or put back any more.
    pub(super) async fn idle(&self) {
        drop(self.taken.lock().await);
    }
}

/// The last line of sessions that a rewind ends.
const PUT_OUT: &str = "the build was rewound; `runner attach` opens a new shell";

fn lost(why: &str) -> PhaseContext {
    PhaseContext::new(
        StatusCode::InternalServiceError,
        format!("the build cannot be rewound: {why}"),
    )
}

fn lost_process(living: Living) -> Lost {
    Lost { pid: living.pid, name: living.name }
}

fn named(living: &[Living]) -> String {
    let names: Vec<String> =
        living.iter().take(3).map(|it| format!("{} ({})", it.name, it.pid)).collect();
    let more = living.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// On a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
