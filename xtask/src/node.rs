//! Packages for Node, below `target`: what the tests of reports run.

use crate::packages::{self, has};
use crate::{Result, root, run};
use std::fs;
use std::process::{Command, Stdio};

/// Installs what `tests/reports/jest` names. Where there is no npm, says so and goes on.
pub(crate) fn install() -> Result {
    let from = root().join("tests/reports/jest");
    let place = root().join("target/node");
    let (wanted, stamp) = (from.join("package.json"), place.join("installed.json"));
    let wanted_text = fs::read(&wanted).map_err(|error| error.to_string())?;
    if fs::read(&stamp).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    if !has("npm") {
        packages::install(&["npm"])?;
    }
    if !has("npm") {
        println!("xtask: no npm; the tests that need it are not run");
        return Ok(());
    }
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    fs::copy(&wanted, place.join("package.json")).map_err(|error| error.to_string())?;
    run(Command::new("npm")
        .args(["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&place)
        .stdin(Stdio::null()))?;
    fs::write(stamp, wanted_text).map_err(|error| error.to_string())
}
