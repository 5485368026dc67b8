//! The state folder as each verb finds it: what killed runners have left is put right first.

use super::error::CliError;
use crate::state::Home;
use crate::sweep::sweep;
use std::io::{self, Write};

/// Opens the state folder, puts right what killed runners have left, and says so.
pub(super) fn open() -> Result<Home, CliError> {
    let home = Home::open()?;
    let report = sweep(&home)?;
    let mut stderr = io::stderr().lock();
    for uuid in report.ended {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(
            stderr,
            "runner: build {uuid} was left by a runner that was killed; it is ended now (FAULT)"
        );
    }
    for uuid in report.cleared {
        let _ = writeln!(stderr, "runner: what was left of build {uuid} is removed");
    }
    for problem in report.problems {
        let _ = writeln!(stderr, "runner: warning: cannot put right {problem}");
    }
    Ok(home)
}
