//! Checkpoints as they are taken, and the way back to one: the layer is put back, a new container is made of it, and
//! the shell gets the state it had.
//!
//! Used by `effects`, one at a time. What is kept here lies in the build's layer and goes with it.

use super::entrypoint::Entrypoint;
use super::housing::Housing;
use super::inbox::Inbox;
use super::shell::{Bookmark, Shell, ShellError, fault};
use super::world::World;
use runner_core::changes::{Change, Counts, Op, from_text, to_text};
use runner_core::debug::{Breakpoint, What};
use runner_core::event::{BreakpointId, ChangedFacts, CheckpointKind, Lost, Notice};
use runner_core::machine::{CheckpointId, Gone, Input, Kept, Unkept};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::select::{Pattern, below};
use runner_engine::kept::{Keep, Looked, Saved};
use runner_engine::{Container, EngineError};
use runner_folder::ledger::{At, Ledger};
use runner_folder::state::BuildDir;
use runner_sandbox::Living;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError};
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
    pub(super) entrypoint: Entrypoint,
    pub(super) taken: Arc<Mutex<Taken>>,
}

/// What has been kept so far.
pub(super) struct Taken {
    all: BTreeMap<CheckpointId, Point>,
    /// The one that what the build has written is held against.
    last: Option<Point>,
    /// Whether the first one has been come to.
    has_begun: bool,
    /// Whether there is a look that the next one is held against.
    has_looked: bool,
    ledger: Arc<std::sync::Mutex<Ledger>>,
}

impl Taken {
    pub(super) fn of(dir: &BuildDir) -> Self {
        let ledger = Arc::new(std::sync::Mutex::new(Ledger::of(dir)));
        let (all, last) = (BTreeMap::new(), None);
        Taken { all, last, has_begun: false, has_looked: false, ledger }
    }
}

/// A checkpoint that is to be taken.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) id: CheckpointId,
    /// The run to come.
    pub(super) before: u32,
    /// As the last run has begun with it, as far as that is the shell's.
    pub(super) again: bool,
    /// Nobody was there since the last look.
    pub(super) is_seen: bool,
}

/// What a run has changed.
pub(super) struct Seen {
    pub(super) facts: ChangedFacts,
    changes: Vec<Change>,
}

impl Seen {
    /// Breakpoints whose files it has written. Their patterns are below the source, or absolute.
    pub(super) fn wrote(
        &self,
        watched: &[(BreakpointId, Arc<Breakpoint>)],
        source: &str,
    ) -> Vec<BreakpointId> {
        let has_written = |glob: &str| {
            let pattern = Pattern::new(glob, source.as_bytes());
            self.changes.iter().filter(|change| change.has_written()).any(|change| {
                let path = below(&change.path, source.as_bytes()).unwrap_or(&change.path);
                pattern.takes(path)
            })
        };
        let hit = watched.iter().filter_map(|(id, breakpoint)| match &breakpoint.what {
            What::Wrote(glob) => has_written(glob).then_some(*id),
            _ => None,
        });
        hit.collect()
    }
}

/// A copy of the layer, and the shell's state.
#[derive(Clone)]
struct Point {
    copy: u32,
    shell: Bookmark,
}

impl Checkpoints {
    /// Keeps what there is.
    pub(super) async fn take(&self, due: Due) {
        let Some(container) = self.housing.current() else { return };
        let result = {
            let mut shell = self.shell.lock().await;
            let Some(shell) = shell.as_mut() else { return };
            if due.again {
                shell.go_back();
            }
            self.keep(due, &*container, shell.bookmark()).await
        };
        self.inbox.send(Input::Checkpointed { id: due.id, result }).await;
    }

