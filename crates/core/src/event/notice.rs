//! Messages for the user.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A message for the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// How important it is.
    pub level: NoticeLevel,
    /// One or more lines; empty if the failure is reported elsewhere and only the hint is new.
    pub text: String,
    /// Advice on how to fix the problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Notice {
    /// Makes a note: worth knowing.
    #[must_use]
    pub fn note(text: impl Into<String>) -> Self {
        Notice { level: NoticeLevel::Note, text: text.into(), hint: None }
    }

    /// Makes a warning: perhaps not what the user intended.
    #[must_use]
    pub fn warning(text: impl Into<String>) -> Self {
        Notice { level: NoticeLevel::Warning, ..Self::note(text) }
    }

    /// Makes an error: why the build cannot go on.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Notice { level: NoticeLevel::Error, ..Self::note(text) }
    }

    /// Makes a hint for a problem that is reported elsewhere.
    #[must_use]
    pub fn hint(hint: impl Into<String>) -> Self {
        Self::note("").with_hint(Some(hint.into()))
    }

    /// Sets the hint.
    #[must_use]
    pub fn with_hint(self, hint: Option<String>) -> Self {
        Notice { hint, ..self }
    }

    /// The lines to show: the text, then the hint. A hint always has level note.
    #[must_use]
    pub fn shown(&self) -> Vec<(NoticeLevel, Cow<'_, str>)> {
        let text = (!self.text.is_empty()).then(|| (self.level, Cow::from(&self.text)));
        let hint = self.hint.iter().map(|hint| (NoticeLevel::Note, format!("hint: {hint}").into()));
        text.into_iter().chain(hint).collect()
    }
}

/// How important a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeLevel {
    /// Worth knowing.
    Note,
    /// Perhaps not what the user intended.
    Warning,
    /// Why the build cannot go on.
    Error,
}

impl NoticeLevel {
    /// Prefix of the text where nothing else shows the level.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            NoticeLevel::Note => "",
            NoticeLevel::Warning => "warning: ",
            NoticeLevel::Error => "error: ",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventBody;

    #[test]
    fn a_hint_stands_apart_and_is_shown_below() {
        let notice = Notice::error("no such value").with_hint(Some("add it".to_owned()));
        let body = serde_json::to_string(&EventBody::Notice(notice.clone())).expect("serialises");
        assert_eq!(
            body,
            "{\"type\":\"notice\",\"data\":{\"level\":\"error\",\"text\":\"no such value\",\
             \"hint\":\"add it\"}}"
        );
        let shown = |notice: &Notice| -> Vec<String> {
            let parts = notice.shown();
            parts.iter().map(|(level, text)| format!("{}{text}", level.prefix())).collect()
        };
        assert_eq!(shown(&notice), ["error: no such value", "hint: add it"]);
        assert_eq!(shown(&Notice::hint("h")), ["hint: h"]);
        assert_eq!(shown(&Notice::warning("w")), ["warning: w"]);
        // Older builds have no hint field.
        let old = "{\"type\":\"notice\",\"data\":{\"level\":\"note\",\"text\":\"hint: h\"}}";
        let read: EventBody = serde_json::from_str(old).expect("an event");
        assert_eq!(read, EventBody::Notice(Notice::note("hint: h")));
    }
}
