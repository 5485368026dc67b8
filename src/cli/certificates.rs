//! `--ca-file`: certificates that are trusted besides those of this machine.

use super::error::CliError;
use runner_engine::image::check_certificates;
use runner_host::trust;
use std::path::Path;

/// The text of the file, for a build, which checks it.
pub(super) fn read(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|error| {
        CliError::usage(format!("--ca-file: cannot read {}: {error}", path.display()))
    })
}

/// Trusts them in this process.
pub(super) fn trust(path: &Path) -> Result<(), CliError> {
    let pem = read(path)?;
    check_certificates(&pem).map_err(|why| CliError::usage(format!("--ca-file: {why}")))?;
    trust::trust(&pem);
    Ok(())
}
