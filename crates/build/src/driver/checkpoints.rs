//! Checkpoints as they are taken, and the way back to one: the layer is put back, a new container is made of it, and
//! the shell gets the state it had.
//!
//! Used by `effects`, one at a time. What is kept here lies in the build's layer and goes with it.

use super::entrypoint::Entrypoint;
use super::housing::Housing;
use super::inbox::Inbox;
use super::shell::{Bookmark, BuildShell, ShellError, fault};
use super::world::World;
use runner_core::changes::{Counts, FileChange, Op, from_text, to_text};
use runner_core::debug::{Breakpoint, What};
use runner_core::event::{BreakpointId, ChangedFacts, CheckpointKind, Lost, Notice};
use runner_core::machine::{CheckpointId, Gone, MachineInput, TakenCheckpoint, Unkept};
use runner_core::phase::{PhaseContext, StatusCode};
use runner_core::plan::Checkpointing;
use runner_core::select::{FilePattern, below};
use runner_engine::kept::{Keep, KeptLayer, Looked, Saved, Seal};
use runner_engine::{Container, EngineError, NotSealed};
use runner_folder::ledger::{Ledger, LedgerTime};
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
    pub(super) shell: Arc<Mutex<Option<BuildShell>>>,
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
    has_told_links: bool,
    ledger: Arc<std::sync::Mutex<Ledger>>,
}

