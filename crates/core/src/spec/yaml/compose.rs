//! Builds a tree from parser events: anchors, merge keys, limits.

use super::context::CollectionStack;
use super::{
    BlockScalar, MAX_BYTES, MAX_DEPTH, MAX_NODES, YamlDocument, YamlNode, YamlValue, syntax,
};
use crate::spec::diagnostic::{Diagnostic, DiagnosticCode, LineColumn, Span};
use serde_yaml::granit_parser::{self, Event, Parser, ScalarStyle, StrInput, Tag};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

type Marked<'s> = (Event<'s>, granit_parser::Span);
type Composed<T> = Result<T, Box<Diagnostic>>;

/// Parses the first document of a text.
pub(super) fn document(source: &str) -> Composed<YamlDocument> {
    let options = granit_parser::options! { emit_comments: false, emit_anchor_events: true };
    let parser = Parser::new_from_str_with_options(source, options);
    let mut composer = Composer {
        source,
        parser,
        anchors: HashMap::new(),
        nodes: 0,
        bytes: 0,
        context: CollectionStack::default(),
    };
    composer.document()
}

struct Composer<'s> {
    source: &'s str,
    parser: Parser<'s, StrInput<'s>>,
    /// Nodes by the number of their anchor; `None` while a node is incomplete.
    anchors: HashMap<usize, Option<Rc<YamlNode>>>,
    /// Number of nodes so far, including copies.
    nodes: usize,
    /// Bytes of their texts.
    bytes: usize,
    /// The parser's current position in nested collections.
    context: CollectionStack,
}

