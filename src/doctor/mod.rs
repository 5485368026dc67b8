//! Checks what works on this machine by trying it.
//!
//! Used by `cli::doctor`. [`machine`] checks builds in general, [`build`] the connection to one of
//! them (`way`: by AWS's clients). Each row reports something that was just tried, not a setting;
//! settings are read only to suggest a fix.

pub(crate) mod build;
mod diagnostics;
pub(crate) mod machine;
mod node;
mod way;

use serde::Serialize;

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckState {
    Ok,
    /// It works with restrictions.
    Limited,
    Missing,
}

impl CheckState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Limited => "limited",
            CheckState::Missing => "missing",
        }
    }
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckRow {
    pub(crate) name: &'static str,
    pub(crate) state: CheckState,
    /// The result, in words.
    pub(crate) found: String,
    /// What that means for builds; `None` if all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consequence: Option<String>,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mend: Option<String>,
}

impl CheckRow {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        CheckRow { name, state: CheckState::Ok, found: found.into(), consequence: None, mend: None }
    }

    pub(crate) fn new(
        name: &'static str,
        state: CheckState,
        found: impl Into<String>,
        consequence: &str,
        mend: impl Into<String>,
    ) -> Self {
        let consequence = Some(consequence.to_owned());
        CheckRow { name, state, found: found.into(), consequence, mend: Some(mend.into()) }
    }
}

/// All results.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The result that decides the exit code.
    pub(crate) works: bool,
    /// The same as a sentence.
    pub(crate) verdict: String,
    pub(crate) rows: Vec<CheckRow>,
    /// Configuration of AWS's agent for one build.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) agent: Vec<AgentLine>,
    /// The same rows in the form of AWS's `ssm-cli get-diagnostics`.
    #[serde(rename = "DiagnosticsOutput", skip_serializing_if = "Vec::is_empty")]
    pub(crate) diagnostics: Vec<diagnostics::Diagnosis>,
}

/// A property of AWS's agent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentLine {
    pub(crate) name: &'static str,
    pub(crate) value: serde_json::Value,
    /// The file that sets it.
    pub(crate) from: &'static str,
    /// Why it has no effect here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_effect: Option<&'static str>,
}
