//! Decides when each node of a command begins, and which never will.
//!
//! Does no I/O: [`CommandCourse::apply`] takes an event and returns what to do. A node starts only
//! once, so no script runs twice.

use super::details::{Standing, StatusDetails, standing};

/// An event of a command. Nodes are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseInput {
    /// The command begins.
    Begin,
    /// The node does not answer.
    Delayed(usize),
    /// The node's script is about to run.
    Begun(usize),
    /// The node's script, or the wait for it, has ended with this status.
    Ended(usize, StatusDetails),
    /// The delivery time is over: nodes that have not begun must not begin.
    Late,
    /// No more nodes may begin, because the endpoint stops.
    Stop,
    /// Somebody cancels the command on this node.
    Cancel(usize),
}

/// An action for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CourseEffect {
    /// Let the node wait for a free place, then run.
    Go(usize),
    /// Stop the wait; the node's part has ended.
    Withdraw(usize),
    /// End the node's script.
    Kill(usize),
    /// The node's status has changed.
    Changed(usize),
}

/// The progress of a command over its nodes.
#[derive(Debug)]
pub struct CommandCourse {
    nodes: Vec<CourseNode>,
    max_concurrency: usize,
    max_errors: usize,
    /// Number of nodes that may be under way for now.
    wave: usize,
    /// Successes since that number last grew.
    succeeded: usize,
    /// The first node that has not been let go yet.
    next: usize,
    under_way: usize,
}

#[derive(Clone, Copy, Debug)]
struct CourseNode {
    details: StatusDetails,
    has_gone: bool,
}

impl CommandCourse {
    /// Makes a course for this number of nodes. With `ramps_up`, few nodes start at first, and more
    /// as they succeed.
    #[must_use]
    pub fn new(nodes: usize, max_concurrency: usize, max_errors: usize, ramps_up: bool) -> Self {
        CommandCourse {
            nodes: vec![CourseNode { details: StatusDetails::Pending, has_gone: false }; nodes],
            max_concurrency: max_concurrency.max(1),
            max_errors,
            wave: if ramps_up { 1 } else { max_concurrency.max(1) },
            succeeded: 0,
            next: 0,
            under_way: 0,
        }
    }

    /// The status of a node.
    #[must_use]
    pub fn details(&self, node: usize) -> Option<StatusDetails> {
        self.nodes.get(node).map(|node| node.details)
    }

