//! Tracks a simple command word by word: what its builtins set, and what its conditions check.

use super::expansion::Expansion;
use super::{ScriptVariables, is_name};

#[derive(Clone, Debug, Default)]
pub(super) struct ShellWord {
    /// Its text, with a NUL for each expansion.
    pub(super) text: String,
    /// Whether a part of it is quoted.
    pub(super) is_quoted: bool,
    /// Whether `()` follows.
    pub(super) is_function: bool,
    /// The first expansion, if the word begins with one.
    pub(super) first: Option<Expansion>,
    pub(super) first_use: usize,
    pub(super) last_use: usize,
    pub(super) line: usize,
}

impl ShellWord {
    pub(super) fn literal(&mut self, c: char) {
        self.text.push(c);
    }

    pub(super) fn expands(&mut self, expansion: Expansion) {
        if expansion == Expansion::Literal {
            self.text.push('$');
            return;
        }
        if self.text.is_empty() {
            self.first = Some(expansion);
        }
        self.text.push('\0');
    }

    /// The name that the word assigns to.
    fn assigned(&self) -> Option<&str> {
        let (name, _) = self.text.split_once('=')?;
        let name = name.strip_suffix('+').unwrap_or(name);
        let name = name.split_once('[').map_or(name, |(name, _)| name);
        is_name(name).then_some(name)
    }

    pub(super) fn is_assignment(&self) -> bool {
        self.assigned().is_some()
    }

