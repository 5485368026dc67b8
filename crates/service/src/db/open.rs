//! Opens the database: creates it, migrates it, or sets a damaged one aside.

use super::{Db, DbError};
use runner_host::users;
use rusqlite::{Connection, ErrorCode};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Statement number n, counted from 1, migrates version n - 1 to version n.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
];
/// The smallest page size in bytes.
const SMALLEST: u64 = 512;
/// Ending of a copy until it gets the database's name.
const RESTORING: &str = "restoring";
/// Key in `kv` that marks an older copy until its builds have been checked.
const RESTORED: &str = "restored";
const RESTORED_WORDS: &str = "its last copy replaces it: later projects are lost, and builds that \
                              wait in the copy count as ended: it does not say whether they have \
                              run";
/// "runr"
const APPLICATION: i32 = 0x7275_6e72;

/// An open database, and messages about how it was opened.
pub struct OpenedDatabase {
    pub db: Db,
    pub told: Vec<String>,
    /// Whether it is an older copy, or new because the old one was damaged.
    pub is_restored: bool,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseOpenError {
    #[error("{} is of version {found}, and this program knows {}", path.display(), MIGRATIONS.len())]
    Newer { path: PathBuf, found: usize },
    #[error("{} is of version {found}, and this program knows {}: `runner serve` is another program", path.display(), MIGRATIONS.len())]
    Other { path: PathBuf, found: usize },
    #[error("the file system of {} does not do what the database needs (locks and shared memory)", path.display())]
    FileSystem { path: PathBuf },
    #[error("cannot open the database: {0}")]
    Io(#[from] io::Error),
    #[error("cannot open the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The same path with another ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON")
}

/// The writer's connection, to a database of this version, and messages if the old one was damaged.
pub(super) fn prepare(path: &Path) -> Result<(Connection, Option<Vec<String>>), DatabaseOpenError> {
    let ready = beside(path, RESTORING);
    if !path.exists() && is_marked(&ready) {
        // The process that set the damaged one aside was killed before it had put the copy in
        // place.
        fs::rename(&ready, path)?;
        return Ok((whole(path)?, Some(vec![RESTORED_WORDS.to_owned()])));
    }
    match whole(path) {
        Ok(connection) => Ok((connection, None)),
        Err(DatabaseOpenError::Sqlite(error)) if is_broken(&error) => {
            let told = put_aside(path)?;
            Ok((whole(path)?, Some(told)))
        }
        Err(error) => Err(error),
    }
}

/// A connection while another process serves the database, which takes care of everything else.
pub(super) fn beside_server(path: &Path) -> Result<Connection, DatabaseOpenError> {
    have_descriptors()?;
    // Never created here: a server that is just starting creates its own.
    let flags =
        rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let found = version(&connection)?;
    if found != MIGRATIONS.len() {
        return Err(DatabaseOpenError::Other { path: path.to_owned(), found });
    }
    configure(&connection)?;
    Ok(connection)
}

fn is_broken(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn whole(path: &Path) -> Result<Connection, DatabaseOpenError> {
    // SQLite creates its files with the mode of the first one.
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    users::give(path)?;
    have_descriptors()?;
    let connection = Connection::open(path)?;
    let length = fs::metadata(path)?.len();
    let is_new = length == 0;
    if !is_new && length < SMALLEST {
        // It would be taken for an empty one.
        return Err(corrupt("it is cut off").into());
    }
    if is_new {
        connection.execute_batch("PRAGMA page_size=8192")?;
    }
    let version = version(&connection)?;
    if version > MIGRATIONS.len() {
        return Err(DatabaseOpenError::Newer { path: path.to_owned(), found: version });
    }
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(DatabaseOpenError::FileSystem { path: path.to_owned() });
    }
    configure(&connection)?;
    let health: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if health != "ok" {
        return Err(corrupt(&health).into());
    }
    migrate(&connection, path, version, MIGRATIONS)?;
    Ok(connection)
}

/// Checks that enough descriptors are left, since SQLite does not report that it could not open
/// more files: database, log, shared memory, temporary ones.
fn have_descriptors() -> io::Result<()> {
    const NEEDED: usize = 8;
    let spare: io::Result<Vec<_>> = (0..NEEDED).map(|_| fs::File::open("/dev/null")).collect();
    spare.map(drop)
}

fn corrupt(why: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(why.to_owned()))
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map(|version| usize::try_from(version).unwrap_or(usize::MAX))
}

/// Runs missing migrations, one version at a time, each entirely or not at all.
fn migrate(
    connection: &Connection,
    path: &Path,
    from: usize,
    steps: &[&str],
) -> Result<(), DatabaseOpenError> {
    if from == steps.len() {
        return Ok(());
    }
    if from > 0 {
        copy(connection, &beside(path, &format!("v{from}.bak")))?;
    }
    for (at, step) in steps.iter().enumerate().skip(from) {
        let next = at + 1;
        let whole = format!(
            "BEGIN IMMEDIATE; {step} PRAGMA application_id={APPLICATION}; PRAGMA user_version={next}; COMMIT"
        );
        if let Err(error) = connection.execute_batch(&whole) {
            let _ = connection.execute_batch("ROLLBACK");
            return Err(error.into());
        }
    }
    Ok(())
}

/// Copies the database to a path, which then holds the whole copy or its previous content.
pub(super) fn copy(connection: &Connection, to: &Path) -> Result<(), DbError> {
    let new = beside(to, "new");
    let failed = |error: io::Error| DbError::File(format!("{}: {error}", to.display()));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    users::give(&new).map_err(failed)?;
    let path = new.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    connection.execute("VACUUM INTO ?1", [path])?;
    fs::rename(&new, to).map_err(failed)
}

/// Marks a copy as old before it gets the database's name: the next process that opens it must
/// know, even if this one is killed.
/// this one is killed.
fn mark(path: &Path) -> Result<(), DatabaseOpenError> {
    let copy = Connection::open(path)?;
    // One file, with nothing next to it.
    copy.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(()))?;
    copy.execute("INSERT OR REPLACE INTO kv VALUES (?1, '')", [RESTORED])?;
    drop(copy);
    fs::File::open(path)?.sync_all()?;
    Ok(())
}

