//! The writer: one thread, a queue of jobs, and one transaction for all jobs waiting at a time.

use super::DbError;
use rusqlite::Connection;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Maximum jobs of one transaction.
const GROUP: usize = 256;

/// Sends a job's result once it is certain, with the error if it was lost after all.
type Tell = Box<dyn FnOnce(Option<DbError>) + Send>;
/// Runs the job; returns whether it succeeded, and how to report it.
pub(super) type WriteJob = Box<dyn FnOnce(&Connection) -> (bool, Tell) + Send>;

pub(super) struct DatabaseWriter {
    queue: Mutex<Option<Sender<WriteJob>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DatabaseWriter {
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (queue, work) = channel();
        let run = move || Turns { connection }.run(&work);
        let thread = Builder::new().name("database".to_owned()).spawn(run)?;
        Ok(DatabaseWriter { queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submit(&self, work: WriteJob) {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // If the writer is gone, the job is dropped, which its requester notices.
            let _ = queue.send(work);
        }
    }
}

impl Drop for DatabaseWriter {
    /// Waiting jobs are still done.
    fn drop(&mut self) {
        self.queue.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

struct Turns {
    connection: Connection,
}

impl Turns {
    fn run(&self, queue: &Receiver<WriteJob>) {
        while let Ok(first) = queue.recv() {
            self.turn(first, queue);
        }
    }

    /// Runs a job together with those that arrived meanwhile, so that jobs share one write to disk.
    fn turn(&self, first: WriteJob, queue: &Receiver<WriteJob>) {
        let mut told_later: Vec<Tell> = Vec::new();
        let done = self.connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            let mut next = Some(first);
            while let Some(work) = next {
                self.connection.execute_batch("SAVEPOINT work")?;
                let (is_done, tell) = work(&self.connection);
                told_later.push(tell);
                let end = if is_done { "RELEASE work" } else { "ROLLBACK TO work; RELEASE work" };
                self.connection.execute_batch(end)?;
                let has_room = told_later.len() < GROUP;
                next = has_room.then(|| queue.try_recv().ok()).flatten();
            }
            self.connection.execute_batch("COMMIT")
        });
        let lost = done.err().map(|error| {
            // SQLite may have rolled back by itself.
            let _ = self.connection.execute_batch("ROLLBACK");
            DbError::from(error)
        });
        for tell in told_later {
            tell(lost.clone());
        }
    }
}
