//! Tools from the user's home: `--home-tools`.
//!
//! Version managers and language tools live in well-known directories. Each is mounted at its own
//! path, because files in it name that path, as a layer that the build's writes do not reach.
//! Secrets in it are hidden (`secret`). Nothing else of the home is visible. Used by `build` before
//! the container is made.

mod secret;

use crate::{MountAccess, UserMount};
use runner_host::beneath::{Dir, DirectoryEntry, join};
use rustix::fs::FileType;
use secret::{AHEAD, has_secrets, is_secret, is_secret_directory, may_be_settings};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A directory of tools in a home.
struct Tool {
    dir: &'static str,
    /// Its directories of programs.
    programs: &'static [&'static str],
    /// An environment variable that names it.
    variable: Option<&'static str>,
}

const fn tool(
    dir: &'static str,
    programs: &'static [&'static str],
    variable: Option<&'static str>,
) -> Tool {
    Tool { dir, programs, variable }
}

const TOOLS: [Tool; 34] = [
    tool(".asdf", &["shims", "bin"], Some("ASDF_DATA_DIR")),
    tool(".bun", &["bin"], Some("BUN_INSTALL")),
    tool(".cabal/bin", &[""], None),
    tool(".cargo", &["bin"], Some("CARGO_HOME")),
    tool(".composer/vendor", &["bin"], None),
    tool(".deno", &["bin"], Some("DENO_INSTALL")),
    tool(".dotnet", &["", "tools"], Some("DOTNET_ROOT")),
    tool(".fnm", &[], Some("FNM_DIR")),
    tool(".ghcup", &["bin"], None),
    tool(".goenv", &["shims", "bin"], Some("GOENV_ROOT")),
    tool(".jenv", &["shims", "bin"], Some("JENV_ROOT")),
    tool(".krew", &["bin"], None),
    tool(".local/bin", &[""], None),
    tool(".local/lib", &[], None),
    tool(".local/pipx", &[], None),
    tool(".local/share/fnm", &[], Some("FNM_DIR")),
    tool(".local/share/mise", &["shims"], Some("MISE_DATA_DIR")),
    tool(".local/share/pipx", &[], None),
    tool(".local/share/pnpm", &["", "bin"], Some("PNPM_HOME")),
    tool(".local/share/pypoetry", &[], None),
    tool(".local/share/uv", &[], None),
    tool(".nodenv", &["shims", "bin"], Some("NODENV_ROOT")),
    tool(".npm-global", &["bin"], None),
    tool(".nvm", &[], Some("NVM_DIR")),
    tool(".poetry", &["bin"], None),
    tool(".pyenv", &["shims", "bin"], Some("PYENV_ROOT")),
    tool(".rbenv", &["shims", "bin"], Some("RBENV_ROOT")),
    tool(".rustup", &[], Some("RUSTUP_HOME")),
    tool(".sdkman", &["bin"], Some("SDKMAN_DIR")),
    tool(".tfenv", &["bin"], None),
    tool(".volta", &["bin"], Some("VOLTA_HOME")),
    tool(".yarn/bin", &[""], None),
    tool("go/bin", &[""], None),
    tool("go/pkg", &[], None),
];

/// Largest settings file that is inspected, in bytes. A larger one may hold anything, so it is
/// hidden.
const MOST_SETTINGS: u64 = 64 << 10;
/// Most links that are named.
const MOST_LINKS: usize = 8;

/// The parts of a home that a build sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HomeTools {
    pub shown: Vec<ShownTool>,
    /// Directories for PATH, in the order of the user's own PATH; the rest come last.
    pub programs: Vec<PathBuf>,
    pub variables: Vec<(String, String)>,
    /// Links that lead to hidden places, with their targets.
    pub leading_out: Vec<String>,
}

/// A directory mounted at its own path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownTool {
    pub dir: PathBuf,
    /// Paths below it that are hidden in the container.
    pub hidden: Vec<PathBuf>,
}

impl HomeTools {
    /// The program directories as a PATH value.
    pub fn path(&self) -> Option<String> {
        // A directory with a colon in its name cannot be in a PATH.
        let dirs: Vec<String> = self.programs.iter().map(|dir| dir.display().to_string()).collect();
        let dirs: Vec<String> = dirs.into_iter().filter(|dir| !dir.contains(':')).collect();
        (!dirs.is_empty()).then(|| dirs.join(":"))
    }

    /// The tools as mounts.
    pub fn mounts(&self) -> impl Iterator<Item = UserMount> {
        self.shown.iter().map(|tool| UserMount {
            source: tool.dir.clone(),
            target: tool.dir.clone(),
            access: MountAccess::CopyOnWrite,
            hidden: tool.hidden.clone(),
        })
    }
}

/// Whether a directory would be shown if this were the home.
pub fn is_tool(home: &Path, dir: &Path) -> bool {
    TOOLS.iter().any(|tool| dir.starts_with(home.join(tool.dir)))
}

