//! The two clocks. Only this module reads them; core gets the time as an argument.

use nix::time::{ClockId, clock_gettime};
use runner_core::time::{Timestamp, WallTime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current wall-clock time.
pub fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Time since boot, suspended time included.
pub fn boot() -> Duration {
    // Fails only for a clock that does not exist; this one has since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The current time on both clocks.
pub fn now() -> Timestamp {
    Timestamp { wall: wall(), boot: boot() }
}
