//! `runner doctor`: shows what works here, as a table or JSON.

use super::error::{CliError, OURS};
use super::values::OutputFormat;
use crate::doctor::{CheckRow, Report, build, machine};
use clap::Args;
use runner_core::plain;
use runner_folder::state::{BuildNeed, find};
use std::fmt::Write as _;

/// Options of `runner doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if a build can run, or a session to BUILD would work; else 3"
)]
pub(super) struct DoctorArgs {
    /// Explain why a session to this build would not work
    build: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

/// Runs all checks. Returns the exit code.
pub(super) fn doctor(args: &DoctorArgs) -> Result<u8, CliError> {
    let home = super::home::open()?;
    let report = match &args.build {
        Some(wanted) => build::look(&home, &find(&home, Some(wanted), BuildNeed::Any)?),
        None => machine::look(&home, runner_host::runtime::start()?).map_err(|error| {
            CliError::ours(format!("cannot try anything in {}: {error}", home.root().display()))
        })?,
    };
    let text = match args.format {
        OutputFormat::Json => {
            let text =
                serde_json::to_string_pretty(&report).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned()
        }
        OutputFormat::Text => table(&report),
    };
    super::answer(format!("{}\n", text.trim_end()))?;
    Ok(if report.works { 0 } else { OURS })
}

fn table(report: &Report) -> String {
    let name = report.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for CheckRow { name: shown, state, found, consequence, mend } in &report.rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{shown:name$}  {:7}  {found}", state.name());
        for (what, line) in [("so", consequence), ("fix", mend)] {
            if let Some(line) = line.as_ref().filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "{:name$}  {:7}  {what}: {line}", "", "");
            }
        }
    }
    let _ = writeln!(text, "\n{}", report.verdict);
    text
}
