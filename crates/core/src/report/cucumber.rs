//! CUCUMBERJSON: output of Cucumber's JSON formatters, in all its languages.

use super::model::{Case, CaseStatus};
use super::place::CasePlace;
use super::{Contents, Malformed};
use serde::Deserialize;

#[derive(Deserialize)]
struct Feature {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    elements: Option<Vec<Scenario>>,
}

#[derive(Deserialize)]
struct Scenario {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    before: Option<Vec<Hook>>,
    #[serde(default)]
    steps: Option<Vec<CucumberStep>>,
    #[serde(default)]
    after: Option<Vec<Hook>>,
}

#[derive(Deserialize)]
struct CucumberStep {
    #[serde(default)]
    keyword: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    result: Option<StepResult>,
    #[serde(default)]
    before: Option<Vec<Hook>>,
    #[serde(default)]
    after: Option<Vec<Hook>>,
}

/// A hook around a scenario or a step.
#[derive(Deserialize)]
struct Hook {
    #[serde(default)]
    result: Option<StepResult>,
    #[serde(default)]
    r#match: Option<Match>,
}

#[derive(Deserialize)]
struct Match {
    #[serde(default)]
    location: Option<String>,
}

#[derive(Deserialize)]
struct StepResult {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    duration: Option<serde_json::Number>,
    #[serde(default)]
    error_message: Option<String>,
}

pub(super) fn read(text: &str) -> Contents {
    if text.trim().is_empty() {
        return Contents::refused(Malformed::whole("the file is empty"));
    }
    match serde_json::from_str::<Vec<Feature>>(text) {
        Ok(features) => {
            let mut fraction = None;
            let cases = features.into_iter().flat_map(|one| feature(one, &mut fraction)).collect();
            let warnings = fraction.map(|value| {
                Malformed::whole(format!(
                    "a duration is not a whole number, {value}: CodeBuild's reader has refused \
                     such files"
                ))
            });
            Contents { cases, warnings: warnings.into_iter().collect(), ..Contents::default() }
        }
        Err(error) => Contents::refused(malformed(&error)),
    }
}

/// Converts a JSON error.
pub(super) fn malformed(error: &serde_json::Error) -> Malformed {
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
    Malformed::at((number(error.line()), number(error.column())), reason)
}

fn feature(feature: Feature, fraction: &mut Option<serde_json::Number>) -> Vec<Case> {
    let Feature { uri, name, elements } = feature;
    let (uri, name) = (uri.unwrap_or_default(), name.unwrap_or_default());
    let mut cases = Vec::new();
    let mut background: Vec<Act> = Vec::new();
    for scenario in elements.unwrap_or_default() {
        let is_background = scenario.r#type.as_deref() == Some("background");
        let (title, line) = (scenario.name.clone(), scenario.line.unwrap_or(0));
        let mut acts = acts(scenario);
        if is_background {
            // Belongs to the next scenario.
            background = acts;
            continue;
        }
        acts.splice(0..0, std::mem::take(&mut background));
        let mut case = Case::new(0);
        case.suite.clone_from(&name);
        case.class.clone_from(&name);
        case.name = title.unwrap_or_default();
        let line = judge(&mut case, acts, line, fraction);
        if !uri.is_empty() {
            case.place = Some(CasePlace { file: uri.clone(), line, column: 0 });
        }
        cases.push(case);
    }
    cases
}

/// A step or a hook, and its result.
struct Act {
    is_step: bool,
    text: String,
    line: Option<u32>,
    result: Option<StepResult>,
}

/// All steps and hooks of a scenario, in order.
fn acts(scenario: Scenario) -> Vec<Act> {
    let hooks = |hooks: Option<Vec<Hook>>, what: &str, line: Option<u32>| -> Vec<Act> {
        let act = |hook: Hook| {
            let place = hook.r#match.and_then(|found| found.location).unwrap_or_default();
            let text = format!("{what} {place}");
            Act { is_step: false, text, line, result: hook.result }
        };
        hooks.into_iter().flatten().map(act).collect()
    };
    let mut acts = hooks(scenario.before, "hook", None);
    for step in scenario.steps.into_iter().flatten() {
        acts.extend(hooks(step.before, "hook before the step", step.line));
        let text = format!("{}{}", step.keyword.unwrap_or_default(), step.name.unwrap_or_default());
        acts.push(Act { is_step: true, text, line: step.line, result: step.result });
        acts.extend(hooks(step.after, "hook after the step", step.line));
    }
    acts.extend(hooks(scenario.after, "hook", None));
    acts
}

/// Sets the case's status to that of its worst step; without steps it is unknown. The line is that
/// step's, otherwise `line`.
fn judge(
    case: &mut Case,
    acts: Vec<Act>,
    mut line: u32,
    fraction: &mut Option<serde_json::Number>,
) -> u32 {
    let mut worst = 0;
    if !acts.iter().any(|act| act.is_step) {
        (worst, case.status) = judged("");
        "it has no steps".clone_into(&mut case.message);
    }
    for Act { is_step, text, line: at, result } in acts {
        if result.is_none() && !is_step {
            continue;
        }
        let result =
            result.unwrap_or(StepResult { status: None, duration: None, error_message: None });
        if let Some(duration) = result.duration {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let whole = duration.as_u64().or(duration.as_f64().map(|value| value as u64));
            case.duration_ns = case.duration_ns.saturating_add(whole.unwrap_or(0));
            if duration.is_f64() && fraction.is_none() {
                *fraction = Some(duration);
            }
        }
        let status = result.status.unwrap_or_default();
        let (rank, judged) = judged(&status);
        if rank > worst {
            worst = rank;
            case.status = judged;
            case.message.clear();
            if rank > 1 {
                line = at.unwrap_or(line);
                let status = if status.is_empty() { "without a result" } else { &status };
                case.message = format!("{status}: {}", text.trim());
                case.add_message(&result.error_message.unwrap_or_default());
            }
        }
    }
    line
}

/// The severity of a step's status, and the resulting case status.
fn judged(status: &str) -> (u8, CaseStatus) {
    match status.to_ascii_lowercase().as_str() {
        "passed" => (0, CaseStatus::Succeeded),
        "skipped" | "disabled" => (1, CaseStatus::Skipped),
        "pending" => (2, CaseStatus::Skipped),
        "failed" => (5, CaseStatus::Failed),
        "undefined" | "ambiguous" => (4, CaseStatus::Error),
        _ => (3, CaseStatus::Unknown),
    }
}
