//! Policy texts with variables.

use super::context::{ConditionKey, RequestContext};
use super::pattern::{PolicyPattern, PolicyToken};
use std::borrow::Cow;

/// The language version of a policy document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyVersion {
    /// 2008-10-17, the default: `${` is plain text.
    Old,
    /// 2012-10-17: with variables.
    New,
}

/// A text that may contain variables and the wildcards `*` and `?`.
#[derive(Clone, Debug)]
pub(super) enum PolicyTemplate {
    Fixed(PolicyPattern),
    Open(Vec<TemplatePiece>),
}

#[derive(Clone, Debug)]
pub(super) enum TemplatePiece {
    Text(PolicyPattern),
    Variable { key: ConditionKey, name: String, default: Option<String> },
}

impl PolicyTemplate {
    /// Parses a text. `is_pattern` says whether `*` and `?` are wildcards.
    pub(super) fn parse(
        text: &str,
        version: PolicyVersion,
        is_pattern: bool,
    ) -> Result<Self, String> {
        let plain = if is_pattern { PolicyPattern::of } else { PolicyPattern::literal };
        if version == PolicyVersion::Old || !text.contains("${") {
            return Ok(PolicyTemplate::Fixed(plain(text)));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            pieces.push(TemplatePiece::Text(plain(before)));
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("a variable in `{text}` has no `}}`"))?;
            pieces.push(piece(inside)?);
            rest = after;
        }
        pieces.push(TemplatePiece::Text(plain(rest)));
        Ok(match pieces.iter().all(|piece| matches!(piece, TemplatePiece::Text(_))) {
            true => PolicyTemplate::Fixed(pieces.into_iter().fold(
                PolicyPattern::default(),
                |mut all, piece| {
                    if let TemplatePiece::Text(pattern) = piece {
                        all.0.extend(pattern.0);
                    }
                    all
                },
            )),
            false => PolicyTemplate::Open(pieces),
        })
    }

    /// Fills in the variables; their values are never patterns. `None` if one has no value.
    pub(super) fn resolved(&self, context: &RequestContext) -> Option<Cow<'_, PolicyPattern>> {
        let pieces = match self {
            PolicyTemplate::Fixed(pattern) => return Some(Cow::Borrowed(pattern)),
            PolicyTemplate::Open(pieces) => pieces,
        };
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                TemplatePiece::Text(pattern) => tokens.extend_from_slice(&pattern.0),
                TemplatePiece::Variable { key, default, .. } => {
                    let value = context.single(key).or(default.as_deref())?;
                    tokens.extend(value.chars().map(PolicyToken::Exact));
                }
            }
        }
        Some(Cow::Owned(PolicyPattern(tokens)))
    }

    /// The names of its variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let pieces: &[TemplatePiece] = match self {
            PolicyTemplate::Fixed(_) => &[],
            PolicyTemplate::Open(pieces) => pieces,
        };
        pieces.iter().filter_map(|piece| match piece {
            TemplatePiece::Text(_) => None,
            TemplatePiece::Variable { name, .. } => Some(name.as_str()),
        })
    }
}

/// Parses the text between `${` and `}`.
fn piece(inside: &str) -> Result<TemplatePiece, String> {
    if let "*" | "?" | "$" = inside {
        return Ok(TemplatePiece::Text(PolicyPattern::literal(inside)));
    }
    let (name, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((name, default)) => {
            let quoted = default.trim().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
            let default = quoted.ok_or_else(|| {
                format!("the default in `${{{inside}}}` is to stand in single quotes")
            })?;
            (name, Some(default.to_owned()))
        }
    };
    let name = name.trim().to_owned();
    Ok(TemplatePiece::Variable { key: ConditionKey::parse(&name)?, name, default })
}
