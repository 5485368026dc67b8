//! Parses a shell's saved variables: the output of `export -p` from any supported shell.
//!
//! Used by `crates/build/src/driver/shell.rs` for sessions and other readers of a build's
//! variables. The text comes from the container and is untrusted: unparsable lines are skipped, and
//! nothing is executed.

/// Returns the variables in `text`, in order. Names without a value are skipped.
///
/// A line `unset NAME` cancels earlier values. Understands the output of dash, bash, busybox and
/// ksh: `export A='b'`, `declare -x A="b"`, `export A="b"`, `A=b`, with any mixture of `'…'`,
/// `"…"`, `$'…'` and backslashes.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(line) = rest.strip_prefix(b"unset ") {
            let length = line.iter().take_while(|byte| is_name_byte(**byte)).count();
            let (name, after) = line.split_at(length);
            found.retain(|(of, _): &Assignment| of != name);
            rest = after_line(after);
            continue;
        }
        let (statement, after) = take_assignment(rest);
        found.extend(statement);
        rest = after;
    }
    found
}

type Assignment = (Vec<u8>, Vec<u8>);

/// Takes the assignment at the start of `text`, if there is one. Also returns the text after its
/// line.
fn take_assignment(text: &[u8]) -> (Option<Assignment>, &[u8]) {
    let mut rest = text;
    for keyword in [&b"export "[..], b"declare ", b"typeset "] {
        rest = rest.strip_prefix(keyword).unwrap_or(rest);
    }
    // Flags such as `-x` or `-rx`.
    while let Some(flags) = rest.strip_prefix(b"-") {
        let end = flags.iter().position(|&byte| byte == b' ').map_or(flags.len(), |at| at + 1);
        rest = &flags[end..];
    }
    let length = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
    let (name, after_name) = rest.split_at(length);
    let Some(value) = after_name.strip_prefix(b"=") else {
        return (None, after_line(after_name));
    };
    match take_word(value) {
        Some((value, after)) if !name.is_empty() && !name[0].is_ascii_digit() => {
            (Some((name.to_vec(), value)), after_line(after))
        }
        Some((_, after)) => (None, after_line(after)),
        // An unclosed quote: the rest cannot be parsed.
        None => (None, &[]),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn after_line(text: &[u8]) -> &[u8] {
    text.iter().position(|&byte| byte == b'\n').map_or(&[], |at| &text[at + 1..])
}

/// Takes a shell word and removes its quotes. Also returns the rest; `None` if a quote is not
/// closed.
fn take_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [b'\n' | b' ' | b'\t' | b';', ..] => return Some((word, rest)),
            [b'\'', after @ ..] => {
                let end = after.iter().position(|&byte| byte == b'\'')?;
                word.extend_from_slice(&after[..end]);
                rest = &after[end + 1..];
            }
            [b'"', after @ ..] => rest = take_double_quoted(after, &mut word)?,
            [b'$', b'\'', after @ ..] => rest = take_ansi_quoted(after, &mut word)?,
            [b'\\', b'\n', after @ ..] => rest = after,
            [b'\\', byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn take_double_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'\n', after @ ..] => rest = after,
            [b'\\', byte @ (b'"' | b'\\' | b'$' | b'`'), after @ ..] => {
                word.push(*byte);
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Takes `$'…'`, which bash uses for control characters.
fn take_ansi_quoted<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', digits @ ..]
                if digits.first().is_some_and(|byte| (b'0'..b'8').contains(byte)) =>
            {
                let length =
                    digits.iter().take(3).take_while(|byte| (b'0'..b'8').contains(byte)).count();
                let value = digits[..length]
                    .iter()
                    .fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                word.push(u8::try_from(value & 0xff).unwrap_or(0));
                rest = &digits[length..];
            }
            [b'\\', b'x', digits @ ..] => {
                let length = digits.iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
                let text = std::str::from_utf8(&digits[..length]).unwrap_or_default();
                word.push(u8::from_str_radix(text, 16).unwrap_or(b'x'));
                rest = &digits[length..];
            }
            [b'\\', byte, after @ ..] => {
                word.push(match byte {
                    b'a' => 7,
                    b'b' => 8,
                    b'e' | b'E' => 27,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Quotes a value as a single-quoted word that every shell reads back unchanged.
#[must_use]
pub fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        parse(text.as_bytes()).into_iter().map(|(n, v)| (text_of(n), text_of(v))).collect()
    }

    #[test]
    fn every_shells_way_of_printing_is_read() {
        let dash = "export A='it'\"'\"'s'\nexport B='two\nlines'\nexport C\nexport D=''\n";
        let bash = "declare -x A=\"it's\"\ndeclare -rx B=\"two\nlines\"\ndeclare -x C\n\
                    declare -x D=\"\"\ndeclare -x E=$'tab\\there\\001\\x41\\''\n\
                    declare -x F=\"\\$x \\`y\\` \\\\ \\\"z\\\"\"\n";
        let wanted = [("A", "it's"), ("B", "two\nlines"), ("D", "")];
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        assert_eq!(parsed(dash), pairs(&wanted));
        let mut more = wanted.to_vec();
        more.extend([("E", "tab\there\u{1}A'"), ("F", "$x `y` \\ \"z\"")]);
        assert_eq!(parsed(bash), pairs(&more));
        assert_eq!(parsed("A=b\\ c d\n"), pairs(&[("A", "b c")]));
    }

    #[test]
    fn what_is_unset_is_gone_until_it_is_set_again() {
        let text = "export A='x'\nexport B='y'\nunset A\n";
        assert_eq!(parsed(text), [("B".to_owned(), "y".to_owned())]);
        let again = format!("{text}export A='x'\n");
        assert_eq!(parsed(&again).last(), Some(&("A".to_owned(), "x".to_owned())));
    }

    #[test]
    fn nonsense_is_left_out() {
        assert_eq!(parsed("rm -rf /\n=x\n1A=b\nexport\n# saved\n"), []);
        assert_eq!(parsed("export A='never closed\nexport B='c'"), []);
        for length in 0..40 {
            let text = "declare -x A=$'\\x\\0\\\"\"'\\\n'\"$`export";
            let _ = parse(&text.as_bytes()[..length.min(text.len())]);
        }
    }

    #[test]
    fn what_is_quoted_reads_back() {
        for value in ["", "plain", "it's", "a\nb", "$(x) `y` \\ \"z\"", "'''"] {
            let text = format!("export A={}\n", quote(value));
            assert_eq!(parsed(&text), [("A".to_owned(), value.to_owned())]);
        }
    }
}
