//! Opens the state folder for each subcommand, after repairing what killed runners left behind.

use super::error::CliError;
use runner_build::sweep::{SweepReport, sweep};
use runner_core::agent::AgentConfig;
use runner_folder::state::Home;
use runner_host::stdio::say;
use runner_serve::aws::agent_config;
use std::path::Path;

/// Opens the state folder, repairs what killed runners left behind, and reports it.
pub(super) fn open() -> Result<Home, CliError> {
    let home = Home::open()?;
    let report = sweep(&home)?;
    tell(&report);
    // Batches after their builds.
    let (ended, problems) = runner_batch::sweep::sweep(&home)?;
    for id in ended {
        say(&format!("batch {id} was left by a runner that was killed; it is ended now (FAULT)"));
    }
    for problem in problems {
        say(&format!("warning: cannot put right {problem}"));
    }
    Ok(home)
}

/// Configuration of AWS's agent on this host. Warnings about the files are printed, unless quiet.
pub(super) fn agent(
    home: &Home,
    named: Option<&Path>,
    quiet: bool,
) -> Result<AgentConfig, CliError> {
    let (agent, notices) = agent_config(home, named).map_err(|error| {
        CliError::usage(error.to_string())
            .hint("docs/agent-config.md has every property and its values")
    })?;
    if !quiet {
        notices.iter().for_each(|text| say(&format!("warning: {text}")));
    }
    Ok(agent)
}

/// Reports what was repaired.
pub(super) fn tell(report: &SweepReport) {
    for uuid in &report.ended {
        say(&format!("build {uuid} was left by a runner that was killed; it is ended now (FAULT)"));
    }
    for uuid in &report.cleared {
        say(&format!("the remains of build {uuid} are removed"));
    }
    for problem in &report.problems {
        say(&format!("warning: cannot put right {problem}"));
    }
}
