//! Statuses of invocations and commands, in AWS's terms.

use serde::{Deserialize, Serialize};

/// The status of an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusDetails {
    /// It waits for its start.
    Pending,
    /// Its script runs.
    InProgress,
    /// Its node does not answer.
    Delayed,
    /// Its script is being ended.
    Cancelling,
    /// It succeeded.
    Success,
    /// It failed.
    Failed,
    /// The document's time limit was reached.
    ExecutionTimedOut,
    /// It did not begin in time.
    DeliveryTimedOut,
    /// Its node ended before the script began.
    Undeliverable,
    /// It did not begin, because too many others failed.
    Terminated,
    /// It was cancelled, before or after it began.
    Cancelled,
}

impl StatusDetails {
    /// The name in `StatusDetails` of an invocation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StatusDetails::Pending => "Pending",
            StatusDetails::InProgress => "InProgress",
            StatusDetails::Delayed => "Delayed",
            StatusDetails::Cancelling => "Cancelling",
            StatusDetails::Success => "Success",
            StatusDetails::Failed => "Failed",
            StatusDetails::ExecutionTimedOut => "ExecutionTimedOut",
            StatusDetails::DeliveryTimedOut => "DeliveryTimedOut",
            StatusDetails::Undeliverable => "Undeliverable",
            StatusDetails::Terminated => "Terminated",
            StatusDetails::Cancelled => "Cancelled",
        }
    }

    /// The name in `Status` of an invocation.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            StatusDetails::ExecutionTimedOut | StatusDetails::DeliveryTimedOut => "TimedOut",
            StatusDetails::Undeliverable | StatusDetails::Terminated => "Failed",
            other => other.name(),
        }
    }

    /// Whether the status is final.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(
            self,
            StatusDetails::Pending
                | StatusDetails::InProgress
                | StatusDetails::Delayed
                | StatusDetails::Cancelling
        )
    }

    /// Whether it counts against the command's `MaxErrors`.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, StatusDetails::Failed | StatusDetails::ExecutionTimedOut)
    }
}

/// Numbers of invocations of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvocationCounts {
    /// All invocations.
    pub targets: usize,
    /// Ended invocations.
    pub completed: usize,
    /// Invocations that count as errors.
    pub errors: usize,
    /// Invocations that did not begin in time.
    pub delivery_timed_out: usize,
}

/// The status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `Status`.
    pub status: &'static str,
    /// `StatusDetails`.
    pub details: &'static str,
    /// Numbers of its invocations.
    pub counts: InvocationCounts,
}

/// The status of a command with these invocations.
#[must_use]
pub fn standing(invocations: &[StatusDetails], max_errors: usize) -> Standing {
    let count =
        |is: fn(&StatusDetails) -> bool| invocations.iter().filter(|details| is(details)).count();
    let counts = InvocationCounts {
        targets: invocations.len(),
        completed: count(|details| details.is_end()),
        errors: count(|details| details.is_error()),
        delivery_timed_out: count(|details| *details == StatusDetails::DeliveryTimedOut),
    };
    let any = |wanted: StatusDetails| invocations.contains(&wanted);
    let all = |wanted: StatusDetails| invocations.iter().all(|details| *details == wanted);
    let waits = |details: &StatusDetails| {
        matches!(details, StatusDetails::Pending | StatusDetails::Delayed)
    };
    let (status, details) = if invocations.is_empty() {
        ("Success", "NoInstancesInTag")
    } else if counts.completed < counts.targets {
        let running = if any(StatusDetails::Cancelling) {
            "Cancelling"
        } else if invocations.iter().all(waits) {
            "Pending"
        } else {
            "InProgress"
        };
        (running, running)
    } else if all(StatusDetails::Success) {
        ("Success", "Success")
    } else if counts.errors > max_errors {
        ("Failed", "Failed")
    } else if all(StatusDetails::DeliveryTimedOut) {
        ("TimedOut", "DeliveryTimedOut")
    } else if any(StatusDetails::Cancelled) {
        ("Cancelled", "Cancelled")
    } else {
        ("Failed", "Incomplete")
    };
    Standing { status, details, counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_table_has_it() {
        use StatusDetails::{
            Cancelled, Cancelling, Delayed, DeliveryTimedOut, ExecutionTimedOut, Failed,
            InProgress, Pending, Success, Terminated, Undeliverable,
        };
        for (invocations, max_errors, status, details) in [
            (&[][..], 0, "Success", "NoInstancesInTag"),
            (&[Pending, Pending], 0, "Pending", "Pending"),
            (&[Delayed], 0, "Pending", "Pending"),
            (&[Pending, InProgress], 0, "InProgress", "InProgress"),
            (&[Pending, Success], 0, "InProgress", "InProgress"),
            (&[Success, Success], 0, "Success", "Success"),
            (&[Failed], 0, "Failed", "Failed"),
            (&[ExecutionTimedOut], 0, "Failed", "Failed"),
            (&[Failed, Success], 1, "Failed", "Incomplete"),
            (&[DeliveryTimedOut, DeliveryTimedOut], 0, "TimedOut", "DeliveryTimedOut"),
            (&[DeliveryTimedOut, Success], 0, "Failed", "Incomplete"),
            (&[Undeliverable], 0, "Failed", "Incomplete"),
            (&[Failed, Terminated], 0, "Failed", "Failed"),
            (&[Cancelling, Success], 0, "Cancelling", "Cancelling"),
            (&[Cancelled, Success], 0, "Cancelled", "Cancelled"),
        ] {
            let standing = standing(invocations, max_errors);
            assert_eq!((standing.status, standing.details), (status, details), "{invocations:?}");
        }
    }

    #[test]
    fn statuses_of_invocations() {
        for (details, status, is_error) in [
            (StatusDetails::Pending, "Pending", false),
            (StatusDetails::InProgress, "InProgress", false),
            (StatusDetails::Delayed, "Delayed", false),
            (StatusDetails::Success, "Success", false),
            (StatusDetails::Failed, "Failed", true),
            (StatusDetails::ExecutionTimedOut, "TimedOut", true),
            (StatusDetails::DeliveryTimedOut, "TimedOut", false),
            (StatusDetails::Undeliverable, "Failed", false),
            (StatusDetails::Terminated, "Failed", false),
            (StatusDetails::Cancelled, "Cancelled", false),
        ] {
            assert_eq!((details.status(), details.is_error()), (status, is_error), "{details:?}");
        }
    }
}
