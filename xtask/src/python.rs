//! Python packages of the tests, in an environment of their own below `target`.

use crate::packages::has;
use crate::{Result, root, run};
use std::fs;
use std::process::{Command, Stdio};

/// Installs what `tests/requirements.txt` names. Where there is no Python, says so and goes on.
pub(crate) fn install() -> Result {
    let wanted = root().join("tests/requirements.txt");
    let wanted_text = fs::read_to_string(&wanted).map_err(|error| error.to_string())?;
    let place = root().join("target/python");
    let stamp = place.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    if !has("python3") {
        println!("xtask: no python3; the tests that need it are not run");
        return Ok(());
    }
    // Half of an environment is none.
    let _ = fs::remove_dir_all(&place);
    run(Command::new("python3").args(["-m", "venv"]).arg(&place).stdin(Stdio::null()))?;
    run(Command::new(place.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted)
        .stdin(Stdio::null()))?;
    fs::write(stamp, wanted_text).map_err(|error| error.to_string())
}
