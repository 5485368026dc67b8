//! Inserts texts that people evaluated at stops as commands, each before the command that followed
//! it.

use super::splice;
use super::{Edit, PatchRefusal, TreeDifference, find, is_same, token_of, tree};
use crate::debug::CommandPlace;
use crate::phase::Block;
use crate::spec::yaml::{YamlNode, YamlValue};

/// Inserts texts before the commands at their places, in order. `before` are texts that the file
/// already contains. Places refer to the file without any inserted text.
///
/// # Errors
/// The first text that cannot be written.
pub fn insert(source: &str, before: &[Edit], texts: &[Edit]) -> Result<String, PatchRefusal> {
    let mut source = source.to_owned();
    let mut inside = before.to_vec();
    for edit in texts {
        source = one(&source, shifted(edit.place, &inside), &edit.text)?;
        inside.push(edit.clone());
    }
    Ok(source)
}

/// The place of a command after these texts were inserted.
#[must_use]
pub fn shifted(place: CommandPlace, inside: &[Edit]) -> CommandPlace {
    let is_before = |edit: &&Edit| {
        (edit.place.phase, edit.place.block) == (place.phase, place.block)
            && edit.place.index <= place.index
    };
    let more = inside.iter().filter(is_before).count();
    CommandPlace { index: place.index + u32::try_from(more).unwrap_or(u32::MAX), ..place }
}

/// The values of a buildspec without these texts. `None` if one of them is not where [`insert`]
/// puts it.
#[must_use]
pub fn values_without(source: &str, inside: &[Edit]) -> Option<String> {
    let mut root = tree(source).ok()?;
    // From last to first, so that earlier places stay valid.
    for at in (0..inside.len()).rev() {
        let edit = &inside[at];
        let place = edit.place;
        let own = shifted(place, &inside[..at]);
        let items = list(&mut root, place)?;
        let index = own.index as usize;
        let is_it = matches!(&items.get(index)?.value, YamlValue::Scalar(text) if is_same(text, &edit.text));
        if !is_it {
            return None;
        }
        items.remove(index);
    }
    Some(super::values_of(&root))
}

/// The command list that contains a place.
fn list(root: &mut YamlNode, place: CommandPlace) -> Option<&mut Vec<YamlNode>> {
    let block = if place.block == Block::Finally { "finally" } else { "commands" };
    let mut node = root;
    for key in ["phases", place.phase.key(), block] {
        let YamlValue::Mapping(entries) = &mut node.value else { return None };
        let is_key =
            |name: &YamlNode| matches!(&name.value, YamlValue::Scalar(name) if name == key);
        node = entries.iter_mut().find(|(name, _)| is_key(name)).map(|(_, value)| value)?;
    }
    match &mut node.value {
        YamlValue::Sequence(items) => Some(items),
        _ => None,
    }
}

fn one(source: &str, place: CommandPlace, text: &str) -> Result<String, PatchRefusal> {
    let command = find(source, place)?;
    let refuse = |message: String| PatchRefusal { span: command.span, message };
    let token = token_of(source, &command, place)?;
    if token.is_flow {
        let message =
            format!("{place} is in a list in brackets, where no line can be inserted before it");
        return Err(refuse(message));
    }
    let old = tree(source)?;
    for candidate in splice::items(source, &token, text) {
        let Ok(mut new) = tree(&candidate) else { continue };
        let index = place.index as usize;
        let items = list(&mut new, place).filter(|items| index < items.len());
        let Some(items) = items else { continue };
        let item = items.remove(index);
        if !matches!(&item.value, YamlValue::Scalar(found) if is_same(found, text)) {
            continue;
        }
        let mut changes = TreeDifference::default();
        changes.compare(&old, &new, &|_| false);
        if changes.wrong.is_none() {
            return Ok(candidate);
        }
    }
    Err(refuse(format!("no command can be put before {place} without changing something else")))
}
