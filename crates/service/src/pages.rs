//! Tokens of lists: the position where a list continues, sealed so that only this database can
//! create one.

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

/// The key that seals tokens.
#[derive(Clone)]
pub struct Sealer {
    key: Vec<u8>,
}

impl Sealer {
    #[must_use]
    pub fn new(key: Vec<u8>) -> Self {
        Sealer { key }
    }

    /// A token for a list of this `kind`, operation and filters, which continues after `after`.
    #[must_use]
    pub fn seal(&self, kind: &str, after: &impl Serialize) -> String {
        let after = serde_json::to_string(after).unwrap_or_default();
        let mut token = hex(&self.sum(kind, &after));
        token.push_str(&hex(after.as_bytes()));
        token
    }

    /// Where a list of this kind continues; `None` if the token is not valid for it.
    #[must_use]
    pub fn open<T: DeserializeOwned>(&self, kind: &str, token: &str) -> Option<T> {
        let bytes = unhex(token)?;
        let (sum, after) = bytes.split_at_checked(SUM)?;
        let after = std::str::from_utf8(after).ok()?;
        // A token reveals nothing its owner may not know, so the comparison need not be
        // constant-time.
        (sum == self.sum(kind, after)).then(|| serde_json::from_str(after).ok())?
    }

    fn sum(&self, kind: &str, after: &str) -> [u8; SUM] {
        // The key comes first and last, so that nothing can be appended.
        let mut hash = Sha256::new();
        for part in [&self.key, kind.as_bytes(), b"\0", after.as_bytes(), b"\0", &self.key] {
            hash.update(part);
        }
        let mut sum = [0; SUM];
        sum.copy_from_slice(&hash.finalize()[..SUM]);
        sum
    }
}

const SUM: usize = 16;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_list_alone() {
        let sealer = Sealer::new(vec![7; 32]);
        let token = sealer.seal("ListBuilds DESCENDING", &(12, 3));
        assert_eq!(sealer.open::<(i64, i64)>("ListBuilds DESCENDING", &token), Some((12, 3)));
        assert_eq!(sealer.open::<(i64, i64)>("ListBuilds ASCENDING", &token), None);
        assert_eq!(
            Sealer::new(vec![8; 32]).open::<(i64, i64)>("ListBuilds DESCENDING", &token),
            None
        );
        for bad in ["", "x", "00", &token[..40], &format!("{token}00")] {
            assert_eq!(sealer.open::<(i64, i64)>("ListBuilds DESCENDING", bad), None, "{bad}");
        }
    }
}
