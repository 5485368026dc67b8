//! Explains YAML syntax errors: for people, and in CodeBuild's words.
//!
//! CodeBuild uses libyaml or a copy of it. `aws` holds libyaml's message and line, which it counts
//! from 0. Both parsers nearly always stop at the same place but name the error differently. In
//! doubtful cases there is no `aws` message. Each row of the table is tested against libyaml's real
//! messages.

use super::context::{CollectionKind, CollectionStack};
use crate::spec::diagnostic::{Diagnostic, DiagnosticCode, Span};
use serde_yaml::granit_parser::{ErrorKind, Marker, ScanError};

#[cfg(test)]
mod tests;

const CANNOT_START: &str = "found character that cannot start any token";
const NO_COLON: &str = "could not find expected ':'";
const NO_KEY: &str = "did not find expected key";
const NO_NODE: &str = "did not find expected node content";
const NO_NAME: &str = "did not find expected alphabetic or numeric character";
const NO_LINE_END: &str = "did not find expected comment or line break";
const END_OF_STREAM: &str = "found unexpected end of stream";

/// Keys of a buildspec that have a line of their own.
const KEYS: [&str; 24] = [
    "version",
    "env",
    "variables",
    "parameter-store",
    "secrets-manager",
    "exported-variables",
    "phases",
    "install",
    "pre_build",
    "build",
    "post_build",
    "runtime-versions",
    "commands",
    "finally",
    "artifacts",
    "secondary-artifacts",
    "files",
    "reports",
    "cache",
    "paths",
    "batch",
    "build-list",
    "build-graph",
    "build-matrix",
];

/// The place of a parser mark.
pub(super) fn place(mark: &Marker) -> Span {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Span {
        line: number(mark.line()),
        column: number(mark.col()).saturating_add(1),
        length: 1,
        ..Span::default()
    }
}

/// The place of a byte offset.
fn span_at(source: &str, at: usize) -> Span {
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let column = source[..at].chars().rev().take_while(|c| *c != '\n').count();
    Span {
        line: number(lines_before(source, at)).saturating_add(1),
        column: number(column).saturating_add(1),
        length: 1,
        ..Span::default()
    }
}

/// The error for an invalid name of an anchor or alias.
pub(super) fn bad_name(span: Span, sign: &str) -> Diagnostic {
    let what = if sign == "*" { "an alias" } else { "an anchor" };
    Diagnostic::new(
        DiagnosticCode::Syntax,
        span,
        format!("YAML takes what starts with `{sign}` for {what}"),
    )
    .hint(format!("quote a text that starts with `{sign}`"))
    .aws(at_line(NO_NAME, span.line.saturating_sub(1) as usize))
}

/// Explains a parser error.
pub(super) fn explain(source: &str, error: &ScanError, context: &CollectionStack) -> Diagnostic {
    let kind = error.kind();
    if matches!(kind, ErrorKind::RecursionLimitExceeded) {
        return Diagnostic::new(
            DiagnosticCode::TooLarge,
            place(error.marker()),
            "it is too deeply nested",
        );
    }
    let scene = ErrorScene::new(source, error.marker(), context);
    let mut problem =
        Diagnostic::new(DiagnosticCode::Syntax, place(error.marker()), kind.to_string());
    problem.aws = scene.aws(kind).map(|(text, line)| at_line(text, line));
    if let Some(open) = scene.open_quote(kind) {
        problem.span = span_at(source, open);
        problem.message = "the string that this quote begins has no end".to_owned();
        return problem.hint("close it with the same quote");
    }
    if is_about_tabs(kind)
        && let Some(span) = tab_in_indent(source, problem.span)
    {
        problem.span = span;
        return problem.hint("indent with spaces; YAML does not take tabs");
    }
    if matches!(kind, ErrorKind::UnknownAnchor) {
        return problem
            .hint("`*name` needs an `&name` before it; quote a text that starts with `*`");
    }
    if matches!(kind, ErrorKind::MappingValueNotAllowed) {
        if let Some((key, span)) = key_without_colon(source, problem.span) {
            problem.span = span;
            problem.message = format!("there is no colon after `{key}`");
            return problem.hint(format!("write `{key}:`"));
        }
        return problem.hint("a text that contains `: ` must be quoted");
    }
    match item_hint(source, problem.span) {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// The key of the language that stands without a colon on the line before an unexpected colon.
fn key_without_colon(source: &str, told: Span) -> Option<(&str, Span)> {
    let at = told.line.saturating_sub(1) as usize;
    let lines = source.lines().enumerate().take(at);
    let is_text = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let (number, line) = lines.filter(|(_, line)| is_text(line)).last()?;
    let text = line.trim_start();
    let key = text.split_whitespace().next()?;
    let is_alone = text.trim_end() == key || key == "version";
    (is_alone && KEYS.contains(&key)).then(|| {
        let column = line.len() - text.len() + 1;
        let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (key, Span::new(place(number + 1), place(column), place(key.len())))
    })
}

fn at_line(text: &str, line: usize) -> String {
    format!("{text} at line {line}")
}

fn is_about_tabs(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TabNotAllowed
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabInIndentation
            | ErrorKind::TabInPlainScalar
            | ErrorKind::TabAtBlockScalarStart
    )
}

struct ErrorScene<'s> {
    source: &'s str,
    /// Byte offset of the error.
    at: usize,
    /// Line of the error, from 0.
    line: usize,
    context: &'s CollectionStack,
}

