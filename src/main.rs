//! Runs an AWS CodeBuild buildspec in a container on this machine.
//!
//! Reading order: this file, `cli/run.rs`, `crates/core`, `crates/build/src/driver/run.rs`, `crates/engine/src/lib.rs`,
//! `terminal/pretty.rs` (docs/architecture.md).

mod cli;
mod doctor;
mod door;
mod terminal;

use rustix::process::DumpableBehavior;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The set-up of a container is this same program, executed again. Nothing must come before it.
    match std::env::args_os().nth(1) {
        Some(arg) if arg == runner_sandbox::REEXEC_ARG => {
            return ExitCode::from(runner_sandbox::set_up_and_become_init());
        }
        Some(arg) if arg == runner_sandbox::CHORE_ARG => {
            return runner_engine::chores::main(std::env::args_os().skip(2));
        }
        Some(arg) if arg == runner_sandbox::RESTACK_ARG => {
            return ExitCode::from(runner_sandbox::serve_restacks());
        }
        _ => {}
    }
    runner_sandbox::raise_descriptors();
    hide_memory();
    match std::env::args_os().nth(1) {
        Some(arg) if arg == runner_build::headless::VERB => ExitCode::from(cli::headless()),
        _ => cli::main(),
    }
}

/// Keeps other programs of this user from looking into this one's memory, which has the secrets of builds, and
/// the kernel from writing it into a file when this program dies (docs/adr/0068). What it executes begins
/// without that.
fn hide_memory() {
    // A kernel that does not do it is none that containers run on.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
