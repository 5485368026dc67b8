//! The embedded page: `web/dist`, built from `web/src` by esbuild.

use crate::packages::{self, has};
use crate::{ChoreResult, root, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files the page is built from besides its sources.
const PAPERS: [&str; 4] = ["package.json", "package-lock.json", "tsconfig.json", "build.mjs"];

/// Rebuilds `web/dist`.
pub(crate) fn build() -> ChoreResult {
    let Some(place) = install()? else { return Err("no npm".to_owned()) };
    make(&place)?;
    let dist = root().join("web/dist");
    let _ = fs::remove_dir_all(&dist);
    copy(&place.join("dist"), &dist)
}

/// Builds it in another folder and compares that with what is committed. Without npm, says so and
/// continues.
pub(crate) fn check() -> ChoreResult {
    let Some(place) = install()? else {
        println!("xtask: no npm; web/dist is not rebuilt");
        return Ok(());
    };
    make(&place)?;
    let (made, kept) = (read(&place.join("dist"))?, read(&root().join("web/dist"))?);
    let differs = |name: &String| {
        let find =
            |all: &WebFiles| all.iter().find(|(it, _)| it == name).map(|(_, bytes)| bytes.clone());
        find(&made) != find(&kept)
    };
    let names = made.iter().chain(&kept).map(|(name, _)| name.clone());
    let mut different: Vec<String> = names.filter(differs).collect();
    different.sort();
    different.dedup();
    if different.is_empty() {
        return Ok(());
    }
    Err(format!(
        "web/dist is not what web/src makes: {}; run cargo xtask web",
        different.join(", ")
    ))
}

/// Installs packages in `target/web`, and copies the sources next to them.
fn install() -> ChoreResult<Option<PathBuf>> {
    let (from, place) = (root().join("web"), root().join("target/web"));
    if !has("npm") {
        packages::install(&["npm"])?;
    }
    if !has("npm") {
        return Ok(None);
    }
    fs::create_dir_all(&place).map_err(|error| error.to_string())?;
    for name in PAPERS {
        fs::copy(from.join(name), place.join(name)).map_err(|error| format!("{name}: {error}"))?;
    }
    let (lock, stamp) = (place.join("package-lock.json"), place.join("installed.json"));
    let wanted = fs::read(&lock).map_err(|error| error.to_string())?;
    if fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        run(Command::new("npm")
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
            .current_dir(&place)
            .stdin(Stdio::null()))?;
        fs::write(stamp, wanted).map_err(|error| error.to_string())?;
    }
    let _ = fs::remove_dir_all(place.join("src"));
    copy(&from.join("src"), &place.join("src"))?;
    Ok(Some(place))
}

fn make(place: &Path) -> ChoreResult {
    for script in ["node_modules/typescript/bin/tsc", "build.mjs"] {
        let mut node = Command::new("node");
        node.arg(script).current_dir(place).stdin(Stdio::null());
        if script.ends_with("tsc") {
            node.arg("--noEmit");
        }
        run(&mut node)?;
    }
    Ok(())
}

type WebFiles = Vec<(String, Vec<u8>)>;

fn read(folder: &Path) -> ChoreResult<WebFiles> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((name, fs::read(&path).map_err(failed)?));
    }
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> ChoreResult {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(failed)?;
        }
    }
    Ok(())
}
