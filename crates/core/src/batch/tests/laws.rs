//! Properties that hold for every order of events.

use super::*;

/// Deterministic pseudo-random numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % most
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

const ENDS: [Status; 6] = [
    Status::Succeeded,
    Status::Failed,
    Status::Fault,
    Status::TimedOut,
    Status::Stopped,
    Status::InProgress,
];

/// Makes an acyclic graph of up to 12 builds.
fn any_plan(chance: &mut Chance) -> BatchPlan {
    let count = 1 + chance.below(12);
    let builds = (0..count).map(|at| {
        let depends_on = (0..at).filter(|_| chance.one_in(4)).collect();
        PlannedBuild {
            identifier: format!("b{at}"),
            depends_on,
            ignore_failure: chance.one_in(4),
            settings: BatchBuildSettings::default(),
            shard: None,
        }
    });
    BatchPlan { builds: builds.collect(), fast_fail: chance.one_in(3) }
}

/// Invariants of a batch.
#[derive(Default)]
struct Law {
    started: Vec<bool>,
    ended: Vec<Option<Status>>,
    stopping: bool,
    finished: Option<Status>,
}

impl Law {
    fn check(&mut self, machine: &BatchMachine, most: usize, effects: &[BatchEffect]) {
        let plan = machine.plan();
        for effect in effects {
            assert_eq!(self.finished, None, "after the end: {effect:?}");
            match *effect {
                BatchEffect::Start(at) => {
                    assert!(!self.stopping, "{at} starts late");
                    assert!(!std::mem::replace(&mut self.started[at], true), "{at} starts twice");
                    for on in &plan.builds[at].depends_on {
                        let has_let_go = match self.ended[*on] {
                            Some(Status::Succeeded) => true,
                            Some(_) => plan.builds[*on].ignore_failure,
                            None => false,
                        };
                        assert!(has_let_go, "{at} does not wait for {on}");
                    }
                }
                BatchEffect::Combine => panic!("nothing is combined here"),
                BatchEffect::Stop(at) => assert!(self.started[at] && self.ended[at].is_none()),
                BatchEffect::Finish(status) => {
                    let open = (0..self.started.len())
                        .find(|at| self.started[*at] && self.ended[*at].is_none());
                    assert_eq!(open, None, "one is left behind");
                    assert_ne!(status, Status::InProgress);
                    self.finished = Some(status);
                }
            }
        }
        let running =
            (0..self.started.len()).filter(|at| self.started[*at] && self.ended[*at].is_none());
        let running: Vec<usize> = running.collect();
        assert!(running.len() <= 4 * most, "{running:?}");
        for at in 0..self.started.len() {
            let is_running = matches!(machine.stand(at), Some(Stand::Running { .. }));
            assert_eq!(is_running, running.contains(&at), "{at}");
        }
    }
}

#[test]
fn no_order_of_events_reaches_an_illegal_state() {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for round in 0..4000 {
        let plan = any_plan(&mut chance);
        let (count, most) = (plan.builds.len(), 1 + chance.below(4));
        let mut machine = machine(plan, most);
        let mut law =
            Law { started: vec![false; count], ended: vec![None; count], ..Law::default() };
        let effects = machine.begin(NOW);
        law.check(&machine, most, &effects);
        // Many inputs, because most concern builds that are not running.
        for _ in 0..400 {
            if law.finished.is_some() {
                break;
            }
            let at = chance.below(count + 1);
            let is_running = at < count && law.started[at] && law.ended[at].is_none();
            let any_end = if chance.one_in(2) { ENDS.len() } else { 1 };
            let input = match chance.below(12) {
                0 if chance.one_in(6) => BatchInput::Stop,
                1 if chance.one_in(6) => BatchInput::TimeIsUp,
                2 => BatchInput::Paused(at),
                3 => BatchInput::Resumed(at),
                _ => BatchInput::Ended(at, ENDS[chance.below(any_end)]),
            };
            match input {
                BatchInput::Ended(_, status) if is_running => {
                    let status = if status == Status::InProgress { Status::Fault } else { status };
                    law.ended[at] = Some(status);
                    let is_failure =
                        status != Status::Succeeded && !machine.plan().builds[at].ignore_failure;
                    law.stopping |= is_failure && machine.plan().fast_fail;
                }
                BatchInput::Stop | BatchInput::TimeIsUp => law.stopping = true,
                BatchInput::Ended(..)
                | BatchInput::Paused(_)
                | BatchInput::Resumed(_)
                | BatchInput::Combined(_) => {}
            }
            let effects = machine.apply(input, NOW);
            law.check(&machine, most, &effects);
        }
        let status = law.finished.unwrap_or_else(|| panic!("round {round} does not end"));
        // The batch succeeds exactly if every required build has succeeded.
        let is_well = (0..count).all(|at| match law.ended[at] {
            Some(Status::Succeeded) => true,
            Some(_) => machine.plan().builds[at].ignore_failure,
            None => false,
        });
        assert_eq!(
            status == Status::Succeeded,
            is_well && !law.stopping,
            "round {round}: {status}"
        );
        // No build that could have run is left out.
        if !law.stopping {
            for at in 0..count {
                let build = &machine.plan().builds[at];
                let could = build.depends_on.iter().all(|on| match law.ended[*on] {
                    Some(Status::Succeeded) => true,
                    Some(_) => machine.plan().builds[*on].ignore_failure,
                    None => false,
                });
                assert_eq!(law.started[at], could, "round {round}: build {at}");
            }
        }
        // A finished batch accepts only a retry.
        assert_eq!(machine.apply(BatchInput::Ended(0, Status::Failed), NOW), []);
        assert_eq!(machine.apply(BatchInput::Stop, NOW), []);
        let what = if chance.one_in(2) { RetryType::All } else { RetryType::Failed };
        let retried = machine.retry(what, |at| format!("new:{at}"), NOW);
        assert_eq!(retried.is_ok(), status != Status::Succeeded);
        let again = machine.begin(NOW);
        assert_eq!(again.is_empty(), status == Status::Succeeded, "round {round}: {again:?}");
    }
}