/// Program directories that a home would add. Their contents are not checked.
pub fn all_programs(home: &Path) -> Vec<PathBuf> {
    let Ok(top) = Dir::top(home) else { return Vec::new() };
    let of = |tool: &Tool| {
        top.open(tool.dir).map(|dir| programs(tool, &home.join(tool.dir), &dir)).unwrap_or_default()
    };
    TOOLS.iter().flat_map(of).collect()
}

/// Finds the tools in a home. `path` is the user's own PATH.
pub fn find(home: &Path, path: &str) -> HomeTools {
    let mut found = HomeTools::default();
    let mut links = Vec::new();
    let Ok(top) = Dir::top(home) else { return found };
    for tool in &TOOLS {
        let place = home.join(tool.dir);
        match top.open(tool.dir) {
            Ok(dir) => {
                let hidden = hidden(&dir, tool.dir, &place, &mut links);
                found.shown.push(ShownTool { hidden, dir: place.clone() });
                found.programs.extend(programs(tool, &place, &dir));
                let variable =
                    tool.variable.map(|name| (name.to_owned(), place.display().to_string()));
                found.variables.extend(variable);
            }
            // A link on the way could lead anywhere.
            Err(_) if place.exists() => found.leading_out.push(led(&place)),
            Err(_) => {}
        }
    }
    if found.shown.iter().any(|tool| tool.dir == home.join(".local/lib")) {
        let base = home.join(".local").display().to_string();
        found.variables.push(("PYTHONUSERBASE".to_owned(), base));
    }
    found.programs = ordered(std::mem::take(&mut found.programs), path, &found.shown);
    // Programs first: the user misses those first.
    let is_program = |link: &PathBuf| {
        link.parent().is_some_and(|dir| found.programs.iter().any(|own| own == dir))
    };
    links.sort_by_cached_key(|link| (!is_program(link), link.clone()));
    let out = links.iter().filter(|link| leads_out(link, &found.shown));
    let out: Vec<String> = out.take(MOST_LINKS).map(|link| led(link)).collect();
    found.leading_out.extend(out);
    found
}

/// A tool's program directories, with those of its candidates.
fn programs(tool: &Tool, place: &Path, dir: &Dir) -> Vec<PathBuf> {
    let is_there = |name: &str| name.is_empty() || dir.open(name).is_ok();
    let own = tool.programs.iter().filter(|name| is_there(name)).map(|name| match *name {
        "" => place.to_path_buf(),
        name => place.join(name),
    });
    let candidates = match tool.dir {
        ".sdkman" => {
            names(dir, "candidates").map(|name| format!("candidates/{name}/current/bin")).collect()
        }
        ".nvm" => newest(names(dir, "versions/node"))
            .map(|name| format!("versions/node/{name}/bin"))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    };
    own.chain(candidates.into_iter().map(|name: String| place.join(name))).collect()
}

fn names(dir: &Dir, below: &str) -> impl Iterator<Item = String> {
    let names = dir.open(below).and_then(|dir| dir.names()).unwrap_or_default();
    names.into_iter().filter_map(|name| String::from_utf8(name).ok())
}

/// The highest of versions like `v18.19.0`.
fn newest(versions: impl Iterator<Item = String>) -> Option<String> {
    let numbers = |text: &str| -> Vec<u64> {
        text.trim_start_matches('v').split('.').filter_map(|part| part.parse().ok()).collect()
    };
    versions.max_by_key(|version| numbers(version))
}

/// The shown directories on the user's PATH in its order, then the others.
fn ordered(programs: Vec<PathBuf>, path: &str, shown: &[ShownTool]) -> Vec<PathBuf> {
    let own = path.split(':').map(PathBuf::from);
    let own = own.filter(|dir| shown.iter().any(|tool| dir.starts_with(&tool.dir)));
    let own: Vec<PathBuf> = own.collect();
    // One version of a tool is enough: the one that the user's PATH names.
    let is_chosen = |dir: &Path| {
        let versions = |dir: &Path| dir.ancestors().nth(2).map(Path::to_path_buf);
        dir.components().any(|part| part.as_os_str() == "versions")
            && own.iter().any(|mine| versions(mine) == versions(dir))
    };
    let more = programs.into_iter().filter(|dir| !own.contains(dir) && !is_chosen(dir));
    let mut seen = BTreeSet::new();
    own.clone()
        .into_iter()
        .chain(more.collect::<Vec<_>>())
        .filter(|dir| seen.insert(dir.clone()))
        .collect()
}

/// Secret paths in a tool's directory, searched recursively. Adds its links to `links`.
fn hidden(top: &Dir, name: &str, place: &Path, links: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let mut hidden: Vec<Vec<u8>> = AHEAD.iter().map(|name| name.as_bytes().to_vec()).collect();
    let mut ahead = vec![(Vec::new(), 0)];
    while let Some((path, depth)) = ahead.pop() {
        // A directory that cannot be read shows nothing in the container either.
        let Ok((dir, entries)) =
            top.open(&path).and_then(|dir| Ok((dir.entries()?, dir))).map(|(e, d)| (d, e))
        else {
            continue;
        };
        let above = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let above = if path.is_empty() { name.as_bytes() } else { above };
        let above = String::from_utf8_lossy(above).into_owned();
        for entry in entries {
            let whole = join(&path, &entry.name);
            match is_hidden(&dir, &entry, &above, depth + 1) {
                true if !hidden.contains(&whole) => hidden.push(whole),
                // A hidden directory hides everything in it.
                false if entry.kind == FileType::Directory && !hidden.contains(&whole) => {
                    ahead.push((whole, depth + 1));
                }
                false if entry.kind == FileType::Symlink => {
                    links.push(place.join(OsStr::from_bytes(&whole)));
                }
                true | false => {}
            }
        }
    }
    hidden.sort_unstable();
    hidden.into_iter().map(|path| PathBuf::from(OsStr::from_bytes(&path))).collect()
}

