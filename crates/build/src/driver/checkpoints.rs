//! Takes checkpoints and goes back to them: restores the layer, creates a new container from it,
//! and gives the shell its earlier state.
//!
//! Used by `effects`, one operation at a time. Everything kept here lies in the build's layer and
//! is removed with it.

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
use runner_engine::kept::{
    Keep, KeptLayer, LayerCopies, LayerMemory, LayerMerged, Looked, RunLine, Saved, Seal, ShelfMark,
};
use runner_engine::{Container, EngineError, NotSealed};
use runner_folder::ledger::{Ledger, LedgerTime};
use runner_folder::state::BuildDir;
use runner_sandbox::{LayerMerge, Living, SealedPart};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Maximum number of processes named in a message.
const MOST_NAMED: usize = 20;

/// All checkpoints of a build. Clones share them.
#[derive(Clone)]
pub(super) struct Checkpoints {
    pub(super) world: Arc<World>,
    pub(super) inbox: Inbox,
    pub(super) housing: Housing,
    pub(super) shell: Arc<Mutex<Option<BuildShell>>>,
    pub(super) entrypoint: Entrypoint,
    pub(super) taken: Arc<Mutex<Taken>>,
}

/// The checkpoints taken so far.
pub(super) struct Taken {
    all: BTreeMap<CheckpointId, Point>,
    /// The checkpoint that the next changes are compared with.
    last: Option<Point>,
    /// Whether the first checkpoint has been reached.
    has_begun: bool,
    /// Whether an earlier state exists that the next one can be compared with.
    has_looked: bool,
    has_told_links: bool,
    memory: Arc<LayerMemory>,
    ledger: Arc<std::sync::Mutex<Ledger>>,
    /// Merges for the next seal of their overlays.
    merges: Vec<LayerMerge>,
    /// Parts of overlays that cannot be merged.
    stay: BTreeSet<(String, SealedPart)>,
}

impl Taken {
    pub(super) fn of(dir: &BuildDir) -> Self {
        let ledger = Arc::new(std::sync::Mutex::new(Ledger::of(dir)));
        let (all, last) = (BTreeMap::new(), None);
        let (has_begun, has_looked, has_told_links) = (false, false, false);
        let memory = Arc::default();
        let (merges, stay) = (Vec::new(), BTreeSet::new());
        Taken { all, last, has_begun, has_looked, has_told_links, memory, ledger, merges, stay }
    }

    /// What to merge of the newest layer, if that was just sealed.
    fn due_merges(&self, id: CheckpointId) -> Option<(Arc<KeptLayer>, Vec<LayerMerge>)> {
        let layer = &self.last.as_ref()?.layer;
        if layer.stack.newest() != id.0 {
            return None;
        }
        let mut due =
            layer.stack.merges(|name, part| self.stay.contains(&(name.to_owned(), *part)));
        due.retain(|due| self.merges.iter().all(|done| done.name != due.name));
        (!due.is_empty()).then(|| (Arc::clone(layer), due))
    }
}

/// A checkpoint to take.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) id: CheckpointId,
    /// The run to come.
    pub(super) before: u32,
    /// Whether the shell goes back to the state in which the last run began.
    pub(super) again: bool,
    /// Whether nobody could change anything since the last look.
    pub(super) is_seen: bool,
}

/// The changes of a run.
pub(super) struct SeenChanges {
    pub(super) facts: ChangedFacts,
    changes: Vec<FileChange>,
}