    async fn keep(
        &self,
        due: Due,
        container: &dyn Container,
        shell: Bookmark,
    ) -> Result<Kept, Unkept> {
        let began = Instant::now();
        let layer = container.layer().map_err(Unkept::Never)?;
        let mut taken = self.taken.lock().await;
        taken.has_begun = true;
        let living = container.living().await;
        let last = taken.last.as_ref().map(|point| point.copy);
        let is_quiet = living.is_empty();
        // A copy is of one moment. Sessions go on, and are named.
        let is_frozen = !is_quiet && container.freeze_unnoticed().await;
        let is_seen = due.is_seen && is_quiet && taken.has_looked;
        let keep = Keep { number: due.id.0, last, is_quiet, is_seen };
        let saved = blocking(move || layer.save(keep)).await;
        if is_frozen {
            container.thaw().await;
        }
        let unkept = |why: String| Unkept::Now { why, ms: millis(began.elapsed()) };
        let (saved, looked) =
            saved.map_err(|error| unkept(format!("it cannot be copied: {error}")))?;
        if let Some(looked) = looked {
            let is_known = taken.has_looked;
            taken.has_looked = looked != Looked::TooMuch;
            if let (Looked::Changes(text), true) = (looked, is_known) {
                let noted = self.note(&taken, At { run: due.before, is_run: false }, text).await;
                self.tell_unless_kept(due.before, noted).await;
            }
        }
        let (copy, entries, bytes) = match (saved, last) {
            (Saved::Not(why), _) => return Err(unkept(why)),
            (Saved::Same, Some(last)) => (last, 0, 0),
            (Saved::Same, None) => (due.id.0, 0, 0),
            (Saved::Copied { entries, bytes }, _) => (due.id.0, entries, bytes),
        };
        let point = Point { copy, shell };
        let is_as = |last: &Point| last.copy == point.copy && last.shell == point.shell;
        let is_new = !taken.last.as_ref().is_some_and(is_as);
        taken.all.insert(due.id, point.clone());
        taken.last = Some(point);
        let how = if is_frozen { "stood still" } else { "ran" };
        let why = (!is_quiet).then(|| format!("copied while {} {how}", named(&living)));
        let ms = millis(began.elapsed());
        Ok(Kept { kind: CheckpointKind::Copied, why, entries, bytes, ms, is_new })
    }

    /// Finds out what a run has changed, and keeps that in the build's folder; nothing before the first checkpoint.
    pub(super) async fn look(&self, run: u32, container: &dyn Container) -> Option<Seen> {
        let layer = container.layer().ok()?;
        let mut taken = self.taken.lock().await;
        // The first look is the first checkpoint's.
        if !taken.has_begun {
            return None;
        }
        let began = Instant::now();
        let is_quiet = container.living().await.is_empty();
        let looked = blocking(move || layer.look(is_quiet)).await;
        let is_known = taken.has_looked;
        taken.has_looked = matches!(looked, Ok(Looked::First | Looked::Changes(_)));
        let found = match looked {
            Ok(Looked::Changes(text)) if is_known => {
                match self.note(&taken, At { run, is_run: true }, text).await {
                    Ok((changes, true)) => Ok(changes),
                    Ok((_, false)) => {
                        Err("there is no room for more of what runs have changed".to_owned())
                    }
                    Err(error) => Err(format!("it cannot be kept: {error}")),
                }
            }
            Ok(Looked::TooMuch) => Err(Looked::too_much()),
            Ok(Looked::First | Looked::Changes(_)) => {
                Err("what was there before it is not known".to_owned())
            }
            Err(error) => Err(format!("what it has written cannot be read: {error}")),
        };
        let (changes, why) = match found {
            Ok(changes) => (changes, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let (counts, ms) = (Counts::of(&changes), millis(began.elapsed()));
        Some(Seen { facts: ChangedFacts { command: run, counts, why, ms }, changes })
    }

    /// Keeps changes, their names masked; the changes, and whether there was room for them.
    async fn note(&self, taken: &Taken, at: At, text: String) -> io::Result<(Vec<Change>, bool)> {
        let (ledger, secrets) = (Arc::clone(&taken.ledger), self.world.secrets.get());
        blocking(move || {
            let changes = from_text(&text).ok_or(io::ErrorKind::InvalidData)?;
            let masked = |path: &[u8]| secrets.mask_bytes(path).into_owned();
            let kept = changes.iter().map(|change| Change {
                path: masked(&change.path),
                op: match &change.op {
                    Op::Renamed(from) => Op::Renamed(masked(from)),
                    op => op.clone(),
                },
                ..*change
            });
            let text = to_text(&kept.collect::<Vec<_>>());
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((changes, ledger.write(at, &text)?))
        })
        .await
    }

    /// Warns where what people have changed at a stop is not in the record.
    async fn tell_unless_kept(&self, run: u32, noted: io::Result<(Vec<Change>, bool)>) {
        let why = match noted {
            Ok((_, true)) => return,
            Ok((_, false)) => "there is no room for more".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = format!("what was changed at the stop before run {run} is not recorded: {why}");
        self.inbox.send(Input::Notice(Notice::warning(text))).await;
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
        let living = old.living().await;
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
        if let Err(error) = self.entrypoint.again(&*container).await {
            let text = format!("what the image's entrypoint starts is not there any more: {error}");
            self.inbox.send(Input::Notice(Notice::warning(text))).await;
        }
        // A command that was killed with its container lets go of it now.
        let mut shell = self.shell.lock().await;
        let restored = match shell.as_mut() {
            Some(shell) => shell.restore(container, &point.shell).await,
            None => Err(ShellError::Exec(runner_engine::ExecError::ContainerGone)),
        };
        taken.last = Some(point);
        taken.has_looked = restored.is_ok();
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
