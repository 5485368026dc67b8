//! Breakpoints of a build, their hits, and the facts they know about the last run.
//!
//! Used by `machine::build`, which asks wherever a build could stop. Without breakpoints there is
//! nothing to ask.

use super::step::{MachineStep, RunFacts, ShellVariables, Wants};
use crate::debug::{Breakpoint, CommandPlace, StopContext, What};
use crate::event::{BreakpointFacts, BreakpointId, BreakpointOp, CommandOutcome, EventBody, Scene};
use crate::phase::Phase;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The breakpoints, and facts about the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StopRules {
    armed: Vec<Armed>,
    last: BreakpointId,
    /// Whether to stop before the next command.
    pub(super) is_stepping: bool,
    /// Whether a command of a phase has been reached.
    pub(super) has_entered: bool,
    /// Breakpoints hit during a run that stop the build after it.
    due: Vec<BreakpointId>,
    run: LastRun,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Armed {
    id: BreakpointId,
    owner: String,
    breakpoint: Arc<Breakpoint>,
    hits: u64,
    has_counted: bool,
    /// The run of the last hit.
    run: u32,
}

/// The state before a run, saved for a rewind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    has_entered: bool,
    run: LastRun,
}

/// Facts about the last run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LastRun {
    outcome: Option<CommandOutcome>,
    elapsed: Duration,
    facts: RunFacts,
    /// Variables before the run.
    before: Option<ShellVariables>,
}

/// The place that a build has reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here<'h> {
    pub(super) phase: Phase,
    pub(super) place: Option<CommandPlace>,
    pub(super) run: u32,
    pub(super) text: &'h str,
    pub(super) status: i32,
    /// How long the current run has taken; `None` outside of a run.
    pub(super) elapsed: Option<Duration>,
}

impl StopRules {
    /// Whether the build cannot stop anywhere.
    pub(super) fn is_idle(&self) -> bool {
        self.armed.is_empty() && !self.is_stepping
    }

    /// Details of the last run, for a person.
    pub(super) fn scene(&self) -> &Scene {
        &self.run.facts.scene
    }

    /// Working directory of the next command.
    pub(super) fn directory(&self) -> &str {
        &self.run.facts.directory
    }

    /// Records the variables of the first command.
    pub(super) fn begin(&mut self, variables: &BTreeMap<String, String>) {
        if self.wants_variables() {
            let bytes =
                |(name, value): (&String, &String)| (name.clone().into(), value.clone().into());
            self.run.facts.variables = Some(variables.iter().map(bytes).collect());
        }
    }

    /// Replaces the breakpoints of an owner. Unchanged ones keep their numbers and hits.
    pub(super) fn set(&mut self, owner: &str, breakpoints: &[Breakpoint], step: &mut MachineStep) {
        let mut wanted: Vec<&Breakpoint> = breakpoints.iter().collect();
        self.armed.retain(|armed| {
            if armed.owner != owner {
                return true;
            }
            let kept = wanted.iter().position(|wanted| **wanted == *armed.breakpoint);
            match kept {
                Some(at) => drop(wanted.remove(at)),
                None => step.events.push(armed.told(BreakpointOp::Removed)),
            }
            kept.is_some()
        });
        for breakpoint in wanted {
            self.last = BreakpointId(self.last.0 + 1);
            let armed = Armed {
                id: self.last,
                owner: owner.to_owned(),
                breakpoint: Arc::new(breakpoint.clone()),
                hits: 0,
                has_counted: false,
                run: 0,
            };
            step.events.push(armed.told(BreakpointOp::Set));
            self.armed.push(armed);
        }
    }

    /// All breakpoints.
    pub(super) fn all(&self) -> impl Iterator<Item = (BreakpointId, &str, &Breakpoint)> {
        self.armed.iter().map(|armed| (armed.id, armed.owner.as_str(), &*armed.breakpoint))
    }

    pub(super) fn wants(&self) -> Wants {
        let is_watched = |armed: &&Armed| {
            matches!(
                armed.breakpoint.what,
                What::Wrote(_) | What::Output(_) | What::Idle(_) | What::Memory(_)
            )
        };
        let watched = self.armed.iter().filter(is_watched);
        Wants {
            variables: self.wants_variables(),
            output: self.armed.iter().any(|armed| armed.breakpoint.wants_output()),
            scene: !self.is_idle(),
            changes: false,
            watched: watched.map(|armed| (armed.id, Arc::clone(&armed.breakpoint))).collect(),
        }
    }

    fn wants_variables(&self) -> bool {
        self.armed.iter().any(|armed| armed.breakpoint.wants_variables())
    }

    /// How the last run ended.
    pub(super) fn outcome(&self) -> Option<&CommandOutcome> {
        self.run.outcome.as_ref()
    }

    /// Records the end of a run.
    pub(super) fn ran(&mut self, outcome: &CommandOutcome, elapsed: Duration, facts: RunFacts) {
        let before = self.run.facts.variables.take();
        self.run = LastRun { outcome: Some(outcome.clone()), elapsed, facts, before };
    }

