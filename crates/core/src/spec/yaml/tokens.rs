//! Where and how the scalars of a text are written, for replacing one and keeping the rest.

use super::{MAX_BYTES, syntax};
use crate::spec::diagnostic::{LineColumn, Span};
use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, StructureStyle};
use std::ops::Range;

/// A scalar or an alias, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalarToken {
    pub(crate) place: LineColumn,
    /// Its bytes; for a block, without the header.
    pub(crate) range: Range<usize>,
    pub(crate) style: ScalarForm,
    /// The number of its anchor, or of its alias's anchor; 0 for none.
    pub(crate) anchor: usize,
    pub(crate) has_tag: bool,
    /// Whether it is inside brackets.
    pub(crate) is_flow: bool,
    /// Column of the enclosing list or map, from 0.
    pub(crate) parent: usize,
    /// Column where it begins, from 0; for a block, that of its lines.
    pub(crate) column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScalarForm {
    Plain,
    Single,
    Double,
    Literal,
    Folded,
    Alias,
}

/// Returns the scalars of a valid YAML text; for an invalid one, those before the error.
pub(crate) fn tokens(source: &str) -> Vec<ScalarToken> {
    let options = granit_parser::options! { emit_comments: false };
    let mut found = Vec::new();
    if source.len() > MAX_BYTES {
        return found;
    }
    let mut open: Vec<(bool, usize)> = Vec::new();
    for next in Parser::new_from_str_with_options(source, options) {
        let Ok((event, at)) = next else { break };
        let (style, anchor, has_tag) = match event {
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                open.push((style == StructureStyle::Flow, at.start.col()));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
                continue;
            }
            Event::Scalar(_, style, anchor, tag) => {
                let style = match style {
                    ScalarStyle::Plain => ScalarForm::Plain,
                    ScalarStyle::SingleQuoted => ScalarForm::Single,
                    ScalarStyle::DoubleQuoted => ScalarForm::Double,
                    ScalarStyle::Literal => ScalarForm::Literal,
                    ScalarStyle::Folded => ScalarForm::Folded,
                };
                (style, anchor, tag.is_some())
            }
            Event::Alias(anchor) => (ScalarForm::Alias, anchor, false),
            _ => continue,
        };
        let Some(range) = at.byte_range() else { continue };
        let (is_flow, parent) = open.last().copied().unwrap_or_default();
        let column = at.start.col();
        let place = LineColumn::of(Span { length: 1, ..syntax::place(&at.start) });
        found.push(ScalarToken { place, range, style, anchor, has_tag, is_flow, parent, column });
    }
    found
}
