//! Limits of a container in our own engines: its control groups, and the notes about them.

use super::{ContainerSpec, EngineNote, Teller};
use crate::docker::DaemonProgram;
use runner_sandbox::{ContainerGroups, LimitProblem, Pressure, ResourceLimits, WatchedGroups};

/// Makes a container's control groups. Reports each limit that cannot be enforced.
pub(super) fn groups(spec: &ContainerSpec, tell: &Teller) -> ContainerGroups {
    let Some(plan) = &spec.groups else { return ContainerGroups::default() };
    let (groups, problems) = plan.make();
    for LimitProblem { controller, cause } in problems {
        tell(EngineNote::NotEnforced {
            options: option(&spec.limits, controller),
            by: None,
            cause,
        });
    }
    groups
}

/// The groups that a daemon made for a container, found by its first process. Reports each limit
/// that is not enforced.
pub(super) fn watched(
    pid: u32,
    limits: ResourceLimits,
    daemon: DaemonProgram,
    tell: &Teller,
) -> Option<WatchedGroups> {
    match runner_sandbox::watch_groups(pid, limits) {
        Ok((groups, problems)) => {
            for LimitProblem { controller, cause } in problems {
                let options = option(&limits, controller);
                tell(EngineNote::NotEnforced { options, by: Some(daemon), cause });
            }
            Some(groups)
        }
        Err(error) => {
            let (options, cause) = (options(&limits), error.to_string());
            tell(EngineNote::PerhapsNotEnforced { options, by: daemon, cause });
            None
        }
    }
}

/// A note that none of the limits is enforced.
pub(super) fn not_enforced(limits: &ResourceLimits, cause: String) -> EngineNote {
    EngineNote::NotEnforced { options: options(limits), by: None, cause }
}

/// How to make limits work.
pub fn mend() -> &'static str {
    if nix::unistd::geteuid().is_root() {
        "this process may not divide its control group, as in a container: limit that one instead"
    } else {
        "this needs root, or your own control group: systemd-run --user --scope -p Delegate=yes \
         runner run ..."
    }
}

/// All requested limits, as options.
pub(super) fn options(limits: &ResourceLimits) -> String {
    let all = ["memory", "cpu", "pids"].map(|controller| option(limits, controller));
    let all: Vec<&str> = all.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    all.join(" ")
}

/// A controller's option with its value.
fn option(limits: &ResourceLimits, controller: &str) -> String {
    let text = match controller {
        "memory" => limits.memory.map(|bytes| format!("--memory {}", size(bytes))),
        "cpu" => limits.cpus.map(|cpus| format!("--cpus {cpus}")),
        _ => limits.pids.map(|pids| format!("--pids-limit {pids}")),
    };
    text.unwrap_or_default()
}

/// A size as users write it: in the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let fits = |(bits, _): &(u32, &str)| bytes != 0 && bytes.trailing_zeros() >= *bits;
    match units.into_iter().find(fits) {
        Some((bits, unit)) => format!("{}{unit}", bytes >> bits),
        None => bytes.to_string(),
    }
}

/// How limits contributed to the end of a command, in words.
pub fn what_was_in_the_way(limits: &ResourceLimits, pressure: Pressure) -> Option<String> {
    let memory = match pressure.oom_kills {
        0 => None,
        1 => Some("1 process was killed".to_owned()),
        many => Some(format!("{many} processes were killed")),
    };
    let memory = memory.map(|killed| {
        format!("{killed} for want of memory, at the limit of {}", option(limits, "memory"))
    });
    let pids = (pressure.refused_forks > 0).then(|| {
        format!("a process could not be started, at the limit of {}", option(limits, "pids"))
    });
    let reasons: Vec<String> = memory.into_iter().chain(pids).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_they_are_written() {
        for (bytes, text) in [(256 << 20, "256M"), (1 << 30, "1G"), (3 << 29, "1536M"), (7, "7")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_was_in_the_way_names_the_limit() {
        let limits =
            ResourceLimits { memory: Some(64 << 20), pids: Some(32), ..ResourceLimits::default() };
        let told = |oom_kills, refused_forks| {
            what_was_in_the_way(&limits, Pressure { oom_kills, refused_forks })
        };
        assert_eq!(told(0, 0), None);
        assert_eq!(
            told(2, 1).as_deref(),
            Some(
                "2 processes were killed for want of memory, at the limit of --memory 64M; a process \
                 could not be started, at the limit of --pids-limit 32"
            )
        );
    }
}
