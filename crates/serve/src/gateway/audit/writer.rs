//! The thread that writes records. Their file is locked and a disk may be slow, so tasks that serve
//! calls do not write.
//!
//! Records are written in the order of arrival.

use super::record::AuditRecord;
use super::segments::Segments;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use tokio::sync::oneshot;

/// The logs of actions and of refusals.
#[derive(Debug)]
pub(super) struct AuditFiles {
    pub(super) done: Segments,
    pub(super) refused: Segments,
}

enum AuditJob {
    Done(Box<AuditRecord>),
    Refused(Box<AuditRecord>),
    /// Allocates room for the next line.
    Reserve(oneshot::Sender<io::Result<()>>),
    /// Removes old files.
    Sweep,
    /// Answered once all earlier jobs are done.
    Barrier(oneshot::Sender<()>),
}

/// Passes records to the thread, which starts with the first record and ends when this is dropped.
#[derive(Debug)]
pub(super) struct AuditWriter {
    files: Arc<AuditFiles>,
    jobs: OnceLock<Option<Sender<AuditJob>>>,
}

impl AuditWriter {
    pub(super) fn new(files: Arc<AuditFiles>) -> Self {
        AuditWriter { files, jobs: OnceLock::new() }
    }

    pub(super) fn done(&self, record: AuditRecord) {
        self.give(AuditJob::Done(Box::new(record)));
    }

    pub(super) fn refused(&self, record: AuditRecord) {
        self.give(AuditJob::Refused(Box::new(record)));
    }

    pub(super) fn sweep(&self) {
        self.give(AuditJob::Sweep);
    }

    /// Allocates room for a line.
    pub(super) async fn reserve(&self) -> io::Result<()> {
        let (done, is_done) = oneshot::channel();
        self.give(AuditJob::Reserve(done));
        is_done.await.map_err(io::Error::other)?
    }

    /// Resolves when all earlier records are written.
    pub(super) async fn written(&self) {
        if self.jobs.get().is_some() {
            let (done, is_done) = oneshot::channel();
            self.give(AuditJob::Barrier(done));
            let _ = is_done.await;
        }
    }

    fn give(&self, job: AuditJob) {
        let jobs = self.jobs.get_or_init(|| {
            let (jobs, queue) = channel();
            let files = Arc::clone(&self.files);
            let thread = std::thread::Builder::new().name("audit".to_owned());
            let started = thread.spawn(move || write_all(&files, &queue));
            started.is_ok().then_some(jobs)
        });
        // Without a thread the job is done here.
        match jobs {
            None => perform(&self.files, job),
            Some(jobs) => {
                if let Err(lost) = jobs.send(job) {
                    perform(&self.files, lost.0);
                }
            }
        }
    }
}

fn write_all(files: &AuditFiles, queue: &Receiver<AuditJob>) {
    while let Ok(job) = queue.recv() {
        perform(files, job);
    }
}

fn perform(files: &AuditFiles, job: AuditJob) {
    match job {
        AuditJob::Done(record) => append(&files.done, &record),
        AuditJob::Refused(record) => append(&files.refused, &record),
        AuditJob::Sweep => {
            if let Err(error) = files.done.sweep() {
                tracing::warn!(%error, "cannot remove old audit records");
            }
        }
        // The receiver may be gone.
        AuditJob::Reserve(done) => drop(done.send(files.done.reserve())),
        AuditJob::Barrier(done) => drop(done.send(())),
    }
}

/// If a line cannot be written, only this program's log says so: a full disk must not lock the
/// owner out of their builds.
fn append(segments: &Segments, record: &AuditRecord) {
    if let Err(error) = segments.append(record) {
        tracing::warn!(%error, path = %segments.path().display(), "cannot write an audit record");
    }
}