impl<'s> ErrorScene<'s> {
    fn new(source: &'s str, mark: &Marker, context: &'s CollectionStack) -> Self {
        let at = source.floor_char_boundary(mark.byte_offset().unwrap_or(source.len()));
        ErrorScene { source, at, line: mark.line().saturating_sub(1), context }
    }

    /// libyaml's message and line.
    fn aws(&self, kind: &ErrorKind) -> Option<(&'static str, usize)> {
        use ErrorKind as E;
        let here = |text| Some((text, self.line));
        match kind {
            E::UnexpectedCharacter { character } if character.is_control() => {
                here("control characters are not allowed")
            }
            E::UnexpectedCharacter { .. } | E::TabInBlockIndentation => here(CANNOT_START),
            E::TabInPlainScalar => {
                Some(("found a tab character that violates indentation", self.line_of_tab()?))
            }
            E::TabAtBlockScalarStart => {
                let text = "found a tab character where an indentation space is expected";
                Some((text, self.line_of_tab()?))
            }
            E::MappingValueNotAllowed => here("mapping values are not allowed in this context"),
            E::BlockSequenceEntryNotAllowed => match self.scanned() {
                Some(text) => here(text),
                None => here("block sequence entries are not allowed in this context"),
            },
            E::SimpleKeyExpected => match self.rest().as_bytes().first() {
                Some(b'|' | b'>') => here(self.scanned().unwrap_or(NO_KEY)),
                Some(b'!') => None,
                _ => match self.scanned() {
                    Some(text) => here(text),
                    None => Some((NO_COLON, self.line_of_next(self.end_of_line()))),
                },
            },
            E::ExpectedBlockMappingKey
            | E::ExpectedBlockSequenceEntry
            | E::ExpectedFlowMappingSeparator
            | E::ExpectedFlowSequenceSeparator => here(self.scanned().unwrap_or(match kind {
                E::ExpectedBlockMappingKey => NO_KEY,
                E::ExpectedBlockSequenceEntry => "did not find expected '-' indicator",
                E::ExpectedFlowMappingSeparator => "did not find expected ',' or '}'",
                _ => "did not find expected ',' or ']'",
            })),
            E::InvalidColonPlacement if self.context.is_in_flow() => here(self.expected()?),
            E::MismatchedFlowCollectionEnd { open, .. } => here(flow_goes_on(*open)),
            E::UnexpectedEofBlockMapping | E::UnexpectedEofBlockSequence => here(NO_NODE),
            E::UnexpectedEofFlowMapping
            | E::UnexpectedEofFlowSequence
            | E::UnexpectedEofImplicitFlowMapping
                if self.rest().starts_with(',') =>
            {
                here(NO_NODE)
            }
            E::UnclosedFlowCollection { open } => self.unclosed(*open),
            E::BlockEntryInFlowCollection => self.dash_in_flow(),
            E::MappingKeyNotAllowed => here("mapping keys are not allowed in this context"),
            E::InvalidBlockScalarIndent => here(self.expected()?),
            E::MisplacedFlowCollectionEnd => here(match self.is_awaiting_a_node() {
                true => NO_NODE,
                false => self.expected()?,
            }),
            E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => {
                self.after_quotes()
            }
            E::InvalidQuotedScalarIndent | E::UnclosedQuotedScalar => self.in_quotes(),
            E::DocumentIndicatorInQuotedScalar => here("found unexpected document indicator"),
            E::MissingAnchorOrAliasName => here(NO_NAME),
            E::UnknownAnchor => match self.scanned() {
                Some(text) => here(text),
                None => here("found undefined alias"),
            },
            E::InvalidBlockScalarHeader => here(NO_LINE_END),
            E::ZeroBlockScalarIndent => here("found an indentation indicator equal to 0"),
            E::UnknownQuotedScalarEscape => {
                Some(("found unknown escape character", self.line_of_escape()))
            }
            // The misspelling is libyaml's.
            E::InvalidQuotedScalarHexEscape => {
                Some(("did not find expected hexdecimal number", self.line_of_escape()))
            }
            E::InvalidUnicodeEscape
            | E::MissingLowSurrogate
            | E::UnpairedLowSurrogate
            | E::InvalidLowSurrogate
            | E::InvalidLowSurrogateHexEscape => {
                Some(("found invalid Unicode character escape code", self.line_of_escape()))
            }
            E::UnsupportedYamlMajorVersion => here("found incompatible YAML document"),
            E::UndeclaredTagHandle => here("found undefined tag handle"),
            E::MissingTagUri => here("did not find expected tag URI"),
            E::UnclosedVerbatimTag => here("did not find the expected '>'"),
            E::InvalidTagTerminator => here("did not find expected whitespace or line break"),
            E::ExpectedDocumentStart => here("did not find expected <document start>"),
            E::MissingYamlVersion => here("did not find expected version number"),
            E::MissingDirectiveName => here("could not find expected directive name"),
            E::DuplicateVersionDirective => here("found duplicate %YAML directive"),
            E::DuplicateTagDirective => here("found duplicate %TAG directive"),
            _ => None,
        }
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// libyaml's message for an invalid token here, before it checks whether a token is expected.
    fn scanned(&self) -> Option<&'static str> {
        scanned(self.rest().trim_start_matches(' '))
    }

