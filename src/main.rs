//! Runs an AWS CodeBuild buildspec in a container on this machine.
//!
//! Reading order: this file, `cli/run.rs`, `crates/core`, `crates/build/src/driver/run.rs`,
//! `crates/engine/src/lib.rs`, `terminal/pretty.rs` (docs/architecture.md).

mod cli;
mod doctor;
mod door;
mod terminal;

use rustix::process::DumpableBehavior;
use std::process::ExitCode;

fn main() -> ExitCode {
    // This same program also sets up containers. Nothing must come before that.
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

/// Prevents other programs of this user from reading this one's memory, which contains builds'
/// secrets, and the kernel from writing it to a core file (docs/adr/0068). Programs it executes
/// start without this protection.
fn hide_memory() {
    // Containers cannot run on a kernel that lacks this.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
