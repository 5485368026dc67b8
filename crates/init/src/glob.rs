//! Path patterns: `*`, `?` and `[...]` within a component, `**` for any number of components.
//!
//! Used by `hash_files` on paths relative to the source. A leading dot in a name is not special.

/// Whether a pattern matches a file; leading `./` is ignored. A pattern without wildcards in its
/// last part also matches everything below it.
pub(crate) fn takes(pattern: &[u8], path: &[u8]) -> bool {
    let pattern = pattern.strip_prefix(b"./").unwrap_or(pattern);
    if matches(pattern, path) {
        return true;
    }
    // A directory given by name.
    let is_literal = |part: &[u8]| !part.iter().any(|byte| b"*?[".contains(byte));
    let last = pattern.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty());
    let trimmed = pattern.strip_suffix(b"/").unwrap_or(pattern);
    last.is_some_and(is_literal)
        && path.iter().enumerate().any(|(at, &byte)| byte == b'/' && matches(trimmed, &path[..at]))
        || pattern == b"."
}

/// Matches component by component.
fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let (part, rest) = split(pattern);
    if part == b"**" {
        let Some(rest) = rest else { return true };
        let mut left = Some(path);
        while let Some(path) = left {
            if matches(rest, path) {
                return true;
            }
            left = split(path).1;
        }
        return false;
    }
    let (name, below) = split(path);
    if !name_matches(part, name) {
        return false;
    }
    match (rest, below) {
        (None, None) => true,
        (Some(rest), Some(below)) => matches(rest, below),
        _ => false,
    }
}

fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Matches one component. Backtracks only to the last star, so no pattern is slow.
fn name_matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut taken) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while taken < name.len() {
        let step = match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, taken));
                at += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(&pattern[at..], name[taken]),
            Some(&byte) if byte == name[taken] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                at += length;
                taken += 1;
            }
            (None, Some((star_at, from))) => {
                at = star_at + 1;
                taken = from + 1;
                star = Some((star_at, taken));
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// The length of the set at the start of a pattern, if the byte is in it. An unclosed bracket
/// matches itself.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let is_negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if is_negated { 2 } else { 1 };
    // A closing bracket in first place belongs to the set.
    let Some(end) = pattern.iter().skip(start + 1).position(|&byte| byte == b']') else {
        return (byte == b'[').then_some(1);
    };
    let end = start + 1 + end;
    let set = &pattern[start..end];
    let mut is_in = false;
    let mut at = 0;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            is_in |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            is_in |= set[at] == byte;
            at += 1;
        }
    }
    (is_in != is_negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::takes;

    #[test]
    fn patterns_take_what_the_language_says() {
        for (pattern, path, wanted) in [
            ("a.lock", "a.lock", true),
            ("a.lock", "b/a.lock", false),
            ("./a.lock", "a.lock", true),
            ("*.lock", "a.lock", true),
            ("*.lock", "d/a.lock", false),
            ("*", ".hidden", true),
            ("**/*.lock", "a.lock", true),
            ("**/*.lock", "d/e/a.lock", true),
            ("**/*", "d/e/f", true),
            ("**", "d/e/f", true),
            ("d/*", "d/e", true),
            ("d/*", "d/e/f", false),
            ("d/**/*", "d/e/f", true),
            ("d/**/*", "e/f", false),
            ("d/**/f", "d/f", true),
            ("d", "d/e/f", true),
            ("d/", "d/e/f", true),
            ("*/e", "d/e/f", true),
            (".", "d/e/f", true),
            ("d*", "d/e", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("a[", "a[", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(takes(pattern.as_bytes(), path.as_bytes()), wanted, "{pattern} {path}");
        }
    }
}
