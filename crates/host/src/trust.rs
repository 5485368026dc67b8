//! Certificates that this program trusts in addition to this machine's: `--ca-file`.
//!
//! One set for the process: set before the first connection, read wherever a TLS client is made.

use std::sync::OnceLock;

const END: &str = "-----END CERTIFICATE-----";

static CERTIFICATES: OnceLock<Vec<String>> = OnceLock::new();

/// Trusts these certificates, given as concatenated PEM. Only the first call counts.
pub fn trust(pem: &str) {
    let blocks = pem.split_inclusive(END).filter(|block| block.contains(END));
    // A second build in the same process has the same certificates.
    let _ = CERTIFICATES.set(blocks.map(|block| format!("{block}\n")).collect());
}

/// The trusted certificates, each as PEM.
pub fn certificates() -> &'static [String] {
    CERTIFICATES.get().map_or(&[], Vec::as_slice)
}
