//! Test cases, as all formats have them.
//!
//! Made by the formats' readers; taken in by `group`.

use super::place::{self, CasePlace};
use serde::{Deserialize, Serialize};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CaseStatus {
    /// As it should.
    Succeeded,
    /// It found what it is there to find.
    Failed,
    /// It could not be run to its end.
    Error,
    /// It was not run.
    Skipped,
    /// None of these.
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

    /// How bad it is.
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

    /// Whether somebody has to look at it.
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
    /// Why it ended so.
    pub message: String,
    /// Where it stands in the source, or failed.
    pub place: Option<CasePlace>,
    /// Its line in the report file.
    pub report_line: u32,
}

impl Case {
    /// A case that has succeeded, unless something else is heard of it.
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

    /// Takes in how it ended as something else says it; the worse counts.
    pub(super) fn worsen(&mut self, status: CaseStatus) {
        if status.rank() > self.status.rank() {
            self.status = status;
        }
    }

    /// Takes a failure's words in: those of an attribute, those of its text.
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

    /// Looks in the message for what the format itself does not tell.
    pub(super) fn complete(&mut self) {
        if !self.status.is_bad() {
            return;
        }
        // Where it failed is better than where the case begins.
        let file = self.place.as_ref().map(|place| place.file.clone());
        if let Some(found) = place::find(&self.message, file.as_deref()) {
            self.place = Some(found);
        }
    }

    /// Class and name, as one would look for it.
    #[must_use]
    pub fn title(&self) -> String {
        match (self.class.as_str(), self.name.as_str()) {
            ("", name) => name.to_owned(),
            (class, "") => class.to_owned(),
            // Some tools say it twice.
            (class, name) if name.starts_with(class) => name.trim().to_owned(),
            (class, name) => format!("{} › {}", class.trim(), name.trim()),
        }
    }
}

/// Its first characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => text[..at].to_owned(),
        None => text.to_owned(),
    }
}

/// Seconds as the formats write them, to nanoseconds.
pub(super) fn seconds(text: &str) -> u64 {
    // Some write thousands apart.
    nanoseconds(text.trim().replace(',', "").parse().unwrap_or(0.0))
}

fn nanoseconds(seconds: f64) -> u64 {
    // What does not fit is 0 or the most there is.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = (seconds * 1e9).round() as u64;
    whole
}

/// Milliseconds to nanoseconds.
pub(super) fn milliseconds(text: &str) -> u64 {
    text.trim().parse::<f64>().map_or(0, |value| nanoseconds(value / 1000.0))
}
