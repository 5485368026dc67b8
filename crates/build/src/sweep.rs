//! Repairs what a killed runner left behind. Run by the next command.
//!
//! A build that is listed as live but whose lock is free did not end properly: its owner was
//! killed, or the machine lost power. It is not continued. The sweep makes sure that its container
//! has ended, removes its layer, and writes a record with status FAULT.

use crate::services;
use runner_core::event::EventBody;
use runner_core::phase::{Phase, PhaseContext, Status, StatusCode};
use runner_core::record::record;
use runner_core::view::BuildView;
use runner_engine::leftover::{EngineFolder, Leavings};
use runner_folder::events::LogWriter;
use runner_folder::state::{BuildDir, Home, MetaError, StateError};
use runner_host::private::remove_tree;
use runner_outputs as outputs;
use serde_json::Map;
use std::fs;
use std::io;

/// Why such a build failed; written to its record.
const REASON: &str = "the runner that owned this build was killed before the build had ended";

/// The result of a sweep.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// Builds that were ended.
    pub ended: Vec<String>,
    /// Finished builds whose leftovers were removed.
    pub cleared: Vec<String>,
    /// Problems that could not be repaired, with the reason; the next command tries again.
    pub problems: Vec<String>,
}

/// Checks every build listed as live.
pub fn sweep(home: &Home) -> Result<SweepReport, StateError> {
    let mut report = SweepReport::default();
    let live = home.live();
    let failed = |error| StateError::new("list", &live, error);
    for entry in fs::read_dir(&live).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(uuid) = entry.file_name().into_string() else { continue };
        match sweep_one(home, &uuid) {
            Ok(Swept::Ended) => report.ended.push(uuid),
            Ok(Swept::Cleared) => report.cleared.push(uuid),
            Ok(Swept::Nothing) => {}
            Err(error) => report.problems.push(format!("build {uuid}: {error}")),
        }
    }
    Ok(report)
}

/// What was done for a build.
enum Swept {
    Nothing,
    /// It was dead and has been ended.
    Ended,
    /// It had ended; its leftovers were removed.
    Cleared,
}

fn sweep_one(home: &Home, uuid: &str) -> io::Result<Swept> {
    let dir = BuildDir::of(home, uuid);
    if !dir.path().exists() {
        let Some(_listing) = dir.take_listing()? else { return Ok(Swept::Nothing) };
        // The runner was killed while creating the build's folder.
        let unfinished = home.builds().join(format!(".new-{uuid}"));
        let was_begun = unfinished.exists();
        if was_begun {
            remove_tree(&unfinished)?;
        }
        dir.retire()?;
        return Ok(if was_begun { Swept::Ended } else { Swept::Nothing });
    }
    let Some(_owned) = dir.take_over()? else { return Ok(Swept::Nothing) };
    if !dir.is_listed() {
        // The build has ended properly since it was found.
        return Ok(Swept::Nothing);
    }
    // Read this first: the folder of a build that had not begun is removed below.
    let (noted, staging) = match dir.meta() {
        Ok(Some(meta)) => (meta.engine, meta.staging),
        // Only the version that wrote the notes knows what it created.
        Err(error @ MetaError::Version(_)) => return Err(io::Error::other(error)),
        // Notes that are unreadable now may be readable the next time.
        Err(MetaError::Damaged { source, .. }) if source.raw_os_error().is_some() => {
            return Err(source);
        }
        Ok(None) | Err(MetaError::Damaged { .. }) => (Map::new(), Vec::new()),
    };
    let folder = EngineFolder::of(dir.path());
    let leavings = Leavings::read(noted, &folder);
    let left = folder.end_container(uuid)?;
    let has_ended = dir.has_record();
    if !has_ended {
        // A daemon that is gone for good must not prevent the build from being ended.
        write_fault(&dir)?;
    }
    for half_made in staging {
        outputs::remove_staging(&half_made)?;
    }
    let services = services::clear_all(dir.path());
    leavings.remove_groups()?;
    services.and(folder.clear(&leavings)).and(dir.remove_leftovers())?;
    dir.retire()?;
    match left {
        Some(error) => Err(error),
        None if has_ended => Ok(Swept::Cleared),
        None => Ok(Swept::Ended),
    }
}

/// Completes log and record of a build that will not continue.
fn write_fault(dir: &BuildDir) -> io::Result<()> {
    let Some((log, mut timeline)) = LogWriter::reopen(dir)? else {
        // It was killed before its first event: there is a folder, and nothing to record.
        return remove_tree(dir.path());
    };
    if let Some(view) = timeline.view() {
        for event in log.append(last_words(view), view.last_event)? {
            timeline.take(&event);
        }
    }
    timeline.view().map_or(Ok(()), |view| dir.write_record(&record(view)))
}

/// The events missing from its log.
fn last_words(view: &BuildView) -> Vec<EventBody> {
    let mut bodies = Vec::new();
    if let Some(phase) = view.phases.last()
        && phase.status == Status::InProgress
    {
        let micros = u64::try_from(view.last_event.0 - phase.started.0).unwrap_or(0);
        bodies.push(EventBody::PhaseEnded {
            phase: phase.phase,
            status: Status::Fault,
            contexts: vec![PhaseContext::new(StatusCode::InternalServiceError, REASON)],
            duration_ms: micros / 1000,
        });
    }
    if view.ended.is_none() {
        bodies.push(EventBody::PhaseStarted { phase: Phase::Completed });
        bodies
            .push(EventBody::BuildEnded { status: Status::Fault, reason: Some(REASON.to_owned()) });
    }
    bodies
}
