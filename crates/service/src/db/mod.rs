//! The database of `runner serve`: what cannot be read from build folders. One file, one writer.
//!
//! Every response is preceded by a write to disk: a transaction of the writer ends with a sync,
//! shared by all waiting jobs. The statements of each table are in one source file.

pub mod batches;
pub mod builds;
mod open;
pub mod projects;
pub mod streams;
pub mod tokens;
mod writer;

pub use open::{DatabaseOpenError, OpenedDatabase, unmark};

use open::configure;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use writer::DatabaseWriter;

/// Name of the file in the state folder.
pub const FILE: &str = "serve.db";

/// A statement failed, and its transaction was rolled back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    #[error("no space left on the disk of the database: free some there")]
    Full,
    #[error("the database: {0}")]
    Sqlite(String),
    /// Error of a file next to the database.
    #[error("{0}")]
    File(String),
    #[error("the database cannot be written now")]
    Closed,
}

impl From<rusqlite::Error> for DbError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => DbError::Full,
            _ => DbError::Sqlite(error.to_string()),
        }
    }
}

/// Connects to a database that another process serves; it must be of this program's version.
pub(crate) fn open_served(folder: &Path) -> Result<Connection, DatabaseOpenError> {
    open::beside_server(&folder.join(FILE))
}

/// The queued builds, readable by any process; empty if there is no database.
///
/// # Errors
/// The database cannot be read now, or has another version.
pub fn waiting(folder: &Path) -> Result<Vec<builds::QueuedBuild>, DatabaseOpenError> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(builds::waiting(&open::beside_server(&path)?)?)
}

/// Runs `work` in a transaction of this connection and rolls back if it fails.
pub(crate) fn transaction<T, E: From<DbError>>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(DbError::from)?;
    let done = work(connection).and_then(|done| {
        connection.execute_batch("COMMIT").map_err(DbError::from)?;
        Ok(done)
    });
    if done.is_err() {
        // SQLite may have rolled back by itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    done
}

/// The database, shared.
#[derive(Clone)]
pub struct Db(Arc<DatabaseInner>);

struct DatabaseInner {
    path: PathBuf,
    // Closed first: the last connection to close merges the log into the file, which a reader
    // cannot do.
    reader: Mutex<Connection>,
    writer: DatabaseWriter,
}

impl Db {
    /// Opens the database of a state folder and creates it if missing. The caller holds the
    /// folder's `serve.lock`.
    pub fn open(folder: &Path) -> Result<OpenedDatabase, DatabaseOpenError> {
        let path = folder.join(FILE);
        let (connection, told) = open::prepare(&path)?;
        let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        configure(&reader)?;
        let writer = DatabaseWriter::start(connection)?;
        let db = Db(Arc::new(DatabaseInner { path, reader: Mutex::new(reader), writer }));
        let is_restored =
            db.read_now(|connection| open::has_mark(connection).map_err(DbError::from))?;
        Ok(OpenedDatabase { db, told: told.unwrap_or_default(), is_restored })
    }

    /// Runs `work` in a transaction and resolves when it is on disk. Rolls back if it fails.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.submit(work).await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Like `write`, for threads.
    pub fn write_now<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.submit(work).blocking_recv().unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    fn submit<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, E>>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        self.0.writer.submit(Box::new(move |connection| {
            let result = work(connection);
            let is_done = result.is_ok();
            let tell = move |lost: Option<DbError>| {
                // The requester may be gone.
                let _ = answer.send(match lost {
                    Some(error) if is_done => Err(error.into()),
                    _ => result,
                });
            };
            (is_done, Box::new(tell))
        }));
        answered
    }

    /// Reads; blocks.
    pub fn read_now<T, E: From<DbError>>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        look(&self.0.reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads on a thread where it blocks nobody else.
    pub async fn read<T, E>(
        &self,
        look: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let db = self.clone();
        let read = tokio::task::spawn_blocking(move || db.read_now(look));
        read.await.unwrap_or_else(|_| Err(DbError::Closed.into()))
    }

    /// Writes a copy next to the database, in case it is damaged later.
    pub fn back_up(&self) -> Result<(), DbError> {
        self.read_now(|connection| open::copy(connection, &open::beside(&self.0.path, "bak")))
    }
}