fn is_marked(path: &Path) -> bool {
    let look = || -> rusqlite::Result<bool> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        has_mark(&Connection::open_with_flags(path, flags)?)
    };
    path.exists() && look().unwrap_or(false)
}

/// Whether the database is an old copy whose builds have not been checked yet.
pub(super) fn has_mark(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) > 0 FROM kv WHERE k = ?1", [RESTORED], |row| row.get(0))
}

/// Removes the mark: the builds have been checked.
pub fn unmark(connection: &Connection) -> Result<(), DbError> {
    connection.execute("DELETE FROM kv WHERE k = ?1", [RESTORED])?;
    Ok(())
}

/// Sets a damaged database aside and puts the last copy in its place, if that is intact.
fn put_aside(path: &Path) -> Result<Vec<String>, DatabaseOpenError> {
    let backup = beside(path, "bak");
    let is_whole = || -> rusqlite::Result<bool> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let copy = Connection::open_with_flags(&backup, flags)?;
        let health: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        Ok(health == "ok" && version(&copy)? > 0)
    };
    let ready = beside(path, RESTORING);
    let has_copy = backup.exists() && is_whole().unwrap_or(false);
    if has_copy {
        fs::copy(&backup, &ready)?;
        mark(&ready)?;
    }
    let now = runner_host::clock::wall().epoch_millis() / 1000;
    let aside = format!("broken-{now}");
    for (file, to) in [
        (path.to_owned(), beside(path, &aside)),
        (with(path, "-wal"), with(&beside(path, &aside), "-wal")),
        (with(path, "-shm"), with(&beside(path, &aside), "-shm")),
    ] {
        match fs::rename(file, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    let mut told =
        vec![format!("the database was broken; it is {} now", beside(path, &aside).display())];
    if has_copy {
        fs::rename(&ready, path)?;
        told.push(RESTORED_WORDS.to_owned());
    } else {
        told.push(
            "there is no complete copy of it: projects and queued builds are lost".to_owned(),
        );
    }
    Ok(told)
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(connection: &Connection) -> i64 {
        connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE type='table'", [], |row| {
                row.get(0)
            })
            .expect("a count")
    }

    #[test]
    fn a_migration_is_whole_or_not_at_all_and_leaves_a_copy() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(super::super::FILE);
        let (connection, _) = prepare(&path).expect("a database");
        let before = tables(&connection);
        let known = MIGRATIONS.len();
        let with = |more: &'static str| [MIGRATIONS, &[more]].concat();
        let broken = with("CREATE TABLE more (a); CREATE TABLE more (a);");
        migrate(&connection, &path, known, &broken).expect_err("twice the same");
        let at =
            |connection: &Connection| (tables(connection), version(connection).expect("a version"));
        assert_eq!(at(&connection), (before, known));
        migrate(&connection, &path, known, &with("CREATE TABLE more (a);")).expect("migrated");
        assert_eq!(at(&connection), (before + 1, known + 1));
        let copy = Connection::open(beside(&path, &format!("v{known}.bak"))).expect("a copy");
        assert_eq!(at(&copy), (before, known));
        // This program does not know the new version.
        drop(connection);
        let bytes = fs::read(&path).expect("a file");
        let found = known + 1;
        assert!(
            matches!(prepare(&path), Err(DatabaseOpenError::Newer { found: newer, .. }) if newer == found)
        );
        assert_eq!(fs::read(&path).expect("a file"), bytes, "a newer one is not touched");
    }

    /// Builds of `runner run` are made anew from their folders; batches that have ended have an
    /// age.
    #[test]
    fn the_fifth_version() -> Result<(), DatabaseOpenError> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(super::super::FILE);
        let connection = Connection::open(&path)?;
        migrate(&connection, &path, 0, &MIGRATIONS[..4])?;
        connection.execute_batch(
            "INSERT INTO build (uuid, seq, project, number, state, origin, status, requested) VALUES
               ('a', 1, 'demo', 1, 'ended', 'run', 'SUCCEEDED', 5), ('b', 2, 'demo', 2, 'ended', 'serve', 'SUCCEEDED', 5);
             INSERT INTO batch (uuid, seq, project, number, state, status, requested, request, progress) VALUES
               ('c', 1, 'demo', 1, 'ended', 'FAILED', 5000, '{}',
                '{\"machine\": {\"phases\": [{\"startTime\": 5.0}, {\"startTime\": 7.5}]}}'),
               ('d', 2, 'demo', 2, 'ended', 'FAILED', 5000, '{}', '{}'),
               ('e', 3, 'demo', 3, 'live', 'IN_PROGRESS', 5000, '{}', '{}');",
        )?;
        migrate(&connection, &path, 4, &MIGRATIONS[..5])?;
        let builds: String =
            connection.query_row("SELECT group_concat(uuid) FROM build", [], |row| row.get(0))?;
        assert_eq!(builds, "b");
        let mut query = connection.prepare("SELECT ended FROM batch ORDER BY seq")?;
        let ended: Vec<Option<i64>> =
            query.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        assert_eq!(ended, [Some(7500), Some(5000), None]);
        Ok(())
    }

    #[test]
    fn a_broken_database_is_put_aside_for_its_last_copy() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(super::super::FILE);
        let opened = Db::open(dir.path()).expect("a database");
        opened
            .db
            .write_now(|connection| -> Result<_, DbError> {
                Ok(connection.execute("INSERT INTO kv VALUES ('a', 'b')", [])?)
            })
            .expect("written");
        opened.db.back_up().expect("a copy");
        drop(opened);
        // The mark of a copy is beside it.
        for (bytes, kept) in [(vec![b'x'; 8192], 2), (b"short".to_vec(), 2)] {
            fs::write(&path, bytes).expect("a file");
            let OpenedDatabase { db, told, .. } = Db::open(dir.path()).expect("a database");
            assert_eq!(told.len(), 2, "{told:?}");
            let count = db
                .read_now(|connection| -> Result<i64, DbError> {
                    Ok(connection.query_row("SELECT count(*) FROM kv", [], |row| row.get(0))?)
                })
                .expect("a count");
            assert_eq!(count, kept);
        }
        // As if the process was killed before the copy was in place; no file beside it belongs to
        // another database.
        fs::copy(beside(&path, "bak"), beside(&path, RESTORING)).expect("a copy");
        mark(&beside(&path, RESTORING)).expect("marked");
        for file in [path.clone(), with(&path, "-wal"), with(&path, "-shm")] {
            let _ = fs::remove_file(file);
        }
        let OpenedDatabase { told, is_restored, .. } = Db::open(dir.path()).expect("a database");
        assert!(is_restored && told.len() == 1, "{told:?}");
        fs::remove_file(beside(&path, "bak")).expect("gone");
        fs::write(&path, vec![b'x'; 8192]).expect("a file");
        let OpenedDatabase { told, .. } = Db::open(dir.path()).expect("a database");
        assert!(told[1].contains("lost"), "{told:?}");
    }

    #[test]
    fn work_that_fails_leaves_nothing_and_spoils_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let OpenedDatabase { db, .. } = Db::open(dir.path()).expect("a database");
        let insert = |key: &'static str, fails: bool| {
            db.submit(move |connection: &Connection| -> Result<(), DbError> {
                connection.execute("INSERT INTO kv VALUES (?1, '')", [key])?;
                if fails { Err(DbError::Closed) } else { Ok(()) }
            })
        };
        let answers =
            [insert("a", false), insert("b", true), insert("a", false), insert("c", false)];
        let done: Vec<bool> = answers
            .into_iter()
            .map(|answer| answer.blocking_recv().expect("an answer").is_ok())
            .collect();
        assert_eq!(done, [true, false, false, true]);
        let keys: Vec<String> = db
            .read_now(|connection| -> Result<_, DbError> {
                let mut query = connection.prepare("SELECT k FROM kv ORDER BY k")?;
                let rows = query.query_map([], |row| row.get(0))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
            .expect("keys");
        assert_eq!(keys, ["a", "c"]);
    }
}
