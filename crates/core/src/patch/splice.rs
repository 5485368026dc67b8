//! Replaces the bytes of one scalar, in the ways that its style allows.

use super::Edit;
use crate::event::Block;
use crate::spec::yaml::tokens::{ScalarForm, ScalarToken};
use std::ops::Range;

/// Candidates for the whole file, best first. The caller checks which one is correct.
pub(super) fn candidates(source: &str, token: &ScalarToken, text: &str) -> Vec<String> {
    let line = text.trim_end_matches('\n');
    let is_line = !line.contains('\n');
    let (plain, single, double) = (line.to_owned(), single(line), double(line));
    let in_place = |new: &String| replaced(source, &[(token.range.clone(), new)]);
    match token.style {
        ScalarForm::Literal | ScalarForm::Folded => {
            block(source, token, text).into_iter().collect()
        }
        _ if !is_line && token.is_flow => vec![in_place(&double)],
        _ if !is_line => {
            let new = new_block(source, token, line);
            new.into_iter().chain([in_place(&double)]).collect()
        }
        ScalarForm::Plain | ScalarForm::Alias => {
            [plain, single, double].iter().map(in_place).collect()
        }
        ScalarForm::Single => [single, double].iter().map(in_place).collect(),
        ScalarForm::Double => vec![in_place(&double)],
    }
}

/// Candidates for the whole file with a new item before the token's item, best first.
pub(super) fn items(source: &str, token: &ScalarToken, text: &str) -> Vec<String> {
    let Some(dash) = dash(source, token) else { return Vec::new() };
    let (line, newline) = (text.trim_end_matches('\n'), newline(source));
    let indent = dash.column;
    let at = above_comments(source, &dash);
    let with =
        |item: String| replaced(source, &[(at..at, &format!("{:indent$}- {item}{newline}", ""))]);
    if !line.contains('\n') {
        return [line.to_owned(), single(line), double(line)].map(with).into();
    }
    let starts_with_blank = line.trim_start_matches('\n').starts_with(' ');
    let sign = if starts_with_blank { "|2" } else { "|" };
    let block = format!("{sign}{newline}{}", indented(line, indent + 2, newline));
    [block, double(line)].map(with).into()
}

/// The dash of a list item: the start of its line, and its column from 0.
struct Dash {
    line: usize,
    column: usize,
}

/// The dash at the start of a line, if there is one.
fn dash_of(source: &str, line: usize) -> Option<Dash> {
    let text = source[line..].split('\n').next()?;
    let rest = text.trim_start_matches(' ');
    let is_dash = rest
        .strip_prefix('-')
        .is_some_and(|rest| rest.trim_end().is_empty() || rest.starts_with([' ', '\t']));
    is_dash.then(|| Dash { line, column: text.len() - rest.len() })
}

/// The dash of the token's item. Only comments may be between them.
fn dash(source: &str, token: &ScalarToken) -> Option<Dash> {
    let begin = match token.style {
        // The block's lines may begin with a dash.
        ScalarForm::Literal | ScalarForm::Folded => header(source, token.range.start)?.start,
        _ => token.range.start,
    };
    let mut line = line_start(source, begin);
    loop {
        if let Some(dash) = dash_of(source, line) {
            return Some(dash);
        }
        line = line_start(source, line.checked_sub(1)?);
    }
}

/// Where the comments directly above an item begin.
fn above_comments(source: &str, dash: &Dash) -> usize {
    let mut start = dash.line;
    while let Some(above) = start.checked_sub(1).map(|end| line_start(source, end)) {
        let line = &source[above..];
        let rest = line.trim_start_matches(' ');
        if line.len() - rest.len() != dash.column || !rest.starts_with('#') {
            break;
        }
        start = above;
    }
    start
}

/// A remark about changes besides the text.
pub(super) fn note(token: &ScalarToken, edit: &Edit) -> Option<String> {
    let Edit { place, text } = edit;
    match token.style {
        ScalarForm::Folded => Some(format!(
            "{place} is now written with `|`: folding with `>` would change these lines"
        )),
        ScalarForm::Alias => Some(format!(
            "{place} was an alias; it is now written as a text, and the anchor is unchanged"
        )),
        ScalarForm::Plain | ScalarForm::Single | ScalarForm::Double
            if text.trim_end_matches('\n').contains('\n') && !token.is_flow =>
        {
            let list = if place.block == Block::Finally { "finally" } else { "commands" };
            Some(format!("{place} has several lines now and is written with `|` in its {list}"))
        }
        ScalarForm::Plain | ScalarForm::Single | ScalarForm::Double | ScalarForm::Literal => None,
    }
}

