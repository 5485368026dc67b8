//! The summary of a build at its end: how long its phases took and, if a command failed, which one,
//! its place and its last output.
//!
//! Folds events, as `view` does. Used wherever a build is shown, at its end or later.

use crate::debug::CommandPlace;
use crate::event::{Block, CommandOutcome, Event, EventBody};
use crate::phase::{Phase, Status};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Maximum bytes of a command's output that are read again.
pub const TAIL: u64 = 4 << 10;
/// A phase that took less than this and ran no commands is not listed.
const WORTH: Duration = Duration::from_millis(100);

/// Facts about a build, collected from its first event on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildOverview {
    buildspec: String,
    phases: Vec<PhaseTime>,
    running: Option<ExecutedCommand>,
    /// For each failed place, its last run.
    failed: BTreeMap<CommandPlace, ExecutedCommand>,
    was_paused: bool,
    status: Option<Status>,
}

/// Total time of a phase, all its runs included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// Its last status.
    pub status: Status,
    /// Its total time.
    pub took: Duration,
    /// Whether it ran a command.
    has_run: bool,
}

/// One run of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutedCommand {
    /// Its place.
    pub place: CommandPlace,
    /// Its text.
    pub text: String,
    /// Its line in the buildspec.
    pub line: Option<u32>,
    /// How it ended.
    pub outcome: CommandOutcome,
    /// How long it took.
    pub took: Duration,
    /// Offsets and lengths of its last output in `output.log`.
    pub output: VecDeque<(u64, u64)>,
    number: u32,
}

impl ExecutedCommand {
    /// Keeps the position of the last output.
    fn wrote(&mut self, offset: u64, length: u64) {
        let cut = length.saturating_sub(TAIL);
        self.output.push_back((offset + cut, length - cut));
        let mut all: u64 = self.output.iter().map(|(_, length)| length).sum();
        while let Some((_, first)) =
            self.output.front().copied().filter(|(_, first)| all - first >= TAIL)
        {
            self.output.pop_front();
            all -= first;
        }
    }
}

impl BuildOverview {
    /// Processes the next event.
    pub fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::BuildStarted(facts) => self.buildspec.clone_from(&facts.buildspec),
            EventBody::PhaseStarted { phase } => self.enter(*phase),
            EventBody::PhaseEnded { phase, status, duration_ms, .. } => {
                if let Some(known) = self.phases.iter_mut().find(|known| known.phase == *phase) {
                    known.status = *status;
                    known.took += Duration::from_millis(*duration_ms);
                }
            }
            EventBody::CommandStarted { command, phase, block, index, text, line } => {
                if let Some(known) = self.phases.iter_mut().find(|known| known.phase == *phase) {
                    known.has_run = true;
                }
                let place = |phase| CommandPlace { phase, block: *block, index: *index };
                let place = phase.user_phase().filter(|_| *block != Block::Eval).map(place);
                self.running = place.map(|place| ExecutedCommand {
                    place,
                    text: text.clone(),
                    line: *line,
                    outcome: CommandOutcome::Cut,
                    took: Duration::ZERO,
                    output: VecDeque::new(),
                    number: *command,
                });
            }
            EventBody::Output { command, offset, length } => {
                if let Some(run) = self.running.as_mut().filter(|run| run.number == *command) {
                    run.wrote(*offset, *length);
                }
            }
            EventBody::CommandEnded { command, outcome, duration_ms } => {
                let ended = self.running.take_if(|run| run.number == *command);
                let Some(mut run) = ended else { return };
                run.outcome = outcome.clone();
                run.took = Duration::from_millis(*duration_ms);
                match outcome {
                    CommandOutcome::Exited(0) => drop(self.failed.remove(&run.place)),
                    _ => drop(self.failed.insert(run.place, run)),
                }
            }
            EventBody::Paused { .. } => self.was_paused = true,
            EventBody::BuildEnded { status, .. } => self.status = Some(*status),
            _ => {}
        }
    }

    fn enter(&mut self, phase: Phase) {
        let status = Status::InProgress;
        match self.phases.iter_mut().find(|known| known.phase == phase) {
            Some(known) => known.status = status,
            None => {
                self.phases.push(PhaseTime { phase, status, took: Duration::ZERO, has_run: false });
            }
        }
    }

    /// Phases that ran commands, took a while or did not succeed.
    pub fn phases(&self) -> impl Iterator<Item = &PhaseTime> {
        self.phases.iter().filter(|known| match known.phase {
            Phase::Completed => false,
            _ => known.has_run || known.took >= WORTH || known.status != Status::Succeeded,
        })
    }

    /// Whether the build has succeeded without a command.
    #[must_use]
    pub fn ran_nothing(&self) -> bool {
        self.status == Some(Status::Succeeded) && !self.phases.iter().any(|known| known.has_run)
    }

    /// The command that made the build fail: the first one whose last run failed, or the one that
    /// ran when the build timed out.
    #[must_use]
    pub fn failure(&self) -> Option<&ExecutedCommand> {
        match self.status? {
            Status::Failed => self.failed.values().min_by_key(|run| run.number),
            Status::TimedOut => self.running.as_ref().or_else(|| self.failed.values().last()),
            Status::InProgress | Status::Succeeded | Status::Fault | Status::Stopped => None,
        }
    }

    /// A command's place for people: `build:3 (buildspec.yml:12)`.
    #[must_use]
    pub fn place(&self, run: &ExecutedCommand) -> String {
        match run.line {
            // Lines of an inline buildspec cannot be looked up.
            Some(line) if !self.buildspec.starts_with('(') => {
                format!("{} ({}:{line})", run.place, self.buildspec)
            }
            _ => run.place.to_string(),
        }
    }

    /// Whether the build was paused, so that somebody could have looked into it.
    #[must_use]
    pub fn was_paused(&self) -> bool {
        self.was_paused
    }
}

