//! User decisions at a stop: whether they apply, and what follows.

use super::held::{AfterStop, CutRun, HeldBuild, applies_in_run};
use super::{
    BuildMachine, BuildState, EventBody, MachineStep, PhaseContext, ResumedBy, RunningPhase,
    Status, Timestamp,
};
use crate::debug::{CommandPlace, Decision, DecisionKind, Rewind, Then, Who, no_name};
use crate::event::Intervention;
use crate::phase::Phase;

const NO_STOP: &str = "the build is not stopped; set a breakpoint with `runner break add`";
const A_PROCESS_WAITS: &str =
    "a process of the build waits at its own breakpoint; `runner resume` continues it";

const NO_TEXT: &str = "an empty text runs nothing; `skip` leaves the command out";

/// Returns why a variable cannot be set to a value.
fn unfit(name: &str, value: Option<&str>) -> Option<String> {
    let has_nul = value.is_some_and(|value| value.contains('\0'));
    no_name(name).or_else(|| has_nul.then(|| "a value cannot contain a NUL byte".to_owned()))
}

/// Returns why a decision does not apply during a run.
fn refused_in_run(decision: &Decision) -> Option<String> {
    match decision {
        Decision::Retry { text: Some(text) } if text.trim().is_empty() => Some(NO_TEXT.to_owned()),
        Decision::Skip { to: Some(_) } => Some(
            "in the middle of a command `skip` ends that command, and leaves out no other"
                .to_owned(),
        ),
        _ if applies_in_run(decision) => None,
        _ => Some(format!(
            "`{}` does not apply in the middle of a command; resume, skip, retry or abort it",
            decision.kind().verb()
        )),
    }
}

impl BuildMachine {
    /// Returns why a decision does not apply now, in one sentence; `None` if it does.
    #[must_use]
    pub fn refusal(&self, decision: &Decision) -> Option<String> {
        if let Decision::Set { name, value } = decision
            && let Some(why) = unfit(name, value.as_deref())
        {
            return Some(why);
        }
        if self.freezing.is_frozen {
            return match decision {
                Decision::Rewind(rewind) => self.refused_rewind_in_run(rewind),
                _ => refused_in_run(decision),
            };
        }
        match &self.state {
            BuildState::Held(held) => self.refused_at(held, decision),
            BuildState::Evaluating { .. } => Some("an `eval` runs; wait for its end".to_owned()),
            BuildState::Rewinding(_) => Some("the build is being rewound".to_owned()),
            _ if *decision == Decision::Resume && self.is_paused() => None,
            _ if self.is_paused() => Some(A_PROCESS_WAITS.to_owned()),
            _ => Some(NO_STOP.to_owned()),
        }
    }

    /// Returns why the build cannot be paused during a command now; `None` if it can.
    #[must_use]
    pub fn pause_refusal(&self) -> Option<String> {
        let why = match &self.state {
            _ if self.freezing.is_frozen => "the command stands still already",
            BuildState::Held(_) => "the build is stopped already, between two commands",
            BuildState::Evaluating { .. } => "an `eval` runs; wait for its end",
            _ if self.is_paused() => "the build is paused already; `runner resume` continues it",
            BuildState::Running(_) | BuildState::SettingUp(_) => return None,
            _ => "no command is running; set a breakpoint with `runner break add`",
        };
        Some(why.to_owned())
    }

    fn refused_rewind_in_run(&self, rewind: &Rewind) -> Option<String> {
        let kind = Decision::Rewind(rewind.clone()).kind();
        match &self.state {
            BuildState::Running(_) if kind == DecisionKind::Rewind => {
                self.refused_rewind(rewind, None)
            }
            BuildState::Running(_) => Some(
                "in the middle of a command `rewind --resume` goes back and runs it again"
                    .to_owned(),
            ),
            _ => Some("`rewind` does not apply before the first phase".to_owned()),
        }
    }

