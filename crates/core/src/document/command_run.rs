//! Runs through a document's steps on one node: which step is next, and what each step and the
//! whole run result in.
//!
//! Does no I/O: [`DocumentRun::go_on`] says what to do next, and [`DocumentRun::ended`] takes the
//! result.

use super::command::{DocumentStep, StepFailureAction, StepScript, StepWork};

/// Exit codes by which a script ends the document.
const SUCCEED_AND_EXIT: i32 = 168;
const FAIL_AND_EXIT: i32 = 169;
/// Exit code that requests a reboot.
const REBOOT: i32 = 194;
/// Exit code of a killed script.
const KILLED: i32 = 137;
/// Exit code if a script's end is unknown.
const UNKNOWN: i32 = -1;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepOutcome {
    /// It did not run, which is not a failure.
    Skipped,
    /// It succeeded.
    Success,
    /// Somebody cancelled it.
    Cancelled,
    /// It timed out.
    TimedOut,
    /// It failed.
    Failed,
}

/// The result of one step, with its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedStep {
    /// The result.
    pub outcome: StepOutcome,
    /// The exit code that clients see.
    pub code: i32,
    /// Text appended to its output.
    pub output: String,
    /// Text appended to its error output.
    pub errors: String,
}

/// How a script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptEnd {
    /// By itself, with an exit code as shells report it.
    Exited(i32),
    /// Killed because of its time limit.
    TimedOut,
    /// Killed because somebody cancelled it.
    Cancelled,
    /// It could not be started: exit code and reason.
    NotStarted(i32, String),
    /// It was lost together with its container, for this reason.
    Gone(String),
}

/// What the caller does next.
#[derive(Clone, Debug, PartialEq)]
pub enum NextStep<'a> {
    /// Run this script, then report how it ended.
    Run(&'a DocumentStep, &'a StepScript),
    /// This step is already over.
    Over(&'a DocumentStep, EndedStep),
    /// All steps are over.
    Done,
}

/// Goes through a document's steps.
#[derive(Debug)]
pub struct DocumentRun {
    steps: Vec<DocumentStep>,
    at: usize,
    /// Only a finally step may still run.
    is_exiting: bool,
    /// Set if no step runs any more, not even a finally step.
    is_over: Option<StepOutcome>,
    worst: StepOutcome,
}

impl DocumentRun {
    /// Starts a run of these steps.
    #[must_use]
    pub fn new(steps: Vec<DocumentStep>) -> Self {
        DocumentRun { steps, at: 0, is_exiting: false, is_over: None, worst: StepOutcome::Skipped }
    }

    /// Returns what to do next. After a script, call [`Self::ended`] before the next call.
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

    /// Takes the result of the current script.
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

    /// The result of the whole run.
    #[must_use]
    pub fn outcome(&self) -> StepOutcome {
        match self.worst {
            // A run in which every step was skipped counts as a success.
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

    /// Applies the step's `onFailure` and `onSuccess`.
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

    /// Runs steps, each with the given end of its script.
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