impl Taken {
    pub(super) fn of(dir: &BuildDir) -> Self {
        let ledger = Arc::new(std::sync::Mutex::new(Ledger::of(dir)));
        let (all, last) = (BTreeMap::new(), None);
        let (has_begun, has_looked, has_told_links) = (false, false, false);
        Taken { all, last, has_begun, has_looked, has_told_links, ledger }
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
pub(super) struct SeenChanges {
    pub(super) facts: ChangedFacts,
    changes: Vec<FileChange>,
}

impl SeenChanges {
    /// Breakpoints whose files it has written. Their patterns are below the source, or absolute.
    pub(super) fn wrote(
        &self,
        watched: &[(BreakpointId, Arc<Breakpoint>)],
        source: &str,
    ) -> Vec<BreakpointId> {
        let has_written = |glob: &str| {
            let pattern = FilePattern::new(glob, source.as_bytes());
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

/// A layer with what is sealed of it, a copy of the rest, and the shell's state.
#[derive(Clone)]
struct Point {
    copy: u32,
    kind: CheckpointKind,
    layer: Arc<KeptLayer>,
    shell: Bookmark,
}

/// Why there is no checkpoint.
enum Lack {
    None(Unkept),
    /// Nor can the build go on.
    Fault(PhaseContext),
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
            self.keep(due, &*container, shell).await
        };
        let input = match result {
            Ok(kept) => MachineInput::Checkpointed { id: due.id, result: Ok(kept) },
            Err(Lack::None(unkept)) => {
                MachineInput::Checkpointed { id: due.id, result: Err(unkept) }
            }
            Err(Lack::Fault(context)) => MachineInput::Fault(context),
        };
        self.inbox.send(input).await;
    }

    async fn keep(
        &self,
        due: Due,
        container: &dyn Container,
        shell: &mut BuildShell,
    ) -> Result<TakenCheckpoint, Lack> {
        let began = Instant::now();
        let layer = container.layer().map_err(|why| Lack::None(Unkept::Never(why)))?;
        let mut taken = self.taken.lock().await;
        taken.has_begun = true;
        let living = container.living().await;
        let last = taken.last.as_ref().map(|point| point.copy);
        let is_quiet = living.is_empty();
        // A copy is of one moment. Sessions go on, and are named.
        let is_frozen = !is_quiet && container.freeze_unnoticed().await;
        let is_seen = due.is_seen && is_quiet && taken.has_looked;
        let seals = is_quiet && self.world.plan.stops.checkpoints == Checkpointing::Sealed;
        let keep = Keep { number: due.id.0, last, is_quiet, is_seen, seals };
        let saved = save(&layer, keep).await;
        if is_frozen {
            container.thaw().await;
        }
        let ms = || millis(began.elapsed());
        let unkept = |why: String| Lack::None(Unkept::Now { why, ms: ms() });
        let (mut saved, looked) =
            saved.map_err(|error| unkept(format!("it cannot be copied: {error}")))?;
        if let Some(looked) = looked {
            let is_known = taken.has_looked;
            taken.has_looked = looked != Looked::TooMuch;
            if let (Looked::Changes(text), true) = (looked, is_known) {
                let noted =
                    self.note(&taken, LedgerTime { run: due.before, is_run: false }, text).await;
                self.tell_unless_kept(due.before, noted).await;
            }
        }
        let (mut now, mut sealed, mut refused) = (Arc::clone(&layer), None, None);
        if let Saved::Not { why, seal } = saved {
            let not_sealed = match seal {
                Some(_) if !is_quiet => format!("not sealed while {} runs", named(&living)),
                None => why.clone(),
                Some(seal) => match self.seal(&layer, keep, &seal, container, shell).await? {
                    Ok(layer) => {
                        now = layer;
                        sealed = Some(seal);
                        String::new()
                    }
                    Err(why) => format!("it cannot be sealed: {why}"),
                },
            };
            saved = match &sealed {
                Some(seal) => {
                    self.tell_of_links(&mut taken, seal).await;
                    // Until it is looked at again nothing is known of the new directories.
                    taken.has_looked = false;
                    let settled = settle(&now, keep).await;
                    taken.has_looked = settled.is_ok();
                    settled.map_err(|error| unkept(format!("it cannot be kept: {error}")))?
                }
                // What was asked for cannot be had now.
                None if seals => {
                    let keep = Keep { is_seen: true, seals: false, ..keep };
                    let saved = save(&layer, keep).await;
                    let saved =
                        saved.map_err(|error| unkept(format!("it cannot be copied: {error}")))?.0;
                    match saved {
                        Saved::Not { why, seal } => {
                            Saved::Not { why: format!("{why}; {not_sealed}"), seal }
                        }
                        saved => {
                            refused = Some(not_sealed);
                            saved
                        }
                    }
                }
                None if why == not_sealed => Saved::Not { why, seal: None },
                None => Saved::Not { why: format!("{why}; {not_sealed}"), seal: None },
            };
        }
        let last = taken.last.as_ref().map(|last| (last.copy, last.kind));
        let kind = if sealed.is_some() { CheckpointKind::Sealed } else { CheckpointKind::Copied };
        let (copy, kind, entries, bytes) = match (saved, last, &sealed) {
            (Saved::Not { why, .. }, ..) => return Err(unkept(why)),
            (_, _, Some(Seal { entries, bytes, .. })) => (due.id.0, kind, *entries, *bytes),
            (Saved::Same, Some((last, kind)), _) => (last, kind, 0, 0),
            (Saved::Same, None, _) => (due.id.0, kind, 0, 0),
            (Saved::Copied { entries, bytes }, ..) => (due.id.0, kind, entries, bytes),
        };
        let point = Point { copy, kind, layer: now, shell: shell.bookmark() };
        let is_as = |last: &Point| last.copy == point.copy && last.shell == point.shell;
        let is_new = !taken.last.as_ref().is_some_and(is_as);
        taken.all.insert(due.id, point.clone());
        taken.last = Some(point);
        let how = if is_frozen { "stood still" } else { "ran" };
        let is_of_moment = !is_quiet && kind == CheckpointKind::Copied;
        let why =
            is_of_moment.then(|| format!("copied while {} {how}", named(&living))).or(refused);
        Ok(TakenCheckpoint { kind, why, entries, bytes, ms: ms(), is_new })
    }

    /// Seals it; the layer then, or why not. It is a fault where the container cannot be trusted any more.
    async fn seal(
        &self,
        layer: &Arc<KeptLayer>,
        keep: Keep,
        seal: &Seal,
        container: &dyn Container,
        shell: &mut BuildShell,
    ) -> Result<Result<Arc<KeptLayer>, String>, Lack> {
        let (number, names) = (keep.number, seal.names.clone());
        let (begun, all) = (Arc::clone(layer), names.clone());
        if let Err(error) = blocking(move || begun.begin(number, &all)).await {
            return Ok(Err(error.to_string()));
        }
        match container.seal(number, names).await {
            Ok(layer) => match shell.reopen().await {
                Ok(()) => Ok(Ok(layer)),
                Err(error) => Err(Lack::Fault(fault(&error))),
            },
            Err(NotSealed { why, is_intact: false }) => Err(Lack::Fault(PhaseContext::new(
                StatusCode::InternalServiceError,
                format!(
                    "the container's layer was to be sealed, and is neither as it was nor sealed: {why}"
                ),
            ))),
            Err(NotSealed { why, .. }) => {
                let begun = Arc::clone(layer);
                // What is left goes with the layer.
                let _ = blocking(move || begun.abandon(number)).await;
                Ok(Err(why))
            }
        }
    }

    /// Says once what becomes of files with several names.
    async fn tell_of_links(&self, taken: &mut Taken, seal: &Seal) {
        if seal.linked == 0 || taken.has_told_links {
            return;
        }
        taken.has_told_links = true;
        let text = format!(
            "{} files have several names. What they are in is sealed, so writing one in place reaches that name only; \
             without checkpoints it reaches all of them: --checkpoint off",
            seal.linked
        );
        self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
    }

    /// Finds out what a run has changed, and keeps that in the build's folder; nothing before the first checkpoint.
    pub(super) async fn look(&self, run: u32, container: &dyn Container) -> Option<SeenChanges> {
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
                match self.note(&taken, LedgerTime { run, is_run: true }, text).await {
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
        Some(SeenChanges { facts: ChangedFacts { command: run, counts, why, ms }, changes })
    }

    /// Keeps changes, their names masked; the changes, and whether there was room for them.
    async fn note(
        &self,
        taken: &Taken,
        at: LedgerTime,
        text: String,
    ) -> io::Result<(Vec<FileChange>, bool)> {
        let (ledger, secrets) = (Arc::clone(&taken.ledger), self.world.secrets.get());
        blocking(move || {
            let changes = from_text(&text).ok_or(io::ErrorKind::InvalidData)?;
            let masked = |path: &[u8]| secrets.mask_bytes(path).into_owned();
            let kept = changes.iter().map(|change| FileChange {
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
    async fn tell_unless_kept(&self, run: u32, noted: io::Result<(Vec<FileChange>, bool)>) {
        let why = match noted {
            Ok((_, true)) => return,
            Ok((_, false)) => "there is no room for more".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = format!("what was changed at the stop before run {run} is not recorded: {why}");
        self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
    }

    /// Goes back to one.
    pub(super) async fn rewind(&self, id: CheckpointId) {
        // Where the build has ended meanwhile there is nothing to go back to.
        if let Some(result) = self.go_back(id).await {
            self.inbox.send(MachineInput::Rewound(result)).await;
        }
    }

    async fn go_back(&self, id: CheckpointId) -> Option<Result<Gone, PhaseContext>> {
        let began = Instant::now();
        let old = self.housing.current()?;
        let mut taken = self.taken.lock().await;
        let point = taken.all.get(&id).cloned()?;
        let living = old.living().await;
        let sessions = self.world.guests.sessions.put_out(PUT_OUT.to_owned()).await;
        drop(old);
        let layer = Arc::clone(&point.layer);
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
            self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
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

async fn save(layer: &Arc<KeptLayer>, keep: Keep) -> io::Result<(Saved, Option<Looked>)> {
    let layer = Arc::clone(layer);
    blocking(move || layer.save(keep)).await
}

async fn settle(layer: &Arc<KeptLayer>, keep: Keep) -> io::Result<Saved> {
    let layer = Arc::clone(layer);
    blocking(move || layer.settle(keep)).await
}

/// On a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
