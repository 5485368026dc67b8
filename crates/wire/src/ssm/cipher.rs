//! Encryption of a session with a KMS key: AES-256-GCM.
//!
//! Used by `channel`. An encrypted payload is a 12-byte nonce, the ciphertext, and a 16-byte tag.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Length of a data key in bytes: 32 for messages to the client, 32 for those from it.
const KEY_LEN: usize = 64;

/// The keys of a session.
pub struct Cipher {
    to_client: LessSafeKey,
    from_client: LessSafeKey,
    /// Nonce of the next message to the client.
    nonce: [u8; NONCE_LEN],
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// Makes the cipher from a data key and a random start value for nonces; `None` if the key has
    /// the wrong length.
    #[must_use]
    pub fn new(key: &Zeroizing<Vec<u8>>, nonce: [u8; NONCE_LEN]) -> Option<Self> {
        let (to_client, from_client) =
            key.split_at_checked(KEY_LEN / 2).filter(|_| key.len() == KEY_LEN)?;
        let key = |bytes| UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new);
        Some(Cipher { to_client: key(to_client)?, from_client: key(from_client)?, nonce })
    }

    /// Encrypts a message in place, starting at offset `from`.
    pub fn seal(&mut self, message: &mut Vec<u8>, from: usize) {
        let nonce = self.nonce;
        self.count();
        message.splice(from..from, nonce);
        let (_, body) = message.split_at_mut(from + NONCE_LEN);
        let sealed = self.to_client.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::empty(),
            body,
        );
        match sealed {
            Ok(tag) => message.extend_from_slice(tag.as_ref()),
            // Only for bodies larger than any message. Sending nothing is better than sending it
            // unencrypted.
            Err(_) => message.truncate(from),
        }
    }

    /// Decrypts a body from the client; `None` if it is not encrypted or was modified.
    #[must_use]
    pub fn open(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = body.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut bytes = sealed.to_vec();
        let length = self.from_client.open_in_place(nonce, Aad::empty(), &mut bytes).ok()?.len();
        bytes.truncate(length);
        Some(bytes)
    }

    /// Increments the nonce, lowest byte first.
    fn count(&mut self) {
        for byte in &mut self.nonce {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn key() -> Zeroizing<Vec<u8>> {
        Zeroizing::new((0..64).collect())
    }

    /// The client's side of the same session.
    pub(in crate::ssm) fn of_client() -> Cipher {
        let mut swapped = key().to_vec();
        swapped.rotate_left(KEY_LEN / 2);
        Cipher::new(&Zeroizing::new(swapped), [9; NONCE_LEN]).expect("a key")
    }

    pub(in crate::ssm) fn of_agent() -> Cipher {
        Cipher::new(&key(), [0xff; NONCE_LEN]).expect("a key")
    }

    #[test]
    fn what_one_end_encrypts_the_other_reads() {
        let (mut agent, client) = (of_agent(), of_client());
        let mut seen = Vec::new();
        for text in ["", "x", "secret words"] {
            let mut message = b"head".to_vec();
            message.extend_from_slice(text.as_bytes());
            agent.seal(&mut message, 4);
            assert_eq!(message.len(), 4 + text.len() + 28);
            assert_eq!(client.open(&message[4..]).as_deref(), Some(text.as_bytes()));
            seen.push(message[4..16].to_vec());
            // Any modification is detected.
            for at in 4..message.len() {
                let mut changed = message.clone();
                changed[at] ^= 1;
                assert_eq!(client.open(&changed[4..]), None, "{at}");
            }
        }
        // The lowest byte comes first, and the highest value wraps to zero.
        assert_eq!(seen[0], [0xff; 12]);
        assert_eq!(seen[1], [0; 12]);
        assert_eq!((seen[2][0], seen[2][11]), (1, 0));
        assert_eq!(client.open(b"short"), None);
    }

    #[test]
    fn keys_of_another_length_are_none() {
        for length in [0, 32, 63, 65] {
            assert!(Cipher::new(&Zeroizing::new(vec![1; length]), [0; NONCE_LEN]).is_none());
        }
    }
}
