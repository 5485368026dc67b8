//! Errors and warnings in a buildspec, as data.
//!
//! Made by `yaml`, `shape`, `validate` and `lint`; shown by `src/cli/render.rs`. `message` and
//! `hint` are for people. `aws` is CodeBuild's own message, if it is known, for the build's record.

use serde::{Deserialize, Serialize};

/// A place in the buildspec's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Line, from 1; 0 for the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 for the whole line or file.
    pub column: u32,
    /// Length in characters on that line, at least 1.
    pub length: u32,
    /// The place of the text itself, if this is the place of an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<LineColumn>,
}

/// A line and a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Span {
    /// Makes a place that is not an alias.
    #[must_use]
    pub const fn new(line: u32, column: u32, length: u32) -> Self {
        Span { line, column, length, written: None }
    }
}

impl LineColumn {
    /// The start of a span.
    #[must_use]
    pub fn of(span: Span) -> Self {
        LineColumn { line: span.line, column: span.column }
    }
}

/// How severe a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The build runs, but perhaps not as intended.
    Warning,
    /// The build is rejected.
    Error,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Stable code of the kind of problem, for suppressing and searching.
    pub code: DiagnosticCode,
    /// Severity; depends on the code.
    pub severity: Severity,
    /// The place.
    pub span: Span,
    /// The problem, in one sentence without a full stop.
    pub message: String,
    /// Advice on how to fix it, if there is any.
    pub hint: Option<String>,
    /// CodeBuild's own message for it.
    pub aws: Option<String>,
}

impl Diagnostic {
    /// Makes a problem of this kind.
    #[must_use]
    pub fn new(code: DiagnosticCode, span: Span, message: impl Into<String>) -> Self {
        let severity = code.severity();
        Diagnostic { code, severity, span, message: message.into(), hint: None, aws: None }
    }

    /// Adds advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds CodeBuild's message.
    #[must_use]
    pub fn aws(mut self, aws: impl Into<String>) -> Self {
        self.aws = Some(aws.into());
        self
    }

    /// Whether the problem makes the build fail.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiagnosticCode {
    /// The file does not exist or cannot be read.
    Unreadable,
    /// The file is not UTF-8 or UTF-16.
    NotText,
    /// The file is not valid YAML.
    Syntax,
    /// The file is too large or too deeply nested.
    TooLarge,
    /// A value has the wrong shape, for example a map instead of a text.
    WrongShape,
    /// A command is written so that YAML parses it as a map.
    CommandIsMap,
    /// A value is not allowed for its key.
    BadValue,
    /// A required key is missing.
    MissingKey,
    /// Valid in CodeBuild, but not possible here.
    NotRunnable,
    /// More documents follow the first one.
    MoreDocuments,
    /// A key is repeated; the last one counts.
    DuplicateKey,
    /// A key is unknown and ignored.
    UnknownKey,
    /// A key is not supported here yet.
    NotSupportedYet,
    /// CodeBuild reserves the name of a variable.
    ReservedName,
    /// The name is not valid for a shell variable, so the variable is ignored.
    BadName,
    /// A key or an item has no value.
    Empty,
    /// YAML reads a word of a command as a tag.
    LostTag,
    /// A number or a boolean stands in place of the list of commands.
    ScalarCommand,
    /// A phase has no commands.
    NoCommands,
    /// A key has no effect together with the others.
    NoEffect,
    /// A variable's value looks as if it should be expanded, but it is not.
    NotExpanded,
    /// A command changes shell state that is lost when it ends.
    LostState,
    /// A command run by sh uses a bash feature.
    Bashism,
    /// A command uses a variable that nothing in the buildspec sets.
    UnsetVariable,
}

impl DiagnosticCode {
    /// All kinds.
    pub const ALL: [DiagnosticCode; 24] = [
        DiagnosticCode::Unreadable,
        DiagnosticCode::NotText,
        DiagnosticCode::Syntax,
        DiagnosticCode::TooLarge,
        DiagnosticCode::WrongShape,
        DiagnosticCode::CommandIsMap,
        DiagnosticCode::BadValue,
        DiagnosticCode::MissingKey,
        DiagnosticCode::NotRunnable,
        DiagnosticCode::MoreDocuments,
        DiagnosticCode::DuplicateKey,
        DiagnosticCode::UnknownKey,
        DiagnosticCode::NotSupportedYet,
        DiagnosticCode::ReservedName,
        DiagnosticCode::BadName,
        DiagnosticCode::Empty,
        DiagnosticCode::LostTag,
        DiagnosticCode::ScalarCommand,
        DiagnosticCode::NoCommands,
        DiagnosticCode::NoEffect,
        DiagnosticCode::NotExpanded,
        DiagnosticCode::LostState,
        DiagnosticCode::Bashism,
        DiagnosticCode::UnsetVariable,
    ];