fn is_hidden(dir: &Dir, entry: &DirectoryEntry, above: &str, depth: usize) -> bool {
    let name = String::from_utf8_lossy(&entry.name);
    if entry.kind == FileType::Directory {
        return is_secret_directory(&name);
    }
    is_secret(&name, above)
        || entry.kind == FileType::RegularFile
            && may_be_settings(&name, depth)
            && dir.read_small(&entry.name, MOST_SETTINGS).map_or(true, |text| has_secrets(&text))
}

/// Whether a link leads to a hidden place, which does not exist in the container. Most lead
/// elsewhere in the tools or to parts of this machine that are shown.
fn leads_out(link: &Path, shown: &[ShownTool]) -> bool {
    let is_shown = |end: &Path| {
        shown.iter().any(|tool| end.starts_with(&tool.dir))
            || ["/usr", "/opt", "/bin", "/nix"].iter().any(|dir| end.starts_with(dir))
    };
    std::fs::canonicalize(link).is_ok_and(|end| !is_shown(&end))
}

fn led(link: &Path) -> String {
    match std::fs::canonicalize(link) {
        Ok(end) => format!("{} (leads to {})", link.display(), end.display()),
        Err(_) => link.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn tools_are_shown_without_what_is_secret_in_them() {
        let home = tempfile::tempdir().expect("a home");
        let home = home.path();
        let write = |path: &str, text: &str| {
            let path = home.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        write(".cargo/bin/cargo", "");
        write(".cargo/credentials.toml", "token");
        write(".cargo/config.toml", "[registry]\ntoken = 'x'\n");
        write(".cargo/registry/src/x/credentials.rs", "");
        write(".nvm/.git/config", "[remote]\n");
        write(".nvm/versions/node/v9.1.0/bin/node", "");
        write(".nvm/versions/node/v18.19.0/bin/node", "");
        write(".nvm/versions/node/v18.19.0/etc/.npmrc", "//x/:_authToken=y");
        write("mine/secret", "");
        write(".ssh/id_rsa", "");
        symlink(home.join("mine"), home.join(".rustup")).expect("made");
        symlink(home.join("mine/secret"), home.join(".cargo/bin/out")).expect("made");
        symlink("../../../.ssh", home.join(".cargo/registry/src/keys")).expect("made");
        symlink("x", home.join(".cargo/registry/src/inside")).expect("made");
        let own = format!("/usr/bin:{}", home.join(".nvm/versions/node/v9.1.0/bin").display());
        let found = find(home, &own);
        let shown: Vec<_> =
            found.shown.iter().map(|tool| tool.dir.strip_prefix(home).expect("below")).collect();
        assert_eq!(shown, [Path::new(".cargo"), Path::new(".nvm")]);
        let is_hidden =
            |tool: usize, name: &str| found.shown[tool].hidden.contains(&PathBuf::from(name));
        assert!(
            is_hidden(0, "credentials.toml")
                && is_hidden(0, "config.toml")
                && is_hidden(0, "credentials")
        );
        assert!(!is_hidden(0, "registry/src/x/credentials.rs"));
        assert!(is_hidden(1, ".git/config") && is_hidden(1, "versions/node/v18.19.0/etc/.npmrc"));
        let path: Vec<_> =
            found.programs.iter().map(|dir| dir.strip_prefix(home).expect("below")).collect();
        assert_eq!(path, [Path::new(".nvm/versions/node/v9.1.0/bin"), Path::new(".cargo/bin")]);
        let out = found.leading_out.join(" ");
        assert!(
            out.contains(".rustup (leads to") && out.contains(".cargo/bin/out (leads to"),
            "{out}"
        );
        assert!(found.leading_out[2].contains(".cargo/registry/src/keys (leads to"), "{out}");
        assert_eq!(found.leading_out.len(), 3, "{out}");
        // Whatever the user's own PATH is.
        let all = all_programs(home);
        assert!(all.contains(&home.join(".cargo/bin")), "{all:?}");
        let names: Vec<&str> = found.variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["CARGO_HOME", "NVM_DIR"]);
    }

    #[test]
    fn without_a_choice_the_newest_version_is_taken() {
        let versions = ["v9.1.0", "v18.19.0", "v18.2.0"].map(str::to_owned);
        assert_eq!(newest(versions.into_iter()).as_deref(), Some("v18.19.0"));
        assert_eq!(newest(std::iter::empty()), None);
    }
}
