//! `runner project`: projects of `runner serve`, without an AWS client.

use super::error::{CliError, OURS};
use super::project::text_at;
use clap::{Args, Subcommand};
use runner_folder::state::{Home, ServeLock};
use runner_host::stdio::say;
use runner_service::import::{self, ImportError, Imported, ImportedProject};
use serde_json::Value;
use std::path::PathBuf;

/// Verbs of `runner project`.
#[derive(Debug, Subcommand)]
pub(super) enum ProjectVerb {
    /// Import projects from JSON, as printed by `aws codebuild batch-get-projects`
    Import(ProjectImportArgs),
}

/// Options of `runner project import`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct ProjectImportArgs {
    /// Output of batch-get-projects for a real account, or input of create-project
    file: PathBuf,
    /// Replace existing projects
    #[arg(long)]
    replace: bool,
}

const HELP: &str = "\
Imports all projects of the file or none, and reports all problems at once. The clients of `runner
serve` find the projects, whether it runs during the import or starts later:

  aws codebuild batch-get-projects --names web > web.json      (your account)
  runner project import web.json
  aws codebuild start-build --project-name web                 (runner serve)";

/// Runs the subcommand. Returns its exit code.
pub(super) fn project(verb: &ProjectVerb) -> Result<u8, CliError> {
    let ProjectVerb::Import(args) = verb;
    let shown = args.file.display();
    let text = text_at(&args.file)
        .map_err(|error| CliError::usage(format!("cannot read {shown}: {error}")))?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("{shown} is not JSON: {error}")))?;
    let all = import::read(&json).map_err(|problems| refused(&shown.to_string(), &problems))?;
    let unrunnable: Vec<(String, Vec<String>)> =
        all.iter().map(|one| (one.name.clone(), one.unrunnable.clone())).collect();
    for done in put(&super::home::open()?, all, args.replace)? {
        match done {
            Imported::New(name) => say(&format!("project {name}: imported")),
            Imported::Replaced(name) => say(&format!("project {name}: replaced")),
        }
    }
    for (name, problems) in unrunnable {
        for problem in problems {
            say(&format!("warning: project {name}: StartBuild refuses it as it stands: {problem}"));
        }
    }
    Ok(0)
}

fn refused(shown: &str, problems: &[String]) -> CliError {
    for problem in problems {
        say(&format!("error: {shown}: {problem}"));
    }
    let s = if problems.len() == 1 { "" } else { "s" };
    CliError::usage(format!("{} error{s} in {shown}; nothing was imported", problems.len()))
}

fn put(home: &Home, all: Vec<ImportedProject>, replaces: bool) -> Result<Vec<Imported>, CliError> {
    // Held to the end, so that no `serve` starts meanwhile.
    let lock = ServeLock::take(home)?;
    import::put(home, lock.is_none(), all, replaces).map_err(|error| match error {
        ImportError::Exist(_) => CliError::usage(format!("{error}; nothing was imported"))
            .hint("--replace replaces them with those of the file"),
        ImportError::Open(error) => super::serve::no_database(error),
        ImportError::Db(_) => CliError::of(OURS, error),
    })
}
