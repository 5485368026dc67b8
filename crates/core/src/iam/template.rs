//! Texts of policies with variables.

use super::context::{Context, Key};
use super::pattern::{Pattern, Token};
use std::borrow::Cow;

/// What a document's version means for its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 2008-10-17, also where none is named: `${` is text.
    Old,
    /// 2012-10-17: with variables.
    New,
}

/// A text, whose `*` and `?` mean more or do not, and in which variables may stand.
#[derive(Clone, Debug)]
pub(super) enum Template {
    Fixed(Pattern),
    Open(Vec<Piece>),
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Text(Pattern),
    Variable { key: Key, name: String, default: Option<String> },
}

impl Template {
    /// Reads a text. `is_pattern`: whether `*` and `?` are more than characters.
    pub(super) fn parse(text: &str, version: Version, is_pattern: bool) -> Result<Self, String> {
        let plain = if is_pattern { Pattern::of } else { Pattern::literal };
        if version == Version::Old || !text.contains("${") {
            return Ok(Template::Fixed(plain(text)));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            pieces.push(Piece::Text(plain(before)));
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("a variable in `{text}` has no `}}`"))?;
            pieces.push(piece(inside)?);
            rest = after;
        }
        pieces.push(Piece::Text(plain(rest)));
        Ok(match pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            true => {
                Template::Fixed(pieces.into_iter().fold(Pattern::default(), |mut all, piece| {
                    if let Piece::Text(pattern) = piece {
                        all.0.extend(pattern.0);
                    }
                    all
                }))
            }
            false => Template::Open(pieces),
        })
    }

    /// With the variables' values, which are never patterns. Nothing where one has no value.
    pub(super) fn resolved(&self, context: &Context) -> Option<Cow<'_, Pattern>> {
        let pieces = match self {
            Template::Fixed(pattern) => return Some(Cow::Borrowed(pattern)),
            Template::Open(pieces) => pieces,
        };
        let mut tokens = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(pattern) => tokens.extend_from_slice(&pattern.0),
                Piece::Variable { key, default, .. } => {
                    let value = context.single(key).or(default.as_deref())?;
                    tokens.extend(value.chars().map(Token::Exact));
                }
            }
        }
        Some(Cow::Owned(Pattern(tokens)))
    }

    /// The names of its variables.
    pub(super) fn variables(&self) -> impl Iterator<Item = &str> {
        let pieces: &[Piece] = match self {
            Template::Fixed(_) => &[],
            Template::Open(pieces) => pieces,
        };
        pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Variable { name, .. } => Some(name.as_str()),
        })
    }
}

/// What stands between `${` and `}`.
fn piece(inside: &str) -> Result<Piece, String> {
    if let "*" | "?" | "$" = inside {
        return Ok(Piece::Text(Pattern::literal(inside)));
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
    Ok(Piece::Variable { key: Key::parse(&name)?, name, default })
}
