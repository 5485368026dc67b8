//! Writes a command's new text into the buildspec. Replaces only the command's bytes.
//!
//! The result is parsed and compared with the old file: every value must be unchanged, except the
//! command. Otherwise the edit is refused, with its place.

mod evals;
mod runs;
mod splice;
#[cfg(test)]
mod tests;

pub use evals::{insert, shifted, values_without};
pub use runs::{EditedRun, EvaluatedRun, Runs};

use crate::debug::CommandPlace;
use crate::event::Block;
use crate::spec::yaml::tokens::{ScalarForm, ScalarToken, tokens};
use crate::spec::yaml::{self, YamlNode, YamlValue};
use crate::spec::{self, Span, SpecCommand};

/// A command and its new text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The place of the command.
    pub place: CommandPlace,
    /// The new text.
    pub text: String,
}

/// A buildspec with edits applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The whole text.
    pub source: String,
    /// Remarks for the reader of the result.
    pub notes: Vec<String>,
}

/// Why a command cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{}: {message}", span.line, span.column)]
pub struct PatchRefusal {
    /// The place.
    pub span: Span,
    /// One sentence.
    pub message: String,
}

/// Applies edits to `source`, which has no byte order mark. `everywhere` also changes other uses of
/// an anchor.
///
/// # Errors
/// The first edit that cannot be written.
pub fn patch(source: &str, edits: &[Edit], everywhere: bool) -> Result<Patched, PatchRefusal> {
    let mut patched = Patched { source: source.to_owned(), notes: Vec::new() };
    for edit in edits {
        let (source, note) = one(&patched.source, edit, everywhere)?;
        patched.source = source;
        patched.notes.extend(note);
    }
    Ok(patched)
}

fn one(
    source: &str,
    edit: &Edit,
    everywhere: bool,
) -> Result<(String, Option<String>), PatchRefusal> {
    let command = find(source, edit.place)?;
    let refuse = |message: String| PatchRefusal { span: command.span, message };
    if is_same(&command.text, &edit.text) {
        return Ok((source.to_owned(), None));
    }
    let token = &token_of(source, &command, edit.place)?;
    if token.has_tag {
        return Err(refuse(format!("{} has a tag whose meaning would be lost", edit.place)));
    }
    let users: Vec<u32> = tokens(source)
        .iter()
        .filter(|_| token.style != ScalarForm::Alias && token.anchor != 0)
        .filter(|other| other.style == ScalarForm::Alias && other.anchor == token.anchor)
        .map(|other| other.place.line)
        .collect();
    if !users.is_empty() && !everywhere {
        let lines: Vec<String> = users.iter().map(u32::to_string).collect();
        return Err(refuse(format!(
            "{} has an anchor that is used in line {}; `--all` changes it there, too",
            edit.place,
            lines.join(", ")
        )));
    }
    let old = tree(source)?;
    let mut differs = None;
    for candidate in splice::candidates(source, token, &edit.text) {
        let Ok(new) = tree(&candidate) else { continue };
        let Ok(command) = find(&candidate, edit.place) else { continue };
        if !is_same(&command.text, &edit.text) {
            continue;
        }
        // Other uses of the anchor have the new text too.
        let mut changes = TreeDifference::default();
        changes.compare(&old, &new, &|text| is_same(text, &edit.text));
        match changes.wrong.or(changes.edited.get(1 + users.len()).copied()) {
            Some(span) => differs = Some(span),
            None => return Ok((candidate, splice::note(token, edit))),
        }
    }
    Err(match differs {
        Some(span) => PatchRefusal {
            span,
            message: format!("a new text of {} would change what stands here", edit.place),
        },
        None => refuse(format!("the new text of {} cannot be written in YAML here", edit.place)),
    })
}

/// How a command is written at its place. It must not be inside an alias.
fn token_of(
    source: &str,
    command: &SpecCommand,
    place: CommandPlace,
) -> Result<ScalarToken, PatchRefusal> {
    let refuse = |message: String| PatchRefusal { span: command.span, message };
    let all = tokens(source);
    let at = |line: u32, column: u32| {
        move |token: &&ScalarToken| (token.place.line, token.place.column) == (line, column)
    };
    let here = all.iter().find(at(command.span.line, command.span.column));
    match (here, command.span.written) {
        (Some(token), None) => Ok(token.clone()),
        // An alias for the text itself, not for a list or phase around it.
        (Some(token), Some(written)) if token.style == ScalarForm::Alias => {
            let target = all.iter().find(at(written.line, written.column));
            match target {
                Some(target) if target.anchor == token.anchor => Ok(token.clone()),
                _ => Err(refuse(format!(
                    "{place} comes from an alias, whose anchor is in line {}; edit it there",
                    written.line
                ))),
            }
        }
        _ => Err(refuse(format!("{place} is written where it cannot be changed"))),
    }
}

