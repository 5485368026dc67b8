//! The command line: one clap struct and one function a verb.
//!
//! What is typed is resolved here into plain types; what goes wrong becomes a `CliError` with its
//! exit code and its hint.

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
    /// More about what this program does, on standard error (also RUNNER_LOG=debug)
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
    /// Say what is wrong with a buildspec, without running it
    Check(check::CheckArgs),
    /// Builds known on this machine
    Ps(ps::PsArgs),
    /// Wait until a build is paused or has ended
    Wait(wait::WaitArgs),
    /// Open a shell in a build's container
    Attach(sessions::AttachArgs),
    /// Run one command in a build's container
    Exec(sessions::ExecArgs),
    /// Copy files and directories into a build's container, or out of it
    Cp(cp::CpArgs),
    /// Make ports of a build's container reachable from this machine
    PortForward(forward::ForwardArgs),
    /// Let a paused build go on, as codebuild-resume does inside
    Resume(builds::BuildArg),
    /// Run the command a build has stopped at again, or another text in its place
    Retry(debug::RetryArgs),
    /// Leave the command a build has stopped at out; one that has failed stays failed
    Skip(debug::SkipArgs),
    /// Let a build that has stopped go on, and stop before its next command
    Step(builds::BuildArg),
    /// Go on from an earlier command of a build that has stopped, in its files as they are
    Rerun(debug::RerunArgs),
    /// Go back to before a run of a build that has stopped: its files, its variables, and how it stood
    Rewind(rewind::RewindArgs),
    /// End a build that has stopped: no further command, no artifacts
    Abort(builds::BuildArg),
    /// Stop a build in the middle of the command that runs
    Pause(builds::BuildArg),
    /// Run a text at a stop, in the state of the build's commands; exits as the text does
    Eval(eval::EvalArgs),
    /// Set a variable of the commands to come, or unset it, at a stop
    Set(eval::SetArgs),
    /// A build's runs, each with its place, its end, and what people have done
    History(history::HistoryArgs),
    /// The variables of a live build's next command
    Env(env::EnvArgs),
    /// What a build has changed in its source, or what runs have changed
    Diff(diff::DiffArgs),
    /// The runs of a build that have changed a file
    Blame(recorded::BlameArgs),
    /// Put what was edited at stops back into the buildspec
    Patch(patch::PatchArgs),
    /// A prompt at a live build, for all of these
    Debug(builds::BuildArg),
    /// Where a live build stops
    #[command(subcommand)]
    Break(debug::BreakVerb),
    /// Stop a build
    Stop(builds::StopArgs),
    /// Try what works on this machine, or why a session to a build would not, and say how to mend it
    Doctor(doctor::DoctorArgs),
    /// The log of a live or ended build
    Logs(logs::LogsArgs),
    /// The log of a live or ended build for programs: one event a line
    Events(events::EventsArgs),
    /// What builds have left for the next ones
    #[command(subcommand)]
    Cache(cache::CacheVerb),
    /// Images kept on this machine
    #[command(subcommand)]
    Image(Box<image::ImageVerb>),
    /// Print what AWS's clients need to find a build here, for a shell's eval
    AwsEnv(aws_env::AwsEnvArgs),
    /// Print a link that opens a page with builds, logs and terminals in a browser
    Page(page::PageArgs),
    /// Let AWS's clients at every build of this machine
    Serve(serve::ServeArgs),
    /// Projects of `runner serve`
    #[command(subcommand)]
    Project(projects::ProjectVerb),
    /// Print what makes a shell complete this program's options and builds
    Completions(completions::CompletionsArgs),
    /// Write the manual, a page for each verb
    #[command(name = "__man", hide = true)]
    Man(completions::ManArgs),
    /// Look at sessions that were kept: list, print, play, export
    #[command(subcommand)]
    Sessions(recordings::SessionsVerb),
    /// What users of the endpoint may do
    #[command(subcommand)]
    Iam(iam::IamVerb),
}

/// This program, by the name it was called by.
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

/// The whole program.
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
    // A fault of this program's own has an exit code of its own as well; what it is, is said by then.
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

/// What is typed after the verb. No option that may stand before it takes a value.
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

/// Writes an answer. A reader that has gone has read enough.
fn answer(text: impl AsRef<str>) -> Result<u8, CliError> {
    match stdio::answer(&*plain::lines(text.as_ref())) {
        Ok(_) => Ok(0),
        Err(error) => Err(CliError::of(OURS, error)),
    }
}

/// Help and version are answers, everything else is a usage error; the exit code.
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

/// The same of a notice and its hint.
fn notice(notice: &Notice) {
    for (level, text) in notice.shown() {
        say(&format!("{}{text}", level.prefix()));
    }
}
