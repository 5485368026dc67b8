//! The course of a document's steps on one node: which is next, and what each and all of them come to.
//!
//! Pure: [`DocumentRun::go_on`] says what to do, [`DocumentRun::ended`] takes how it ended.

use super::command::{DocumentStep, StepFailureAction, StepScript, StepWork};

/// Codes by which a script ends the document.
const SUCCEED_AND_EXIT: i32 = 168;
const FAIL_AND_EXIT: i32 = 169;
/// By which it asks for a reboot.
const REBOOT: i32 = 194;
/// Of one that was killed.
const KILLED: i32 = 137;
/// Of a script whose end is unknown.
const UNKNOWN: i32 = -1;

/// How a step stands, or what it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepOutcome {
    /// Not carried out, which is no failure.
    Skipped,
    /// Well.
    Success,
    /// Stopped by somebody.
    Cancelled,
    /// Not within its time.
    TimedOut,
    /// Badly.
    Failed,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedStep {
    /// What it came to.
    pub outcome: StepOutcome,
    /// The code that clients see.
    pub code: i32,
    /// What is put behind its output.
    pub output: String,
    /// What is put behind its errors.
    pub errors: String,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// By itself, with a code as shells tell it.
    Exited(i32),
    /// Killed because its time was over.
    TimedOut,
    /// Killed because somebody has asked for that.
    Cancelled,
    /// It could not be started: code and reason.
    NotStarted(i32, String),
    /// It has gone with what it ran in, for this reason.
    Gone(String),
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq)]
pub enum NextStep<'a> {
    /// Run this script, and tell how it ended.
    Run(&'a DocumentStep, &'a StepScript),
    /// This step is over already.
    Over(&'a DocumentStep, EndedStep),
    /// All are over.
    Done,
}

/// Goes through a document's steps.
#[derive(Debug)]
pub struct DocumentRun {
    steps: Vec<DocumentStep>,
    at: usize,
    /// No further step is carried out but the last, if it is one that always is.
    is_exiting: bool,
    /// No further step is carried out at all.
    is_over: Option<StepOutcome>,
    worst: StepOutcome,
}

impl DocumentRun {
    /// Of these steps.
    #[must_use]
    pub fn new(steps: Vec<DocumentStep>) -> Self {
        DocumentRun { steps, at: 0, is_exiting: false, is_over: None, worst: StepOutcome::Skipped }
    }

    /// What is next. Where it is a script, [`Self::ended`] is to be called before this is asked again.
    pub fn go_on(&mut self) -> NextStep<'_> {
        let at = self.at;
        let Some(step) = self.steps.get(at) else { return NextStep::Done };
        let skipped = self.is_over.is_some() || (self.is_exiting && !step.is_finally);
        let ended = match &step.work {
            _ if skipped => EndedStep::skipped(format!(
                "Plugin with name {} and id {} skipped due to prior step with an exit condition",
                step.plugin, step.name
            )),
            StepWork::Skip(text) => EndedStep::skipped(text.clone()),
            StepWork::Fail(text) => {
                let ended = EndedStep::failed(1, text.clone());
                self.settle(at, ended)
            }
            StepWork::Script(script) if script.text.is_empty() => self.settle(
                at,
                EndedStep { outcome: StepOutcome::Success, code: 0, ..EndedStep::nothing() },
            ),
            StepWork::Script(_) => {
                let step = &self.steps[at];
                let StepWork::Script(script) = &step.work else { return NextStep::Done };
                return NextStep::Run(step, script);
            }
        };
        self.at += 1;
        self.worst = self.worst.max(ended.outcome);
        NextStep::Over(&self.steps[at], ended)
    }

    /// The script that was next has ended.
    pub fn ended(&mut self, end: ScriptEnd) -> EndedStep {
        let at = self.at;
        let ended = match end {
            ScriptEnd::Exited(code) => self.exited(code),
            ScriptEnd::TimedOut => {
                EndedStep { outcome: StepOutcome::TimedOut, code: KILLED, ..EndedStep::nothing() }
            }
            ScriptEnd::Cancelled => {
                self.is_over = Some(StepOutcome::Cancelled);
                EndedStep { outcome: StepOutcome::Cancelled, code: KILLED, ..EndedStep::nothing() }
            }
            ScriptEnd::NotStarted(code, why) => {
                EndedStep::failed(if code == 0 { 1 } else { code }, why)
            }
            ScriptEnd::Gone(why) => {
                self.is_over = Some(StepOutcome::Failed);
                EndedStep::failed(UNKNOWN, why)
            }
        };
        let ended = self.settle(at, ended);
        self.at += 1;
        self.worst = self.worst.max(ended.outcome);
        ended
    }

    /// What all of it comes to.
    #[must_use]
    pub fn outcome(&self) -> StepOutcome {
        match self.worst {
            // Where nothing was to be done, it is done.
            StepOutcome::Skipped => StepOutcome::Success,
            worst => worst,
        }
    }

    fn exited(&mut self, code: i32) -> EndedStep {
        match code {
            0 => EndedStep { outcome: StepOutcome::Success, code, ..EndedStep::nothing() },
            SUCCEED_AND_EXIT => {
                self.is_exiting = true;
                let output = exit_text(code, "succeeded");
                EndedStep { outcome: StepOutcome::Success, code, output, errors: String::new() }
            }
            FAIL_AND_EXIT => {
                self.is_exiting = true;
                let output = exit_text(code, "failed");
                EndedStep {
                    outcome: StepOutcome::Failed,
                    code,
                    output,
                    errors: failed_to_run(code),
                }
            }
            REBOOT => {
                let errors = format!("{}\na build cannot be rebooted", failed_to_run(code));
                EndedStep { outcome: StepOutcome::Failed, code, output: String::new(), errors }
            }
            code => EndedStep::failed(code, failed_to_run(code)),
        }
    }

    /// Does what the step says about how it ended.
    fn settle(&mut self, at: usize, mut ended: EndedStep) -> EndedStep {
        let Some(step) = self.steps.get(at) else { return ended };
        let has_failed = matches!(ended.outcome, StepOutcome::Failed | StepOutcome::TimedOut);
        if has_failed
            && self.is_over.is_none()
            && !self.is_exiting
            && step.on_failure != StepFailureAction::GoOn
        {
            self.is_exiting = true;
            ended.output =
                "Step was found to have onFailure property. Further document steps will be skipped.".to_owned();
            if step.on_failure == StepFailureAction::SucceedAndExit {
                (ended.outcome, ended.code) = (StepOutcome::Success, SUCCEED_AND_EXIT);
            }
        }
        if ended.outcome == StepOutcome::Success && step.exits_on_success && !self.is_exiting {
            self.is_exiting = true;
            ended.output =
                "Step was found to have onSuccess property. Further document steps will be skipped.".to_owned();
        }
        ended
    }
}

