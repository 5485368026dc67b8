//! Builds queued by `runner serve`: they have no folder, only a row in its database.

use super::error::CliError;
use runner_folder::state::{FolderChanges, Home, KnownBuild, Waited, known};
use runner_host::stdio::say;
use runner_service::db::builds::QueuedBuild;
use runner_service::db::waiting;
use std::io;
use std::time::{Duration, Instant};

/// How often a queued build that does not begin is checked.
const LOOK: Duration = Duration::from_secs(1);

/// Builds without a folder.
pub(super) fn all(home: &Home) -> Vec<QueuedBuild> {
    let mut all = waiting(home.root()).unwrap_or_else(|error| {
        say(&format!("warning: the queue of `runner serve` is not shown: {error}"));
        Vec::new()
    });
    all.retain(|one| known(home, &one.uuid).ok().flatten().is_none());
    all
}

/// The build named by its id, its uuid, or a unique prefix of either.
pub(super) fn named(home: &Home, wanted: &str) -> Option<QueuedBuild> {
    let is_meant = |one: &QueuedBuild| one.id.starts_with(wanted) || one.uuid.starts_with(wanted);
    let mut found = all(home).into_iter().filter(is_meant);
    let first = found.next().filter(|_| !wanted.is_empty())?;
    found.next().is_none().then_some(first)
}

/// What happened to a queued build.
pub(super) enum Became {
    Begun(KnownBuild),
    /// It ended in the queue.
    Ended,
    /// The time is up, with the reason if the queue could not be read.
    TimeIsUp(Option<String>),
}

/// Waits for a build to begin.
pub(super) fn begins(
    home: &Home,
    one: &QueuedBuild,
    deadline: Option<Instant>,
) -> Result<Became, CliError> {
    let failed = |error: io::Error| CliError::ours(format!("cannot wait for a build: {error}"));
    let changes = FolderChanges::of_builds(&home.builds()).map_err(failed)?;
    loop {
        // An unreadable database is tried again.
        let (is_waiting, unseen) = match waiting(home.root()) {
            Ok(all) => (all.iter().any(|other| other.uuid == one.uuid), None),
            Err(error) => (true, Some(error.to_string())),
        };
        if let Ok(Some(begun)) = known(home, &one.uuid) {
            return Ok(Became::Begun(begun));
        }
        if !is_waiting {
            return Ok(Became::Ended);
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Became::TimeIsUp(unseen));
        }
        let look = now + LOOK;
        let until = deadline.map_or(look, |deadline| deadline.min(look));
        let (Waited::Changed(_) | Waited::TimeIsUp) = changes.wait(Some(until)).map_err(failed)?;
    }
}
