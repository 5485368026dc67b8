//! What a killed runner left behind, put right by the next command.
//!
//! A build whose lock is free while it is still listed as live was never ended: its owner was
//! killed, or the machine lost power. It is not continued. Its container, which ends with its owner
//! by itself, is made sure of, its layer removed, and its record says FAULT.

use crate::engine::daemon;
use crate::events::LogReader;
use crate::outputs;
use crate::state::{BuildDir, ContainerFile, Home, StateError, remove_tree};
use runner_core::event::{Event, EventBody};
use runner_core::phase::{Phase, PhaseContext, Status};
use runner_core::record::record;
use runner_core::view::BuildView;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Why such a build failed, for its record.
const REASON: &str = "the runner that owned this build was killed before the build had ended";

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct SweepReport {
    /// Builds ended.
    pub(crate) ended: Vec<String>,
    /// Builds that had come to their end, and of which something was left.
    pub(crate) cleared: Vec<String>,
    /// What could not be put right, and why; the next command tries again.
    pub(crate) problems: Vec<String>,
}

/// Looks at every build listed as live.
pub(crate) fn sweep(home: &Home) -> Result<SweepReport, StateError> {
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
    let (layers, groups, staging) = dir.meta().map_or_else(
        |_| (vec![dir.layer()], Vec::new(), Vec::new()),
        |meta| (meta.layers, meta.groups, meta.staging),
    );
    let left = end_container(&dir, uuid)?;
    let has_ended = dir.record()?.is_some();
    if !has_ended {
        // A daemon that is gone for good must not keep the build from its end.
        write_fault(&dir)?;
    }
    for half_made in staging {
        outputs::remove_staging(&half_made)?;
    }
    for group in groups {
        runner_sandbox::remove_group(&group)?;
    }
    crate::engine::process::release(&layers);
    dir.remove_leftovers(&layers)?;
    dir.retire()?;
    match left {
        Some(error) => Err(error),
        None if has_ended => Ok(Swept::Cleared),
        None => Ok(Swept::Ended),
    }
}

/// What is left at a daemon, and why, is the answer.
fn end_container(dir: &BuildDir, uuid: &str) -> io::Result<Option<io::Error>> {
    // It ends by itself when its runner is gone, unless it cannot.
    Ok(match dir.container()? {
        Some(ContainerFile::Process { pid, start_time }) => {
            runner_sandbox::end(pid, start_time)?;
            None
        }
        Some(ContainerFile::Daemon { program, address, image }) => {
            let (address, image) = (address.as_deref(), image.as_deref());
            daemon::remove_leftover(&program, address, image, uuid).err()
        }
        None => None,
    })
}

/// Completes log and record of a build that will not go on.
fn write_fault(dir: &BuildDir) -> io::Result<()> {
    let mut reader = match LogReader::open(dir) {
        // Killed before it had a log.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return remove_tree(dir.path()),
        opened => opened?,
    };
    let mut view: Option<BuildView> = None;
    let mut last: Option<Event> = None;
    while let Some(event) = reader.next_event()? {
        match &mut view {
            None => view = BuildView::from_first(&event),
            Some(view) => view.fold(&event),
        }
        last = Some(event);
    }
    // Killed before its first event: there is a folder and nothing to record.
    let (Some(mut view), Some(last)) = (view, last) else { return remove_tree(dir.path()) };
    let context = PhaseContext::new("INTERNAL_SERVICE_ERROR", REASON);
    let mut bodies = Vec::new();
    if view.phases.last().is_some_and(|phase| phase.status == Status::InProgress) {
        bodies.push(EventBody::PhaseEnded {
            phase: view.phase(),
            status: Status::Fault,
            contexts: vec![context],
            duration_ms: u64::try_from(last.time.0 - view.phases.last().map_or(0, |p| p.started.0))
                .unwrap_or(0)
                / 1000,
        });
    }
    if view.ended.is_none() {
        bodies.push(EventBody::PhaseStarted { phase: Phase::Completed });
        bodies
            .push(EventBody::BuildEnded { status: Status::Fault, reason: Some(REASON.to_owned()) });
    }
    append(&dir.events(), reader.position(), &last, bodies, &mut view)?;
    dir.write_record(&record(&view))
}

fn append(
    path: &Path,
    end: u64,
    last: &Event,
    bodies: Vec<EventBody>,
    view: &mut BuildView,
) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    // A line that was torn by the kill is not there.
    file.set_len(end)?;
    io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
    for (seq, body) in (last.seq + 1..).zip(bodies) {
        let event = Event { seq, time: last.time, build_id: last.build_id.clone(), body };
        let mut line = event.to_line()?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        view.fold(&event);
    }
    Ok(())
}
