//! Follows a build from outside by reading its folder.
//!
//! Used by `wait`, `stop` and `logs -f`. The log contains every event, even one that is over before
//! anyone looks; the kernel signals when to look (`state::Changes`).

use super::error::CliError;
use runner_build::sweep::sweep;
use runner_core::record::Build;
use runner_folder::events::Follower;
use runner_folder::state::{FolderChanges, Home, KnownBuild, Waited};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// How long an ended build's owner may take to release it; it waits for its readers.
const SETTLING: Duration = Duration::from_secs(2);

/// Delay after the last change before the build is checked once more.
const AGAIN: Duration = Duration::from_millis(300);

pub(super) struct FollowedBuild<'a> {
    home: &'a Home,
    known: &'a KnownBuild,
    changes: FolderChanges,
    log: Option<Follower>,
    is_paused: bool,
    pauses: u32,
    record: Option<Build>,
    /// Deadline for the owner of an ended build to release it.
    settles: Option<Instant>,
    /// When to look again after a change: the kernel reports that a lock is released a moment
    /// before it is free.
    again: Option<Instant>,
}

impl<'a> FollowedBuild<'a> {
    /// Follows a build from its beginning.
    pub(super) fn of(home: &'a Home, known: &'a KnownBuild) -> Result<Self, CliError> {
        // Watch before the first look, so that nothing in between is missed.
        let changes = FolderChanges::of_build(known.dir.path(), known.dir.listing())
            .map_err(|error| not_followed(known, &error))?;
        let mut course = FollowedBuild {
            home,
            known,
            changes,
            log: None,
            is_paused: false,
            pauses: 0,
            record: None,
            settles: None,
            again: None,
        };
        course.look()?;
        Ok(course)
    }

    /// Waits for the next change. Returns false if the time is up.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Result<bool, CliError> {
        self.next_or(until, None)
    }

    /// Like `next`, but also returns when another descriptor is readable.
    pub(super) fn next_or(
        &mut self,
        until: Option<Instant>,
        other: Option<BorrowedFd<'_>>,
    ) -> Result<bool, CliError> {
        let first = until.into_iter().chain(self.settles).chain(self.again).min();
        match self.changes.wait_or(first, other) {
            Ok(Waited::TimeIsUp) if self.settles.is_some() && self.settles == first => {
                self.look().map(|()| true)
            }
            Ok(Waited::TimeIsUp) if self.again.is_some() && self.again == first => {
                self.again = None;
                self.look().map(|()| true)
            }
            Ok(Waited::TimeIsUp) => Ok(false),
            Ok(Waited::Changed(_)) => {
                self.again = Some(Instant::now() + AGAIN);
                self.look().map(|()| true)
            }
            Err(error) => Err(not_followed(self.known, &error)),
        }
    }

    /// Whether it is paused now.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Number of pauses, the current one included.
    pub(super) fn pauses(&self) -> u32 {
        self.pauses
    }

    /// Its record, once it has ended and its leftovers are removed.
    pub(super) fn record(&self) -> Option<&Build> {
        self.record.as_ref()
    }

    fn look(&mut self) -> Result<(), CliError> {
        self.read().map_err(|error| not_followed(self.known, &error))?;
        let dir = &self.known.dir;
        if !dir.is_owned() {
            // Ended or killed; a killed build is ended by the next command.
            if !dir.has_record() {
                let report = sweep(self.home)?;
                super::home::tell(&report);
            }
            self.read().map_err(|error| not_followed(self.known, &error))?;
            // Another process is ending it.
            if !dir.has_record() && dir.is_owned() {
                return Ok(());
            }
            if !dir.has_record() {
                return Err(CliError::ours(format!(
                    "build {} was killed, and cannot be ended",
                    self.known.id
                )));
            }
        } else if !dir.has_record() || dir.is_listed() {
            return Ok(());
        } else if *self.settles.get_or_insert_with(|| Instant::now() + SETTLING) > Instant::now() {
            // Its last event may still be on its way to a reader.
            return Ok(());
        }
        self.record = dir.record().map_err(|error| not_followed(self.known, &error))?;
        Ok(())
    }

    /// Reads new events of the log.
    fn read(&mut self) -> io::Result<()> {
        if self.log.is_none() {
            match Follower::open(&self.known.dir) {
                Ok(log) => self.log = Some(log),
                // The build has not begun.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if let Some(log) = &mut self.log
            && let Some(view) = log.catch_up()?
        {
            self.is_paused = !view.paused.is_empty();
            self.pauses = view.pauses;
        }
        Ok(())
    }
}

fn not_followed(known: &KnownBuild, error: &io::Error) -> CliError {
    CliError::ours(format!("cannot follow build {}: {error}", known.id))
}
