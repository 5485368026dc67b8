//! Answers people's requests to a running build, within the loop.
//!
//! Used by `run`.

use super::ShellSnapshot;
use super::inbox::{BreakpointChange, DriverCommand};
use super::run::Driver;
use runner_core::debug::{self, Breakpoint, Decision};
use runner_core::event::BreakpointId;
use runner_core::machine::MachineInput;
use runner_core::mask::Secrets;
use runner_wire::control::{BreakpointLine, VariableLine};
use std::sync::PoisonError;

impl Driver {
    /// Carries out a request and answers it. An answer to a requester that is gone is dropped.
    pub(super) fn answer(&mut self, command: DriverCommand) {
        match command {
            DriverCommand::Input(input) => self.hear_of(input),
            DriverCommand::Resume(answer) => {
                let was_paused = self.machine.is_paused();
                // A text is being evaluated, so the build cannot resume yet.
                if was_paused && self.machine.refusal(&Decision::Resume).is_some() {
                    let _ = answer.send(None);
                    return;
                }
                self.take(MachineInput::Resume);
                let left = self.timeline.view().map_or(0, |view| view.paused.len());
                let _ = answer.send(was_paused.then_some(left));
            }
            DriverCommand::Decide(decision, by, answer) => {
                let refusal = self.machine.refusal(&decision);
                let done = match refusal {
                    Some(why) => Err(why),
                    None => {
                        self.take(MachineInput::Decide { decision, by });
                        Ok(self.machine.last_run())
                    }
                };
                let _ = answer.send(done);
            }
            DriverCommand::Pause(answer) => match self.machine.pause_refusal() {
                Some(why) => drop(answer.send(Some(why))),
                None => {
                    self.pausing.push(answer);
                    self.take(MachineInput::Pause);
                }
            },
            DriverCommand::Variables(answer) => drop(answer.send(self.variables())),
            DriverCommand::Breakpoints(change, answer) => {
                let _ = answer.send(self.change_breakpoints(&change));
            }
        }
    }

    /// Applies an input and informs those who wait for it.
    pub(super) fn hear_of(&mut self, input: MachineInput) {
        let MachineInput::Frozen { result, .. } = &input else { return self.take(input) };
        let refused = result.as_ref().err().cloned();
        self.take(input);
        let ended = || "the command has ended before it stood still".to_owned();
        let told = refused.or_else(|| (!self.machine.is_frozen()).then(ended));
        for waiting in std::mem::take(&mut self.pausing) {
            let _ = waiting.send(told.clone());
        }
    }

    /// The next command's variables, including those that someone has set for it.
    fn variables(&self) -> Vec<VariableLine> {
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ShellSnapshot { mut env, before, .. } = snapshot;
        let before = before.unwrap_or_else(|| env.clone());
        for (name, value) in self.machine.to_be_set() {
            env.retain(|entry| !is_of(entry, name));
            env.extend(value.as_ref().map(|value| format!("{name}={value}").into_bytes()));
        }
        let secrets = self.secrets.get();
        let line = |one: &debug::Compared<'_>| VariableLine {
            name: masked(one.name, &secrets),
            value: one.now.map(|value| masked(value, &secrets)),
            before: one.before.map(|value| masked(value, &secrets)),
            is_changed: one.is_changed(),
        };
        debug::compare(&before, &env).iter().map(line).collect()
    }

    fn change_breakpoints(
        &mut self,
        change: &BreakpointChange,
    ) -> Result<Vec<BreakpointLine>, String> {
        let removed = match change {
            BreakpointChange::Remove(id) => Some(*id),
            BreakpointChange::None | BreakpointChange::Add(_) => None,
        };
        let own = self.machine.breakpoints().filter(|(_, owner, _)| *owner == "cli");
        let own: Vec<_> = own.map(|(id, _, breakpoint)| (id, breakpoint.clone())).collect();
        if let Some(id) = removed
            && own.iter().all(|(own, _)| *own != id)
        {
            return Err(format!("there is no breakpoint {} to remove", id.0));
        }
        let kept = own.into_iter().filter(|(id, _)| Some(*id) != removed);
        let mut breakpoints: Vec<_> = kept.map(|(_, breakpoint)| breakpoint).collect();
        if let BreakpointChange::Add(breakpoint) = change {
            self.machine.check(breakpoint)?;
            breakpoints.push((**breakpoint).clone());
        }
        if !matches!(change, BreakpointChange::None) {
            self.take(MachineInput::SetBreakpoints { owner: "cli".to_owned(), breakpoints });
        }
        let line = |(id, owner, breakpoint): (BreakpointId, &str, &Breakpoint)| BreakpointLine {
            id: id.0,
            owner: owner.to_owned(),
            text: breakpoint.to_string(),
        };
        Ok(self.machine.breakpoints().map(line).collect())
    }
}

fn is_of(entry: &[u8], name: &str) -> bool {
    entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

fn masked(bytes: &[u8], secrets: &Secrets) -> String {
    String::from_utf8_lossy(&secrets.mask_bytes(bytes)).into_owned()
}