    fn refused_at(&self, held: &HeldBuild, decision: &Decision) -> Option<String> {
        let kind = decision.kind();
        if let Decision::Rewind(rewind) = decision
            && let Some(why) = self.refused_rewind(rewind, held.at_hand())
        {
            return Some(why);
        }
        if !self.decisions(held.kind, &held.next).contains(&kind) {
            return Some(match (kind, &held.next) {
                (DecisionKind::Clean, AfterStop::Run(_)) => {
                    "the command has not run yet: `resume` runs it".to_owned()
                }
                (DecisionKind::Retry, AfterStop::Run(_)) => {
                    "the command has not run yet: `resume` runs it, `retry --edit` with another text"
                        .to_owned()
                }
                (_, AfterStop::Setup { .. }) => {
                    format!("`{}` does not apply before the first phase; `resume` goes on", kind.verb())
                }
                _ => format!(
                    "`{}` does not apply after a phase: no command is at hand; `rerun PLACE` goes back to \
                     one, `resume` goes on",
                    kind.verb()
                ),
            });
        }
        match (decision, &held.next) {
            (Decision::Retry { text: Some(text) }, _) if text.trim().is_empty() => {
                Some(NO_TEXT.to_owned())
            }
            (Decision::Skip { to: Some(to) }, AfterStop::Run(running)) => {
                self.no_place(*to).or_else(|| {
                    (*to <= running.place()).then(|| {
                        format!(
                            "{to} does not come after {}; `rerun {to}` goes back",
                            running.place()
                        )
                    })
                })
            }
            (Decision::Skip { to: Some(_) }, _) => Some(
                "at a failure `skip` leaves the failed command behind, and no other".to_owned(),
            ),
            (
                Decision::Rerun { place },
                AfterStop::Run(running)
                | AfterStop::Failed { running, .. }
                | AfterStop::EndPhase(running),
            ) => self.no_place(*place).or_else(|| {
                (*place > running.place()).then(|| {
                    format!("{place} has not been come to yet; `skip --to {place}` goes there")
                })
            }),
            _ => None,
        }
    }

    /// The failed run, at a stop.
    fn at_hand(&self) -> Option<u32> {
        match &self.state {
            BuildState::Held(held) => held.at_hand(),
            _ => None,
        }
    }

    fn no_place(&self, place: CommandPlace) -> Option<String> {
        self.plan.work.as_ref().ok().and_then(|work| work.has(&place).err())
    }

    pub(super) fn decide(
        &mut self,
        decision: Decision,
        by: Who,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        if self.refusal(&decision).is_some() {
            return;
        }
        step.events.extend(self.intervention(&decision, by));
        if let Decision::Rewind(rewind) = decision {
            return self.rewind(rewind, self.at_hand(), now, step);
        }
        if self.freezing.is_frozen {
            return self.decide_in_run(&decision, now, step);
        }
        match decision {
            Decision::Set { name, value } => {
                self.set.retain(|(set, _)| *set != name);
                return self.set.push((name, value));
            }
            Decision::Eval { text } => return self.evaluate(text, now, step),
            _ => {}
        }
        let BuildState::Held(held) = &self.state else {
            return self.resume(ResumedBy::Decision, now, step);
        };
        let held = held.clone();
        if decision == Decision::Abort {
            return self.abort(*held, now, step);
        }
        self.leave_stop(now, step);
        match decision {
            Decision::Resume => self.go_on(now, step),
            Decision::Step => {
                self.stops.is_stepping = true;
                self.go_on(now, step);
            }
            Decision::Retry { text } => self.retry(held.next, text, now, step),
            Decision::Skip { to } => self.leave_out(held.next, to, now, step),
            Decision::Rerun { place } => self.rerun(place, now, step),
            Decision::Abort
            | Decision::Eval { .. }
            | Decision::Set { .. }
            | Decision::Rewind(_) => {}
        }
    }

    fn decide_in_run(&mut self, decision: &Decision, now: Timestamp, step: &mut MachineStep) {
        match decision {
            Decision::Set { name, value } => {
                self.set.retain(|(set, _)| set != name);
                self.set.push((name.clone(), value.clone()));
            }
            Decision::Abort => self.stop(false, now, step),
            Decision::Skip { .. } => self.cut(CutRun::Skip, now, step),
            Decision::Retry { text } => self.cut(CutRun::Retry(text.clone()), now, step),
            _ => {
                self.stops.is_stepping |= *decision == Decision::Step;
                self.leave_stop(now, step);
                self.thaw(step);
            }
        }
    }

