//! Compares a report's own totals with its contents.
//!
//! Used by the format parsers. Only missing contents are doubted: a tool that lists more than it
//! announces has lost nothing.

use super::Malformed;

/// Doubts a file that announces more than it contains.
pub(super) fn missing(line: u32, what: &str, said: Option<u64>, found: u64) -> Option<Malformed> {
    let said = said.filter(|&said| said > found)?;
    let column = u32::from(line > 0);
    let reason = format!("{what} announced: {said}, found: {found}");
    Some(Malformed::at((line, column), reason))
}

/// Doubts a file that announces failures but contains none.
pub(super) fn hidden(line: u32, said: u64, found: u64) -> Option<Malformed> {
    let column = u32::from(line > 0);
    let reason = format!("failures announced: {said}, found: none");
    (said > 0 && found == 0).then(|| Malformed::at((line, column), reason))
}
