//! Which cache is meant, and names that can encode any bytes.

use super::super::hex;
use runner_core::spec;
use sha2::{Digest, Sha256};

/// Bytes kept of the digest of the paths.
const PATHS: usize = 8;

/// Whether a text can be a digest of paths.
pub(super) fn is_paths(text: &str) -> bool {
    text.len() == 2 * PATHS && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

#[derive(Clone, Debug)]
pub(super) struct WantedCache {
    pub(super) project: String,
    /// Digest of the cached paths.
    pub(super) paths: String,
    pub(super) key: Option<String>,
    /// Prefixes of keys that are accepted as fallback.
    pub(super) fallback: Vec<String>,
}

impl WantedCache {
    pub(super) fn new(
        cache: &spec::Cache,
        project: &str,
        key: Option<String>,
        fallback: Vec<String>,
    ) -> Self {
        let mut paths = Sha256::new();
        for path in &cache.paths {
            paths.update((path.len() as u64).to_le_bytes());
            paths.update(path);
        }
        let paths = hex(&paths.finalize()[..PATHS]);
        WantedCache { project: project.to_owned(), paths, key, fallback }
    }
}

/// Encodes any bytes with a small set of characters. It preserves prefixes: a prefix of the bytes
/// encodes to a prefix of the text.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all.clone()));
        assert!(encode(&all).is_ascii());
        assert!(encode("k\u{e4}y-1".as_bytes()).starts_with(&encode("k\u{e4}".as_bytes())));
        assert_eq!(decode("%4"), None);
    }
}
