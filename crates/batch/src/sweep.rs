//! Repairs what a killed owner left behind. Run by the next command, after the builds were
//! repaired.

use runner_core::phase::Status;
use runner_folder::state::{BatchDir, BuildDir, Home, StateError, listed_batches};
use runner_host::clock;
use std::io;

/// Why such a batch failed; written to its record.
const REASON: &str = "the runner that owned this batch was killed before the batch had ended";

/// Checks every batch listed as live. Returns the ids of those it ended, and messages about those
/// it could not repair.
pub fn sweep(home: &Home) -> Result<(Vec<String>, Vec<String>), StateError> {
    let (mut ended, mut problems) = (Vec::new(), Vec::new());
    for dir in listed_batches(home)? {
        match sweep_one(home, &dir) {
            Ok(Some(id)) => ended.push(id),
            Ok(None) => {}
            Err(error) => problems.push(format!("batch in {}: {error}", dir.path().display())),
        }
    }
    Ok((ended, problems))
}

fn sweep_one(home: &Home, dir: &BatchDir) -> io::Result<Option<String>> {
    let Some(_owned) = dir.take_over()? else { return Ok(None) };
    let mut id = None;
    if let Some(mut record) = dir.record()? {
        let uuid = |arn: &str| arn.rsplit(':').next().unwrap_or_default().to_owned();
        let is_alive = |arn: &str| BuildDir::of(home, &uuid(arn)).is_owned();
        let mut summaries = record.build_groups.iter().map(|group| &group.current_build_summary);
        if summaries.any(|summary| is_alive(&summary.arn)) {
            // The batch is about to end and needs the source until then.
            return Ok(None);
        }
        if !record.complete {
            let status_of = |arn: &str| {
                let dir = BuildDir::of(home, &uuid(arn));
                let record = dir.record().ok().flatten();
                record
                    .map(|record| record.build_status)
                    .or(dir.path().exists().then_some(Status::Fault))
            };
            record.fault(REASON, clock::wall(), status_of);
            dir.write_record(&record)?;
            id = Some(record.id);
        }
    }
    dir.retire()?;
    Ok(id)
}
