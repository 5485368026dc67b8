//! CUCUMBERJSON: what Cucumber's JSON formatters write, in all its languages.

use super::model::{Case, CaseStatus};
use super::place::Place;
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
    before: Option<Vec<Step>>,
    #[serde(default)]
    steps: Option<Vec<Step>>,
    #[serde(default)]
    after: Option<Vec<Step>>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    keyword: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    line: Option<u32>,
    #[serde(default)]
    result: Option<StepResult>,
}

#[derive(Deserialize)]
struct StepResult {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    duration: Option<f64>,
    #[serde(default)]
    error_message: Option<String>,
}

pub(super) fn read(text: &str) -> Contents {
    if text.trim().is_empty() {
        let reason = "the file is empty".to_owned();
        let problem = Some(Malformed { line: 0, column: 0, reason });
        return Contents { problem, ..Contents::default() };
    }
    match serde_json::from_str::<Vec<Feature>>(text) {
        Ok(features) => {
            let cases = features.into_iter().flat_map(feature).collect();
            Contents { cases, ..Contents::default() }
        }
        Err(error) => Contents { problem: Some(malformed(&error)), ..Contents::default() },
    }
}

/// What is wrong with a JSON text.
pub(super) fn malformed(error: &serde_json::Error) -> Malformed {
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text).to_owned();
    Malformed { line: number(error.line()), column: number(error.column()), reason }
}

fn feature(feature: Feature) -> Vec<Case> {
    let Feature { uri, name, elements } = feature;
    let uri = uri.unwrap_or_default();
    let mut cases = Vec::new();
    let mut background: Vec<Step> = Vec::new();
    for scenario in elements.unwrap_or_default() {
        let steps = [scenario.before, scenario.steps, scenario.after];
        let mut steps: Vec<Step> = steps.into_iter().flatten().flatten().collect();
        if scenario.r#type.as_deref() == Some("background") {
            // Part of the scenario that follows.
            background = steps;
            continue;
        }
        steps.splice(0..0, std::mem::take(&mut background));
        let mut case = Case::new(0);
        case.suite = name.clone().unwrap_or_default();
        case.class = name.clone().unwrap_or_default();
        case.name = scenario.name.unwrap_or_default();
        let mut line = scenario.line.unwrap_or(0);
        let mut worst = 0;
        for step in steps {
            let Some(result) = step.result else { continue };
            let duration = result.duration.unwrap_or(0.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let duration = duration as u64;
            case.duration_ns = case.duration_ns.saturating_add(duration);
            let (rank, status) = judged(result.status.as_deref().unwrap_or_default());
            if rank > worst {
                worst = rank;
                case.status = status;
                if rank > 1 {
                    line = step.line.unwrap_or(line);
                    let keyword = step.keyword.unwrap_or_default();
                    let text = format!("{}{}", keyword, step.name.unwrap_or_default());
                    let status = result.status.unwrap_or_default();
                    case.message = format!("{status}: {}", text.trim());
                    case.add_message(&result.error_message.unwrap_or_default());
                }
            }
        }
        if !uri.is_empty() {
            case.place = Some(Place { file: uri.clone(), line, column: 0 });
        }
        cases.push(case);
    }
    cases
}

/// How bad a step is, and what that makes of its scenario.
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
