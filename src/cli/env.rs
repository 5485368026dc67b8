//! `runner env`: the variables of a live build's next command.

use super::error::{CliError, OURS};
use super::home::open;
use super::values::OutputFormat;
use clap::Args;
use runner_client::Client;
use runner_core::exports::quote;
use runner_core::plain;
use runner_folder::state::{BuildNeed, KnownBuild, find};
use runner_host::stdio::say;
use runner_wire::control::{ControlRequest, ControlResponse, VariableLine};
use serde::Serialize;

/// Options of `runner env`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct EnvArgs {
    #[command(flatten)]
    build: super::builds::BuildArg,
    /// Show only variables that the last command has changed
    #[arg(long)]
    changed: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

const HELP: &str = "Secrets are shown as ***, in old and new values alike.";

/// A variable in JSON.
#[derive(Serialize)]
struct VariableRow<'a> {
    name: &'a str,
    value: Option<&'a str>,
    before: Option<&'a str>,
    changed: bool,
}

impl<'a> From<&'a VariableLine> for VariableRow<'a> {
    fn from(line: &'a VariableLine) -> Self {
        let VariableLine { name, value, before, is_changed } = line;
        VariableRow {
            name,
            value: value.as_deref(),
            before: before.as_deref(),
            changed: *is_changed,
        }
    }
}

/// Shows the variables.
pub(super) fn env(args: &EnvArgs) -> Result<u8, CliError> {
    let known = find(&open()?, args.build.name(), BuildNeed::Live)?;
    let mut all = variables(&known)?;
    all.retain(|line| if args.changed { line.is_changed } else { line.value.is_some() });
    if args.changed && all.is_empty() && args.format == OutputFormat::Text {
        say("the last command has changed no variable");
    }
    let text = match args.format {
        OutputFormat::Text => all.iter().map(|line| shown(line, args.changed)).collect(),
        OutputFormat::Json => {
            let rows: Vec<VariableRow<'_>> = all.iter().map(VariableRow::from).collect();
            let text =
                serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned() + "\n"
        }
    };
    super::answer(text)
}

/// The variables of the following commands, and their values before the last one.
pub(super) fn variables(known: &KnownBuild) -> Result<Vec<VariableLine>, CliError> {
    match Client::connect(&known.dir)?.ask(&ControlRequest::Variables)? {
        ControlResponse::Variables(all) => Ok(all),
        _ => Ok(Vec::new()),
    }
}

/// A variable in shell syntax, followed by its previous value if requested.
fn shown(line: &VariableLine, with_before: bool) -> String {
    let value = |value: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@%+,=-".contains(c);
        if value.chars().all(is_plain) { value.to_owned() } else { quote(value) }
    };
    let now = line.value.as_deref().map_or_else(String::new, |now| format!("={}", value(now)));
    let before = match (&line.before, &line.value) {
        _ if !with_before => String::new(),
        (Some(before), Some(_)) => format!("  # was {}", value(before)),
        (Some(before), None) => format!("  # unset, was {}", value(before)),
        (None, _) => "  # new".to_owned(),
    };
    format!("{}{now}{before}\n", line.name)
}
