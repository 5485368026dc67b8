//! The cost of paused builds: memory, and the time to start the next one, with 1, 10 and 100 of
//! them.

use super::bed::{Bed, OwnedProcess};
use crate::ChoreResult;
use std::time::Instant;

/// Starts a hundred builds and leaves them at their breakpoints.
pub(super) fn measure(bed: &Bed) -> ChoreResult {
    println!(
        "### Paused builds\n\n| builds | start of the last, ms | memory of each, MiB |\n|---|---|---|"
    );
    let mut paused: Vec<OwnedProcess> = Vec::new();
    for count in [1, 10, 50, 100] {
        let mut last = 0.0;
        while paused.len() < count {
            let begin = Instant::now();
            paused.push(bed.paused()?);
            last = super::millis(begin.elapsed());
        }
        let kib: u64 = paused.iter().map(resident).sum();
        let each = kib as f64 / 1024.0 / count as f64;
        println!("| {count} | {last:.1} | {each:.1} |");
    }
    println!();
    Ok(())
}

/// Resident memory of a process, in KiB.
fn resident(process: &OwnedProcess) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id()));
    status
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
