//! Parses shell code: which variables it uses and sets, and where anything may be set.
//!
//! Used by `unset`. It understands quotes, expansions, substitutions, here-documents and the
//! builtins that set variables. It runs nothing and rejects nothing: whatever it cannot parse stays
//! undecided.

mod expansion;
mod simple;

use simple::{ShellWord, Simple};
use std::collections::BTreeSet;

/// A use of a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) name: String,
    /// The line in the text, from 0.
    pub(super) line: usize,
    /// Whether a condition examines it.
    is_asked: bool,
}

/// The variables that a script uses and sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScriptVariables {
    /// Required variables, in text order.
    pub(super) uses: Vec<Use>,
    /// Names that get a value somewhere in the script.
    pub(super) sets: BTreeSet<String>,
    /// Names that may be unset: the script checks for that, or has a default.
    pub(super) optional: BTreeSet<String>,
    /// The line from which on anything may be set, because the script sources a file or evaluates
    /// output.
    pub(super) open_from: Option<usize>,
}

/// Parses a text. An incomplete text, such as one with an open quote, is reported to use nothing.
pub(super) fn read(text: &str) -> ScriptVariables {
    let mut reader = ShellReader::new(text, 0);
    reader.commands(None);
    if reader.is_broken {
        reader.found.uses.clear();
    }
    reader.found.uses.retain(|used| !used.is_asked);
    reader.found
}

/// Whether a text is a valid name of a shell variable.
fn is_name(text: &str) -> bool {
    crate::env::is_name(text)
}

/// Whether a character ends a word.
fn is_separator(c: char) -> bool {
    c.is_whitespace() || matches!(c, ';' | '&' | '|' | '<' | '>' | '(' | ')')
}

/// The end of a here-document, and whether its content is plain text without expansions.
struct HereDocument {
    end: String,
    is_plain: bool,
}

struct ShellReader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    found: ScriptVariables,
    awaited: Vec<HereDocument>,
    is_broken: bool,
    /// Nesting of substitutions.
    depth: usize,
}

/// Maximum nesting that is parsed.
const DEPTH: usize = 50;

impl ShellReader {
    fn new(text: &str, line: usize) -> Self {
        ShellReader {
            chars: text.chars().collect(),
            at: 0,
            line,
            found: ScriptVariables::default(),
            awaited: Vec::new(),
            is_broken: false,
            depth: 0,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek(0)?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// Parses commands up to and including `end`, or to the end of the text.
    fn commands(&mut self, end: Option<char>) {
        self.depth += 1;
        if self.depth > DEPTH {
            self.is_broken = true;
            self.at = self.chars.len();
        }
        let mut simple = Simple::default();
        loop {
            let Some(c) = self.peek(0) else {
                self.is_broken |= end.is_some();
                break;
            };
            match c {
                '\n' => {
                    self.next();
                    simple.end(&mut self.found);
                    self.here_documents();
                }
                c if c.is_whitespace() => self.skip(1),
                '\\' if self.peek(1) == Some('\n') => self.skip(2),
                '#' => self.comment(),
                c if Some(c) == end && !simple.is_case() => {
                    self.next();
                    break;
                }
                '(' if self.starts_with("((") && simple.is_empty() => self.arithmetic(2),
                ';' | '&' | '|' | '(' | ')' => {
                    self.next();
                    simple.separator(c, &mut self.found);
                }
                '<' | '>' => self.redirection(&mut simple),
                _ => {
                    let word = self.word();
                    simple.push(word, &mut self.found);
                }
            }
        }
        simple.end(&mut self.found);
        self.depth -= 1;
    }

    fn comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.next();
        }
    }