impl<'s> Composer<'s> {
    fn document(&mut self) -> Composed<YamlDocument> {
        let (event, span) = loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, _) => {
                    let root = YamlNode::new(Span::default(), YamlValue::Null);
                    return Ok(YamlDocument { root, next: None });
                }
                node => break node,
            }
        };
        let root = self.node(event, span, 0)?;
        // The end of the first document, and the start of another one.
        self.next()?;
        let next = match self.parser.next() {
            Some(Ok((Event::DocumentStart(..), span))) => Some(self.place(span)),
            Some(Err(error)) => Some(syntax::place(error.marker())),
            _ => None,
        };
        Ok(YamlDocument { root, next })
    }

    fn next(&mut self) -> Composed<Marked<'s>> {
        loop {
            let (event, span) = match self.parser.next() {
                Some(Ok(next)) => next,
                Some(Err(error)) => {
                    return Err(Box::new(syntax::explain(self.source, &error, &self.context)));
                }
                None => return Ok((Event::StreamEnd, granit_parser::Span::default())),
            };
            match event {
                Event::Anchor(_, name) => self.check_name(&name, "&", span)?,
                _ => {
                    self.context.saw(&event, &span);
                    return Ok((event, span));
                }
            }
        }
    }

    fn node(
        &mut self,
        event: Event<'s>,
        at: granit_parser::Span,
        depth: usize,
    ) -> Composed<YamlNode> {
        let span = self.place(at);
        if depth > MAX_DEPTH {
            return Err(too_large(span, &format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let is_plain = matches!(event, Event::Scalar(_, ScalarStyle::Plain, _, None));
        let (anchor, value, tag, block) = match event {
            Event::Alias(id) => return self.alias(id, at, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, text.len(), span)?;
                let block = (style == ScalarStyle::Literal).then(|| block(&text, &at)).flatten();
                (anchor, scalar(text, style, tag.as_deref()), tag.is_some(), block)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.count(1, 0, span)?;
                self.anchors.insert(anchor, None);
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, at) => items.push(self.node(event, at, depth + 1)?),
                    }
                }
                (anchor, YamlValue::Sequence(items), tag.is_some(), None)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.count(1, 0, span)?;
                self.anchors.insert(anchor, None);
                let entries = self.entries(depth)?;
                (anchor, YamlValue::Mapping(entries), tag.is_some(), None)
            }
            // The parser makes no other event for a node.
            _ => (0, YamlValue::Null, false, None),
        };
        let tag = at.tag_span().filter(|_| tag).and_then(|span| span.slice(self.source));
        let node = YamlNode { span, value, tag: tag.map(Box::from), block, is_plain };
        if anchor != 0 {
            // Nodes kept for aliases count as well, because nested anchors would be kept many
            // times.
            let kept = self.copy(&node, None, depth)?;
            self.anchors.insert(anchor, Some(Rc::new(kept)));
        }
        Ok(node)
    }

    /// Reads the entries of a mapping. Merged entries come at the place of the merge key, unless
    /// the mapping has its own entry with that key.
    fn entries(&mut self, depth: usize) -> Composed<Vec<(YamlNode, YamlNode)>> {
        let mut entries: Vec<(YamlNode, YamlNode)> = Vec::new();
        let mut merges = Vec::new();
        loop {
            let (event, at) = self.next()?;
            let is_merge = match &event {
                Event::MappingEnd => break,
                Event::Scalar(text, ScalarStyle::Plain, _, None) => text == "<<",
                _ => false,
            };
            let key = self.node(event, at, depth + 1)?;
            let (event, at) = self.next()?;
            let value = self.node(event, at, depth + 1)?;
            if is_merge {
                merges.push((entries.len(), value));
            } else {
                entries.push((key, value));
            }
        }
        if merges.is_empty() {
            return Ok(entries);
        }
        let names = entries.iter().filter_map(|(key, _)| name(key));
        let mut taken: HashSet<String> = names.map(str::to_owned).collect();
        let mut merged = Vec::with_capacity(entries.len());
        let mut own = entries.into_iter();
        let mut done = 0;
        for (at, value) in merges {
            merged.extend(own.by_ref().take(at - done));
            done = at;
            let maps = match value.value {
                YamlValue::Sequence(maps) => maps,
                _ => vec![value],
            };
            for map in maps {
                let YamlValue::Mapping(entries) = map.value else {
                    let message = format!("`<<` merges a map, not {}", map.value.kind());
                    let problem = Diagnostic::new(DiagnosticCode::Syntax, map.span, message)
                        .hint("write `<<: *name` with an anchor of a map");
                    return Err(Box::new(problem));
                };
                let is_new = |(key, _): &(YamlNode, YamlNode)| {
                    name(key).is_none_or(|name| taken.insert(name.to_owned()))
                };
                merged.extend(entries.into_iter().filter(is_new));
            }
        }
        merged.extend(own);
        Ok(merged)
    }

    /// Returns the node of an alias, as if it were written there.
    fn alias(&mut self, id: usize, at: granit_parser::Span, depth: usize) -> Composed<YamlNode> {
        let written = at.slice(self.source).unwrap_or_default();
        self.check_name(written.trim_start_matches('*'), "*", at)?;
        let span = self.place(at);
        match self.anchors.get(&id) {
            Some(Some(node)) => {
                let node = Rc::clone(node);
                self.copy(&node, Some(span), depth)
            }
            _ => {
                let message = format!("`{written}` is part of what it refers to");
                Err(Box::new(Diagnostic::new(DiagnosticCode::Syntax, span, message)))
            }
        }
    }

    /// Copies a node and everything below it, to the place of an alias or at its own place.
    fn copy(&mut self, node: &YamlNode, at: Option<Span>, depth: usize) -> Composed<YamlNode> {
        let span = at.map_or(node.span, |at| Span {
            written: node.span.written.or(Some(LineColumn::of(node.span))),
            ..at
        });
        if depth > MAX_DEPTH {
            return Err(too_large(span, &format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let value = match &node.value {
            YamlValue::Null => YamlValue::Null,
            YamlValue::Scalar(text) => YamlValue::Scalar(text.clone()),
            YamlValue::Sequence(items) => {
                let mut copies = Vec::with_capacity(items.len());
                for item in items {
                    copies.push(self.copy(item, at, depth + 1)?);
                }
                YamlValue::Sequence(copies)
            }
            YamlValue::Mapping(entries) => {
                let mut copies = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    copies.push((self.copy(key, at, depth + 1)?, self.copy(value, at, depth + 1)?));
                }
                YamlValue::Mapping(copies)
            }
        };
        let length = if let YamlValue::Scalar(text) = &value { text.len() } else { 0 };
        self.count(1, length, span)?;
        let (tag, block) = (node.tag.clone(), node.block);
        Ok(YamlNode { span, value, tag, block, is_plain: node.is_plain })
    }

    fn count(&mut self, nodes: usize, bytes: usize, span: Span) -> Composed<()> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > MAX_NODES {
            return Err(too_large(span, &format!("it has more than {MAX_NODES} values")));
        }
        if self.bytes > 2 * MAX_BYTES {
            return Err(too_large(span, "its aliases make it far larger than it is written"));
        }
        Ok(())
    }

    /// Checks a name. The parser accepts more than CodeBuild's does, for example `&&` and `*.js`.
    fn check_name(&self, name: &str, sign: &str, at: granit_parser::Span) -> Composed<()> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !name.is_empty() && name.chars().all(fits) {
            return Ok(());
        }
        let mut span = self.place(at);
        span.length = 1;
        Err(Box::new(syntax::bad_name(span, sign)))
    }

    fn place(&self, span: granit_parser::Span) -> Span {
        let raw = span.slice(self.source).unwrap_or_default();
        let first_line = raw.lines().next().unwrap_or_default();
        let length = first_line.trim_end().chars().count().max(1);
        Span { length: u32::try_from(length).unwrap_or(u32::MAX), ..syntax::place(&span.start) }
    }
}

/// Makes a scalar: null, or its text, whatever it looks like.
fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> YamlValue {
    let is_core = |name: &str| tag.is_some_and(|tag| tag.is_yaml_core_schema_tag(name));
    let is_forced = is_core("str") || tag.is_some_and(|tag| tag.parts() == ("", "!"));
    let looks_null = matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
    if is_core("null") || style == ScalarStyle::Plain && looks_null && !is_forced {
        return YamlValue::Null;
    }
    YamlValue::Scalar(text.into_owned())
}

/// Position of the lines of a `|` block. The parser's span begins with the first line that is not
/// empty.
fn block(text: &str, at: &granit_parser::Span) -> Option<BlockScalar> {
    let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
    if empty == text.len() {
        return None;
    }
    let number = |value: usize| u32::try_from(value).ok();
    Some(BlockScalar {
        line: number(at.start.line())?.checked_sub(number(empty)?)?,
        indent: number(at.start.col())?,
    })
}

fn name(key: &YamlNode) -> Option<&str> {
    match &key.value {
        YamlValue::Scalar(text) => Some(text),
        _ => None,
    }
}

fn too_large(span: Span, why: &str) -> Box<Diagnostic> {
    let message = format!("the buildspec is too large or too deeply nested: {why}");
    Box::new(Diagnostic::new(DiagnosticCode::TooLarge, span, message).hint(format!(
        "at most {MAX_NODES} values, nested {MAX_DEPTH} deep, are looked at; a buildspec needs few"
    )))
}
