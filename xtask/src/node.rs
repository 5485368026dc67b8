//! Node packages below `target`: for the tests of reports, and for clients of Session Manager.

use crate::packages::{self, has};
use crate::{ChoreResult, root, run};
use std::fs;
use std::process::{Command, Stdio};

/// Folders with a list of packages, and where to install them.
const PLACES: [(&str, &str); 2] =
    [("tests/reports/jest", "target/node"), ("tests/clients", "target/clients")];

/// Installs the listed packages. Without npm, says so and continues.
pub(crate) fn install() -> ChoreResult {
    PLACES.iter().try_for_each(|(from, to)| install_one(from, to))
}

fn install_one(from: &str, to: &str) -> ChoreResult {
    let (from, place) = (root().join(from), root().join(to));
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
