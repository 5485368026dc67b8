//! Builds the images of `images/` by their recipes into `target/images`.

use crate::{ChoreResult, packages, root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Builds the named images, or all of them. An image with an unchanged recipe is not built again.
pub(crate) fn build(names: &[String]) -> ChoreResult {
    let recipes = root().join("images");
    let mut names = names.to_vec();
    if names.is_empty() {
        let failed = |error| format!("cannot list {}: {error}", recipes.display());
        for entry in fs::read_dir(&recipes).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.path().join("build.sh").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
    }
    names.iter().try_for_each(|name| build_one(&recipes, name))
}

fn build_one(recipes: &Path, name: &str) -> ChoreResult {
    let script = recipes.join(name).join("build.sh");
    let recipe = recipe(&recipes.join(name))?;
    let out = root().join("target/images");
    let (tree, stamp) = (out.join(name), out.join(format!("{name}.recipe")));
    if tree.is_dir() && fs::read(&stamp).is_ok_and(|built| built == recipe) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&recipe).into_owned();
    let needs: Vec<&str> = text
        .lines()
        .find_map(|line| line.strip_prefix("# needs: "))
        .map(|line| line.split_whitespace().collect())
        .unwrap_or_default();
    packages::install(&needs)?;
    let failed = |what: &'static str| move |error| format!("cannot {what}: {error}");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(failed("remove the old image"))?;
    }
    fs::create_dir_all(&tree).map_err(failed("make the image's directory"))?;
    run(Command::new(&script).arg(&tree))?;
    // With numeric owners, and reproducible.
    run(Command::new("tar")
        .args(["--numeric-owner", "--sort=name", "-C"])
        .arg(&tree)
        .arg("-cf")
        .arg(out.join(format!("{name}.tar")))
        .arg("."))?;
    fs::write(stamp, recipe).map_err(failed("note the image's recipe"))
}

/// The concatenated files of a recipe.
fn recipe(dir: &Path) -> ChoreResult<Vec<u8>> {
    let failed = |error| format!("cannot read the recipe {}: {error}", dir.display());
    let mut files: Vec<_> = fs::read_dir(dir)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .map_err(failed)?;
    files.sort();
    let mut text = Vec::new();
    for file in files {
        text.extend(fs::read(file).map_err(failed)?);
    }
    Ok(text)
}
