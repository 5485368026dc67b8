//! What a report file says of itself, held against what was found in it.
//!
//! Used by the formats' readers. Only what is missing is doubted: a tool that counts more than it
//! announces has lost nothing.

use super::Malformed;

/// Doubts a file that announces more than there is.
pub(super) fn missing(line: u32, what: &str, said: Option<u64>, found: u64) -> Option<Malformed> {
    let said = said.filter(|&said| said > found)?;
    let column = u32::from(line > 0);
    let reason = format!("{what} announced: {said}, found: {found}");
    Some(Malformed::at((line, column), reason))
}

/// Doubts a file that announces failures and shows none.
pub(super) fn hidden(line: u32, said: u64, found: u64) -> Option<Malformed> {
    let column = u32::from(line > 0);
    let reason = format!("failures announced: {said}, found: none");
    (said > 0 && found == 0).then(|| Malformed::at((line, column), reason))
}