fn replaced(source: &str, splices: &[(Range<usize>, &str)]) -> String {
    let mut new = String::with_capacity(source.len() + 64);
    let mut at = 0;
    for (range, text) in splices {
        new.push_str(&source[at..range.start]);
        new.push_str(text);
        at = range.end;
    }
    new.push_str(&source[at..]);
    new
}

/// Writes new lines into the same block.
fn block(source: &str, token: &ScalarToken, text: &str) -> Option<String> {
    let first = line_start(source, token.range.start);
    let header = header(source, token.range.start)?;
    let digit = header.text(source).find(|c: char| c.is_ascii_digit());
    let keeps = header.text(source).contains('+');
    // Blank lines at the start belong to the block.
    let begin = source[header.end..].find('\n').map_or(source.len(), |at| header.end + at + 1);
    let end = content_end(source, first, token.column, keeps);
    let text = if keeps { text } else { text.trim_end_matches('\n') };
    let mut sign = header.text(source).replace('>', "|");
    // Leading blanks would be read as indentation.
    if digit.is_none() && text.trim_start_matches('\n').starts_with(' ') {
        let depth =
            token.column.checked_sub(token.parent).filter(|depth| (1..=9).contains(depth))?;
        sign.insert_str(1, &depth.to_string());
    }
    let lines = indented(text.trim_end_matches('\n'), token.column, newline(source));
    let lines = match keeps {
        // With `+`, line breaks at the end belong to the text.
        true => format!(
            "{lines}{}",
            newline(source).repeat(text.len() - text.trim_end_matches('\n').len())
        ),
        false if source[begin..end].ends_with('\n') => format!("{lines}{}", newline(source)),
        false => lines,
    };
    Some(replaced(source, &[(header.start..header.end, &sign), (begin..end, &lines)]))
}

/// The start and end of a block's indicator.
struct BlockHeader {
    start: usize,
    end: usize,
}

impl BlockHeader {
    fn text<'s>(&self, source: &'s str) -> &'s str {
        &source[self.start..self.end]
    }
}

/// Finds the indicator of a block: the last one on a line before the content.
fn header(source: &str, content: usize) -> Option<BlockHeader> {
    let mut end = line_start(source, content);
    loop {
        let before = source[..end].strip_suffix('\n')?;
        let start = line_start(source, before.len());
        let line = &source[start..before.len()];
        if !line.trim().is_empty() {
            let code = match line.find(" #") {
                Some(comment) => &line[..comment],
                None => line,
            };
            let code = code.trim_end();
            let sign = code.rfind(['|', '>'])?;
            return Some(BlockHeader { start: start + sign, end: start + code.len() });
        }
        end = start;
    }
}

/// Where the lines of a block end.
fn content_end(source: &str, first: usize, indent: usize, keeps: bool) -> usize {
    let mut end = first;
    let mut at = first;
    for line in source[first..].split_inclusive('\n') {
        let blank = line.trim_end_matches(['\n', '\r']);
        let is_content = blank.len() >= indent && blank.bytes().take(indent).all(|b| b == b' ');
        let is_blank = blank.bytes().all(|byte| byte == b' ');
        at += line.len();
        if is_content && !(is_blank && blank.len() <= indent) || is_blank && keeps {
            end = at;
        } else if !is_blank {
            break;
        }
    }
    end
}

/// Replaces another kind of scalar by a block.
fn new_block(source: &str, token: &ScalarToken, text: &str) -> Option<String> {
    let start = line_start(source, token.range.start);
    let before = &source[start..token.range.start];
    // After a dash on a separate line, the indentation is already there.
    let indent = match dash_of(source, start) {
        _ if before.trim().is_empty() => token.column,
        Some(dash) => dash.column + 2,
        None => token.parent + 2,
    };
    let sign = match text.trim_start_matches('\n').starts_with(' ') {
        true => format!("|{}", indent.checked_sub(token.parent).filter(|depth| *depth <= 9)?),
        false => "|".to_owned(),
    };
    let rest = &source[token.range.end..];
    let end = token.range.end + rest.find('\n').unwrap_or(rest.len());
    let at = if source[..end].ends_with('\r') { end - 1 } else { end };
    let newline = newline(source);
    let lines = format!("{newline}{}", indented(text, indent, newline));
    Some(replaced(source, &[(token.range.clone(), &sign), (at..at, &lines)]))
}

/// Indents all lines except empty ones.
fn indented(text: &str, indent: usize, newline: &str) -> String {
    let line = |line: &str| match line.is_empty() {
        true => String::new(),
        false => format!("{:indent$}{line}", ""),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join(newline)
}

/// The line ending that the file uses.
fn newline(source: &str) -> &'static str {
    match source.find('\n') {
        Some(at) if source[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

fn line_start(source: &str, at: usize) -> usize {
    source[..at].rfind('\n').map_or(0, |before| before + 1)
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn double(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            other if other.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
