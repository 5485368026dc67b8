//! The difference between two texts as a unified diff.
//!
//! Used by `runner patch` and `runner diff`. Works on bytes, because a file's lines may not be
//! text.

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};
use std::fmt::Write as _;
use std::ops::Range;

/// Number of context lines around a change.
const CONTEXT: usize = 3;
/// Texts with more pairs of lines than this are not compared line by line, because it would take
/// seconds.
const MOST_PAIRS: usize = 64 << 20;

/// The difference between two texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hunks {
    /// The lines from the first `@@` on; empty if the texts are equal.
    pub text: Vec<u8>,
    /// Number of added lines.
    pub added: usize,
    /// Number of removed lines.
    pub removed: usize,
}

/// Compares two texts.
#[must_use]
pub fn hunks(old: &[u8], new: &[u8]) -> Hunks {
    let (old, new) = (lines(old), lines(new));
    let mut hunks = Hunks::default();
    for group in group_diff_ops(changes(&old, &new), CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        if group.iter().all(|op| matches!(op, DiffOp::Equal { .. })) {
            continue;
        }
        let mut head = String::from("@@ -");
        range(&mut head, first.old_range().start..last.old_range().end);
        head.push_str(" +");
        range(&mut head, first.new_range().start..last.new_range().end);
        head.push_str(" @@\n");
        hunks.text.extend_from_slice(head.as_bytes());
        for op in &group {
            if let DiffOp::Equal { .. } = op {
                old[op.old_range()].iter().for_each(|kept| line(&mut hunks.text, b' ', kept));
                continue;
            }
            hunks.removed += op.old_range().len();
            hunks.added += op.new_range().len();
            old[op.old_range()].iter().for_each(|gone| line(&mut hunks.text, b'-', gone));
            new[op.new_range()].iter().for_each(|come| line(&mut hunks.text, b'+', come));
        }
    }
    hunks
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&byte| byte == b'\n').collect()
}

/// The edits from the old lines to the new ones.
fn changes(old: &[&[u8]], new: &[&[u8]]) -> Vec<DiffOp> {
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let ends = old[same..].iter().rev().zip(new[same..].iter().rev());
    let same_end = ends.take_while(|(old, new)| old == new).count();
    let (old_len, new_len) = (old.len() - same - same_end, new.len() - same - same_end);
    if old_len.saturating_mul(new_len) <= MOST_PAIRS {
        return capture_diff_slices(Algorithm::Myers, old, new);
    }
    let equal = |old_index, new_index, len| DiffOp::Equal { old_index, new_index, len };
    let replaced = DiffOp::Replace { old_index: same, old_len, new_index: same, new_len };
    let all = [equal(0, 0, same), replaced, equal(same + old_len, same + new_len, same_end)];
    let is_some = |op: &DiffOp| !op.old_range().is_empty() || !op.new_range().is_empty();
    all.into_iter().filter(is_some).collect()
}

/// Writes a range. Lines count from 1; an empty range names the line before it.
fn range(head: &mut String, lines: Range<usize>) {
    // Writing to a string cannot fail.
    let _ = match lines.len() {
        0 => write!(head, "{},0", lines.start),
        1 => write!(head, "{}", lines.start + 1),
        count => write!(head, "{},{count}", lines.start + 1),
    };
}

fn line(text: &mut Vec<u8>, sign: u8, line: &[u8]) {
    text.push(sign);
    text.extend_from_slice(line);
    if !line.ends_with(b"\n") {
        text.extend_from_slice(b"\n\\ No newline at end of file\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(old: &str, new: &str) -> (String, usize, usize) {
        let Hunks { text, added, removed } = hunks(old.as_bytes(), new.as_bytes());
        (String::from_utf8(text).expect("text"), added, removed)
    }

    #[test]
    fn hunks_read_as_those_of_git() {
        assert_eq!(shown("a\n", "a\n"), (String::new(), 0, 0));
        assert_eq!(shown("a\n", "b\n"), ("@@ -1 +1 @@\n-a\n+b\n".to_owned(), 1, 1));
        assert_eq!(shown("", "a\nb\n"), ("@@ -0,0 +1,2 @@\n+a\n+b\n".to_owned(), 2, 0));
        assert_eq!(shown("a\n", ""), ("@@ -1 +0,0 @@\n-a\n".to_owned(), 0, 1));
        let end = "\\ No newline at end of file\n";
        assert_eq!(shown("a", "a\n"), (format!("@@ -1 +1 @@\n-a\n{end}+a\n"), 1, 1));
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let new = old.replace("2\n3", "2\nnew\n3").replace("11\n", "");
        let (text, added, removed) = shown(old, &new);
        assert_eq!((added, removed), (1, 1));
        assert!(text.starts_with("@@ -1,5 +1,6 @@\n 1\n 2\n+new\n 3\n"), "{text}");
        assert!(text.contains("@@ -8,5 +9,4 @@\n 8\n 9\n 10\n-11\n 12\n"), "{text}");
    }

    #[test]
    fn what_would_take_long_is_replaced_as_a_whole() {
        let many = |word: &str| (0..10_000).map(|n| format!("{word} {n}\n")).collect::<String>();
        let (old, new) = (format!("same\n{}end\n", many("a")), format!("same\n{}end\n", many("b")));
        let (text, added, removed) = shown(&old, &new);
        assert_eq!((added, removed), (10_000, 10_000));
        assert!(text.starts_with("@@ -1,10002 +1,10002 @@\n same\n-a 0\n"));
        assert!(text.ends_with("+b 9999\n end\n"));
    }
}
