//! `runner iam`: shows what users may do.

use super::error::{CliError, OURS};
use super::home::open;
use super::values::OutputFormat;
use clap::{Args, Subcommand};
use runner_core::plain;
use runner_host::runtime;
use runner_serve::aws::{Simulated, Simulation, Users, UsersError, simulate};
use serde_json::json;
use std::path::PathBuf;

/// Verbs of `runner iam`.
#[derive(Debug, Subcommand)]
pub(super) enum IamVerb {
    /// Evaluate a user's policies without making a call
    Simulate(SimulateArgs),
}

/// Options of `runner iam simulate`.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// User whose policies are evaluated
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Action to evaluate, such as ssm:StartSession; may be repeated
    #[arg(long = "action", value_name = "ACTION", required = true)]
    actions: Vec<String>,
    /// Resource of the action, as an ARN; may be repeated. The ARN of a build or task stands for
    /// the build
    #[arg(long = "resource", value_name = "ARN", default_value = "*")]
    resources: Vec<String>,
    /// Condition key and its value; repeat a key to give it several values
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = pair)]
    context: Vec<(String, String)>,
    /// Users and their policies [default: iam.json in the state folder]
    #[arg(long, value_name = "FILE")]
    iam: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    format: OutputFormat,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| key.contains(':'));
    let (key, value) = pair.ok_or("it is to be KEY=VALUE, such as ecs:cluster=default")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Evaluates a request with the code that authorizes calls.
pub(super) fn iam(verb: &IamVerb) -> Result<u8, CliError> {
    let IamVerb::Simulate(args) = verb;
    let home = open()?;
    let users = Users::open(&home, args.iam.as_deref())?;
    let mut context: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in &args.context {
        match context.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(key)) {
            Some((_, values)) => values.push(value.clone()),
            None => context.push((key.clone(), vec![value.clone()])),
        }
    }
    let asked =
        Simulation { actions: args.actions.clone(), resources: args.resources.clone(), context };
    let answers = runtime::start()?.block_on(simulate(&home, &users, &args.user, &asked));
    let answers = answers.map_err(CliError::usage)?;
    super::answer(match args.format {
        OutputFormat::Text => answers.iter().map(line).collect(),
        OutputFormat::Json => {
            let rows: Vec<_> = answers.iter().map(row).collect();
            let text =
                serde_json::to_string_pretty(&rows).map_err(|error| CliError::of(OURS, error))?;
            plain::json(&text).into_owned() + "\n"
        }
    })
}

fn line(one: &Simulated) -> String {
    let mut line = format!("{:<12}  {}  {}", one.decision, one.action, one.resource);
    if let Some(by) = &one.by {
        line.push_str(&format!("  ({by})"));
    }
    if !one.missing.is_empty() {
        line.push_str(&format!("  not given: {}", one.missing.join(", ")));
    }
    line + "\n"
}

fn row(one: &Simulated) -> serde_json::Value {
    json!({
        "action": one.action,
        "resource": one.resource,
        "decision": one.decision,
        "decidedBy": one.by,
        "missingContext": one.missing,
    })
}

impl From<UsersError> for CliError {
    fn from(error: UsersError) -> Self {
        CliError::usage(error.to_string()).because(error)
    }
}