impl EndedStep {
    fn nothing() -> Self {
        EndedStep {
            outcome: StepOutcome::Skipped,
            code: 0,
            output: String::new(),
            errors: String::new(),
        }
    }

    fn skipped(output: String) -> Self {
        EndedStep { output, ..EndedStep::nothing() }
    }

    fn failed(code: i32, errors: String) -> Self {
        EndedStep { outcome: StepOutcome::Failed, code, output: String::new(), errors }
    }
}

fn failed_to_run(code: i32) -> String {
    format!("failed to run commands: exit status {code}")
}

fn exit_text(code: i32, marked: &str) -> String {
    format!(
        "Step exited with code {code}. Therefore, marking step as {marked}. Further document steps will be \
         skipped."
    )
}

#[cfg(test)]
mod tests {
    use super::super::command::{CommandDocument, SHELL_SCRIPT};
    use super::*;
    use serde_json::{Value, json};

    /// Runs steps, of which each is given how its script ends.
    fn run(steps: &[(&str, Value, ScriptEnd)]) -> (Vec<EndedStep>, StepOutcome) {
        let document: Vec<Value> = steps
            .iter()
            .map(|(name, more, _)| {
                let mut step =
                    json!({"action": SHELL_SCRIPT, "name": name, "inputs": {"runCommand": ["x"]}});
                for (key, value) in more.as_object().into_iter().flatten() {
                    step[key] = value.clone();
                }
                step
            })
            .collect();
        let command =
            CommandDocument::read(&json!({"schemaVersion": "2.2", "mainSteps": document}))
                .expect("a document");
        let mut run = DocumentRun::new(command.steps(Value::clone));
        let mut ended = Vec::new();
        loop {
            let over = match run.go_on() {
                NextStep::Done => return (ended, run.outcome()),
                NextStep::Over(_, over) => over,
                NextStep::Run(step, _) => {
                    let end = steps
                        .iter()
                        .find(|(name, ..)| *name == step.name)
                        .expect("a step")
                        .2
                        .clone();
                    run.ended(end)
                }
            };
            ended.push(over);
        }
    }

    fn seen(ended: &[EndedStep]) -> Vec<(StepOutcome, i32)> {
        ended.iter().map(|ended| (ended.outcome, ended.code)).collect()
    }

    const NONE: Value = Value::Null;