    /// libyaml's message for a missing continuation of the innermost collection.
    fn expected(&self) -> Option<&'static str> {
        Some(match self.context.innermost()?.kind {
            CollectionKind::BlockSequence => "did not find expected '-' indicator",
            CollectionKind::BlockMapping => NO_KEY,
            CollectionKind::FlowSequence => flow_goes_on('['),
            CollectionKind::FlowMapping => flow_goes_on('{'),
        })
    }

    /// Whether a value, or an item after its dash, is expected here.
    fn is_awaiting_a_node(&self) -> bool {
        let line = self.source[..self.at].rsplit('\n').next().unwrap_or_default();
        let before = line.trim_end();
        let awaits_value = self.context.innermost().is_some_and(|open| open.awaits_value);
        awaits_value || before.ends_with("- ") || before.trim_start() == "-"
    }

    /// Message and line for a file that ends inside brackets. libyaml stops earlier if a colon
    /// comes first.
    fn unclosed(&self, open: char) -> Option<(&'static str, usize)> {
        if self.is_key(self.at) {
            return Some((NO_COLON, self.line_of_next(self.end_of_line())));
        }
        let inside = self.rest().trim_end();
        if inside.contains([':', '#']) || open == '{' && inside.contains('\n') {
            return None;
        }
        let text = match inside.ends_with([',', '[', '{']) {
            true => NO_NODE,
            false => flow_goes_on(open),
        };
        let is_cut = !self.source.ends_with('\n');
        Some((text, lines_before(self.source, self.source.len()) + usize::from(is_cut)))
    }

    /// Message and line for a block item inside brackets.
    fn dash_in_flow(&self) -> Option<(&'static str, usize)> {
        if !self.context.is_in_flow() || self.context.is_flow_a_key() {
            return None;
        }
        let before = self.source[..self.at].trim_end();
        let text = match before.ends_with([',', '[', '{', ':']) {
            true => NO_NODE,
            false => self.expected()?,
        };
        Some((text, self.line))
    }

    /// Message and line for an unexpected token after a quoted text.
    fn after_quotes(&self) -> Option<(&'static str, usize)> {
        if let Some(text) = self.scanned() {
            return Some((text, self.line));
        }
        let open = quote_after(self.source, self.context.last_end)?;
        let is_on_one_line = !self.source[open..self.at].contains('\n');
        match self.is_key(open) {
            true if is_on_one_line => Some((NO_COLON, self.line_of_next(self.end_of_line()))),
            true => Some((NO_COLON, self.line)),
            false => Some((self.expected()?, self.line)),
        }
    }

    /// The offset of a quote that is never closed.
    fn open_quote(&self, kind: &ErrorKind) -> Option<usize> {
        if !matches!(kind, ErrorKind::InvalidQuotedScalarIndent | ErrorKind::UnclosedQuotedScalar) {
            return None;
        }
        let open = quote_after(self.source, self.context.last_end)?;
        matches!(end_of_quote(self.source, open), QuoteEnd::Never).then_some(open)
    }

    /// Message and line for a quoted text that spans lines where it must not. libyaml always
    /// searches for its end.
    fn in_quotes(&self) -> Option<(&'static str, usize)> {
        let open = quote_after(self.source, self.context.last_end)?;
        let close = match end_of_quote(self.source, open) {
            QuoteEnd::At(close) => close,
            QuoteEnd::Indicator(at) => {
                return Some((
                    "found unexpected document indicator",
                    lines_before(self.source, at),
                ));
            }
            QuoteEnd::Never => {
                return Some((END_OF_STREAM, lines_before(self.source, self.source.len())));
            }
        };
        let next = next_token(self.source, close);
        let line = lines_before(self.source, next);
        let rest = &self.source[next..];
        if self.is_key(open) {
            return Some((NO_COLON, line));
        }
        match scanned(rest) {
            Some(text) => Some((text, line)),
            None if rest.starts_with(": ") => None,
            None => Some((self.expected()?, line)),
        }
    }

    /// Whether a key is expected at an offset.
    fn is_key(&self, at: usize) -> bool {
        let line = self.source[..at].rsplit('\n').next().unwrap_or_default();
        self.context.innermost().is_some_and(|open| {
            open.kind == CollectionKind::BlockMapping
                && line.chars().all(|c| c == ' ')
                && line.len() == open.column
        })
    }

    /// The line of the first invalid escape in the quoted text that begins here.
    fn line_of_escape(&self) -> usize {
        let mut at = self.at;
        while let Some(found) = self.source[at..].find('\\') {
            let after = &self.source[at + found + 1..];
            if !is_escape(after) {
                return lines_before(self.source, at + found);
            }
            at += found + 1 + after.chars().next().map_or(0, char::len_utf8);
        }
        self.line
    }

    fn end_of_line(&self) -> usize {
        self.rest().find('\n').map_or(self.source.len(), |end| self.at + end)
    }

    /// The line of the first token at or after an offset.
    fn line_of_next(&self, from: usize) -> usize {
        lines_before(self.source, next_token(self.source, from))
    }

    /// The first line from here on that is indented with a tab.
    fn line_of_tab(&self) -> Option<usize> {
        let start = self.source[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let lines = (self.line..).zip(self.source[start..].lines());
        lines.take(16).find_map(|(number, line)| {
            let indent = &line[..line.len() - line.trim_start().len()];
            indent.contains('\t').then_some(number)
        })
    }
}

