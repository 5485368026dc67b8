//! Python packages for the tests, in a separate environment below `target`.

use crate::packages::has;
use crate::{ChoreResult, root, run};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Debian's own, which every user may run; another one may be in someone's home.
const DEBIANS: &str = "/usr/bin/python3";

/// Installs the packages of `tests/requirements.txt`. Without Python, says so and continues.
pub(crate) fn install() -> ChoreResult {
    let wanted = root().join("tests/requirements.txt");
    let list = fs::read_to_string(&wanted).map_err(|error| error.to_string())?;
    let python = if Path::new(DEBIANS).exists() { DEBIANS } else { "python3" };
    let wanted_text = format!("# {python}\n{list}");
    let place = root().join("target/python");
    let stamp = place.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    if python != DEBIANS && !has(python) {
        println!("xtask: no python3; the tests that need it are not run");
        return Ok(());
    }
    // An incomplete environment is useless.
    let _ = fs::remove_dir_all(&place);
    run(Command::new(python).args(["-m", "venv"]).arg(&place).stdin(Stdio::null()))?;
    run(Command::new(place.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted)
        .stdin(Stdio::null()))?;
    fs::write(stamp, wanted_text).map_err(|error| error.to_string())
}
