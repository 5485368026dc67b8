//! The project's chores, as `cargo xtask CHORE`.
//!
//! - `test [--extended]`: everything CI runs, after installing what it needs. The README's second
//!   command. `--extended` adds what is too slow, or too much to install, for every time.
//! - `images [NAME]...`: builds the images of `images/` into `target/images`.
//! - `packages`: installs the Debian, Python and Node packages, and the kernel, that tests, images
//!   and benchmarks use.
//! - `bench`: the figures of docs/performance.md.
//! - `web`: builds web/dist, the embedded page, from web/src; `test` checks that it is up to date.
//! - `picture`: draws docs/walk.svg from the program itself; a test checks that it is up to date.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to its caller")]

mod bench;
mod images;
mod kernel;
mod node;
#[cfg(test)]
mod order;
mod packages;
mod python;
mod rootless;
mod test;
mod web;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A chore's result; the error is a message for the user.
type ChoreResult<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chore = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let result = match chore.as_deref() {
        Some("test") => test::run(&rest),
        Some("images") => images::build(&rest),
        Some("bench") => bench::all(&rest),
        Some("picture") => run(cargo()
            .args(["test", "--test", "e2e", "--quiet", "--", "the_picture_is_of_this_program"])
            .env("RUNNER_PICTURE", "1")),
        Some("web") => web::build(),
        Some("packages") => packages::install(packages::ALL)
            .and_then(|()| python::install())
            .and_then(|()| node::install())
            .and_then(|()| web::check())
            .and_then(|()| kernel::install()),
        _ => Err(
            "usage: cargo xtask test [--extended] | images [NAME]... | packages | bench [TABLE]... | picture | web"
                .to_owned(),
        ),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The project's root directory.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs a command to its end, showing its output.
fn run(command: &mut Command) -> ChoreResult {
    println!("xtask: {}", shown(command));
    let status =
        command.status().map_err(|error| format!("cannot run {}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", shown(command))) }
}

/// The cargo that started this program, without cargo's own variables.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // cargo sets variables for the chores. Build scripts that watch these, such as that of ring,
    // would run again, with everything that depends on them, whenever a chore and a person take
    // turns.
    for (name, _) in std::env::vars_os() {
        let is_of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| name.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if is_of_package {
            command.env_remove(&name);
        }
    }
    command
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    // The owner of this process's directory in /proc is its effective user.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