    /// Whether the command is over on all nodes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.nodes.iter().all(|node| node.details.is_end())
    }

    /// The status of the command.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let details: Vec<StatusDetails> = self.nodes.iter().map(|node| node.details).collect();
        standing(&details, self.max_errors)
    }

    /// Applies an event.
    pub fn apply(&mut self, input: CourseInput) -> Vec<CourseEffect> {
        let mut effects = Vec::new();
        match input {
            CourseInput::Begin => {}
            CourseInput::Delayed(node) => {
                let has_gone = self.nodes.get(node).is_some_and(|node| node.has_gone);
                if has_gone && self.details(node) == Some(StatusDetails::Pending) {
                    self.set(node, StatusDetails::Delayed, &mut effects);
                }
            }
            CourseInput::Begun(node) => {
                if self.is_waiting(node) {
                    self.set(node, StatusDetails::InProgress, &mut effects);
                }
            }
            CourseInput::Ended(node, details) => self.end(node, details, &mut effects),
            CourseInput::Late => {
                self.withdraw_all(StatusDetails::DeliveryTimedOut, &mut effects);
            }
            CourseInput::Stop => {
                self.withdraw_all(StatusDetails::Failed, &mut effects);
            }
            CourseInput::Cancel(node) => match self.details(node) {
                Some(StatusDetails::Pending | StatusDetails::Delayed) => {
                    self.withdraw(node, StatusDetails::Cancelled, &mut effects);
                }
                Some(StatusDetails::InProgress) => {
                    self.set(node, StatusDetails::Cancelling, &mut effects);
                    effects.push(CourseEffect::Kill(node));
                }
                _ => {}
            },
        }
        self.let_go(&mut effects);
        effects
    }

    fn is_waiting(&self, node: usize) -> bool {
        matches!(self.details(node), Some(StatusDetails::Pending | StatusDetails::Delayed))
    }

    fn set(&mut self, node: usize, details: StatusDetails, effects: &mut Vec<CourseEffect>) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.details = details;
        }
        effects.push(CourseEffect::Changed(node));
    }

    fn end(&mut self, node: usize, details: StatusDetails, effects: &mut Vec<CourseEffect>) {
        let is_open = self.details(node).is_some_and(|before| !before.is_end());
        if !is_open || !details.is_end() {
            return;
        }
        self.set(node, details, effects);
        if self.nodes[node].has_gone {
            self.under_way -= 1;
        }
        if details == StatusDetails::Success {
            self.succeeded += 1;
            if self.succeeded >= self.wave {
                self.wave = self.wave.saturating_mul(2).min(self.max_concurrency);
                self.succeeded = 0;
            }
        }
        let errors = self.nodes.iter().filter(|node| node.details.is_error()).count();
        if errors > self.max_errors {
            self.withdraw_all(StatusDetails::Terminated, effects);
        }
    }

    fn withdraw_all(&mut self, details: StatusDetails, effects: &mut Vec<CourseEffect>) {
        for node in 0..self.nodes.len() {
            if self.is_waiting(node) {
                self.withdraw(node, details, effects);
            }
        }
    }

    fn withdraw(&mut self, node: usize, details: StatusDetails, effects: &mut Vec<CourseEffect>) {
        self.set(node, details, effects);
        if self.nodes[node].has_gone {
            self.under_way -= 1;
            effects.push(CourseEffect::Withdraw(node));
        }
    }

    fn let_go(&mut self, effects: &mut Vec<CourseEffect>) {
        while self.under_way < self.wave.min(self.max_concurrency) {
            let waits =
                |node: &CourseNode| node.details == StatusDetails::Pending && !node.has_gone;
            let Some(found) = self.nodes.iter().skip(self.next).position(waits) else { return };
            let node = self.next + found;
            self.next = node + 1;
            self.nodes[node].has_gone = true;
            self.under_way += 1;
            effects.push(CourseEffect::Go(node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(effects: &[CourseEffect]) -> Vec<usize> {
        let node = |effect: &CourseEffect| match effect {
            CourseEffect::Go(node) => Some(*node),
            _ => None,
        };
        effects.iter().filter_map(node).collect()
    }

    #[test]
    fn few_go_first_and_more_as_they_succeed() {
        let mut course = CommandCourse::new(20, 8, 0, true);
        assert_eq!(gone(&course.apply(CourseInput::Begin)), [0]);
        assert_eq!(gone(&course.apply(CourseInput::Ended(0, StatusDetails::Success))), [1, 2]);
        assert_eq!(gone(&course.apply(CourseInput::Ended(1, StatusDetails::Success))), [3]);
        assert_eq!(gone(&course.apply(CourseInput::Ended(2, StatusDetails::Success))), [4, 5, 6]);
        let mut all = CommandCourse::new(20, 8, 0, false);
        assert_eq!(gone(&all.apply(CourseInput::Begin)).len(), 8);
    }

    /// With at most five errors, the sixth one stops the rest.
    #[test]
    fn too_many_errors_stop_what_has_not_begun() {
        let mut course = CommandCourse::new(50, 10, 5, false);
        course.apply(CourseInput::Begin);
        for node in 0..10 {
            course.apply(CourseInput::Begun(node));
        }
        for node in 0..5 {
            assert_eq!(
                gone(&course.apply(CourseInput::Ended(node, StatusDetails::Failed))),
                [10 + node]
            );
        }
        course.apply(CourseInput::Begun(10));
        let effects = course.apply(CourseInput::Ended(5, StatusDetails::ExecutionTimedOut));
        assert_eq!(course.details(11), Some(StatusDetails::Terminated));
        assert_eq!(course.details(10), Some(StatusDetails::InProgress), "it has begun");
        assert!(effects.contains(&CourseEffect::Withdraw(11)) && gone(&effects).is_empty());
        for node in 6..=10 {
            course.apply(CourseInput::Ended(node, StatusDetails::Success));
        }
        assert!(course.is_over());
        let standing = course.standing();
        assert_eq!((standing.status, standing.counts.errors), ("Failed", 6));
    }

    #[test]
    fn what_has_not_begun_in_time_never_does() {
        let mut course = CommandCourse::new(3, 2, 0, false);
        course.apply(CourseInput::Begin);
        course.apply(CourseInput::Begun(0));
        course.apply(CourseInput::Delayed(1));
        let effects = course.apply(CourseInput::Late);
        assert!(
            effects.contains(&CourseEffect::Withdraw(1)) && gone(&effects).is_empty(),
            "{effects:?}"
        );
        assert_eq!(course.details(2), Some(StatusDetails::DeliveryTimedOut));
        // The node answers too late.
        assert!(course.apply(CourseInput::Begun(1)).is_empty());
        assert_eq!(course.details(1), Some(StatusDetails::DeliveryTimedOut));
        course.apply(CourseInput::Ended(0, StatusDetails::Success));
        assert_eq!(course.standing().counts.delivery_timed_out, 2);
        assert_eq!(course.standing().details, "Incomplete");
    }

    #[test]
    fn cancelling() {
        let mut course = CommandCourse::new(3, 2, 0, false);
        course.apply(CourseInput::Begin);
        course.apply(CourseInput::Begun(0));
        let effects = course.apply(CourseInput::Cancel(0));
        assert!(effects.contains(&CourseEffect::Kill(0)));
        assert_eq!(course.details(0), Some(StatusDetails::Cancelling));
        assert_eq!(course.standing().status, "Cancelling");
        assert!(course.apply(CourseInput::Cancel(0)).is_empty(), "it is on its way");
        assert_eq!(gone(&course.apply(CourseInput::Cancel(1))), [2], "its place is free");
        course.apply(CourseInput::Ended(0, StatusDetails::Cancelled));
        course.apply(CourseInput::Ended(2, StatusDetails::Success));
        assert_eq!(course.standing().status, "Cancelled");
        assert!(course.apply(CourseInput::Cancel(2)).is_empty(), "it has ended");
    }

    /// For any order of events: no node starts twice, no more run at once than allowed, nothing
    /// starts or begins after its end, and finally all nodes have ended.
    #[test]
    fn in_every_order() {
        const ENDS: [StatusDetails; 5] = [
            StatusDetails::Success,
            StatusDetails::Failed,
            StatusDetails::ExecutionTimedOut,
            StatusDetails::Undeliverable,
            StatusDetails::Cancelled,
        ];
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap_or(0)
        };
        for round in 0..3000 {
            let count = random(12);
            let (most, errors) = (1 + random(6), random(4));
            let mut course = CommandCourse::new(count, most, errors, round % 2 == 0);
            let (mut gone, mut under_way) = (vec![false; count], vec![false; count]);
            let mut ended = vec![None; count];
            let mut input = CourseInput::Begin;
            for turn in 0..10_000 {
                assert!(turn < 9_999, "it goes on for ever");
                let before: Vec<_> = (0..count).map(|node| course.details(node)).collect();
                for effect in course.apply(input) {
                    match effect {
                        CourseEffect::Go(node) => {
                            assert!(!std::mem::replace(&mut gone[node], true), "twice");
                            assert_eq!(course.details(node), Some(StatusDetails::Pending));
                            under_way[node] = true;
                        }
                        CourseEffect::Withdraw(node) => {
                            assert!(std::mem::take(&mut under_way[node]));
                            assert!(course.details(node).is_some_and(StatusDetails::is_end));
                        }
                        CourseEffect::Kill(node) => {
                            assert_eq!(course.details(node), Some(StatusDetails::Cancelling));
                        }
                        CourseEffect::Changed(_) => {}
                    }
                }
                for (node, before) in before.into_iter().enumerate() {
                    let now = course.details(node);
                    if before.is_some_and(StatusDetails::is_end) {
                        assert_eq!(now, before, "an end is an end");
                    }
                    if now.is_some_and(StatusDetails::is_end) {
                        under_way[node] = false;
                        ended[node] = now;
                    }
                }
                assert!(under_way.iter().filter(|is| **is).count() <= most);
                let failed = ended.iter().flatten().filter(|details| details.is_error()).count();
                if failed > errors {
                    assert!(
                        (0..count).all(|node| course.details(node) != Some(StatusDetails::Pending))
                    );
                }
                if course.is_over() {
                    break;
                }
                let running: Vec<usize> = (0..count).filter(|node| under_way[*node]).collect();
                let node = random(count);
                // Finally everything that runs ends.
                input = match (if turn > 60 { 3 } else { random(9) }, running.as_slice()) {
                    (0, _) => CourseInput::Cancel(node),
                    (1, _) if random(6) == 0 => CourseInput::Late,
                    (1, _) if random(6) == 0 => CourseInput::Stop,
                    (2, _) => CourseInput::Delayed(node),
                    (3..=5, [_, ..]) => {
                        let node = running[random(running.len())];
                        CourseInput::Ended(node, ENDS[random(ENDS.len())])
                    }
                    (_, [_, ..]) => CourseInput::Begun(running[random(running.len())]),
                    _ => CourseInput::Begin,
                };
            }
            assert_eq!(course.standing().counts.completed, count);
        }
    }
}