/// libyaml's message for a missing separator inside brackets.
fn flow_goes_on(open: char) -> &'static str {
    match open {
        '[' => "did not find expected ',' or ']'",
        _ => "did not find expected ',' or '}'",
    }
}

/// Whether libyaml accepts an escape; `after` follows the backslash.
fn is_escape(after: &str) -> bool {
    let digits = match after.chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        first => return first.is_none_or(|c| "0abt\tnvfre \"/\\N_LP\r\n".contains(c)),
    };
    let code = after.get(1..=digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    code.and_then(char::from_u32).is_some()
}

/// libyaml's message for an invalid token.
fn scanned(rest: &str) -> Option<&'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let first = rest.chars().next()?;
    let after = &rest[first.len_utf8()..];
    match first {
        '&' | '*' => {
            let behind = after.trim_start_matches(is_name);
            let is_none = behind.len() == after.len();
            let ends =
                behind.chars().next().is_none_or(|c| c.is_whitespace() || "?:,]}%@`".contains(c));
            (is_none || !ends).then_some(NO_NAME)
        }
        '|' | '>' => {
            let header = after.trim_start_matches(|c: char| c.is_ascii_digit() || "+-".contains(c));
            let behind = header.lines().next().unwrap_or_default().trim_start();
            let is_comment = behind.starts_with('#') && header.starts_with([' ', '\t']);
            (!behind.is_empty() && !is_comment).then_some(NO_LINE_END)
        }
        '%' | '@' | '`' => Some(CANNOT_START),
        _ => None,
    }
}

