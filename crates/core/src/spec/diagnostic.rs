//! What is wrong, or doubtful, in a buildspec: data only.
//!
//! Made by `yaml`, `raw` and `validate`; drawn by `src/cli/render.rs`. Wording for people stands in
//! `message` and `hint`; `aws` holds what CodeBuild itself would say, where that is known, for the
//! build's record.

use serde::{Deserialize, Serialize};

/// A place in the buildspec's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Line, from 1; 0 where the place is the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 where the place is the whole line or file.
    pub column: u32,
    /// Length in characters on that line; at least 1.
    pub length: u32,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The build runs, perhaps not as meant.
    Warning,
    /// The build is refused.
    Error,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable name of the kind of problem, for suppressing and searching.
    pub code: Code,
    /// How much it matters; follows from the code.
    pub severity: Severity,
    /// Where.
    pub span: Span,
    /// One sentence without a full stop.
    pub message: String,
    /// How to mend it, where that can be said.
    pub hint: Option<String>,
    /// CodeBuild's own words for it.
    pub aws: Option<String>,
}

impl Diagnostic {
    /// A problem of this kind at this place.
    #[must_use]
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        let severity = code.severity();
        Diagnostic { code, severity, span, message: message.into(), hint: None, aws: None }
    }

    /// With advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With CodeBuild's words.
    #[must_use]
    pub fn aws(mut self, aws: impl Into<String>) -> Self {
        self.aws = Some(aws.into());
        self
    }

    /// Whether the build is refused because of it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The file is not there or cannot be read.
    Unreadable,
    /// Not UTF-8, or control characters that YAML does not allow.
    NotText,
    /// Not YAML.
    Syntax,
    /// Too large or too deeply nested.
    TooLarge,
    /// A value of the wrong shape: a map where a text belongs, and so on.
    WrongShape,
    /// A command written so that YAML reads it as a map.
    CommandIsMap,
    /// A value that the key does not allow.
    BadValue,
    /// A key that must be there is not.
    MissingKey,
    /// Good in CodeBuild, and not to be run here.
    NotRunnable,
    /// The same key twice; the later one counts.
    DuplicateKey,
    /// A key that the language does not have; ignored.
    UnknownKey,
    /// A key of the language that this program does not carry out yet.
    NotSupportedYet,
    /// A variable whose name CodeBuild keeps for itself.
    ReservedName,
    /// A name that no shell can hold; left out.
    BadName,
}

impl Code {
    /// Every kind.
    pub const ALL: [Code; 14] = [
        Code::Unreadable,
        Code::NotText,
        Code::Syntax,
        Code::TooLarge,
        Code::WrongShape,
        Code::CommandIsMap,
        Code::BadValue,
        Code::MissingKey,
        Code::NotRunnable,
        Code::DuplicateKey,
        Code::UnknownKey,
        Code::NotSupportedYet,
        Code::ReservedName,
        Code::BadName,
    ];

    /// What problems of this kind have in common, in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Code::Unreadable => "The file is not there or cannot be read.",
            Code::NotText => "The file is not text in UTF-8.",
            Code::Syntax => "The file is not YAML.",
            Code::TooLarge => "The file is too large or too deeply nested.",
            Code::WrongShape => "A value has the wrong shape, a map where a text belongs for one.",
            Code::CommandIsMap => "A command is written so that YAML reads it as a map.",
            Code::BadValue => "A value is not one that its key allows.",
            Code::MissingKey => "A key that must be there is not.",
            Code::NotRunnable => "It is good in CodeBuild and cannot be run here.",
            Code::DuplicateKey => "A key is written twice; the later one counts.",
            Code::UnknownKey => "The language has no such key; it is ignored.",
            Code::NotSupportedYet => "A key of the language is not carried out here yet.",
            Code::ReservedName => "CodeBuild keeps the name of a variable for itself.",
            Code::BadName => "No shell can hold a variable of that name; it is left out.",
        }
    }

    /// How much problems of this kind matter.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Code::Unreadable
            | Code::NotText
            | Code::Syntax
            | Code::TooLarge
            | Code::WrongShape
            | Code::CommandIsMap
            | Code::BadValue
            | Code::MissingKey
            | Code::NotRunnable => Severity::Error,
            Code::DuplicateKey
            | Code::UnknownKey
            | Code::NotSupportedYet
            | Code::ReservedName
            | Code::BadName => Severity::Warning,
        }
    }

    /// The name as it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::Unreadable => "unreadable",
            Code::NotText => "not-text",
            Code::Syntax => "syntax",
            Code::TooLarge => "too-large",
            Code::WrongShape => "wrong-shape",
            Code::CommandIsMap => "command-is-map",
            Code::BadValue => "bad-value",
            Code::MissingKey => "missing-key",
            Code::NotRunnable => "not-runnable",
            Code::DuplicateKey => "duplicate-key",
            Code::UnknownKey => "unknown-key",
            Code::NotSupportedYet => "not-supported-yet",
            Code::ReservedName => "reserved-name",
            Code::BadName => "bad-name",
        }
    }
}
