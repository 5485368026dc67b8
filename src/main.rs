//! Runs an AWS CodeBuild buildspec in a container on this machine.
//!
//! Reading order: this file, `cli/run.rs`, `crates/core`, `driver/run.rs`, `engine/mod.rs`,
//! `sinks/pretty.rs` (docs/architecture.md).

mod amazon;
mod app;
mod aws;
mod beneath;
mod chores;
mod cli;
mod client;
mod clock;
mod control;
mod credentials;
mod daemon;
mod deliveries;
mod doctor;
mod driver;
mod duplex;
mod engine;
mod events;
mod gateway;
mod image;
mod named;
mod outputs;
mod peers;
mod runtime;
mod secrets;
mod session;
mod signals;
mod sinks;
mod source;
mod state;
mod stdio;
mod sweep;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The set-up of a container is this same program, executed again. Nothing must come before it.
    match std::env::args_os().nth(1) {
        Some(arg) if arg == runner_sandbox::REEXEC_ARG => {
            return ExitCode::from(runner_sandbox::set_up_and_become_init());
        }
        Some(arg) if arg == runner_sandbox::CHORE_ARG => {
            return chores::main(std::env::args_os().skip(2));
        }
        _ => {}
    }
    runner_sandbox::raise_descriptors();
    cli::main()
}
