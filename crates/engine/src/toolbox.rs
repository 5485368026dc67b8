//! Finds the toolbox: a static busybox on this machine.
//!
//! Called by `cli::run` before a build begins; `namespaces` hands it to the sandbox.

use runner_sandbox::Toolbox;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why there is no toolbox.
#[derive(Debug, thiserror::Error)]
pub enum ToolboxError {
    #[error("there is no busybox on this machine")]
    Missing,
    #[error("{0} needs libraries, which an image may not have")]
    Dynamic(PathBuf),
    #[error("cannot ask {0} for its names: {1}")]
    Names(PathBuf, String),
}

/// Looks on PATH, then where Debian keeps it.
pub fn find() -> Result<Toolbox, ToolboxError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/bin".into(), "/usr/lib/busybox".into()]);
    let mut error = ToolboxError::Missing;
    for place in places.map(|dir| dir.join("busybox")) {
        let Ok(program) = fs::canonicalize(&place) else { continue };
        if !is_static(&program) {
            error = ToolboxError::Dynamic(program);
            continue;
        }
        let mut command = Command::new(&program);
        let output =
            runner_sandbox::with_inherited_descriptors(&mut command).arg("--list").output();
        match output {
            Ok(output) if output.status.success() => {
                let text = String::from_utf8_lossy(&output.stdout);
                let names = text.lines().map(str::to_owned).collect();
                return Ok(Toolbox { program, names });
            }
            Ok(output) => error = ToolboxError::Names(program, output.status.to_string()),
            Err(why) => error = ToolboxError::Names(program, why.to_string()),
        }
    }
    Err(error)
}

/// Whether a 64-bit ELF file names no interpreter, which would load libraries.
fn is_static(program: &Path) -> bool {
    const INTERPRETER: u32 = 3;
    let Ok(bytes) = fs::read(program) else { return false };
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let headers = || -> Option<bool> {
        let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let mut kinds = (0..count).map(|index| number(first + index * size, 4));
        Some(!kinds.any(|kind| kind.is_none_or(|kind| kind == INTERPRETER as usize)))
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && headers() == Some(true)
}
