//! Certificates that this program trusts besides those of this machine: `--ca-file`.
//!
//! One set for the process, as programs have it: set before the first connection, read by whoever makes clients that
//! speak TLS.

use std::sync::OnceLock;

const END: &str = "-----END CERTIFICATE-----";

static CERTIFICATES: OnceLock<Vec<String>> = OnceLock::new();

/// Trusts these, PEM one after the other. The first set stays.
pub fn trust(pem: &str) {
    let blocks = pem.split_inclusive(END).filter(|block| block.contains(END));
    // A second build in one process has asked for what is there.
    let _ = CERTIFICATES.set(blocks.map(|block| format!("{block}\n")).collect());
}

/// Those that are trusted, PEM each.
pub fn certificates() -> &'static [String] {
    CERTIFICATES.get().map_or(&[], Vec::as_slice)
}
