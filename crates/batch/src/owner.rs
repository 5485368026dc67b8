//! The batch's event loop: feeds events to the state machine and carries out its effects.

use crate::child::{self, BuildProcess, ChildEvent, Followed};
use crate::face::{BatchBegun, BatchDisplay, Started};
use crate::freeze::{FrozenSources, freeze};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_build::{BatchMembership, BuildRequest, BuildspecFile, FrozenSource};
use runner_core::arn::arn;
use runner_core::batch::{
    BatchEffect, BatchFacts, BatchInput, BatchMachine, BatchPlan, BuildBatch, Stand,
};
use runner_core::event::BatchMember;
use runner_core::phase::Status;
use runner_folder::state::{BatchDir, BuildDir, Home, OwnedBatch, StateError, prune_old_batches};
use runner_host::clock;
use runner_host::named::NamedFile;
use runner_host::private::remove_tree;
use runner_host::signals::SignalReader;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};
use uuid::Uuid;

/// A request for a batch.
pub struct BatchRequest {
    pub plan: BatchPlan,
    /// In the order of the plan.
    pub children: Vec<ChildRequest>,
    /// Maximum number of builds that run at once.
    pub most: usize,
    /// Time limit for the whole batch.
    pub timeout: Duration,
    /// Facts about the batch for its record.
    pub facts: BatchFacts,
    /// A file that receives the final record.
    pub build_json: Option<PathBuf>,
}

/// A request for one build of a batch, without the batch's own settings.
pub struct ChildRequest {
    pub request: BuildRequest,
    /// A buildspec for this build only: a path in the source, or the text itself.
    pub buildspec: Option<String>,
}

/// A finished batch.
#[derive(Debug)]
pub struct Over {
    pub status: Status,
    /// Exit codes of the builds that count for the batch.
    pub codes: Vec<u8>,
    /// Problems other than failed builds.
    pub warnings: Vec<String>,
}

