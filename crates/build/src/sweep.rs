//! What a killed runner left behind, put right by the next command.
//!
//! A build whose lock is free while it is still listed as live was never ended: its owner was
//! killed, or the machine lost power. It is not continued. Its container, which ends with its owner
//! by itself, is made sure of, its layer removed, and its record says FAULT.

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

/// Why such a build failed, for its record.
const REASON: &str = "the runner that owned this build was killed before the build had ended";

/// What was found.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// Builds ended.
    pub ended: Vec<String>,
    /// Builds that had come to their end, and of which something was left.
    pub cleared: Vec<String>,
    /// What could not be put right, and why; the next command tries again.
    pub problems: Vec<String>,
}

/// Looks at every build listed as live.
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

/// What there was to do for a build.
enum Swept {
    Nothing,
    /// It was dead, and is now ended.
    Ended,
    /// It had ended, and what was left of it is removed.
    Cleared,
}

fn sweep_one(home: &Home, uuid: &str) -> io::Result<Swept> {
    let dir = BuildDir::of(home, uuid);
    if !dir.path().exists() {
        let Some(_listing) = dir.take_listing()? else { return Ok(Swept::Nothing) };
        // Killed while its folder was being made.
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
        // It has come to its own end since it was found.
        return Ok(Swept::Nothing);
    }
    // Before what there is of a build that had not begun goes, and this with it.
    let (noted, staging) = match dir.meta() {
        Ok(Some(meta)) => (meta.engine, meta.staging),
        // What it has made, only its own version knows.
        Err(error @ MetaError::Version(_)) => return Err(io::Error::other(error)),
        // Notes that cannot be read now are there the next time.
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
        // A daemon that is gone for good must not keep the build from its end.
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

/// Completes log and record of a build that will not go on.
fn write_fault(dir: &BuildDir) -> io::Result<()> {
    let Some((log, mut timeline)) = LogWriter::reopen(dir)? else {
        // Killed before its first event: there is a folder and nothing to record.
        return remove_tree(dir.path());
    };
    if let Some(view) = timeline.view() {
        for event in log.append(last_words(view), view.last_event)? {
            timeline.take(&event);
        }
    }
    timeline.view().map_or(Ok(()), |view| dir.write_record(&record(view)))
}

/// What its log lacks.
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
