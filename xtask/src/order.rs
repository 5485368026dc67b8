//! Checks the imports against the order drawn in docs/architecture.md.
//!
//! A module imports only from modules above it in that page's lists: crates are checked by
//! manifest, modules by `crate::` paths. The top-level modules of each crate must have no import
//! cycle.

#![allow(clippy::unwrap_used, reason = "a test of files that are there")]

use crate::root;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The names in the indented list that follows a line with this text.
fn listed(page: &str, heading: &str) -> Vec<String> {
    let mut lines = page.lines().skip_while(|line| !line.contains(heading)).skip(1).peekable();
    while lines.next_if(|line| !line.starts_with("    ")).is_some() {}
    let list = lines.take_while(|line| line.starts_with("    "));
    // A line with a deeper indent continues the line before.
    list.filter(|line| !line[4..].starts_with(' '))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// The first names after each `crate::`, with braces expanded.
fn imported(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = |text: &str| text.chars().take_while(|c| is_word(*c)).collect::<String>();
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && is_word(c) => {
                    found.insert(word(&group[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// The imports of each top-level module of a crate from its siblings.
fn modules(src: &Path) -> Imports {
    let mut imports = Imports::new();
    read(src, src, &mut imports);
    let names: BTreeSet<String> = imports.keys().cloned().collect();
    for (module, of) in &mut imports {
        of.retain(|name| names.contains(name) && name != module);
    }
    imports
}

fn read(src: &Path, dir: &Path, imports: &mut Imports) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(src, &path, imports);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(src).unwrap();
            let first = below.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
            if !matches!(first, "main" | "lib") {
                let text = fs::read_to_string(&path).unwrap();
                // Names in comments do not count.
                let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                let code = lines.collect::<Vec<_>>().join("\n");
                imports.entry(first.to_owned()).or_default().extend(imported(&code));
            }
        }
    }
}

/// Imports from modules further down in this order, and modules that are missing in it.
fn upward(imports: &Imports, order: &[String]) -> Vec<String> {
    let place = |name: &String| order.iter().position(|room| room == name);
    let mut wrong = Vec::new();
    for (room, of) in imports {
        match place(room) {
            None => wrong.push(format!("{room} is not in the list")),
            here => {
                let later = of.iter().filter(|name| place(name) > here);
                wrong.extend(later.map(|name| format!("{room} imports {name}")));
            }
        }
    }
    wrong
}

/// The modules on a cycle.
fn circle(imports: &Imports) -> Vec<String> {
    let mut left = imports.clone();
    loop {
        let free = |of: &BTreeSet<String>| !of.iter().any(|name| left.contains_key(name));
        let done: Vec<String> =
            left.iter().filter(|(_, of)| free(of)).map(|(room, _)| room.clone()).collect();
        if done.is_empty() {
            return left.into_keys().collect();
        }
        left.retain(|room, _| !done.contains(room));
    }
}

/// The crates of the project that each crate depends on.
fn crates() -> Imports {
    let mut imports = Imports::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let of = dependencies.lines().filter_map(|line| line.strip_prefix("runner-"));
        let of = of.map(|rest| rest.split(['.', ' ', '=']).next().unwrap_or_default().to_owned());
        imports.insert(name, of.collect());
    }
    imports
}

#[test]
fn no_import_runs_back_up() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let places = listed(&page, "## Places");
    let order: Vec<String> = places
        .iter()
        .filter_map(|place| place.strip_prefix("crates/"))
        .map(str::to_owned)
        .collect();
    assert_eq!(upward(&crates(), &order), Vec::<String>::new(), "crates, in {order:?}");
    let order = listed(&page, "Inside `src/`");
    let imports = modules(&root().join("src"));
    assert_eq!(upward(&imports, &order), Vec::<String>::new(), "modules of src, in {order:?}");
}

/// The crates that run containers know nothing of builds, of their folders, or of AWS.
#[test]
fn engines_stand_on_little() {
    let little = ["core", "host", "init", "sandbox", "wire"];
    let crates = crates();
    let more = crates["engine"].iter().filter(|name| !little.contains(&name.as_str()));
    assert_eq!(more.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn no_crate_has_a_circle() {
    for name in crates().into_keys() {
        let imports = modules(&root().join("crates").join(&name).join("src"));
        assert_eq!(circle(&imports), Vec::<String>::new(), "in crates/{name}");
    }
}

/// The enum variants named in a text: qualified with the type's name, or imported without it.
fn kinds_in(text: &str, kinds: &[String]) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named = text.match_indices("EngineKind::").filter_map(|(at, path)| {
        let rest = &text[at + path.len()..];
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        let is_taken_in = text[..at].ends_with("engine::") && rest.starts_with(['{', '*']);
        (is_taken_in || kinds.contains(&name)).then(|| format!("{path}{name}"))
    });
    named.collect()
}

/// Differences between engines are data (docs/adr/0084).
#[test]
fn nobody_but_an_engine_asks_which_kind_it_is() {
    let crates = root().join("crates");
    let text = fs::read_to_string(crates.join("engine/src/kind.rs")).unwrap();
    let body = text.split("pub enum EngineKind {").nth(1).unwrap().split('}').next().unwrap();
    let kinds: Vec<String> = body
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|line| !line.starts_with('/'))
        .map(str::to_owned)
        .collect();
    assert!(kinds.len() > 3, "{kinds:?}");
    let mut wrong = Vec::new();
    for path in sources().filter(|path| !path.starts_with(crates.join("engine"))) {
        let found = kinds_in(&fs::read_to_string(&path).unwrap(), &kinds);
        wrong.extend(found.into_iter().map(|kind| format!("{}: {kind}", path.display())));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// All Rust files of the program and its crates.
fn sources() -> impl Iterator<Item = PathBuf> {
    let mut ahead = vec![root().join("src"), root().join("crates")];
    let mut found = Vec::new();
    while let Some(dir) = ahead.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.into_iter()
}

/// The type declared by an unindented line.
fn declared(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ").unwrap_or(line);
    let rest = rest.strip_prefix("pub(").map_or(rest, |rest| rest.split_once(") ").unwrap().1);
    let rest = ["struct ", "enum ", "trait ", "type ", "union "]
        .iter()
        .find_map(|keyword| rest.strip_prefix("unsafe ").unwrap_or(rest).strip_prefix(keyword))?;
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

/// A search for a type's name has one result.
#[test]
fn no_two_types_share_a_name() {
    let mut types = BTreeMap::<String, Vec<String>>::new();
    let is_test =
        |path: &PathBuf| path.iter().any(|part| part == "tests") || path.ends_with("tests.rs");
    for path in sources().filter(|path| !is_test(path)) {
        for name in fs::read_to_string(&path).unwrap().lines().filter_map(declared) {
            types.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    assert!(types.len() > 1000, "{}", types.len());
    types.retain(|_, places| places.len() > 1);
    assert_eq!(types, BTreeMap::new());
}

#[test]
fn declarations_are_known() {
    let lines = [
        "pub(super) struct A<T>(T);",
        "pub unsafe trait B {",
        "type C = D;",
        "    enum E {",
        "fn f()",
    ];
    let found: Vec<&str> = lines.into_iter().filter_map(declared).collect();
    assert_eq!(found, ["A", "B", "C"]);
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::state::Home;\nuse crate::{events::{A, b}, users, app::c as d};\n\
                let x = crate::clock::wall(); runner_crate::no;";
    let found: Vec<String> = imported(text).into_iter().collect();
    assert_eq!(found, ["app", "clock", "events", "state", "users"]);
    let kinds = ["Auto".to_owned(), "Process".to_owned()];
    let text = "EngineKind::Auto, FileKind::Process, engine::EngineKind::{self}, EngineKind::Other";
    assert_eq!(kinds_in(text, &kinds), ["EngineKind::Auto", "EngineKind::"]);
    let pair = |a: &str, b: &str| (a.to_owned(), BTreeSet::from([b.to_owned()]));
    let round = Imports::from([pair("a", "b"), pair("b", "a"), pair("c", "a")]);
    assert_eq!(circle(&round), ["a", "b", "c"]);
    let order = ["b", "a", "c"].map(str::to_owned);
    assert_eq!(upward(&round, &order), ["b imports a"]);
}
