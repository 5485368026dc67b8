//! The command line: one clap struct and one function per subcommand.
//!
//! Arguments are resolved here into plain types; failures become a `CliError` with an exit code and
//! a hint.

mod aws_env;
mod batch;
mod builds;
mod cache;
mod certificates;
mod check;
mod completions;
mod course;
mod cp;
mod debug;
mod detach;
mod diff;
mod doctor;
mod env;
mod error;
mod eval;
mod events;
mod forward;
mod headless;
mod history;
mod home;
mod iam;
mod image;
mod logs;
mod on_stop;
mod page;
mod patch;
mod project;
mod projects;
mod prompt;
mod ps;
mod queued;
mod reach;
mod recorded;
mod recordings;
mod render;
mod rewind;
mod run;
mod run_args;
mod serve;
mod sessions;
mod values;
mod wait;
mod watch;
mod where_it_is;

pub(crate) use headless::main as headless;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use error::{CliError, OURS, SESSION};
use runner_core::event::Notice;
use runner_core::plain;
use runner_host::stdio::{self, say};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

/// Run an AWS CodeBuild buildspec in a container on this machine, pause it, and look inside.
#[derive(Debug, Parser)]
#[command(name = "runner", version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    /// Log what runner does on standard error; repeat for more detail (also RUNNER_LOG=debug)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one build
    Run(Box<run_args::RunArgs>),
    /// Run all builds of a batch
    Batch(Box<batch::BatchArgs>),
    /// Check a buildspec for problems without running it
    Check(check::CheckArgs),
    /// List builds on this machine
    Ps(ps::PsArgs),
    /// Wait until a build pauses or ends
    Wait(wait::WaitArgs),
    /// Open a shell in a build's container
    Attach(sessions::AttachArgs),
    /// Run a command in a build's container
    Exec(sessions::ExecArgs),
    /// Copy files and directories into or out of a build's container
    Cp(cp::CpArgs),
    /// Forward ports of this machine to a build's container
    PortForward(forward::ForwardArgs),
    /// Resume a paused build, as codebuild-resume does inside it
    Resume(builds::BuildArg),
    /// Run the command that a build is stopped at again, or other text in its place
    Retry(debug::RetryArgs),
    /// Skip the command that a build is stopped at; a failed command stays failed
    Skip(debug::SkipArgs),
    /// Continue a stopped build and stop again before its next command
    Step(builds::BuildArg),
    /// Continue a stopped build from an earlier command, keeping its current files
    Rerun(debug::RerunArgs),
    /// Take a stopped build back to before a run: its files, variables and state
    Rewind(rewind::RewindArgs),
    /// End a stopped build without further commands or artifacts
    Abort(builds::BuildArg),
    /// Stop a build in the middle of its current command
    Pause(builds::BuildArg),
    /// Run shell text in a stopped build, in its commands' state; exits as the text does
    Eval(eval::EvalArgs),
    /// Set or unset a variable for the next commands of a stopped build
    Set(eval::SetArgs),
    /// List the runs of a build: place, outcome and manual interventions
    History(history::HistoryArgs),
    /// Show the variables of the next command of a live build
    Env(env::EnvArgs),
    /// Show what a build has changed in its source, or what runs have changed
    Diff(diff::DiffArgs),
    /// Show which runs of a build have changed a file
    Blame(recorded::BlameArgs),
    /// Put commands edited at stops back into the buildspec
    Patch(patch::PatchArgs),
    /// Open a prompt for a live build that takes all of these commands
    Debug(builds::BuildArg),
    /// Manage the breakpoints of a live build
    #[command(subcommand)]
    Break(debug::BreakVerb),
    /// Stop a build
    Stop(builds::StopArgs),
    /// Check what works on this machine, or in sessions to a build, and suggest fixes
    Doctor(doctor::DoctorArgs),
    /// Print the log of a live or ended build
    Logs(logs::LogsArgs),
    /// Print the log of a live or ended build for programs, one event per line
    Events(events::EventsArgs),
    /// Manage the caches that builds have saved
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// Manage the images stored on this machine
    #[command(subcommand)]
    Image(Box<image::ImageVerb>),
    /// Print shell code for eval that points AWS clients at the builds here
    AwsEnv(aws_env::AwsEnvArgs),
    /// Print a link to the web page with builds, logs and terminals
    Page(page::PageArgs),
    /// Serve every build on this machine to AWS clients
    Serve(serve::ServeArgs),
    /// Manage the projects of `runner serve`
    #[command(subcommand)]
    Project(projects::ProjectVerb),
    /// Print a shell completion script that covers options and builds
    Completions(completions::CompletionsArgs),
    /// Write the manual, one page per command
    #[command(name = "__man", hide = true)]
    Man(completions::ManArgs),
    /// List, print, play and export recorded sessions
    #[command(subcommand)]
    Sessions(recordings::SessionsVerb),
    /// Show what users of the endpoint are allowed to do
    #[command(subcommand)]
    Iam(iam::IamVerb),
}