    /// Its name, severity and description.
    fn facts(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Error, Warning};
        match self {
            DiagnosticCode::Unreadable => {
                ("unreadable", Error, "The file is not there or cannot be read.")
            }
            DiagnosticCode::NotText => {
                ("not-text", Error, "The file is not text in UTF-8 or UTF-16.")
            }
            DiagnosticCode::Syntax => ("syntax", Error, "The file is not YAML."),
            DiagnosticCode::TooLarge => {
                ("too-large", Error, "The file is too large or too deeply nested.")
            }
            DiagnosticCode::WrongShape => (
                "wrong-shape",
                Error,
                "A value has the wrong shape, such as a map instead of a string.",
            ),
            DiagnosticCode::CommandIsMap => {
                ("command-is-map", Error, "A command is written so that YAML reads it as a map.")
            }
            DiagnosticCode::BadValue => {
                ("bad-value", Error, "A value that its key does not allow.")
            }
            DiagnosticCode::MissingKey => {
                ("missing-key", Error, "A key that must be there is not.")
            }
            DiagnosticCode::NotRunnable => {
                ("not-runnable", Error, "It is good in CodeBuild and cannot be run here.")
            }
            DiagnosticCode::MoreDocuments => {
                ("more-documents", Warning, "Only the first document of a file is looked at.")
            }
            DiagnosticCode::DuplicateKey => {
                ("duplicate-key", Warning, "A key is written twice; the later one counts.")
            }
            DiagnosticCode::UnknownKey => {
                ("unknown-key", Warning, "The language has no such key; it is ignored.")
            }
            DiagnosticCode::NotSupportedYet => {
                ("not-supported-yet", Warning, "A key of the language is not carried out here yet.")
            }
            DiagnosticCode::ReservedName => {
                ("reserved-name", Warning, "CodeBuild keeps the name of a variable for itself.")
            }
            DiagnosticCode::BadName => (
                "bad-name",
                Warning,
                "A shell cannot have a variable of that name; it is left out.",
            ),
            DiagnosticCode::Empty => {
                ("empty", Warning, "A key or an item has no value and counts as absent.")
            }
            DiagnosticCode::LostTag => (
                "lost-tag",
                Warning,
                "YAML reads a word that starts with `!` as a tag and removes it from the command.",
            ),
            DiagnosticCode::ScalarCommand => (
                "scalar-command",
                Warning,
                "A number or a boolean stands in place of the commands, and is run as one.",
            ),
            DiagnosticCode::NoCommands => ("no-commands", Warning, "A phase has no commands."),
            DiagnosticCode::NoEffect => {
                ("no-effect", Warning, "A key has no effect beside the others.")
            }
            DiagnosticCode::NotExpanded => (
                "not-expanded",
                Warning,
                "A variable's value looks as if it hoped to be expanded, and is not.",
            ),
            DiagnosticCode::LostState => {
                ("lost-state", Warning, "What a command changes in its shell is lost when it ends.")
            }
            DiagnosticCode::Bashism => {
                ("bashism", Warning, "A command uses what only bash has, and is run by sh.")
            }
            DiagnosticCode::UnsetVariable => (
                "unset-variable",
                Warning,
                "A command uses a variable that nothing in the buildspec sets.",
            ),
        }
    }

    /// The name for output.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The severity of this kind.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.facts().1
    }

    /// Describes this kind of problem in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.facts().2
    }
}

/// The problems to show if there are many.
#[derive(Clone, Debug)]
pub struct Few<'p> {
    /// At most [`Few::MOST`] problems, in their original order. If there are more, errors take
    /// precedence over warnings.
    pub shown: Vec<&'p Diagnostic>,
    /// Number of errors left out.
    pub errors: usize,
    /// Number of warnings left out.
    pub warnings: usize,
}

impl<'p> Few<'p> {
    /// Maximum number of problems shown.
    pub const MOST: usize = 100;

    /// Selects the problems to show.
    #[must_use]
    pub fn of(problems: impl IntoIterator<Item = &'p Diagnostic>) -> Self {
        let all: Vec<&Diagnostic> = problems.into_iter().collect();
        let errors = all.iter().filter(|problem| problem.is_error()).count();
        let warnings = all.len() - errors;
        let mut room = (errors.min(Self::MOST), 0);
        room.1 = warnings.min(Self::MOST - room.0);
        let left_out = (errors - room.0, warnings - room.1);
        let mut shown = all;
        shown.retain(|problem| {
            let room = if problem.is_error() { &mut room.0 } else { &mut room.1 };
            let has_room = *room > 0;
            *room = room.saturating_sub(1);
            has_room
        });
        Few { shown, errors: left_out.0, warnings: left_out.1 }
    }

    /// Number of problems left out.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.errors + self.warnings
    }

    /// Describes the problems left out; `None` if there are none.
    #[must_use]
    pub fn rest(&self) -> Option<String> {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        match (self.errors, self.warnings) {
            (0, 0) => None,
            (errors, 0) => Some(format!("and {} more", count(errors, "error"))),
            (0, warnings) => Some(format!("and {} more", count(warnings, "warning"))),
            (errors, warnings) => {
                let warnings = count(warnings, "warning");
                Some(format!("and {} and {warnings} more", count(errors, "error")))
            }
        }
    }
}