    /// Records the end of an evaluated text.
    pub(super) fn evaluated(&mut self, facts: RunFacts) {
        self.run.facts.directory = facts.directory;
        self.run.facts.variables = facts.variables;
        self.run.facts.scene.changed = facts.scene.changed;
        self.run.facts.scene.more_changed = facts.scene.more_changed;
    }

    /// Collects the breakpoints that a run hit and that stop the build after it.
    pub(super) fn behind_run(&mut self, here: Here<'_>, has_failed: bool, step: &mut MachineStep) {
        if self.armed.is_empty() {
            return;
        }
        let wrote = std::mem::take(&mut self.run.facts.wrote);
        let value = |variables: &Option<ShellVariables>, name: &str| {
            let found = variables.iter().flat_map(|all| all.iter().rev());
            let mut found = found.filter(|(known, _)| known == name.as_bytes());
            found.next().map(|(_, value)| value.clone())
        };
        let (before, after) = (self.run.before.clone(), self.run.facts.variables.clone());
        // Without earlier variables, no change is known.
        let has_changed =
            |name: &str| before.is_some() && value(&before, name) != value(&after, name);
        let hit = self.come_to(here, step, |id, what| match what {
            What::Change(name) => has_changed(name),
            What::Wrote(_) => wrote.contains(&id),
            What::AfterPlace(place) => here.place == Some(*place) && !has_failed,
            _ => false,
        });
        self.due.extend(hit);
    }

    /// Makes breakpoints due that were to stop a run, because it ended first.
    pub(super) fn put_off(&mut self, hit: Vec<BreakpointId>) {
        self.due.extend(hit);
    }

    pub(super) fn memory(&self) -> Memory {
        Memory { has_entered: self.has_entered, run: self.run.clone() }
    }

    /// Rewinds to a saved state. Breakpoints and their hits are kept.
    pub(super) fn remember(&mut self, memory: &Memory) {
        self.has_entered = memory.has_entered;
        self.run.clone_from(&memory.run);
        self.is_stepping = false;
        self.due.clear();
    }

    /// Takes the breakpoints that are due.
    pub(super) fn take_due(&mut self) -> Vec<BreakpointId> {
        std::mem::take(&mut self.due)
    }

    /// Counts a hit for the breakpoints that `is_it` selects. Returns those that stop; those that
    /// log do so here.
    pub(super) fn come_to(
        &mut self,
        here: Here<'_>,
        step: &mut MachineStep,
        is_it: impl Fn(BreakpointId, &What) -> bool,
    ) -> Vec<BreakpointId> {
        let mut hit = Vec::new();
        let run = &self.run;
        for armed in &mut self.armed {
            if !is_it(armed.id, &armed.breakpoint.what) {
                continue;
            }
            let facts = run.facts(here, armed.hits + 1);
            if !armed.breakpoint.holds(&facts) {
                continue;
            }
            armed.hits += 1;
            armed.run = here.run;
            let counts = armed.breakpoint.hits;
            if counts.is_some_and(|hits| !hits.counts(armed.hits, armed.has_counted)) {
                continue;
            }
            armed.has_counted = true;
            match &armed.breakpoint.log {
                Some(log) => step.events.push(EventBody::Logged {
                    id: armed.id,
                    run: here.run,
                    text: log.fill(&facts),
                }),
                None => hit.push(armed.id),
            }
        }
        hit
    }

    /// Records the output of the current run so far.
    pub(super) fn wrote_so_far(&mut self, output: Option<Arc<str>>) {
        self.run.facts.output = output;
    }

    /// The shortest time after which a `longer` breakpoint looks at a run.
    pub(super) fn longer(&self, run: u32) -> Option<Duration> {
        let times = self.armed.iter().filter(|armed| armed.run != run);
        times
            .filter_map(|armed| match armed.breakpoint.what {
                What::Longer(time) => Some(time),
                _ => None,
            })
            .min()
    }

    /// Marks `longer` breakpoints as checked in this run, up to this time.
    pub(super) fn has_looked(&mut self, run: u32, elapsed: Duration) {
        for armed in &mut self.armed {
            if matches!(armed.breakpoint.what, What::Longer(time) if time <= elapsed) {
                armed.run = run;
            }
        }
    }
}

impl Armed {
    fn told(&self, op: BreakpointOp) -> EventBody {
        let (text, owner) = (self.breakpoint.to_string(), self.owner.clone());
        EventBody::Breakpoint(BreakpointFacts { op, id: self.id, text, owner })
    }
}

impl LastRun {
    fn facts<'f>(&'f self, here: Here<'f>, hits: u64) -> StopContext<'f> {
        StopContext {
            status: here.status,
            signal: match self.outcome {
                Some(CommandOutcome::Signaled(signal)) => signal,
                _ => 0,
            },
            failed: self.outcome.as_ref().is_some_and(|outcome| !outcome.succeeded()),
            phase: here.phase,
            place: here.place,
            run: here.run,
            hits,
            elapsed: here.elapsed.unwrap_or(self.elapsed),
            text: here.text,
            output: self.facts.output.as_deref().unwrap_or_default(),
            variables: self.facts.variables.as_deref().unwrap_or_default(),
        }
    }
}
