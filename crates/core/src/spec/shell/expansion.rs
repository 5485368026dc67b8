//! Parses expansions that begin with a dollar sign or a backtick.

use super::{ShellReader, Use, is_name};

/// The kind of an expansion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expansion {
    /// A plain dollar sign.
    Literal,
    /// The value of a variable, or a number.
    Value,
    /// The output of a `get-login` command, which sets no variables.
    Login,
    /// The output of commands.
    Written,
}

impl ShellReader {
    /// Parses what follows a dollar sign. Takes the dollar sign too.
    pub(super) fn dollar(&mut self, is_quoted: bool) -> Expansion {
        self.next();
        match self.peek(0) {
            Some('(') if self.starts_with("((") && self.is_arithmetic() => {
                self.arithmetic(2);
                Expansion::Value
            }
            Some('(') => {
                self.next();
                let begin = self.at;
                self.commands(Some(')'));
                self.written(begin, self.at)
            }
            Some('{') => {
                self.next();
                self.braces(is_quoted);
                Expansion::Value
            }
            Some('[') => {
                while self.next().is_some_and(|c| c != ']') {}
                Expansion::Value
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let name = self.name();
                self.uses(name, self.line);
                Expansion::Value
            }
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(c) => {
                self.next();
                Expansion::Value
            }
            _ => Expansion::Literal,
        }
    }

    fn written(&self, begin: usize, end: usize) -> Expansion {
        let text: String = self.chars[begin..end].iter().collect();
        if text.contains("get-login") { Expansion::Login } else { Expansion::Written }
    }

    fn uses(&mut self, name: String, line: usize) {
        self.found.uses.push(Use { name, line, is_asked: false });
    }

    fn sets(&mut self, name: String) {
        self.found.sets.insert(name);
    }

    fn may_lack(&mut self, name: String) {
        self.found.optional.insert(name);
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
            self.next();
        }
        name
    }

    /// Parses commands in backticks. A backslash escapes the next character.
    pub(super) fn backticks(&mut self) -> Expansion {
        self.next();
        let (begin, line) = (self.at, self.line);
        let mut text = String::new();
        loop {
            match self.next() {
                Some('`') => break,
                Some('\\') => match self.next() {
                    Some(c @ ('`' | '"')) => text.push(c),
                    Some(c) => text.extend(['\\', c]),
                    None => {}
                },
                Some(c) => text.push(c),
                None => {
                    self.is_broken = true;
                    return Expansion::Written;
                }
            }
        }
        self.part(&text, line, |reader| reader.commands(None));
        self.written(begin, self.at)
    }

    /// Parses `${...}`, after the brace.
    fn braces(&mut self, is_quoted: bool) {
        let line = self.line;
        if self.peek(0) == Some('#') && self.peek(1).is_some_and(|c| c != '}') {
            self.next();
        }
        let name = self.name();
        if is_name(&name) {
            match self.peek(0) {
                Some('}' | '%' | '#' | '/' | '^' | ',' | '@' | '[') => {
                    self.uses(name, line);
                }
                Some(':') => match self.peek(1) {
                    Some('=') => self.sets(name),
                    Some('-' | '+' | '?') => self.may_lack(name),
                    Some(':') if !self.peek(2).is_some_and(|c| c.is_ascii_digit()) => {}
                    _ => self.uses(name, line),
                },
                Some('=') => self.sets(name),
                Some('-' | '+' | '?') => self.may_lack(name),
                // Invalid in every shell.
                _ => {}
            }
        }
        self.skip_braces(is_quoted);
    }

    /// Skips to the closing brace. The word inside matters only if a value is missing.
    fn skip_braces(&mut self, is_quoted: bool) {
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some('\\') => self.skip(1),
                Some('$') if self.peek(0) == Some('{') => {
                    self.next();
                    depth += 1;
                }
                Some('}') => depth -= 1,
                Some('\'') if !is_quoted => while self.next().is_some_and(|c| c != '\'') {},
                Some(_) => {}
                None => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }

    /// Whether a text that begins with two parentheses ends with two.
    fn is_arithmetic(&self) -> bool {
        let mut depth = 0_usize;
        for (at, c) in self.chars.iter().enumerate().skip(self.at) {
            match c {
                '(' => depth += 1,
                ')' => {
                    depth -= 1;
                    if depth == 1 {
                        return self.chars.get(at + 1) == Some(&')');
                    }
                }
                // Without this limit, a text of nothing else would take quadratic time.
                _ if at - self.at > 4096 => return false,
                _ => {}
            }
        }
        false
    }

    /// Parses arithmetic from its first parenthesis. A name without a value counts as 0.
    pub(super) fn arithmetic(&mut self, parentheses: usize) {
        self.skip(parentheses);
        let mut depth = parentheses;
        while depth > 0 {
            match self.peek(0) {
                Some('(') => {
                    depth += 1;
                    self.next();
                }
                Some(')') => {
                    depth -= 1;
                    self.next();
                }
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                    let name = self.name();
                    while self.peek(0) == Some(' ') {
                        self.next();
                    }
                    let is_set = match (self.peek(0), self.peek(1)) {
                        (Some('='), next) => next != Some('='),
                        (Some(c), Some(next)) => {
                            "+-*/%&|^".contains(c) && next == '=' || "+-".contains(c) && next == c
                        }
                        _ => false,
                    };
                    if is_set {
                        self.found.sets.insert(name);
                    }
                }
                Some(_) => self.skip(1),
                None => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }
}