    /// The event for a decision that changes the build; `None` for a decision to go on.
    fn intervention(&self, decision: &Decision, by: Who) -> Option<EventBody> {
        let (place, text) = match decision {
            Decision::Resume | Decision::Step => return None,
            Decision::Retry { text } => (None, text.clone()),
            Decision::Skip { to } => (*to, None),
            Decision::Rerun { place } => (Some(*place), None),
            Decision::Rewind(rewind) => {
                let text = match &rewind.then {
                    Then::Retry { text } => text.clone(),
                    Then::Stop | Then::Resume => None,
                };
                (self.rewinds_to(rewind, self.at_hand()), text)
            }
            Decision::Abort => (None, None),
            Decision::Eval { text } => (None, Some(text.clone())),
            // The value may be a secret that is not masked yet.
            Decision::Set { name, .. } => (None, Some(name.clone())),
        };
        let what = decision.kind();
        let command = self.commands;
        Some(EventBody::Intervened(Box::new(Intervention { by, what, command, place, text })))
    }

    fn retry(
        &mut self,
        next: AfterStop,
        text: Option<String>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match next {
            AfterStop::Run(running) => {
                self.launch(RunningPhase { edited: text, ..running }, false, now, step);
            }
            AfterStop::Failed { mut running, has_evaluated } => {
                running.edited = text.or(running.edited);
                self.launch(running, !has_evaluated, now, step);
            }
            AfterStop::Setup { setting_up, has_evaluated, .. } => {
                self.launch_setup(setting_up.with(text), !has_evaluated, now, step);
            }
            AfterStop::EndPhase(_) => {}
        }
    }

    fn leave_out(
        &mut self,
        next: AfterStop,
        to: Option<CommandPlace>,
        now: Timestamp,
        step: &mut MachineStep,
    ) {
        match next {
            AfterStop::Run(mut running) => {
                let Some(work) = self.phase_work(running.phase) else { return };
                self.skip(&running, &work, step);
                running.advance();
                self.skip_to = to;
                self.arrive(running, now, step);
            }
            AfterStop::Failed { mut running, .. } => {
                self.failures.leave(running.place());
                running.advance();
                self.arrive(running, now, step);
            }
            AfterStop::Setup { setting_up, failure, .. } => {
                self.setup_failure.get_or_insert(failure);
                self.run_setup(setting_up.past(), now, step);
            }
            AfterStop::EndPhase(_) => {}
        }
    }

    /// Goes on from a place that was reached before. Earlier places keep their results.
    fn rerun(&mut self, place: CommandPlace, now: Timestamp, step: &mut MachineStep) {
        self.failures.go_back(place);
        self.skip_to = None;
        let phase = Phase::from(place.phase);
        if self.phase != phase {
            self.phase = phase;
            self.phase_started = self.begun[place.phase as usize];
            (self.status, self.reason) = (Status::Succeeded, None);
            let setup = self.setup_failure.clone();
            if let Some(failure) = setup.or_else(|| self.failures.before(phase).cloned()) {
                self.worsen(Status::Failed, &failure);
            }
        }
        let running = RunningPhase::at(place);
        match self.phase_work(place.phase).is_some_and(|work| work.is_skipped(place)) {
            // Commands that the options skip do not run here either.
            true => self.arrive(running, now, step),
            false => self.launch(running, false, now, step),
        }
    }

    fn abort(&mut self, held: HeldBuild, now: Timestamp, step: &mut MachineStep) {
        let failure: Option<PhaseContext> = match held.next {
            AfterStop::Failed { running, .. } => self.failures.at(running.place()).cloned(),
            AfterStop::Setup { failure, .. } => Some(failure),
            AfterStop::Run(_) | AfterStop::EndPhase(_) => None,
        };
        match failure {
            Some(failure) => {
                // The pause ends with the build, and the held work does not go on.
                if let Some(pause) = self.pauses.end_stop() {
                    self.resumed(&pause, ResumedBy::Ended, now, step);
                }
                self.worsen(Status::Failed, &failure);
                self.leave(Status::Failed, vec![failure], now, step);
                self.finalize(now, step);
            }
            None => self.stop(false, now, step),
        }
    }
}
