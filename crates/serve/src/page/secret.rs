//! Secrets of browsers, stored as digests.

use runner_folder::state::random;
use sha2::{Digest as _, Sha256};
use std::io;

/// The digest of a secret, which can verify but not reveal it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// A new secret, and its text.
    pub(super) fn new() -> io::Result<(Self, String)> {
        let text: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self::of(&text), text))
    }

    pub(super) fn of(text: &str) -> Self {
        SecretDigest(Sha256::digest(text.as_bytes()).into())
    }

    /// Compares in constant time.
    pub(super) fn is(self, other: SecretDigest) -> bool {
        self.0.iter().zip(other.0).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}