/// Finds the command at a place that was validated.
fn find(source: &str, place: CommandPlace) -> Result<SpecCommand, PatchRefusal> {
    let file = Span::default();
    let (spec, _) = spec::parse(source).map_err(|problems| {
        let first = problems.into_iter().find(spec::Diagnostic::is_error);
        let (span, message) =
            first.map_or((file, String::new()), |first| (first.span, first.message));
        PatchRefusal { span, message: format!("the buildspec does not parse: {message}") }
    })?;
    let phase = spec.phases.into_iter().find(|phase| phase.phase == place.phase);
    let mut list = phase.map_or_else(Vec::new, |phase| match place.block {
        Block::Finally => phase.finally,
        Block::Commands | Block::Eval => phase.commands,
    });
    if (place.index as usize) < list.len() {
        return Ok(list.swap_remove(place.index as usize));
    }
    Err(PatchRefusal { span: file, message: format!("the buildspec has no {place}") })
}

/// The values of a buildspec, regardless of formatting. Two files with the same values run the
/// same.
#[must_use]
pub fn values(source: &str) -> Option<String> {
    Some(values_of(&tree(source).ok()?))
}

fn values_of(root: &YamlNode) -> String {
    let mut text = String::new();
    put_values(root, &mut text);
    text
}

fn put_values(node: &YamlNode, text: &mut String) {
    if let Some(tag) = &node.tag {
        text.push_str(&format!("!{tag:?} "));
    }
    match &node.value {
        YamlValue::Null => text.push('~'),
        // A block scalar always ends with a line break, so ignore it.
        YamlValue::Scalar(scalar) => text.push_str(&format!("{:?}", scalar.trim_end_matches('\n'))),
        YamlValue::Sequence(items) => {
            text.push('[');
            items.iter().for_each(|item| {
                put_values(item, text);
                text.push(',');
            });
            text.push(']');
        }
        YamlValue::Mapping(entries) => {
            text.push('{');
            entries.iter().for_each(|(key, value)| {
                put_values(key, text);
                text.push(':');
                put_values(value, text);
                text.push(',');
            });
            text.push('}');
        }
    }
}

fn tree(source: &str) -> Result<YamlNode, PatchRefusal> {
    let refuse = |span, message: String| PatchRefusal { span, message };
    let document =
        yaml::parse(source).map_err(|problem| refuse(problem.span, problem.message.clone()))?;
    match document.next {
        None => Ok(document.root),
        Some(span) => Err(refuse(span, "a file of several documents is not changed".to_owned())),
    }
}

/// Whether a shell runs both texts alike. A block scalar always ends with a line break, so ignore
/// it.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('\n') == other.trim_end_matches('\n')
}

/// Differences between the values of two trees.
#[derive(Default)]
struct TreeDifference {
    /// Texts that now equal the new text.
    edited: Vec<Span>,
    /// The first other difference.
    wrong: Option<Span>,
}

impl TreeDifference {
    fn compare(&mut self, old: &YamlNode, new: &YamlNode, is_edit: &dyn Fn(&str) -> bool) {
        match (&old.value, &new.value) {
            _ if old.tag != new.tag => self.differ(old),
            (YamlValue::Sequence(one), YamlValue::Sequence(other)) if one.len() == other.len() => {
                one.iter().zip(other).for_each(|(one, other)| self.compare(one, other, is_edit));
            }
            (YamlValue::Mapping(one), YamlValue::Mapping(other)) if one.len() == other.len() => {
                for ((key, value), (new_key, new_value)) in one.iter().zip(other) {
                    self.compare(key, new_key, &|_| false);
                    self.compare(value, new_value, is_edit);
                }
            }
            (YamlValue::Scalar(one), YamlValue::Scalar(other)) if one == other => {}
            (YamlValue::Scalar(_), YamlValue::Scalar(other)) if is_edit(other) => {
                self.edited.push(old.span);
            }
            (YamlValue::Null, YamlValue::Null) => {}
            _ => self.differ(old),
        }
    }

    fn differ(&mut self, node: &YamlNode) {
        self.wrong.get_or_insert(node.span);
    }
}
