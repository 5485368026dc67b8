//! Test cases, the common model of all formats.
//!
//! Made by the format parsers; collected by `group`.

use super::place::{self, CasePlace};
use serde::{Deserialize, Serialize};

/// The status of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaseStatus {
    /// It succeeded.
    Succeeded,
    /// A check in it failed.
    Failed,
    /// It did not run to its end.
    Error,
    /// It was not run.
    Skipped,
    /// Any other status.
    Unknown,
}

impl CaseStatus {
    pub(super) const ALL: [CaseStatus; 5] = [
        CaseStatus::Error,
        CaseStatus::Failed,
        CaseStatus::Skipped,
        CaseStatus::Succeeded,
        CaseStatus::Unknown,
    ];

    /// Severity of the status.
    fn rank(self) -> u8 {
        match self {
            CaseStatus::Succeeded => 0,
            CaseStatus::Skipped => 1,
            CaseStatus::Unknown => 2,
            CaseStatus::Error => 3,
            CaseStatus::Failed => 4,
        }
    }

    /// The name as AWS writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CaseStatus::Succeeded => "SUCCEEDED",
            CaseStatus::Failed => "FAILED",
            CaseStatus::Error => "ERROR",
            CaseStatus::Skipped => "SKIPPED",
            CaseStatus::Unknown => "UNKNOWN",
        }
    }

    /// Whether the case needs attention.
    #[must_use]
    pub fn is_bad(self) -> bool {
        matches!(self, CaseStatus::Failed | CaseStatus::Error)
    }
}

/// A test case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The suite it belongs to.
    pub suite: String,
    /// Its class, module or feature.
    pub class: String,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: CaseStatus,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
    /// Why it ended with this status.
    pub message: String,
    /// Where it failed, or its place in the source.
    pub place: Option<CasePlace>,
    /// Its line in the report file.
    pub report_line: u32,
}

impl Case {
    /// Starts a case, which counts as successful until something worse is found.
    pub(super) fn new(report_line: u32) -> Self {
        Case {
            suite: String::new(),
            class: String::new(),
            name: String::new(),
            status: CaseStatus::Succeeded,
            duration_ns: 0,
            message: String::new(),
            place: None,
            report_line,
        }
    }

    /// Sets another status if it is worse.
    pub(super) fn worsen(&mut self, status: CaseStatus) {
        if status.rank() > self.status.rank() {
            self.status = status;
        }
    }

    /// Adds a failure message, from an attribute or a text.
    pub(super) fn add_message(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() || self.message.contains(text) {
            return;
        }
        if text.starts_with(self.message.trim()) {
            self.message.clear();
        }
        if !self.message.is_empty() {
            self.message.push('\n');
        }
        self.message.push_str(text);
    }

    /// Takes details from the message that the format itself lacks.
    pub(super) fn complete(&mut self) {
        if !self.status.is_bad() {
            return;
        }
        // The place of the failure is better than that of the case.
        let file = self.place.as_ref().map(|place| place.file.clone());
        if let Some(found) = place::find(&self.message, file.as_deref()) {
            self.place = Some(found);
        }
    }

    /// Class and name, for searching.
    #[must_use]
    pub fn title(&self) -> String {
        match (self.class.as_str(), self.name.as_str()) {
            ("", name) => name.to_owned(),
            (class, "") => class.to_owned(),
            // Some tools repeat the class in the name.
            (class, name) if name.starts_with(class) => name.trim().to_owned(),
            (class, name) => format!("{} › {}", class.trim(), name.trim()),
        }
    }
}

/// The first `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => text[..at].to_owned(),
        None => text.to_owned(),
    }
}

/// Converts seconds, as the formats write them, to nanoseconds.
pub(super) fn seconds(text: &str) -> u64 {
    // Some tools write a thousands separator.
    nanoseconds(text.trim().replace(',', "").parse().unwrap_or(0.0))
}

fn nanoseconds(seconds: f64) -> u64 {
    // Values out of range become 0 or the maximum.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = (seconds * 1e9).round() as u64;
    whole
}

/// Converts milliseconds to nanoseconds.
pub(super) fn milliseconds(text: &str) -> u64 {
    text.trim().parse::<f64>().map_or(0, |value| nanoseconds(value / 1000.0))
}