    #[test]
    fn a_failed_step_does_not_stop_the_rest() {
        let (ended, all) =
            run(&[("one", NONE, ScriptEnd::Exited(3)), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Failed, 3), (StepOutcome::Success, 0)]);
        assert_eq!(ended[0].errors, "failed to run commands: exit status 3");
        assert_eq!(all, StepOutcome::Failed);
    }

    #[test]
    fn codes_that_end_the_document() {
        let (ended, all) =
            run(&[("one", NONE, ScriptEnd::Exited(168)), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Success, 168), (StepOutcome::Skipped, 0)]);
        assert_eq!(
            ended[0].output,
            "Step exited with code 168. Therefore, marking step as succeeded. Further document steps will be skipped."
        );
        assert_eq!(
            ended[1].output,
            "Plugin with name aws:runShellScript and id two skipped due to prior step with an exit condition"
        );
        assert_eq!(all, StepOutcome::Success);
        let (ended, all) =
            run(&[("one", NONE, ScriptEnd::Exited(169)), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Failed, 169), (StepOutcome::Skipped, 0)]);
        assert!(ended[0].output.contains("marking step as failed"), "{ended:?}");
        assert_eq!(all, StepOutcome::Failed);
        let (ended, all) = run(&[("one", NONE, ScriptEnd::Exited(194))]);
        assert!(ended[0].errors.ends_with("a build cannot be rebooted"), "{ended:?}");
        assert_eq!((ended[0].code, all), (194, StepOutcome::Failed));
    }

    #[test]
    fn what_steps_say_of_their_end() {
        let exit = json!({"onFailure": "exit"});
        let (ended, all) =
            run(&[("one", exit, ScriptEnd::Exited(1)), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Failed, 1), (StepOutcome::Skipped, 0)]);
        assert!(ended[0].output.starts_with("Step was found to have onFailure property."));
        assert_eq!(all, StepOutcome::Failed);
        let success = json!({"onFailure": "successAndExit"});
        let (ended, all) =
            run(&[("one", success, ScriptEnd::Exited(1)), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Success, 168), (StepOutcome::Skipped, 0)]);
        assert_eq!(all, StepOutcome::Success);
        let well = json!({"onSuccess": "exit"});
        let (ended, all) =
            run(&[("one", well, ScriptEnd::Exited(0)), ("two", NONE, ScriptEnd::Exited(1))]);
        assert_eq!(seen(&ended), [(StepOutcome::Success, 0), (StepOutcome::Skipped, 0)]);
        assert_eq!(all, StepOutcome::Success);
    }

    #[test]
    fn the_last_step_may_run_in_any_case() {
        let (exit, finally) = (json!({"onFailure": "exit"}), json!({"finallyStep": true}));
        let (ended, _) = run(&[
            ("one", exit, ScriptEnd::Exited(1)),
            ("two", NONE, ScriptEnd::Exited(0)),
            ("end", finally, ScriptEnd::Exited(0)),
        ]);
        let wanted =
            [(StepOutcome::Failed, 1), (StepOutcome::Skipped, 0), (StepOutcome::Success, 0)];
        assert_eq!(seen(&ended), wanted);
    }

    #[test]
    fn ends_that_are_not_the_scripts() {
        let finally = json!({"finallyStep": true});
        let (ended, all) = run(&[
            ("one", NONE, ScriptEnd::Cancelled),
            ("end", finally.clone(), ScriptEnd::Exited(0)),
        ]);
        assert_eq!(seen(&ended), [(StepOutcome::Cancelled, 137), (StepOutcome::Skipped, 0)]);
        assert_eq!(all, StepOutcome::Cancelled);
        let (ended, all) =
            run(&[("one", NONE, ScriptEnd::TimedOut), ("two", NONE, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::TimedOut, 137), (StepOutcome::Success, 0)]);
        assert_eq!(all, StepOutcome::TimedOut);
        let gone = ScriptEnd::Gone("the build has ended".into());
        let (ended, all) = run(&[("one", NONE, gone), ("end", finally, ScriptEnd::Exited(0))]);
        assert_eq!(seen(&ended), [(StepOutcome::Failed, -1), (StepOutcome::Skipped, 0)]);
        assert_eq!((&*ended[0].errors, all), ("the build has ended", StepOutcome::Failed));
        let (ended, _) = run(&[("one", NONE, ScriptEnd::NotStarted(0, "why".into()))]);
        assert_eq!(seen(&ended), [(StepOutcome::Failed, 1)]);
    }

    #[test]
    fn the_worst_counts() {
        let (_, all) = run(&[
            ("a", NONE, ScriptEnd::TimedOut),
            ("b", NONE, ScriptEnd::Exited(1)),
            ("c", NONE, ScriptEnd::Exited(0)),
        ]);
        assert_eq!(all, StepOutcome::Failed);
        let unmet = json!({"precondition": {"StringEquals": ["platformType", "Windows"]}});
        assert_eq!(run(&[("a", unmet, ScriptEnd::Exited(0))]).1, StepOutcome::Success);
    }
}