impl SeenChanges {
    /// Breakpoints whose watched files were written. Their patterns are below the source, or
    /// absolute.
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

/// A checkpoint: a layer with its sealed part, a copy of the rest, and the shell's state.
#[derive(Clone)]
struct Point {
    /// The run to come.
    before: u32,
    mark: ShelfMark,
    kind: CheckpointKind,
    layer: Arc<KeptLayer>,
    shell: Bookmark,
}

/// What has come of keeping a layer, and who was there.
struct Attempt {
    saved: Saved,
    looked: Option<Looked>,
    living: Vec<Living>,
    is_frozen: bool,
}

/// Why there is no checkpoint.
enum Lack {
    None(Unkept),
    /// The build cannot go on either.
    Fault(PhaseContext),
}

impl Checkpoints {
    /// Takes a checkpoint.
    pub(super) async fn take(&self, due: Due) {
        let Some(container) = self.housing.current() else { return };
        let result = {
            let mut shell = self.shell.lock().await;
            let Some(shell) = shell.as_mut() else { return };
            if due.again {
                shell.go_back();
            }
            let result = self.keep(due, &*container, shell).await;
            self.write_line(due, &*container, &result).await;
            result
        };
        self.merge(due).await;
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
        let ms = || millis(began.elapsed());
        let unkept = |why: String| Lack::None(Unkept::Now { why, ms: ms() });
        let cannot = |error: io::Error| unkept(format!("it cannot be copied: {error}"));
        let keep = Keep {
            number: due.id.0,
            last: taken.last.as_ref().map(|point| point.mark.clone()),
            is_quiet: false,
            is_seen: due.is_seen && taken.has_looked,
            seals: self.world.plan.stops.checkpoints == Checkpointing::Sealed,
            begins: true,
        };
        let mut attempt =
            attempt(container, &layer, &taken.memory, keep.clone()).await.map_err(cannot)?;
        self.note_look(&mut taken, due, attempt.looked.take()).await;
        let (mut now, mut sealed, mut refused) = (Arc::clone(&layer), None, None);
        if let Saved::Not { why, seal } = &attempt.saved {
            let is_quiet = attempt.living.is_empty();
            let not_sealed = match seal {
                Some(_) if !is_quiet => format!("not sealed while {} runs", named(&attempt.living)),
                None => why.clone(),
                Some(seal) => {
                    let (number, merges) = (due.id.0, taken.merges.clone());
                    let memory = Arc::clone(&taken.memory);
                    let order = (number, memory, merges);
                    match self.seal(&layer, order, seal, container, shell).await? {
                        Ok(layer) => {
                            taken.merges.retain(|merge| !seal.names.contains(&merge.name));
                            now = layer;
                            sealed = Some(seal.clone());
                            String::new()
                        }
                        Err(why) => format!("it cannot be sealed: {why}"),
                    }
                }
            };
            if sealed.is_some() {
                // They follow.
            } else if keep.seals && is_quiet {
                // The seal failed because a process appeared; the next attempt sees it and copies.
                let keep = Keep { is_seen: true, seals: false, begins: false, ..keep.clone() };
                attempt =
                    self::attempt(container, &layer, &taken.memory, keep).await.map_err(cannot)?;
                self.note_look(&mut taken, due, attempt.looked.take()).await;
                match &mut attempt.saved {
                    Saved::Not { why, .. } => *why = format!("{why}; {not_sealed}"),
                    _ => refused = Some(not_sealed),
                }
            } else if *why != not_sealed {
                let why = format!("{why}; {not_sealed}");
                attempt.saved = Saved::Not { why, seal: None };
            }
        }
        let (mark, kind, entries, bytes) = if let Some(seal) = &sealed {
            self.tell_of_links(&mut taken, seal).await;
            // Until it is looked at again nothing is known of the new directories.
            taken.has_looked = false;
            let number = keep.number;
            let copies = settle(container, &now, &taken.memory, keep, &layer).await;
            taken.has_looked = copies.is_ok();
            let copies = copies.map_err(|error| unkept(format!("it cannot be saved: {error}")))?;
            (ShelfMark { number, copies }, CheckpointKind::Sealed, seal.entries, seal.bytes)
        } else {
            let last = taken.last.as_ref();
            match attempt.saved {
                Saved::Not { why, .. } => return Err(unkept(why)),
                Saved::Copied { entries, bytes, copies } => {
                    let mark = ShelfMark { number: due.id.0, copies };
                    (mark, CheckpointKind::Copied, entries, bytes)
                }
                Saved::Same => match last {
                    Some(last) => (last.mark.clone(), last.kind, 0, 0),
                    None => return Err(unkept("there is no earlier checkpoint".to_owned())),
                },
            }
        };
        let point = Point { before: due.before, mark, kind, layer: now, shell: shell.bookmark() };
        let is_as = |last: &Point| last.mark == point.mark && last.shell == point.shell;
        let is_new = !taken.last.as_ref().is_some_and(is_as);
        taken.all.insert(due.id, point.clone());
        taken.last = Some(point);
        let Attempt { living, is_frozen, .. } = attempt;
        let how = if is_frozen { "stood still" } else { "ran" };
        let is_of_moment = !living.is_empty() && kind == CheckpointKind::Copied;
        let while_they = is_of_moment.then(|| format!("copied while {} {how}", named(&living)));
        let why = match (refused, while_they) {
            (Some(refused), Some(copied)) => Some(format!("{refused}; {copied}")),
            (refused, copied) => refused.or(copied),
        };
        Ok(TakenCheckpoint { kind, why, entries, bytes, ms: ms(), is_new })
    }

