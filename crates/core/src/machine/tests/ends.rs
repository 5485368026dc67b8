//! Ends without answers: the machine still finishes, within its limits.

use super::{Bed, FOUR, MachineInput, RunFacts};
use crate::phase::{PhaseContext, Status, StatusCode};
use std::time::Duration;

impl Bed {
    /// A build whose first command runs, and whose processes and container no longer answer.
    fn mute() -> Self {
        let mut bed = Bed::new(FOUR);
        bed.send(MachineInput::Start);
        bed.until_command();
        bed.is_mute = true;
        bed
    }

    /// Lets deadlines pass until the build is over. Returns the time it took.
    fn wait_out(&mut self) -> Duration {
        let begin = self.now;
        self.until_command();
        while self.finished.is_none() {
            self.now = self.machine.deadline().expect("it waits for something");
            self.send(MachineInput::Tick);
            self.until_command();
        }
        self.now - begin
    }
}

fn fault() -> PhaseContext {
    PhaseContext::new(StatusCode::InternalServiceError, "gone")
}

#[test]
fn a_stop_that_nobody_answers() {
    let mut bed = Bed::mute();
    bed.send(MachineInput::Stop { at_once: false });
    assert!(bed.wait_out() < Duration::from_secs(25));
    assert_eq!(bed.finished, Some(Status::Stopped));
    assert!(!bed.is_clear);
    assert!(bed.log.ends_with(&["SIGKILL", "INSTALL STOPPED -", "hurry"].map(str::to_owned)));
}

#[test]
fn a_second_stop_that_nobody_answers() {
    for first in [false, true] {
        let mut bed = Bed::mute();
        bed.send(MachineInput::Stop { at_once: first });
        bed.send(MachineInput::Stop { at_once: true });
        assert!(bed.wait_out() < Duration::from_secs(7), "{first}");
        assert_eq!(bed.finished, Some(Status::Stopped));
    }
}

#[test]
fn a_time_limit_that_nobody_answers() {
    let mut bed = Bed::mute();
    let limit = bed.machine.deadline().expect("a time limit");
    let before = limit - bed.now;
    assert!(bed.wait_out() - before < Duration::from_secs(25));
    assert_eq!(bed.finished, Some(Status::TimedOut));
}

/// The build has ended by itself, but its container cannot be removed.
#[test]
fn what_is_left_of_a_build_hangs() {
    let hanging = || {
        let mut bed = Bed::new("version: 0.2\nphases:\n  build: {commands: [b]}\n");
        bed.send(MachineInput::Start);
        let command = bed.until_command().expect("a command");
        bed.is_mute = true;
        let outcome = crate::event::CommandOutcome::Exited(0);
        bed.send(MachineInput::CommandEnded {
            command,
            outcome,
            cause: None,
            facts: RunFacts::default(),
        });
        bed.until_command();
        bed
    };
    // Without a stop, it may use at least what is left of the build's time.
    let mut bed = hanging();
    assert!(bed.wait_out() > Duration::from_secs(60));
    assert_eq!((bed.finished, bed.is_clear), (Some(Status::Succeeded), false));
    for (at_once, most) in [(false, 15), (true, 5)] {
        let mut bed = hanging();
        bed.send(MachineInput::Stop { at_once });
        assert!(bed.wait_out() < Duration::from_secs(most), "{at_once}");
        assert_eq!((bed.finished, bed.is_clear), (Some(Status::Succeeded), false));
        assert_eq!(
            bed.log.last().map(String::as_str),
            Some("FINALIZING FAULT INTERNAL_SERVICE_ERROR")
        );
    }
}

/// If no answer can come any more, the machine does not wait for it.
#[test]
fn a_lost_answer_ends_the_build() {
    let mut bed = Bed::mute();
    bed.is_mute = false;
    bed.send(MachineInput::Lost(fault()));
    bed.until_command();
    assert_eq!((bed.finished, bed.is_clear), (Some(Status::Fault), true));

    let mut bed = Bed::mute();
    bed.send(MachineInput::Lost(fault()));
    bed.until_command();
    bed.send(MachineInput::Lost(fault()));
    assert_eq!(bed.machine.deadline(), Some(bed.now), "killed");
    bed.send(MachineInput::Tick);
    bed.until_command();
    bed.send(MachineInput::Lost(fault()));
    assert_eq!(bed.wait_out(), Duration::ZERO, "gone");
    assert_eq!(bed.finished, Some(Status::Fault));
}
