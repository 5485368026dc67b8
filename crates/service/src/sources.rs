//! Local folders as sources of builds: only those below one root.

use crate::project::text;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The folder of a location `file:///DIR`.
///
/// # Errors
/// Builds may not use that folder.
pub fn folder(location: &str, root: Option<&Path>) -> Result<PathBuf, String> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    let Some(root) = root else {
        return Err(format!(
            "Invalid source location {location}: only folders below `runner serve --source-root \
             DIR` are allowed"
        ));
    };
    let end = |path: &Path| {
        fs::canonicalize(path).map_err(|error| {
            format!("Invalid source location {location}: {}: {error}", path.display())
        })
    };
    let (root, found) = (end(root)?, end(Path::new(path))?);
    if !found.starts_with(&root) {
        return Err(format!(
            "Invalid source location {location}: it is not below {}",
            root.display()
        ));
    }
    if !found.is_dir() {
        return Err(format!("Invalid source location {location}: it is not a folder"));
    }
    Ok(found)
}

/// Problems with the folders that a project names, including its image.
#[must_use]
pub fn problems(project: &Value, root: Option<&Path>) -> Vec<String> {
    let others = project["secondarySources"].as_array().into_iter().flatten();
    let sources = std::iter::once(&project["source"]).chain(others);
    let locations = sources.map(|source| text(&source["location"]));
    let mut found: Vec<String> = locations
        .filter(|location| location.starts_with("file://"))
        .filter_map(|location| folder(location, root).err())
        .collect();
    let image = text(&project["environment"]["image"]);
    let kinds = ["rootfs:", "oci:", "oci-archive:", "docker-archive:"];
    if let Some(path) = kinds.iter().find_map(|kind| image.strip_prefix(kind))
        && !root.is_some_and(|root| is_below(path, root))
    {
        found.push(format!(
            "Invalid image {image}: only files below `runner serve --source-root DIR` are allowed"
        ));
    }
    found
}

/// Whether an image file lies below a folder, wherever its tag begins: a file name may contain
/// colons.
fn is_below(named: &str, root: &Path) -> bool {
    let Ok(root) = fs::canonicalize(root) else { return false };
    let ends = named.match_indices(':').map(|(at, _)| at).chain([named.len()]);
    let mut found = ends.filter_map(|end| fs::canonicalize(&named[..end]).ok()).peekable();
    found.peek().is_some() && found.all(|path| path.starts_with(&root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_of_the_root() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a")).expect("a folder");
        fs::create_dir(dir.path().join("b")).expect("a folder");
        symlink(dir.path().join("b"), root.join("out")).expect("a link");
        let at = |path: &str| format!("file://{}/{path}", dir.path().display());
        assert!(folder(&at("root/a"), Some(&root)).is_ok());
        for bad in ["b", "root/out", "root/../b", "root/none"] {
            assert!(folder(&at(bad), Some(&root)).is_err(), "{bad}");
        }
        assert!(folder(&at("root/a"), None).is_err());
        let image = |path: &str| json!({"environment": {"image": format!("rootfs:{}/{path}", dir.path().display())}});
        assert!(problems(&image("root/a"), Some(&root)).is_empty());
        assert_eq!(problems(&image("b"), Some(&root)).len(), 1);
        assert_eq!(problems(&image("root/a"), None).len(), 1);
        // The name is not cut at its first colon.
        symlink(dir.path().join("b"), root.join("a:x")).expect("a link");
        assert_eq!(problems(&image("root/a:x"), Some(&root)).len(), 1);
        assert!(problems(&image("root/a:tag"), Some(&root)).is_empty());
    }
}