/// Returns the last lines of an output, at most `lines`, each with at most `characters` characters.
#[must_use]
pub fn last_lines(output: &[u8], lines: usize, characters: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    // Ignore text that a program has overwritten on the line.
    let shown = text.lines().map(|line| line.trim_end().rsplit('\r').next().unwrap_or_default());
    let mut last: Vec<String> = shown
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(lines)
        .map(|line| match line.char_indices().nth(characters) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        })
        .collect();
    last.reverse();
    last
}

/// Formats a duration for a table: `0.4s`, `12.3s`, `2m05s`.
#[must_use]
pub fn clock_form(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        60.. => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{seconds}.{}s", duration.subsec_millis() / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::BuildFacts;
    use crate::time::WallTime;

    fn summary(bodies: impl IntoIterator<Item = EventBody>) -> BuildOverview {
        let mut summary = BuildOverview::default();
        let facts = BuildFacts { buildspec: "ci.yml".to_owned(), ..BuildFacts::default() };
        let first = EventBody::BuildStarted(Box::new(facts));
        for (seq, body) in (1..).zip([first].into_iter().chain(bodies)) {
            summary.take(&Event { seq, time: WallTime(0), build_id: "p:u".to_owned(), body });
        }
        summary
    }

    fn run(command: u32, index: u32, code: i32) -> [EventBody; 3] {
        [
            EventBody::CommandStarted {
                command,
                phase: Phase::Build,
                block: Block::Commands,
                index,
                text: format!("exit {code}"),
                line: Some(10 + index),
            },
            EventBody::Output { command, offset: 100 * u64::from(command), length: 7 },
            EventBody::CommandEnded {
                command,
                outcome: CommandOutcome::Exited(code),
                duration_ms: 1500,
            },
        ]
    }

    fn ended(status: Status) -> EventBody {
        EventBody::BuildEnded { status, reason: None }
    }

    #[test]
    fn the_first_command_whose_last_word_is_a_failure() {
        let runs = [run(1, 0, 3), run(2, 0, 0), run(3, 1, 4), run(4, 2, 5)].into_iter().flatten();
        let summary = summary(runs.chain([ended(Status::Failed)]));
        let failure = summary.failure().expect("one has failed");
        assert_eq!(summary.place(failure), "build:2 (ci.yml:11)");
        assert_eq!(failure.output, [(300, 7)]);
        assert_eq!(clock_form(failure.took), "1.5s");
    }

    #[test]
    fn what_ran_when_the_time_was_up() {
        let [begun, wrote, _] = run(1, 0, 0);
        let bodies = [begun, wrote, ended(Status::TimedOut)];
        assert_eq!(summary(bodies.clone()).failure().map(|run| run.text.as_str()), Some("exit 0"));
        let stopped = bodies.into_iter().take(2).chain([ended(Status::Stopped)]);
        assert_eq!(summary(stopped).failure(), None);
    }

    #[test]
    fn a_phase_that_was_entered_twice_is_told_once() {
        let phase = Phase::Build;
        let contexts = Vec::new;
        let ended = |status, duration_ms| EventBody::PhaseEnded {
            phase,
            status,
            contexts: contexts(),
            duration_ms,
        };
        let begun = || EventBody::PhaseStarted { phase };
        let submitted = [
            EventBody::PhaseStarted { phase: Phase::Submitted },
            EventBody::PhaseEnded {
                phase: Phase::Submitted,
                status: Status::Succeeded,
                contexts: contexts(),
                duration_ms: 0,
            },
        ];
        let twice = [begun(), ended(Status::Failed, 400), begun(), ended(Status::Succeeded, 300)];
        let summary = summary(submitted.into_iter().chain(twice));
        let told: Vec<_> =
            summary.phases().map(|time| (time.phase, time.status, time.took)).collect();
        assert_eq!(told, [(phase, Status::Succeeded, Duration::from_millis(700))]);
    }

    #[test]
    fn of_much_output_the_end_is_kept() {
        let [begun, ..] = run(1, 0, 0);
        let outputs =
            (0..1000).map(|at| EventBody::Output { command: 1, offset: at * 100, length: 100 });
        let all = [begun].into_iter().chain(outputs).chain([ended(Status::TimedOut)]);
        let kept = summary(all).failure().map(|run| run.output.clone()).unwrap_or_default();
        assert_eq!((kept.len(), kept.back()), (41, Some(&(99_900, 100))));
        let [begun, ..] = run(1, 0, 0);
        let one = EventBody::Output { command: 1, offset: 5, length: 1 << 30 };
        let kept = summary([begun, one, ended(Status::TimedOut)]);
        assert_eq!(kept.failure().map(|run| run.output[0].1), Some(TAIL));
    }

    #[test]
    fn last_lines_are_what_was_seen_last() {
        let output = b"one\n10%\r20%\rdone\n\n  \nlong line\xff\n";
        assert_eq!(last_lines(output, 2, 6), ["done", "long l…"]);
        assert_eq!(last_lines(b"", 5, 5), [""; 0]);
    }
}
