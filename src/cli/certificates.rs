//! `--ca-file`: certificates trusted besides those of this machine.

use super::error::CliError;
use runner_engine::image::check_certificates;
use runner_host::trust;
use std::path::Path;

/// Reads the certificates of a file for a build, which checks them. A private key in the same file
/// is left out.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::usage(format!("--ca-file: cannot read {}: {error}", path.display()))
    })?;
    Ok(certificates(&text))
}

fn certificates(text: &str) -> String {
    let mut is_within = false;
    let mut kept = String::new();
    for line in text.lines() {
        is_within |= line.trim() == "-----BEGIN CERTIFICATE-----";
        if is_within {
            kept.push_str(line.trim());
            kept.push('\n');
        }
        is_within &= line.trim() != "-----END CERTIFICATE-----";
    }
    kept
}

/// Makes this process trust the file's certificates. Returns them.
pub(super) fn trust(path: &Path) -> Result<String, CliError> {
    let pem = read(path)?;
    check_certificates(&pem).map_err(|why| CliError::usage(format!("--ca-file: {why}")))?;
    trust::trust(&pem);
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_beside_certificates_are_left_out() {
        let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";
        assert_eq!(certificates(&format!("# a CA\n{key}{one}{key}{one}")), format!("{one}{one}"));
    }
}