/// A command that runs this program again, under the name it was called by.
fn once_more() -> std::process::Command {
    let mut command = std::process::Command::new("/proc/self/exe");
    std::env::args_os().next().map(|name| command.arg0(name));
    command
}

/// The whole command line.
fn command() -> clap::Command {
    Cli::command()
        .mut_subcommand("run", project::negatable)
        .mut_subcommand("batch", |batch| batch::without_options_for_one(project::negatable(batch)))
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    completions::answer_shell();
    let typed: Vec<OsString> = std::env::args_os().collect();
    let matches = command().try_get_matches_from(&typed);
    let parsed = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(not_a_verb(&error)),
    };
    start_tracing(cli.verbose);
    let ours = if matches!(cli.verb, Verb::Attach(_) | Verb::Exec(_)) { SESSION } else { OURS };
    // A panic in this program also needs its own exit code; its message is already printed.
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| perform(cli.verb, &typed)));
    match done {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) => ExitCode::from(error.print()),
        Err(_) => {
            ExitCode::from(CliError::new(ours, "this is a fault of the runner itself").print())
        }
    }
}

fn perform(verb: Verb, typed: &[OsString]) -> Result<u8, CliError> {
    match verb {
        Verb::Run(args) => run::run(*args, after_verb(typed, "run")),
        Verb::Batch(args) => batch::batch(*args, after_verb(typed, "batch")),
        Verb::Check(args) => check::check(&args),
        Verb::Ps(args) => ps::ps(&args),
        Verb::Wait(args) => wait::wait(&args),
        Verb::Attach(args) => sessions::attach(args),
        Verb::Exec(args) => sessions::exec(args),
        Verb::Cp(args) => cp::cp(&args),
        Verb::PortForward(args) => forward::forward(&args),
        Verb::Resume(args) => builds::resume(&args),
        Verb::Retry(args) => debug::retry(args),
        Verb::Skip(args) => debug::skip(&args),
        Verb::Step(args) => debug::step(args.name()),
        Verb::Rerun(args) => debug::rerun(&args),
        Verb::Rewind(args) => rewind::rewind(&args),
        Verb::Abort(args) => debug::abort(args.name()),
        Verb::Pause(args) => eval::pause(args.name()),
        Verb::Eval(args) => eval::eval(&args),
        Verb::Set(args) => eval::set(&args),
        Verb::History(args) => history::history(&args),
        Verb::Env(args) => env::env(&args),
        Verb::Diff(args) => diff::diff(&args),
        Verb::Blame(args) => recorded::blame(&args),
        Verb::Patch(args) => patch::patch(&args),
        Verb::Debug(args) => prompt::debug(args.name()),
        Verb::Break(verb) => debug::breakpoints(&verb),
        Verb::Stop(args) => builds::stop(&args),
        Verb::Doctor(args) => doctor::doctor(&args),
        Verb::Logs(args) => logs::logs(&args),
        Verb::Events(args) => events::events(&args),
        Verb::Cache(verb) => cache::cache(verb),
        Verb::Image(verb) => image::image(*verb),
        Verb::Completions(args) => completions::completions(&args),
        Verb::Man(args) => completions::man(&args),
        Verb::AwsEnv(args) => aws_env::aws_env(&args),
        Verb::Page(args) => page::page(&args),
        Verb::Serve(args) => serve::serve(&args),
        Verb::Sessions(verb) => recordings::sessions(&verb),
        Verb::Project(verb) => projects::project(&verb),
        Verb::Iam(verb) => iam::iam(&verb),
    }
}

/// The words after the subcommand. No option that may precede it takes a value.
fn after_verb<'t>(typed: &'t [OsString], verb: &str) -> &'t [OsString] {
    let at = typed.iter().skip(1).position(|word| word == verb);
    at.map_or(&[], |at| &typed[at + 2..])
}

fn start_tracing(verbose: u8) {
    use tracing::level_filters::LevelFilter;
    let asked = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::INFO,
        2 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let from_variable = std::env::var("RUNNER_LOG").ok().and_then(|level| level.parse().ok());
    let level = from_variable.map_or(asked, |level: LevelFilter| level.max(asked));
    if level != LevelFilter::OFF {
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    }
}

/// Writes an answer. A closed reader is no error.
fn answer(text: impl AsRef<str>) -> Result<u8, CliError> {
    match stdio::answer(&*plain::lines(text.as_ref())) {
        Ok(_) => Ok(0),
        Err(error) => Err(CliError::of(OURS, error)),
    }
}

/// Prints help and version as answers, anything else as a usage error. Returns the exit code.
fn not_a_verb(found: &clap::Error) -> u8 {
    let text = found.render();
    let shown = |has_colors| match has_colors {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    if found.use_stderr() {
        stdio::tell(shown(stdio::has_colors(&std::io::stderr())));
        return error::USAGE;
    }
    answer(shown(stdio::has_colors(&std::io::stdout()))).unwrap_or_else(|error| error.print())
}

/// Prints a notice and its hint.
fn notice(notice: &Notice) {
    for (level, text) in notice.shown() {
        say(&format!("{}{text}", level.prefix()));
    }
}