/// Number of line breaks before an offset.
fn lines_before(source: &str, at: usize) -> usize {
    source[..at].bytes().filter(|byte| *byte == b'\n').count()
}

/// The offset of the next character that is neither blank nor part of a comment.
fn next_token(source: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = &source[at..];
        at += rest.len() - rest.trim_start().len();
        let is_comment = source[at..].starts_with('#');
        match source[at..].find('\n') {
            Some(end) if is_comment => at += end,
            None if is_comment => return source.len(),
            _ => return at,
        }
    }
}

/// The offset of the next quote that begins a text.
fn quote_after(source: &str, from: usize) -> Option<usize> {
    let mut at = next_token(source, source.floor_char_boundary(from));
    loop {
        let rest = &source[at..];
        match rest.chars().next()? {
            '"' | '\'' => return Some(at),
            // May come before a text.
            '-' | '?' | ':' | ',' | '[' | '{' | ']' | '}' => at = next_token(source, at + 1),
            '!' | '&' => {
                let end = rest.find(char::is_whitespace)?;
                at = next_token(source, at + end);
            }
            _ => return None,
        }
    }
}

enum QuoteEnd {
    /// The offset after the closing quote.
    At(usize),
    /// The offset of a document marker inside the text.
    Indicator(usize),
    Never,
}

fn end_of_quote(source: &str, open: usize) -> QuoteEnd {
    let quote = source.as_bytes()[open];
    let bytes = source.as_bytes();
    let mut at = open + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\n' => {
                let rest = &source[at + 1..];
                let is_mark = rest.starts_with("---") || rest.starts_with("...");
                if is_mark && rest[3..].chars().next().is_none_or(char::is_whitespace) {
                    return QuoteEnd::Indicator(at + 1);
                }
                at += 1;
            }
            b'\\' if quote == b'"' => at += 2,
            byte if byte == quote => {
                if quote == b'\'' && bytes.get(at + 1) == Some(&quote) {
                    at += 2;
                } else {
                    return QuoteEnd::At(at + 1);
                }
            }
            _ => at += 1,
        }
    }
    QuoteEnd::Never
}

/// Advice for a list item that YAML does not read as text, on the reported line or the one before.
fn item_hint(source: &str, told: Span) -> Option<&'static str> {
    let at = told.line.saturating_sub(1) as usize;
    let lines = [at, at.saturating_sub(1)].map(|at| source.lines().nth(at).unwrap_or_default());
    lines.into_iter().find_map(|line| {
        let item = line.trim_start().strip_prefix("- ")?.trim_start();
        match item.chars().next()? {
            '[' | '{' => Some(
                "quote the whole command, or write it under `- |`: YAML takes `[` and `{` at its start \
                 for a list or a map",
            ),
            quote @ ('"' | '\'') if item.matches(quote).count() > 1 && !item.ends_with(quote) => Some(
                "quote the whole command, or write it under `- |`: to YAML it ends with its second \
                 quote",
            ),
            '%' | '@' | '`' => Some("quote the whole command: YAML keeps its first character for itself"),
            _ => None,
        }
    })
}

/// The place of the tab in question: the parser may report the place of the text before it.
fn tab_in_indent(source: &str, told: Span) -> Option<Span> {
    let lines = (told.line..).zip(source.lines().skip(told.line.saturating_sub(1) as usize));
    lines.take(3).find_map(|(line, text)| {
        let indent = text.len() - text.trim_start().len();
        let column = text[..indent].find('\t')?;
        let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
        let own = Span { line, column, length: 1, ..Span::default() };
        Some(if line == told.line { told } else { own })
    })
}
