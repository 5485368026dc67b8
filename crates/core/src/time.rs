//! Points in time, passed in by the caller.
//!
//! Core has no clock: `crates/build/src/driver` reads both clocks and passes the values in. Wall
//! time is for people and records. Boot time is for measuring, because it neither jumps nor stops
//! while a laptop sleeps.

use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use jiff::fmt::strtime;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::time::Duration;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Wall-clock time.
    pub wall: WallTime,
    /// Time since the machine booted, including sleep (`CLOCK_BOOTTIME`).
    pub boot: Duration,
}

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub i64);

impl WallTime {
    fn to_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).unwrap_or_default()
    }

    /// Formats as `2026/07/13 13:33:18.140066` in UTC, as in CodeBuild's log lines.
    #[must_use]
    pub fn log_form(self) -> String {
        strtime::format("%Y/%m/%d %H:%M:%S.%6f", self.to_jiff())
            .unwrap_or_else(|_| self.0.to_string())
    }

    /// Seconds since 1970 with a fraction, as in CodeBuild's API.
    #[must_use]
    pub fn epoch_seconds(self) -> f64 {
        // Whole milliseconds, as in AWS: exact in a double for the next 280,000 years.
        (self.0 / 1000) as f64 / 1000.0
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn epoch_millis(self) -> i64 {
        self.0 / 1000
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC with microseconds.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match strtime::format("%Y-%m-%dT%H:%M:%S.%6fZ", self.to_jiff()) {
            Ok(text) => formatter.write_str(&text),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        Ok(WallTime(time.as_microsecond()))
    }
}

/// Formats a duration for people: `1 hour 30 minutes`, `300 milliseconds`.
#[must_use]
pub fn in_words(length: Duration) -> String {
    let printer = SpanPrinter::new()
        .designator(Designator::Verbose)
        .spacing(Spacing::BetweenUnitsAndDesignators);
    printer.unsigned_duration_to_string(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_every_form() {
        let time = WallTime(1_783_949_598_140_066);
        assert_eq!(time.log_form(), "2026/07/13 13:33:18.140066");
        assert_eq!(time.to_string(), "2026-07-13T13:33:18.140066Z");
        assert_eq!(time.epoch_seconds(), 1_783_949_598.14);
        let text = serde_json::to_string(&time).expect("a text");
        assert_eq!(serde_json::from_str::<WallTime>(&text).expect("the same"), time);
    }

    #[test]
    fn lengths_are_told_in_the_units_they_are_given_in() {
        let told = |millis| in_words(Duration::from_millis(millis));
        assert_eq!(told(300), "300 milliseconds");
        assert_eq!(told(1_000), "1 second");
        assert_eq!(told(5_400_000), "1 hour 30 minutes");
    }
}
