//! `runner attach` and `runner exec`.

use super::error::CliError;
use clap::Args;
use clap_complete::ArgValueCandidates;
use nix::sys::signal::Signal;
use runner_client::{self as client, Client, ClientError, SessionEnd};
use runner_core::plain;
use runner_folder::state::{BuildNeed, find};
use runner_host::signals::{ENDS, SignalReader};
use runner_host::stdio::{say, tell};
use std::io::IsTerminal;

/// Options of `runner attach`.
#[derive(Debug, Args)]
#[command(after_help = ATTACH_HELP)]
pub(super) struct AttachArgs {
    /// Build id, its uuid, or a unique prefix; optional if only one build is live
    #[arg(add = ArgValueCandidates::new(super::completions::builds))]
    build: Option<String>,
    /// User in the container, by name or number [default: root]
    #[arg(long)]
    user: Option<String>,
}

const ATTACH_HELP: &str = "\
The shell has the variables and the directory of the process that waits at the breakpoint, or else
of the last finished command. Functions, aliases and shell options are not carried over.

At the start of a line, ~. detaches and leaves the build as it is. In a stopped build, ~T runs the
command again, ~K skips it, ~N steps and ~R resumes; ~? lists these.

Exit status: the shell's; 0 if the build ended it; 125 if this program failed.";

/// Options of `runner exec`.
#[derive(Debug, Args)]
#[command(after_help = EXEC_HELP)]
pub(super) struct ExecArgs {
    /// Build id, its uuid, or a unique prefix; optional if only one build is live
    #[arg(add = ArgValueCandidates::new(super::completions::builds))]
    build: Option<String>,
    /// User in the container, by name or number [default: root]
    #[arg(long)]
    user: Option<String>,
    /// Run the command on this terminal, as `attach` does for a shell
    #[arg(short, long)]
    terminal: bool,
    /// Pass standard input on, as is always done; accepted for users of -it
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

const EXEC_HELP: &str = "\
The command gets its own standard input, output and error. With -t, all three are one terminal,
which programs need that draw on the screen or ask questions.

Exit status: the command's (128+n for signal n); 126 and 127 as in shells; 125 if this program
failed.";

/// Opens a shell. Returns its exit code.
pub(super) fn attach(args: AttachArgs) -> Result<u8, CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::usage("attach needs a terminal on standard input")
            .hint("to run a script in the build: runner exec BUILD -- sh < SCRIPT")
            .in_session());
    }
    let signals = terminal_signals()?;
    let client = connect(args.build.as_deref()).map_err(CliError::in_session)?;
    finish(client::attach(client, Vec::new(), args.user, &signals))
}

/// The signals that matter on a terminal.
fn terminal_signals() -> Result<SignalReader, CliError> {
    signals(&[&ENDS[..], &[Signal::SIGWINCH]].concat())
}

/// Whether a command is a shell that would wait for input.
fn is_bare_shell(command: &[String]) -> bool {
    const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "fish"];
    let [program] = command else { return false };
    SHELLS.contains(&program.rsplit('/').next().unwrap_or_default())
}

/// Runs a command. Returns its exit code.
pub(super) fn exec(args: ExecArgs) -> Result<u8, CliError> {
    let ExecArgs { build, user, terminal, command, .. } = args;
    if terminal {
        if !std::io::stdin().is_terminal() {
            return Err(CliError::usage("exec -t needs a terminal on standard input")
                .hint("without -t the command gets standard input, output and error as they are")
                .in_session());
        }
        let client = connect(build.as_deref()).map_err(CliError::in_session)?;
        return finish(client::attach(client, command, user, &terminal_signals()?));
    }
    if is_bare_shell(&command) && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    {
        say(
            "hint: this shell has no terminal and shows no prompt; one that has: runner exec -t, or runner attach",
        );
    }
    let signals = signals(&ENDS)?;
    let client = connect(build.as_deref()).map_err(CliError::in_session)?;
    finish(client::exec(client, command, user, &signals))
}

fn signals(list: &[Signal]) -> Result<SignalReader, CliError> {
    SignalReader::listen(list)
        .map_err(|error| CliError::ours(format!("cannot listen for signals: {error}")).in_session())
}

/// A connection to a live build.
pub(super) fn connect(build: Option<&str>) -> Result<Client, CliError> {
    let home = super::home::open()?;
    let known = find(&home, build, BuildNeed::Live)?;
    Ok(Client::connect(&known.dir)?)
}

fn finish(ended: Result<SessionEnd, ClientError>) -> Result<u8, CliError> {
    let ended = ended.map_err(|error| {
        let error = CliError::from(error);
        // Only an error of the container itself counts as the command's own code.
        if error.code == super::error::OURS { error.in_session() } else { error }
    })?;
    if let Some(message) = ended.message {
        // On a new line, whatever the shell left behind.
        tell(format!("\nrunner: {}\n", plain::lines(&message)));
    }
    Ok(ended.code)
}