    /// Merges sealed parts of the layer while the next command runs. The next look, a
    /// rewind and the end of the build wait for the merge.
    async fn merge(&self, due: Due) {
        let mut taken = Arc::clone(&self.taken).lock_owned().await;
        let Some((layer, merges)) = taken.due_merges(due.id) else { return };
        tokio::spawn(async move {
            for merge in merges {
                let (layer, memory) = (Arc::clone(&layer), Arc::clone(&taken.memory));
                let order = merge.clone();
                let stay = match blocking(move || layer.merge(&memory, order)).await {
                    Ok(LayerMerged::Made) => {
                        taken.merges.push(merge);
                        continue;
                    }
                    Ok(LayerMerged::Stay(stay)) => stay,
                    Err(error) => {
                        // The layers stay as they are.
                        tracing::debug!(%error, "sealed layers cannot be merged");
                        merge.parts
                    }
                };
                taken.stay.extend(stay.into_iter().map(|part| (merge.name.clone(), part)));
            }
        });
    }

    /// Says for `diff --patch` where the files before a run are.
    async fn write_line(
        &self,
        due: Due,
        container: &dyn Container,
        result: &Result<TakenCheckpoint, Lack>,
    ) {
        let (Ok(layer), before) = (container.layer(), due.before) else { return };
        let line = match result {
            Ok(_) => match self.taken.lock().await.all.get(&due.id) {
                Some(point) => point.layer.line(before, &point.mark.copies),
                None => return,
            },
            Err(Lack::None(Unkept::Now { why, .. } | Unkept::Never(why))) => {
                RunLine::Lacks { before, why: why.clone() }
            }
            Err(Lack::Fault(_)) => return,
        };
        write(layer, line).await;
    }

    /// Records what people have changed since the last look.
    async fn note_look(&self, taken: &mut Taken, due: Due, looked: Option<Looked>) {
        let Some(looked) = looked else { return };
        let is_known = taken.has_looked;
        taken.has_looked = looked != Looked::TooMuch;
        if let (Looked::Changes(text), true) = (looked, is_known) {
            let at = LedgerTime { run: due.before, is_run: false };
            let noted = self.note(taken, at, text).await;
            self.tell_unless_kept(due.before, noted).await;
        }
    }

