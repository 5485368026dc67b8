//! What works on this machine, found by trying it.
//!
//! Used by `cli::doctor`. [`machine`] is about builds in general, [`build`] about getting into one of them (`way`: by
//! AWS's clients).
//! Each row stands for something that was done just now, not for a setting that was read; settings are
//! read only to say what would mend a failure.

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
    /// It works, but not for everything.
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

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckRow {
    pub(crate) name: &'static str,
    pub(crate) state: CheckState,
    /// What was found.
    pub(crate) found: String,
    /// What that means for builds; nothing where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consequence: Option<String>,
    /// What would mend it.
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

/// All of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The one answer that decides the exit code.
    pub(crate) works: bool,
    /// The same in words.
    pub(crate) verdict: String,
    pub(crate) rows: Vec<CheckRow>,
    /// How AWS's agent is configured for one build.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) agent: Vec<AgentLine>,
    /// The same rows as AWS's `ssm-cli get-diagnostics` has them.
    #[serde(rename = "DiagnosticsOutput", skip_serializing_if = "Vec::is_empty")]
    pub(crate) diagnostics: Vec<diagnostics::Diagnosis>,
}

/// A property of AWS's agent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AgentLine {
    pub(crate) name: &'static str,
    pub(crate) value: serde_json::Value,
    /// The file that says so.
    pub(crate) from: &'static str,
    /// Why it does nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_effect: Option<&'static str>,
}
