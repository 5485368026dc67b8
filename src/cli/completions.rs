//! `runner completions` and the manual, both generated from the command line's own description.
//!
//! This program itself answers a shell's requests while someone types (`RUNNER_COMPLETE` then names
//! the shell). So new builds are offered at once, and scripts need no update for new options.

use super::error::{CliError, OURS};
use clap::{Args, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use runner_folder::state::{Home, KnownBuild, all_builds, listed_builds};
use std::path::PathBuf;

/// The variable with which a shell requests completions.
const ASKED: &str = "RUNNER_COMPLETE";
/// Maximum number of builds offered.
const MOST: usize = 50;

/// Options of `runner completions`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CompletionsArgs {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: CompletionShell,
}

const HELP: &str = "\
To install it:

  bash   runner completions bash > ~/.local/share/bash-completion/completions/runner
  zsh    runner completions zsh > DIR/_runner, with DIR in fpath
  fish   runner completions fish > ~/.config/fish/completions/runner.fish

The script calls the `runner` on PATH for its suggestions.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompletionShell {
    Bash,
    Elvish,
    Fish,
    Zsh,
}

impl CompletionShell {
    fn name(self) -> &'static str {
        match self {
            CompletionShell::Bash => "bash",
            CompletionShell::Elvish => "elvish",
            CompletionShell::Fish => "fish",
            CompletionShell::Zsh => "zsh",
        }
    }
}

/// Options of the hidden `runner __man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Output directory, for one page for the program and one per command
    directory: PathBuf,
}

/// Answers a shell's request for completions, and then exits.
pub(super) fn answer_shell() {
    // Skip building the command's description in all other cases.
    if std::env::var_os(ASKED).is_some() {
        CompleteEnv::with_factory(super::command)
            .var(ASKED)
            .bin("runner")
            .completer("runner")
            .complete();
    }
}

/// Prints the shell code that enables completions.
pub(super) fn completions(args: &CompletionsArgs) -> Result<u8, CliError> {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.name());
    let shell = shell.ok_or_else(|| CliError::ours("there is no script for this shell"))?;
    let mut script = Vec::new();
    shell
        .write_registration(ASKED, "runner", "runner", "runner", &mut script)
        .map_err(|error| CliError::of(OURS, error))?;
    super::answer(String::from_utf8_lossy(&script))
}

/// Writes the manual.
pub(super) fn man(args: &ManArgs) -> Result<u8, CliError> {
    let dir = &args.directory;
    clap_mangen::generate_to(super::command(), dir).map_err(|error| {
        CliError::ours(format!("cannot write the manual to {}: {error}", dir.display()))
    })?;
    Ok(0)
}

/// The builds to offer: live ones, or ended ones if none is live.
pub(super) fn builds() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::open() else { return Vec::new() };
    let live = listed_builds(&home).unwrap_or_default();
    let known = match live.is_empty() {
        true => all_builds(&home).map(|(all, _)| all).unwrap_or_default(),
        false => live,
    };
    // By uuid: some shells split words at the colon of an id.
    let offered = |build: &KnownBuild| {
        let project = build.id.rsplit_once(':').map_or("", |(project, _)| project);
        CompletionCandidate::new(&build.uuid).help(Some(project.to_owned().into()))
    };
    known.iter().take(MOST).map(offered).collect()
}