/// Why a batch did not start or could not end properly.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("cannot copy the source for the batch: {0}")]
    Source(#[source] io::Error),
    #[error("--build-json: cannot write {}: {error}", path.display())]
    BuildJson { path: PathBuf, error: io::Error },
    #[error("stopped before the first build")]
    Stopped,
    #[error("cannot {0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

/// Runs a batch to its end.
///
/// `signals`: the signals that end the batch. [`STOPS`] must be blocked before any thread starts,
/// including the display's.
///
/// [`STOPS`]: runner_host::signals::STOPS
pub fn run(
    request: BatchRequest,
    home: &Home,
    signals: SignalReader,
    face: &mut dyn BatchDisplay,
) -> Result<Over, BatchError> {
    let record = match &request.build_json {
        None => None,
        Some(path) => Some(
            NamedFile::open(path)
                .map_err(|error| BatchError::BuildJson { path: path.clone(), error })?,
        ),
    };
    let (sender, inbox) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    hear(signals, sender.clone(), Arc::clone(&stop))
        .map_err(|error| BatchError::Io("start a thread", error))?;
    let uuid = Uuid::new_v4().to_string();
    let (dir, owned) = BatchDir::create(home, &uuid)?;
    let batch = RunningBatch::new(request, home, dir.clone(), owned, uuid)?;
    let result = batch.run(face, &sender, &inbox, &stop, record.as_ref());
    if let Err(error) = &result {
        // The copy may occupy the space that the record needs. Whatever cannot be removed is
        // reported below.
        let _ = remove_tree(&dir.sources());
        if let Err(error) = close(&dir, error) {
            tracing::warn!(%error, "the record of a batch that could not continue stays as it is");
        }
    }
    if let Err(error) = dir.retire() {
        tracing::warn!(%error, "the batch's copy of the source stays");
    }
    prune_old_batches(home, SystemTime::now());
    result
}

/// Closes the record of a batch that could not go on.
fn close(dir: &BatchDir, why: &BatchError) -> io::Result<()> {
    let Some(mut record) = dir.record()?.filter(|record| !record.complete) else { return Ok(()) };
    record.fault(&why.to_string(), clock::wall(), |_| None);
    dir.write_record(&record)
}

/// Turns signals into messages.
fn hear(signals: SignalReader, inbox: Sender<ChildEvent>, stop: Arc<AtomicBool>) -> io::Result<()> {
    let run = move || {
        loop {
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let polled = poll(&mut ready, PollTimeout::NONE);
            while signals.next().is_some() {
                stop.store(true, Ordering::Release);
                if inbox.send(ChildEvent::Stop).is_err() {
                    return;
                }
            }
            if polled.is_err_and(|errno| errno != nix::errno::Errno::EINTR) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(run).map(drop)
}

/// A batch whose folder exists.
struct RunningBatch<'h> {
    home: &'h Home,
    dir: BatchDir,
    /// Held to the end: dropping it signals that the batch is over.
    _owned: OwnedBatch,
    facts: BatchFacts,
    machine: BatchMachine,
    children: Vec<ChildRequest>,
    uuids: Vec<Uuid>,
    processes: Vec<Option<BuildProcess>>,
    codes: Vec<u8>,
    /// ARNs of the builds' reports.
    reports: Vec<String>,
    deadline: Instant,
    warnings: Vec<String>,
}

impl<'h> RunningBatch<'h> {
    fn new(
        request: BatchRequest,
        home: &'h Home,
        dir: BatchDir,
        owned: OwnedBatch,
        uuid: String,
    ) -> Result<Self, BatchError> {
        let BatchRequest { plan, children, most, timeout, mut facts, .. } = request;
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        let project = facts.project.clone();
        facts.number = home.next_batch_number(&project)?;
        facts.arn = arn("codebuild", &format!("build-batch/{project}:{uuid}"));
        facts.initiator = user.map_or_else(|| "unknown".to_owned(), |user| user.name);
        facts.asked = clock::wall();
        facts.batch_timeout_s = timeout.as_secs();
        facts.uuid = uuid;
        let uuids: Vec<Uuid> = children.iter().map(|_| Uuid::new_v4()).collect();
        let name = |uuid: &Uuid| arn("codebuild", &format!("build/{project}:{uuid}"));
        let arns = uuids.iter().map(name).collect();
        Ok(RunningBatch {
            home,
            dir,
            _owned: owned,
            machine: BatchMachine::new(plan, arns, most, facts.asked),
            facts,
            processes: children.iter().map(|_| None).collect(),
            codes: vec![0; children.len()],
            reports: Vec::new(),
            children,
            uuids,
            deadline: Instant::now() + timeout,
            warnings: Vec::new(),
        })
    }

    fn run(
        mut self,
        face: &mut dyn BatchDisplay,
        sender: &Sender<ChildEvent>,
        inbox: &Receiver<ChildEvent>,
        stop: &AtomicBool,
        record: Option<&NamedFile>,
    ) -> Result<Over, BatchError> {
        // Written before the first build, so that a process that finds a dead batch knows its
        // builds.
        self.write_record();
        let frozen = self.freeze(stop)?;
        let id = format!("{}:{}", self.facts.project, self.facts.uuid);
        face.begin(&BatchBegun { id: &id, plan: self.machine.plan(), home: self.home });
        let mut effects = self.machine.begin(clock::wall());
        let status = loop {
            let mut finished = None;
            for effect in effects {
                match effect {
                    BatchEffect::Start(at) => self.start(at, &frozen, face, sender),
                    BatchEffect::Stop(at) => {
                        if let Some(process) = &self.processes[at] {
                            process.stop();
                        }
                    }
                    // A batch run by this owner has nothing to combine.
                    BatchEffect::Combine => {}
                    BatchEffect::Finish(status) => finished = Some(status),
                }
            }
            self.write_record();
            if let Some(status) = finished {
                break status;
            }
            effects = self.next(face, inbox);
        };
        face.finish(status);
        if let Some(file) = record {
            let written = serde_json::to_vec_pretty(&self.record()).map_err(io::Error::from);
            if let Err(error) = written.and_then(|text| file.write(&text)) {
                self.warnings.push(format!("cannot write {}: {error}", file.path().display()));
            }
        }
        let counting = (0..self.codes.len()).filter(|at| self.machine.counts(*at));
        let codes = counting.map(|at| self.codes[at]).collect();
        Ok(Over { status, codes, warnings: self.warnings })
    }

    fn freeze(&mut self, stop: &AtomicBool) -> Result<Vec<FrozenSource>, BatchError> {
        let Some(first) = self.children.first() else { return Ok(Vec::new()) };
        let FrozenSources { frozen, left_out } = freeze(&first.request, self.home, &self.dir, stop)
            .map_err(|error| match error.kind() {
                io::ErrorKind::Interrupted => BatchError::Stopped,
                _ => BatchError::Source(error),
            })?;
        self.facts.resolved_source_version =
            frozen.first().and_then(|frozen| frozen.facts.commit.clone());
        if let Some(path) = left_out.first() {
            let others = match left_out.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            self.warnings.push(format!(
                "not in the source that the builds saw, because you may not read it: {}{others}",
                path.display()
            ));
        }
        Ok(frozen)
    }

    /// Starts a build.
    fn start(
        &mut self,
        at: usize,
        frozen: &[FrozenSource],
        face: &mut dyn BatchDisplay,
        sender: &Sender<ChildEvent>,
    ) {
        let uuid = self.uuids[at];
        let planned = &self.machine.plan().builds[at];
        let member = BatchMembership {
            uuid,
            batch: BatchMember {
                arn: self.facts.arn.clone(),
                number: self.facts.number,
                identifier: planned.identifier.clone(),
            },
            owner: Some(std::process::id()),
            frozen: frozen.to_vec(),
            shard: planned.shard,
        };
        let child = &mut self.children[at];
        if let (Some(name), Some(tree)) = (&child.buildspec, frozen.first()) {
            child.request.buildspec =
                BuildspecFile::named_in(&child.request.source, &tree.dir, name);
        }
        child.request.member = Some(member);
        let dir = BuildDir::of(self.home, &uuid.to_string());
        let has_grown = Arc::new(AtomicBool::new(false));
        let followed = Followed {
            at,
            home: self.home.clone(),
            dir: dir.clone(),
            has_grown: Arc::clone(&has_grown),
            inbox: sender.clone(),
        };
        match child::start(&child.request, followed) {
            Ok(process) => {
                let id = format!("{}:{uuid}", self.facts.project);
                self.processes[at] = Some(process);
                face.started(at, Started { id, uuid: uuid.to_string(), dir, has_grown });
            }
            Err(error) => {
                face.refused(at, &format!("cannot start its process: {error}"), &[]);
                let ended = ChildEvent::Ended { at, status: Status::Fault, code: 3 };
                // The loop handles this end like any other.
                let _ = sender.send(ended);
            }
        }
        // The values are no longer needed.
        self.children[at].request.values.variables.clear();
    }

    /// Waits for the next event and returns the effects that follow from it.
    fn next(
        &mut self,
        face: &mut dyn BatchDisplay,
        inbox: &Receiver<ChildEvent>,
    ) -> Vec<BatchEffect> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let input = match inbox.recv_timeout(left) {
            Ok(ChildEvent::Grown(at)) => {
                face.grown(at);
                return Vec::new();
            }
            Ok(ChildEvent::Refused(at, refusal)) => {
                face.refused(at, &refusal.message, &refusal.hints);
                return Vec::new();
            }
            Ok(ChildEvent::Paused(at)) => BatchInput::Paused(at),
            Ok(ChildEvent::Resumed(at)) => BatchInput::Resumed(at),
            Ok(ChildEvent::Ended { at, status, code }) => {
                self.codes[at] = code;
                self.processes[at] = None;
                self.gather_reports(at);
                face.ended(at, status);
                BatchInput::Ended(at, status)
            }
            Ok(ChildEvent::Stop) => BatchInput::Stop,
            Err(RecvTimeoutError::Timeout) => {
                // Do not fire again.
                self.deadline = Instant::now() + Duration::from_secs(365 * 24 * 3600);
                BatchInput::TimeIsUp
            }
            // Cannot happen: the loop holds a sender.
            Err(RecvTimeoutError::Disconnected) => BatchInput::Stop,
        };
        let is_left = |machine: &BatchMachine, at| machine.stand(at) == Some(Stand::Left);
        let before: Vec<bool> =
            (0..self.codes.len()).map(|at| is_left(&self.machine, at)).collect();
        let effects = self.machine.apply(input, clock::wall());
        for (at, was_left) in before.into_iter().enumerate() {
            if !was_left && is_left(&self.machine, at) {
                face.left(at);
            }
        }
        effects
    }

    /// Adds the reports of an ended build to the batch's.
    fn gather_reports(&mut self, at: usize) {
        let dir = BuildDir::of(self.home, &self.uuids[at].to_string());
        // A build that has not begun has no record.
        let record = dir.record().ok().flatten();
        let found = record.into_iter().flat_map(|record| record.report_arns);
        self.reports.extend(found);
    }

    fn record(&self) -> BuildBatch {
        let report_arns = self.reports.clone();
        BuildBatch { report_arns, ..BuildBatch::of(&self.facts, &self.machine) }
    }

    fn write_record(&mut self) {
        let record = self.record();
        if let Err(error) = self.dir.write_record(&record) {
            let text = format!("cannot write the batch's record: {error}");
            if !self.warnings.contains(&text) {
                self.warnings.push(text);
            }
        }
    }
}
