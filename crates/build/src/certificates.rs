//! The caller's certificates for the build's programs: a file, and the variables that point to it.
//!
//! Programs use such a file instead of their own, so it includes the certificates this machine
//! trusts.

use runner_core::env::Variables;
use std::fs;
use std::io;
use std::path::Path;

/// Name of the file, below the container's read-only folder.
const FILE: &str = "ca-bundle.pem";
/// Where systems keep their trusted certificates.
const OF_HOST: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Variables that tell programs where certificates are.
const VARIABLES: [&str; 9] = [
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
];

/// Writes the file.
pub(super) fn make(pem: &str, readonly: &Path) -> io::Result<()> {
    let known = OF_HOST.iter().find_map(|path| fs::read_to_string(path).ok());
    fs::write(readonly.join(FILE), format!("{}\n{pem}", known.unwrap_or_default()))
}

/// The variables; `root` is the path of the read-only folder in the container.
pub(super) fn variables(root: &str) -> Variables {
    VARIABLES.map(|name| (name.to_owned(), format!("{root}/readonly/{FILE}"))).into()
}
