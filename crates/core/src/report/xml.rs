//! Parses XML into elements with places. Sole user of quick-xml.
//!
//! Each format implements [`Handler`], which gets every start and end of an element with the names
//! of the enclosing ones. So a file never has to be in memory as a tree. Nothing outside the file
//! is fetched; document types are ignored.

use super::Malformed;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// Maximum bytes kept of one text.
const MAX_TEXT: usize = 64 << 10;
/// Maximum plausible number of lines or branches.
const MAX_COUNT: u64 = 1 << 40;
/// Maximum nesting. The formats need ten.
const MAX_DEPTH: usize = 256;
/// Maximum number of attributes read from an element.
const MAX_ATTRIBUTES: usize = 256;

/// The start of an element.
pub(super) struct Element<'t> {
    pub(super) name: &'t str,
    /// Its line in the report file.
    pub(super) line: u32,
    attributes: Vec<(String, String)>,
}

impl Element<'_> {
    /// The value of an attribute.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of an attribute; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// A numeric attribute, or 0. Capped so that a million of them do not overflow in a sum.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    /// A numeric attribute, if it is a number. Capped.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let number: u64 = self.get(name)?.trim().parse().ok()?;
        Some(number.min(MAX_COUNT))
    }
}

/// A parser of one format.
pub(super) trait Handler {
    /// Allowed names of the root element.
    const ROOTS: &'static [&'static str];

    /// An element starts. `above` are the enclosing elements, outermost first.
    fn start(&mut self, element: &Element<'_>, above: &[String]);

    /// An element ends. `text` is the text directly inside it.
    fn end(&mut self, name: &str, text: &str, above: &[String]);
}

/// Parses a whole file.
pub(super) fn read<H: Handler>(text: &str, handler: &mut H) -> Option<Malformed> {
    let mut walk =
        XmlWalk { text, lines: LineCounter::default(), names: Vec::new(), texts: Vec::new() };
    walk.run(handler).err()
}

struct XmlWalk<'t> {
    text: &'t str,
    lines: LineCounter,
    names: Vec<String>,
    texts: Vec<String>,
}

impl XmlWalk<'_> {
    fn run<H: Handler>(&mut self, handler: &mut H) -> Result<(), Malformed> {
        let mut reader = Reader::from_str(self.text);
        reader.config_mut().expand_empty_elements = true;
        let mut has_root = false;
        loop {
            let from = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let event = reader.read_event().map_err(|error| {
                let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
                self.malformed(at, sentence(&error.to_string()))
            })?;
            match event {
                Event::Start(start) => {
                    let is_root = self.names.is_empty();
                    if is_root && has_root {
                        return Err(self.malformed(from, "a second document begins here".into()));
                    }
                    has_root = true;
                    self.start(&start, from, is_root, handler)?;
                }
                Event::End(_) => {
                    let name = self.names.pop().unwrap_or_default();
                    let text = self.texts.pop().unwrap_or_default();
                    handler.end(&name, text.trim(), &self.names);
                }
                Event::Text(text) => self.push(&text.xml10_content(), from)?,
                Event::CData(text) => self.push(&text.xml10_content(), from)?,
                Event::GeneralRef(reference) => {
                    let name = reference.xml10_content();
                    let character = reference
                        .resolve_char_ref()
                        .map_err(|error| self.malformed(from, sentence(&error.to_string())))?;
                    match (character, resolve_predefined_entity(&name)) {
                        (Some(character), _) => {
                            self.push(character.encode_utf8(&mut [0; 4]), from)?;
                        }
                        (None, Some(text)) => self.push(text, from)?,
                        (None, None) => {
                            return Err(self.malformed(from, format!("&{name}; is not known")));
                        }
                    }
                }
                Event::Eof => break,
                Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
        match self.names.last() {
            Some(open) => {
                let reason = format!("the file ends within <{open}>");
                Err(self.malformed(self.text.len(), reason))
            }
            None if !has_root && self.text.trim().is_empty() => {
                Err(Malformed::whole("the file is empty"))
            }
            None if !has_root => Err(self.malformed(0, "there is no XML in it".to_owned())),
            None => Ok(()),
        }
    }

    fn start<H: Handler>(
        &mut self,
        start: &BytesStart<'_>,
        from: usize,
        is_root: bool,
        handler: &mut H,
    ) -> Result<(), Malformed> {
        let qualified = start.name();
        let name = local(qualified.as_ref()).to_owned();
        if is_root && !H::ROOTS.contains(&name.as_str()) {
            let reason =
                format!("<{name}> stands where <{}> was looked for", H::ROOTS.join("> or <"));
            let root = H::ROOTS.last().copied().unwrap_or_default();
            let aws = format!("expected element type <{root}> but have <{name}>");
            return Err(Malformed { aws: Some(aws), ..self.malformed(from, reason) });
        }
        if self.names.len() >= MAX_DEPTH {
            let reason = format!("nested more than {MAX_DEPTH} deep");
            return Err(self.malformed(from, reason));
        }
        let mut attributes = Vec::new();
        for attribute in start.attributes().with_checks(false).take(MAX_ATTRIBUTES) {
            let attribute =
                attribute.map_err(|error| self.malformed(from, sentence(&error.to_string())))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.malformed(from, sentence(&error.to_string())))?;
            attributes.push((local(attribute.key.as_ref()).to_owned(), cut(&value).to_owned()));
        }
        let line = self.lines.of(self.text, from);
        handler.start(&Element { name: &name, line, attributes }, &self.names);
        self.names.push(name);
        self.texts.push(String::new());
        Ok(())
    }

    fn push(&mut self, text: &str, from: usize) -> Result<(), Malformed> {
        match self.texts.last_mut() {
            Some(open) if open.len() < MAX_TEXT => open.push_str(cut(text)),
            Some(_) => {}
            None if text.trim().is_empty() => {}
            None => {
                let lead = text.len() - text.trim_start().len();
                return Err(self.malformed(from + lead, "text outside of any element".to_owned()));
            }
        }
        Ok(())
    }

    fn malformed(&self, at: usize, reason: String) -> Malformed {
        Malformed::at(position(self.text, at), reason)
    }
}

/// The local part of a name, without its prefix.
fn local(name: impl AsRef<str>) -> String {
    let name = name.as_ref();
    name.rsplit(':').next().unwrap_or(name).to_owned()
}

/// The beginning of a text, up to the size limit.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// Turns a message of quick-xml into part of our sentence.
fn sentence(text: &str) -> String {
    let text = text
        .split_once(": ")
        .filter(|(head, _)| head.ends_with("error"))
        .map_or(text, |(_, rest)| rest);
    text.trim_end_matches('.').to_owned()
}

/// Line and column of a byte, from 1.
pub(crate) fn position(text: &str, at: usize) -> (u32, u32) {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let number = |value| u32::try_from(value).unwrap_or(u32::MAX);
    (number(line), number(before[start..].chars().count() + 1))
}

/// Finds the lines of increasing offsets.
#[derive(Default)]
struct LineCounter {
    at: usize,
    before: u32,
}

impl LineCounter {
    fn of(&mut self, text: &str, at: usize) -> u32 {
        let bytes = text.as_bytes().get(self.at..at).unwrap_or_default();
        let more = bytes.iter().filter(|&&byte| byte == b'\n').count();
        self.before = self.before.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.at = at.max(self.at);
        self.before.saturating_add(1)
    }
}
