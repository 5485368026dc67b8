//! Everything CI runs: formatting, lints, policy, tests, with what they need installed first.
//!
//! The tests run as every available user, even after a failure, so that one run shows everything
//! there is to fix.

use crate::packages::{self, has};
use crate::{ChoreResult, cargo, images, is_root, kernel, node, python, root, rootless, web};
use std::process::Command;

/// Version of the policy checker; its results depend on it.
const CARGO_DENY: &str = "0.20.2";

/// Adds tests that are slow, or need large installations.
const EXTENDED: &str = "--extended";
/// The same for the end-to-end tests.
pub(crate) const EXTENDED_VARIABLE: (&str, &str) = ("RUNNER_EXTENDED", "1");

/// Runs everything; `--extended` adds what is too slow for every time. Other arguments are passed
/// to the end-to-end tests as a filter.
pub(crate) fn run(arguments: &[String]) -> ChoreResult {
    let is_extended = arguments.iter().any(|argument| argument == EXTENDED);
    let filter: Vec<String> =
        arguments.iter().filter(|argument| *argument != EXTENDED).cloned().collect();
    packages::install(packages::ALL)?;
    if is_extended {
        packages::install(packages::EXTENDED)?;
    }
    python::install()?;
    node::install()?;
    web::check()?;
    kernel::install()?;
    if is_root() {
        images::build(&[])?;
    } else {
        println!("xtask: images are built as root; tests that need them are not run");
    }
    crate::run(cargo().args(["fmt", "--all", "--check"]))?;
    crate::run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    deny()?;
    let mut failed = Vec::new();
    let all = ["test", "--workspace", "--no-fail-fast", "--quiet", "--", "--test-threads"];
    // Cases spend half of their time waiting for processes and servers.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (processors + processors.div_ceil(2)).to_string();
    let variables = is_extended.then_some(EXTENDED_VARIABLE);
    let result = crate::run(cargo().args(all).arg(threads).args(&filter).envs(variables));
    failed.extend(result.err().map(|why| format!("the tests as this user: {why}")));
    if is_root() {
        failed.extend(rootless::test(&filter, variables));
    } else {
        println!("xtask: the tests that need root are not run");
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nxtask: ")) }
}

/// Checks licences, bans and sources; advisories if their database can be fetched.
fn deny() -> ChoreResult {
    let tools = root().join("target/tools");
    let mut program = tools.join("bin/cargo-deny");
    if has("cargo-deny") {
        program = "cargo-deny".into();
    } else if !program.is_file() {
        crate::run(
            cargo()
                .args(["install", "--locked", "--quiet", "--version", CARGO_DENY])
                // It runs for a second but takes minutes to compile.
                .args(["--config", "profile.release.opt-level=0", "--no-default-features"])
                .arg("--root")
                .arg(&tools)
                .arg("cargo-deny"),
        )?;
    }
    let check = |what: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(["--log-level", "warn", "check"]).args(what);
        crate::run(&mut command)
    };
    check(&["licenses", "bans", "sources"])?;
    let mut fetch = Command::new("timeout");
    fetch.arg("120").arg(&program).current_dir(root()).args([
        "--log-level",
        "error",
        "fetch",
        "db",
    ]);
    match fetch.output() {
        Ok(output) if output.status.success() => check(&["advisories", "--disable-fetch"]),
        _ => {
            println!("xtask: advisories are not checked: their database cannot be fetched here");
            Ok(())
        }
    }
}
