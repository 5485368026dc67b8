//! Resource limits, and how often the kernel has enforced them.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::fmt;

/// Limits on a container's use of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Bytes of memory; no swap in addition.
    pub memory: Option<u64>,
    /// CPU time.
    pub cpus: Option<Cpus>,
    /// Processes and threads, PID 1 included.
    pub pids: Option<u32>,
}

impl ResourceLimits {
    /// Whether anything is limited.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != ResourceLimits::default()
    }
}

/// An amount of processors, in thousandths of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpus(pub u32);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cpus(thousandths) = self;
        let (whole, rest) = (thousandths / 1000, thousandths % 1000);
        match rest {
            0 => write!(f, "{whole}"),
            _ => f.write_str(format!("{whole}.{rest:03}").trim_end_matches('0')),
        }
    }
}

/// How often a limit was hit since the container started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Processes killed because memory ran out.
    pub oom_kills: u64,
    /// Processes and threads that could not be created.
    pub refused_forks: u64,
}

impl Pressure {
    /// The increase since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Pressure) -> Pressure {
        Pressure {
            oom_kills: self.oom_kills.saturating_sub(earlier.oom_kills),
            refused_forks: self.refused_forks.saturating_sub(earlier.refused_forks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_read_as_they_are_written() {
        for (thousandths, text) in [(1000, "1"), (500, "0.5"), (1250, "1.25"), (10, "0.01")] {
            assert_eq!(Cpus(thousandths).to_string(), text);
        }
    }
}
