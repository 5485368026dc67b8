//! Ids of sessions: the caller's name, random digits and a mark.
//!
//! The mark shows an endpoint that an earlier endpoint issued an id. A client whose endpoint was
//! killed asks the next one for its session; on an error it would repeat the call for a minute and
//! then hang. The mark is no secret: tokens decide who gets in.

use runner_folder::state::random;
use sha2::{Digest, Sha256};
use std::io;

/// Digits of the mark.
const MARK: usize = 6;

/// A new id for a caller.
pub(super) fn new(name: &str) -> io::Result<String> {
    let start = format!("{name}-{}", hex(&random::<9>()?));
    Ok(format!("{start}{}", mark(&start)))
}

/// Whether an endpoint of this program issued this id.
pub(super) fn is_ours(id: &str) -> bool {
    let split = id.len().checked_sub(MARK).and_then(|at| id.split_at_checked(at));
    split.is_some_and(|(start, end)| mark(start) == end)
}

fn mark(start: &str) -> String {
    let digest = Sha256::digest(format!("a session of runner: {start}"));
    hex(&digest[..MARK / 2])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_again() {
        let id = new("ann-bob").expect("randomness");
        assert!(is_ours(&id) && id.starts_with("ann-bob-") && id.len() <= 96, "{id}");
        assert_ne!(new("ann-bob").expect("randomness"), id);
        let other = id.replace("ann", "eve");
        for id in ["", "x", "never", "nobody-1", &other, &id[1..], "\u{20ac}\u{20ac}\u{20ac}"] {
            assert!(!is_ours(id), "{id}");
        }
    }
}