    /// The name in the word, with or without a value.
    fn declared(&self) -> Option<&str> {
        self.assigned().or_else(|| is_name(&self.text).then_some(self.text.as_str()))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ExpectedWord {
    /// An assignment or the command.
    #[default]
    Command,
    /// The command's next argument.
    Argument,
    /// The name of a loop's variable.
    LoopName,
    /// The name of a function.
    FunctionName,
    /// The word that `case` looks at.
    Subject,
    /// `in`, after that word.
    In,
}

#[derive(Debug, Default)]
pub(super) struct Simple {
    words: Vec<ShellWord>,
    awaited: ExpectedWord,
    /// The next word is the target of a redirection.
    pub(super) has_target: bool,
    /// Inside `[[`, where separators are operators.
    is_test: bool,
    /// Number of open `case` statements.
    cases: usize,
    /// After `in` or `;;`: patterns follow.
    is_pattern: bool,
    last_separator: Option<char>,
}

const KEYWORDS: [&str; 11] =
    ["if", "then", "else", "elif", "fi", "do", "done", "while", "until", "!", "{"];

impl Simple {
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
            && matches!(self.awaited, ExpectedWord::Command | ExpectedWord::LoopName)
    }

    /// Whether a closing parenthesis ends a pattern.
    pub(super) fn is_case(&self) -> bool {
        self.is_pattern
    }

    pub(super) fn separator(&mut self, c: char, found: &mut ScriptVariables) {
        if self.is_test {
            return;
        }
        if c == ')' && self.is_pattern {
            self.is_pattern = false;
            self.words.clear();
            self.awaited = ExpectedWord::Command;
            return;
        }
        if c == '|' && self.is_pattern {
            return;
        }
        let is_next_case = c == ';' && self.last_separator == Some(';') && self.words.is_empty();
        self.end(found);
        self.last_separator = Some(c);
        if is_next_case && self.cases > 0 {
            self.is_pattern = true;
        }
    }

    pub(super) fn push(&mut self, word: ShellWord, found: &mut ScriptVariables) {
        self.last_separator = None;
        if std::mem::take(&mut self.has_target) {
            return;
        }
        let text = word.text.as_str();
        match self.awaited {
            ExpectedWord::LoopName => {
                if is_name(text) {
                    found.sets.insert(text.to_owned());
                }
                self.awaited = ExpectedWord::Argument;
                self.words.push(word);
            }
            ExpectedWord::Subject => {
                ask(&word, found);
                self.awaited = ExpectedWord::In;
            }
            ExpectedWord::FunctionName => self.awaited = ExpectedWord::Command,
            ExpectedWord::In => {
                if text == "in" {
                    self.cases += 1;
                    self.is_pattern = true;
                }
                self.awaited = ExpectedWord::Command;
            }
            ExpectedWord::Command if self.is_pattern && text != "esac" => {}
            ExpectedWord::Command if word.is_function => {}
            ExpectedWord::Command if !word.is_quoted && KEYWORDS.contains(&text) => {}
            ExpectedWord::Command if matches!(text, "for" | "select") => {
                self.awaited = ExpectedWord::LoopName;
            }
            ExpectedWord::Command if text == "function" => {
                self.awaited = ExpectedWord::FunctionName;
            }
            ExpectedWord::Command if text == "case" => self.awaited = ExpectedWord::Subject,
            ExpectedWord::Command if text == "esac" => {
                self.cases = self.cases.saturating_sub(1);
                self.is_pattern = false;
            }
            ExpectedWord::Command if word.is_assignment() => {
                found.sets.extend(word.assigned().map(str::to_owned));
            }
            ExpectedWord::Command => {
                self.is_test = text == "[[";
                self.awaited = ExpectedWord::Argument;
                self.words.push(word);
            }
            ExpectedWord::Argument => {
                self.is_test &= text != "]]";
                self.words.push(word);
            }
        }
    }

    /// Completes the command.
    pub(super) fn end(&mut self, found: &mut ScriptVariables) {
        if self.is_test {
            return;
        }
        let words = std::mem::take(&mut self.words);
        self.has_target = false;
        if !matches!(self.awaited, ExpectedWord::Subject | ExpectedWord::In) {
            self.awaited = ExpectedWord::Command;
        }
        if let Some((command, arguments)) = words.split_first() {
            run(command, arguments, found);
        }
    }
}

fn run(command: &ShellWord, arguments: &[ShellWord], found: &mut ScriptVariables) {
    let name = command.text.as_str();
    let set = |found: &mut ScriptVariables, name: &str| {
        found.sets.insert(name.to_owned());
    };
    let open = |found: &mut ScriptVariables| {
        found.open_from.get_or_insert(command.line);
    };
    match name {
        "." | "source" | "eval" => open(found),
        "export" | "readonly" | "declare" | "typeset" | "local" => {
            for word in arguments {
                match word.assigned() {
                    Some(name) => set(found, name),
                    // The names are unknown.
                    None if word.text.contains('\0') => open(found),
                    // An array, or a variable that is empty from here on.
                    None if !matches!(name, "export" | "readonly") => {
                        word.declared().into_iter().for_each(|name| set(found, name));
                    }
                    None => {}
                }
            }
        }
        "coproc" => {
            let own = arguments.first().and_then(ShellWord::declared);
            set(found, own.unwrap_or("COPROC"));
        }
        "wait" => {
            let mut behind = arguments.iter().skip_while(|word| word.text != "-p").skip(1);
            behind
                .next()
                .and_then(ShellWord::declared)
                .into_iter()
                .for_each(|name| set(found, name));
        }
        "read" | "getopts" | "mapfile" | "readarray" | "let" | "printf" => {
            let is_any = name != "printf" || arguments.first().is_some_and(|a| a.text == "-v");
            for word in arguments.iter().filter(|_| is_any) {
                word.declared().into_iter().for_each(|name| set(found, name));
            }
            if name == "read" && arguments.iter().any(|word| word.text == "\0") {
                open(found);
            }
        }
        "env" | "sudo" | "command" | "builtin" => {
            let assigned = arguments.iter().map_while(|word| {
                (word.text.starts_with('-') || word.is_assignment()).then(|| word.assigned())
            });
            assigned.flatten().for_each(|name| set(found, name));
        }
        "[" | "[[" | "test" => {
            arguments.iter().for_each(|word| ask(word, found));
            ask_for_values(arguments, found);
            ask_alone(arguments, found);
        }
        _ if command.first == Some(Expansion::Written) => open(found),
        _ => {}
    }
}

/// Marks the uses in a comparison: the script handles an unset variable.
fn ask(word: &ShellWord, found: &mut ScriptVariables) {
    let uses = found.uses.get_mut(word.first_use..word.last_use);
    uses.into_iter().flatten().for_each(|used| used.is_asked = true);
}

/// Handles `[ "$X" ]`, which checks whether a variable has a value.
fn ask_alone(arguments: &[ShellWord], found: &mut ScriptVariables) {
    let is_end = |word: &ShellWord| {
        matches!(word.text.as_str(), "]" | "]]" | "-a" | "-o" | "&&" | "||" | "(" | ")")
    };
    for condition in arguments.split(is_end) {
        if let [word] | [ShellWord { .. }, word] = condition
            && (condition.len() == 1 || condition[0].text == "!")
        {
            optional(word, found);
        }
    }
}

/// Handles `-z`, `-n`, `-v` and comparisons with an empty text: the variable may be unset anywhere.
fn ask_for_values(arguments: &[ShellWord], found: &mut ScriptVariables) {
    for (at, word) in arguments.iter().enumerate() {
        let next = arguments.get(at + 1);
        match word.text.as_str() {
            "-v" => {
                found.optional.extend(next.map(|word| word.text.clone()));
            }
            // A test of the variable, or of a file with that name.
            operator if is_question(operator) => {
                next.into_iter().for_each(|word| optional(word, found));
            }
            "=" | "==" | "!=" => {
                let before = at.checked_sub(1).and_then(|at| arguments.get(at));
                let is_mark =
                    |word: &&ShellWord| word.text.chars().count() <= 1 && word.text != "\0";
                if next.as_ref().is_some_and(is_mark) || before.as_ref().is_some_and(is_mark) {
                    before.into_iter().chain(next).for_each(|word| optional(word, found));
                }
            }
            _ => {}
        }
    }
}

/// Whether a text is a unary test: `-z`, `-n`, `-d`, ..., but not `-a` and `-o`, which join
/// conditions.
fn is_question(text: &str) -> bool {
    matches!(text.as_bytes(), [b'-', letter] if letter.is_ascii_alphabetic() && !b"ao".contains(letter))
}

fn optional(word: &ShellWord, found: &mut ScriptVariables) {
    let uses = found.uses.get(word.first_use..word.last_use);
    let names = uses.into_iter().flatten().map(|used| used.name.clone());
    found.optional.extend(names);
}
