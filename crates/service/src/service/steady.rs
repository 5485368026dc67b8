//! A clock that nobody can set: the wall clock's time at the service's start, plus the time since.
//!
//! Deadlines use it. Setting the wall clock meanwhile neither ends a build early nor keeps one.

use runner_core::time::Timestamp;
use runner_host::clock;

pub(crate) struct Steady {
    began: Timestamp,
}

impl Steady {
    pub(crate) fn start() -> Self {
        Steady { began: clock::now() }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.at(clock::now())
    }

    fn at(&self, now: Timestamp) -> i64 {
        let since = now.boot.saturating_sub(self.began.boot).as_millis();
        self.began.wall.epoch_millis() + i64::try_from(since).unwrap_or(i64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::time::WallTime;
    use std::time::Duration;

    #[test]
    fn a_clock_that_is_set_makes_no_difference() {
        let at = |wall: i64, boot: u64| Timestamp {
            wall: WallTime(wall * 1_000_000),
            boot: Duration::from_secs(boot),
        };
        let clock = Steady { began: at(1000, 50) };
        for wall in [0, 1, 1005, 99_999] {
            assert_eq!(clock.at(at(wall, 55)), 1_005_000);
        }
    }
}