    fn redirection(&mut self, simple: &mut Simple) {
        if self.starts_with("<<<") {
            self.skip(3);
            simple.has_target = true;
        } else if self.starts_with("<<") {
            self.skip(2);
            let is_indented = self.peek(0) == Some('-');
            self.skip(usize::from(is_indented));
            while self.peek(0).is_some_and(|c| c == ' ' || c == '\t') {
                self.next();
            }
            let word = self.raw_word();
            let is_plain = word.contains(['\'', '"', '\\']);
            let end = word.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
            self.awaited.push(HereDocument { end, is_plain });
        } else if self.starts_with("<(") || self.starts_with(">(") {
            self.skip(2);
            self.commands(Some(')'));
        } else {
            self.next();
            while self.peek(0).is_some_and(|c| matches!(c, '>' | '<' | '&' | '|')) {
                self.next();
            }
            simple.has_target = true;
        }
    }

    /// Takes a word as written.
    fn raw_word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| !is_separator(*c)) {
            word.push(c);
            self.next();
        }
        word
    }

    /// Takes the bodies of here-documents that begin on this line.
    fn here_documents(&mut self) {
        for HereDocument { end, is_plain } in std::mem::take(&mut self.awaited) {
            loop {
                if self.peek(0).is_none() {
                    self.is_broken = true;
                    return;
                }
                let (begin, number) = (self.at, self.line);
                while self.next().is_some_and(|c| c != '\n') {}
                let line: String = self.chars[begin..self.at].iter().collect();
                if line.trim() == end {
                    break;
                }
                if !is_plain {
                    // An expansion may span several lines; only the parts on one line are read.
                    self.part(&line, number, ShellReader::expanded);
                }
            }
        }
    }

    /// Parses a part of the text separately.
    fn part(&mut self, text: &str, line: usize, read: impl FnOnce(&mut ShellReader)) {
        let mut reader = ShellReader::new(text, line);
        reader.depth = self.depth;
        read(&mut reader);
        let ScriptVariables { mut uses, sets, optional, open_from } = reader.found;
        if reader.is_broken {
            uses.clear();
        }
        self.found.uses.append(&mut uses);
        self.found.sets.extend(sets);
        self.found.optional.extend(optional);
        self.found.open_from = self.found.open_from.or(open_from);
    }

    /// Parses text in which only a backslash quotes.
    fn expanded(&mut self) {
        while let Some(c) = self.peek(0) {
            match c {
                '\\' => self.skip(2),
                '$' => {
                    self.dollar(true);
                }
                '`' => {
                    self.backticks();
                }
                _ => self.skip(1),
            }
        }
    }

    /// Takes a word and its expansions.
    fn word(&mut self) -> ShellWord {
        let mut word =
            ShellWord { first_use: self.found.uses.len(), line: self.line, ..ShellWord::default() };
        while let Some(c) = self.peek(0).filter(|c| !is_separator(*c)) {
            match c {
                '\\' => {
                    self.next();
                    if let Some(escaped) = self.next().filter(|c| *c != '\n') {
                        word.literal(escaped);
                    }
                    word.is_quoted = true;
                }
                '\'' => {
                    self.next();
                    self.single_quoted(&mut word);
                }
                '"' => {
                    self.next();
                    self.double_quoted(&mut word);
                }
                '$' if matches!(self.peek(1), Some('\'' | '"')) => {
                    let is_single = self.peek(1) == Some('\'');
                    self.skip(2);
                    if is_single {
                        self.ansi_quoted();
                        word.is_quoted = true;
                    } else {
                        self.double_quoted(&mut word);
                    }
                }
                '$' => {
                    let expansion = self.dollar(false);
                    word.expands(expansion);
                }
                '`' => {
                    let expansion = self.backticks();
                    word.expands(expansion);
                }
                c => {
                    word.literal(c);
                    self.next();
                    // The values of an array.
                    if c == '=' && self.peek(0) == Some('(') && word.is_assignment() {
                        self.next();
                        self.array();
                    }
                }
            }
        }
        if self.peek(0) == Some('(') {
            word.is_function = self.peek(1) == Some(')');
        }
        word.last_use = self.found.uses.len();
        word
    }

    fn array(&mut self) {
        loop {
            match self.peek(0) {
                None => {
                    self.is_broken = true;
                    return;
                }
                Some(')') => {
                    self.next();
                    return;
                }
                Some('#') => self.comment(),
                Some(c) if is_separator(c) => self.skip(1),
                Some(_) => {
                    self.word();
                }
            }
        }
    }

    fn single_quoted(&mut self, word: &mut ShellWord) {
        word.is_quoted = true;
        loop {
            match self.next() {
                Some('\'') => return,
                Some(c) => word.literal(c),
                None => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }

    fn ansi_quoted(&mut self) {
        loop {
            match self.next() {
                Some('\'') => return,
                Some('\\') => self.skip(1),
                Some(_) => {}
                None => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }

    fn double_quoted(&mut self, word: &mut ShellWord) {
        word.is_quoted = true;
        loop {
            match self.peek(0) {
                Some('"') => {
                    self.next();
                    return;
                }
                Some('\\') => {
                    self.next();
                    if let Some(c) = self.next() {
                        word.literal(c);
                    }
                }
                Some('$') => {
                    let expansion = self.dollar(true);
                    word.expands(expansion);
                }
                Some('`') => {
                    let expansion = self.backticks();
                    word.expands(expansion);
                }
                Some(c) => {
                    word.literal(c);
                    self.next();
                }
                None => {
                    self.is_broken = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    fn uses(text: &str) -> Vec<String> {
        let found = read(text);
        let uses = found.uses.into_iter().map(|used| used.name);
        let mut uses: Vec<String> = uses
            .filter(|name| !found.sets.contains(name) && !found.optional.contains(name))
            .collect();
        uses.dedup();
        uses
    }

    #[test]
    fn what_a_shell_expands_is_a_use() {
        for text in [
            "echo $A",
            "echo ${A}",
            "echo x\"y $A z\"",
            "echo ${A%.*} ${A#a} ${A:0:7} ${A::32} ${A^^} ${A/x/y} ${#A} ${A[0]}",
            "echo $(echo $A)",
            "echo `echo $A`",
            "echo \"`echo \\\"$A\\\"`\"",
            "echo \"$(echo \"$A\")\"",
            "cat <<EOF\nx $A\nEOF",
            "cat <<-EOF > x\n\t'$A'\n\tEOF",
            "cat <<< \"$A\"",
            "make > $A 2>&1",
            "diff <(echo $A) x",
            "docker build --build-arg A=$A .",
            "if true; then echo $A; fi",
            "[ -d x ] && echo $A",
            "case $(uname) in x) echo $A ;; esac",
            "aws --account $A \\\n --x",
            "f() { echo $A; }",
            "it=1 # don't\necho $A",
            "echo it\\'s $A",
            "X=$((1 + 2)) Y=\"$A\"",
            "LIST=(a $A c)",
        ] {
            assert_eq!(uses(text), ["A"], "{text}");
        }
    }

    #[test]
    fn what_a_shell_does_not_expand_is_none() {
        for text in [
            "echo '$A'",
            "echo \\$A \"\\$A\"",
            "awk '{print $A}'",
            "cat <<'EOF'\n$A\nEOF",
            "cat <<\\EOF\n$A\nEOF",
            "cat <<EOF\n\\$A\nEOF",
            "# $A",
            "true # $A",
            "echo $1 $@ $# $? $$ $! $* $- $0 ${1} ${@} ${#}",
            "echo ${A:-x} ${B-x} ${C:+x} ${D+x} ${E:?x} ${F?x} ${G:=x} ${H=x}",
            "echo ${A:-$B} \"${A:-${B}}\"",
            "echo ${!A} ${AWS::Region} ${a.b} $'$A' $[A+1]",
            "echo $((A + 1)) $(( $A + 1 ))",
            "echo 'unfinished $A",
            "grep x$ y; echo $",
        ] {
            assert_eq!(uses(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_a_shell_sets_is_no_use() {
        for text in [
            "A=1; echo $A",
            "A+=1; echo $A",
            "A[0]=1; echo ${A[0]}",
            "A=(x y); echo ${A[@]}",
            "export A=1 B=2; echo $A $B",
            "export A; A=1; echo $A",
            "local A=1; readonly B=2; declare -r C=3; typeset D=4; echo $A $B $C $D",
            "declare -A M; M[a]=b; echo ${M[a]}; local A; echo $A; wait -p P; echo $P; coproc C { :; }; echo ${C[0]}",
            "for A in 1 2; do echo $A; done",
            "for A; do echo $A; done",
            "for ((A=0; A<3; A++)); do echo $A; done",
            "select A in 1 2; do echo $A; done",
            "read A; echo $A",
            "read -r -p 'x' A B; echo $A $B",
            "echo x | while IFS=: read -r A B; do echo $A $B; done",
            "while getopts 'a:b' A; do echo $A; done",
            "printf -v A x; mapfile -t B; readarray C; echo $A $B $C",
            ": ${A:=x}; echo $A",
            "let A=1; ((B=2)); ((C++)); echo $A $B $C",
            "if x; then A=1; else A=2; fi; echo $A",
            "x && A=1 || B=2; echo $A $B",
            "echo \"$(A=1; echo $A)\"",
            "env A=1 sh -c \"x $A\"",
            "! A=1; { B=1; }; (C=1); echo $A $B $C",
            "f() { A=1; }; echo $A",
            "case x in x) A=1;; esac; echo $A",
            "case $(uname -m) in\n x86_64)\n A=1\n ;;\nesac; echo $A",
        ] {
            assert_eq!(uses(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_is_asked_for_may_be_missing() {
        for text in [
            "[ -z \"$A\" ] || echo $A",
            "[ -n \"$A\" ] && echo $A",
            "if [[ -n $A && -z ${B} ]]; then echo $A $B; fi",
            "test -z \"$A\" && exit 1; echo $A",
            "[ \"$A\" != \"\" ] && echo $A",
            "[ \"x$A\" = x ] || echo $A",
            "[[ -v A ]] && echo $A",
            "if [ \"$A\" = true ]; then x; fi",
            "[[ $A == a* && ( $B != b || $C =~ d ) ]]",
            "case \"$A\" in x) y ;; esac",
            "echo ${A:-x}; echo $A",
        ] {
            assert_eq!(uses(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_runs_other_text_leaves_it_open() {
        for text in [
            ". ./env.sh",
            "true\nsource env.sh",
            "set -a; . .env",
            "eval \"$(x)\"",
            "export $(cat .env | xargs)",
            "$(./env.sh)",
            "if true; then . x; fi",
            "read $NAME",
        ] {
            assert!(read(text).open_from.is_some(), "{text}");
        }
        assert_eq!(read("a\nb\n. c").open_from, Some(2));
        for text in [
            "$(aws ecr get-login --no-include-email)",
            "echo . x",
            "git add .",
            "export A=$(x)",
            "$SUDO make",
            "cat <<EOF\n. x\nEOF",
        ] {
            assert_eq!(read(text).open_from, None, "{text}");
        }
    }

    #[test]
    fn uses_have_their_lines() {
        let found = read("a $A\nb \\\n $B\ncat <<EOF\nx\n$C\nEOF\n\"\n$D\"");
        let uses: Vec<_> = found.uses.iter().map(|used| (used.name.as_str(), used.line)).collect();
        assert_eq!(uses, [("A", 0), ("B", 2), ("C", 5), ("D", 8)]);
    }

    #[test]
    fn a_hostile_text_is_read_to_its_end() {
        for text in [&"$(".repeat(100_000), &"`".repeat(99_999), &"${a:-".repeat(100_000), "<<"] {
            read(text);
        }
    }
}