    /// Seals the layer. Returns the new layer, or why that failed. If the container can no longer
    /// be trusted, it returns a fault.
    async fn seal(
        &self,
        layer: &Arc<KeptLayer>,
        (number, memory, merges): (u32, Arc<LayerMemory>, Vec<LayerMerge>),
        seal: &Seal,
        container: &dyn Container,
        shell: &mut BuildShell,
    ) -> Result<Result<Arc<KeptLayer>, String>, Lack> {
        match container.seal(number, seal.names.clone(), merges).await {
            Ok(sealed) => {
                let place = Path::new(shell.state_dir());
                let holder = |layer: &KeptLayer| layer.overlay_of(place).map(|it| it.dir.clone());
                // Where nothing was stacked its files are those that are open.
                if holder(layer) != holder(&sealed)
                    && let Err(error) = shell.reopen().await
                {
                    return Err(Lack::Fault(fault(&error)));
                }
                Ok(Ok(sealed))
            }
            Err(NotSealed { why, is_intact: false }) => Err(Lack::Fault(PhaseContext::new(
                StatusCode::InternalServiceError,
                format!(
                    "the container's layer was to be sealed, and is neither as it was nor sealed: {why}"
                ),
            ))),
            Err(NotSealed { why, .. }) => {
                let begun = Arc::clone(layer);
                // What is left is removed with the layer.
                let _ = blocking(move || begun.abandon(&memory, number)).await;
                Ok(Err(why))
            }
        }
    }

    /// Explains once how files with several names are handled.
    async fn tell_of_links(&self, taken: &mut Taken, seal: &Seal) {
        if seal.linked == 0 || taken.has_told_links {
            return;
        }
        taken.has_told_links = true;
        let (files, they) = match seal.linked {
            1 => ("1 file has".to_owned(), "it"),
            many => (format!("{many} files have"), "them"),
        };
        let text = format!(
            "{files} several names, in a layer that is sealed now: writing {they} in place under one name does not reach the \
             others; without checkpoints it does: --checkpoint off"
        );
        self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
    }

