//! `runner completions` and the manual: both are made from the command line's own description.
//!
//! What a shell asks for while somebody types is answered by this program (`RUNNER_COMPLETE` names the shell
//! then), so that a build is offered as soon as it is there, and no script has to be made anew with an option.

use super::error::{CliError, OURS};
use clap::{Args, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use runner_folder::state::{Home, KnownBuild, all_builds, listed_builds};
use std::path::PathBuf;

/// The variable by which a shell asks.
const ASKED: &str = "RUNNER_COMPLETE";
/// Most builds that are offered.
const MOST: usize = 50;

/// Options of `runner completions`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: CompletionShell,
}

const HELP: &str = "\
  bash   runner completions bash > ~/.local/share/bash-completion/completions/runner
  zsh    runner completions zsh > DIR/_runner, with DIR in fpath
  fish   runner completions fish > ~/.config/fish/completions/runner.fish

The script asks `runner`, as found on PATH, for what it offers.";

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
    /// Where the pages go, one for the program and one for each verb
    directory: PathBuf,
}

/// Answers a shell that asks what could be typed; ends the program then.
pub(super) fn answer_shell() {
    // Nothing is described for everybody else.
    if std::env::var_os(ASKED).is_some() {
        CompleteEnv::with_factory(super::command)
            .var(ASKED)
            .bin("runner")
            .completer("runner")
            .complete();
    }
}

/// Prints what makes a shell ask.
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

/// The builds that may be meant: those that are live, or where there is none, those of the past.
pub(super) fn builds() -> Vec<CompletionCandidate> {
    let Ok(home) = Home::open() else { return Vec::new() };
    let live = listed_builds(&home).unwrap_or_default();
    let known = match live.is_empty() {
        true => all_builds(&home).map(|(all, _)| all).unwrap_or_default(),
        false => live,
    };
    // By uuid: the colon of an id parts words in some shells.
    let offered = |build: &KnownBuild| {
        let project = build.id.rsplit_once(':').map_or("", |(project, _)| project);
        CompletionCandidate::new(&build.uuid).help(Some(project.to_owned().into()))
    };
    known.iter().take(MOST).map(offered).collect()
}
