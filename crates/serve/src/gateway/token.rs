//! Tokens: each admits one client to its session, once.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runner_folder::state::random;
use sha2::{Digest, Sha256};
use std::io;
use std::time::Duration;

/// How long an unused token is valid.
const LIFE: Duration = Duration::from_secs(60);

/// An issued token: its digest, which can verify but not reveal it.
#[derive(Debug)]
pub(super) struct SessionToken {
    digest: [u8; 32],
    until: Duration,
}

impl SessionToken {
    /// A new token and its text.
    pub(super) fn new(now: Duration) -> io::Result<(Self, String)> {
        let text = URL_SAFE_NO_PAD.encode(random::<32>()?);
        let digest = Sha256::digest(text.as_bytes()).into();
        Ok((SessionToken { digest, until: now + LIFE }, text))
    }

    pub(super) fn has_expired(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// Whether this is the token's text. Compares whole digests, so that the time taken reveals
    /// nothing.
    pub(super) fn is(&self, text: &str) -> bool {
        let shown: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        shown.iter().zip(self.digest).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_and_no_other() {
        let now = Duration::from_secs(9);
        let (token, text) = SessionToken::new(now).expect("randomness");
        let (_, other) = SessionToken::new(now).expect("randomness");
        assert!(token.is(&text) && !token.is(&other) && !token.is(""));
        assert!(text.len() >= 43 && text != other);
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    }

    #[test]
    fn a_token_is_good_for_a_minute() {
        let now = Duration::from_secs(9);
        let (token, _) = SessionToken::new(now).expect("randomness");
        assert!(!token.has_expired(now + Duration::from_millis(59_999)));
        assert!(token.has_expired(now + Duration::from_secs(60)));
    }
}