    /// Determines what a run has changed and records it in the build's folder. Does nothing before
    /// the first checkpoint.
    pub(super) async fn look(&self, run: u32, container: &dyn Container) -> Option<SeenChanges> {
        let layer = container.layer().ok()?;
        let mut taken = self.taken.lock().await;
        // The first look is done by the first checkpoint.
        if !taken.has_begun {
            return None;
        }
        let began = Instant::now();
        let is_quiet = container.living().await.is_empty();
        let memory = Arc::clone(&taken.memory);
        let looked = blocking(move || layer.look(&memory, is_quiet)).await;
        let is_known = taken.has_looked;
        taken.has_looked = matches!(looked, Ok(Looked::First | Looked::Changes(_)));
        let found = match looked {
            Ok(Looked::Changes(text)) if is_known => {
                match self.note(&taken, LedgerTime { run, is_run: true }, text).await {
                    Ok((changes, true)) => Ok(changes),
                    Ok((_, false)) => {
                        Err("there is no room to record more changes of runs".to_owned())
                    }
                    Err(error) => Err(format!("it cannot be saved: {error}")),
                }
            }
            Ok(Looked::TooMuch) => Err(Looked::too_much()),
            Ok(Looked::First | Looked::Changes(_)) => {
                Err("the files before it are not known".to_owned())
            }
            Err(error) => Err(format!("cannot read what it has written: {error}")),
        };
        let (changes, why) = match found {
            Ok(changes) => (changes, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let (counts, ms) = (Counts::of(&changes), millis(began.elapsed()));
        Some(SeenChanges { facts: ChangedFacts { command: run, counts, why, ms }, changes })
    }

    /// Records changes with masked names. Returns the changes, and whether there was room for them.
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

    /// Warns if changes made by people at a stop could not be recorded.
    async fn tell_unless_kept(&self, run: u32, noted: io::Result<(Vec<FileChange>, bool)>) {
        let why = match noted {
            Ok((_, true)) => return,
            Ok((_, false)) => "there is no room for more".to_owned(),
            Err(error) => error.to_string(),
        };
        let text = format!("changes at the stop before run {run} are not recorded: {why}");
        self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
    }

    /// Goes back to a checkpoint.
    pub(super) async fn rewind(&self, id: CheckpointId) {
        // If the build has ended meanwhile, there is nothing to go back to.
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
        let (back, mark, memory) =
            (Arc::clone(&layer), point.mark.clone(), Arc::clone(&taken.memory));
        let (shelf, to) = (Arc::clone(&layer), point.before);
        let put_back = async move {
            // Comes first: a reader of an undone run would otherwise get files of another run.
            write(shelf, RunLine::Rewound { to }).await;
            let done = blocking(move || back.restore(&memory, mark)).await;
            done.map_err(|error| {
                EngineError::fault(format!("cannot restore the saved files: {error}"), None)
            })
        };
        let container = match self.housing.anew(layer, put_back).await {
            Ok(container) => container,
            Err(error) => return Some(Err(fault(&error))),
        };
        if let Err(error) = self.entrypoint.again(&*container).await {
            let text = format!("what the image's entrypoint started is gone: {error}");
            self.inbox.send(MachineInput::Notice(Notice::warning(text))).await;
        }
        // A command that was killed with its container releases the lock now.
        let mut shell = self.shell.lock().await;
        let restored = match shell.as_mut() {
            Some(shell) => shell.restore(container, &point.shell).await,
            None => Err(ShellError::Exec(runner_engine::ExecError::ContainerGone)),
        };
        taken.last = Some(point);
        taken.has_looked = restored.is_ok();
        // The generations above may get other contents.
        taken.merges.clear();
        taken.stay.clear();
        let gone = Gone {
            processes: living.into_iter().take(MOST_NAMED).map(lost_process).collect(),
            sessions,
            ms: millis(began.elapsed()),
        };
        Some(restored.map(|()| gone).map_err(|error| fault(&error)))
    }

    /// Resolves when no checkpoint is being taken or restored.
    pub(super) async fn idle(&self) {
        drop(self.taken.lock().await);
    }
}

/// Last line of sessions that a rewind ends.
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

/// Adds a line for later readers of the run. After a failure, they learn that nothing is known.
async fn write(layer: Arc<KeptLayer>, line: RunLine) {
    let written = blocking(move || layer.write_line(&line)).await;
    if let Err(error) = written {
        tracing::debug!(%error, "cannot record where a checkpoint's files are");
    }
}

/// Keeps a layer as it is now.
async fn attempt(
    container: &dyn Container,
    layer: &Arc<KeptLayer>,
    memory: &Arc<LayerMemory>,
    keep: Keep,
) -> io::Result<Attempt> {
    let living = container.living().await;
    let is_quiet = living.is_empty();
    // A copy is of one moment. Sessions go on, and are named.
    let is_frozen = !is_quiet && container.freeze_unnoticed().await;
    let keep = Keep {
        is_quiet,
        is_seen: keep.is_seen && is_quiet,
        seals: keep.seals && is_quiet,
        begins: keep.begins && is_quiet,
        ..keep
    };
    let (layer, memory) = (Arc::clone(layer), Arc::clone(memory));
    let saved = blocking(move || layer.save(&memory, keep)).await;
    if is_frozen {
        container.thaw().await;
    }
    let (saved, looked) = saved?;
    Ok(Attempt { saved, looked, living, is_frozen })
}

/// Keeps what was sealed just now; `before` is the layer as it was.
async fn settle(
    container: &dyn Container,
    layer: &Arc<KeptLayer>,
    memory: &Arc<LayerMemory>,
    keep: Keep,
    before: &KeptLayer,
) -> io::Result<LayerCopies> {
    let pairs = layer.uppers.iter().zip(&before.uppers);
    let names = pairs.filter(|(now, before)| now.dir != before.dir);
    let names = names.map(|(now, _)| now.name.clone()).collect();
    let (layer, memory) = (Arc::clone(layer), Arc::clone(memory));
    // A session may have begun behind the seal.
    let is_quiet = container.living().await.is_empty();
    let is_frozen = !is_quiet && container.freeze_unnoticed().await;
    let keep = Keep { is_quiet, ..keep };
    let done = blocking(move || layer.settle(&memory, keep, names)).await;
    if is_frozen {
        container.thaw().await;
    }
    done
}

/// Runs a closure on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
