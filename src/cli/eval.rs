//! `runner eval`, `runner set` and `runner pause`: act on a live build from outside.

use super::course::FollowedBuild;
use super::debug::split;
use super::error::{CliError, of_signal};
use super::home::open;
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use runner_client::Client;
use runner_core::event::{CommandOutcome, EventBody};
use runner_folder::events::{LogReader, OutputReader};
use runner_folder::state::{BuildNeed, Home, KnownBuild, find};
use runner_host::signals::{STOPS, SignalReader};
use runner_host::stdio::{CheckedStdout, is_gone, say};
use runner_wire::control::{ControlRequest, ControlResponse};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};

/// Options of `runner eval`.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Build (required if more than one is live) and shell text in one word
    #[arg(value_name = "[BUILD] TEXT", num_args = 1..=2, required = true)]
    words: Vec<String>,
}

/// Options of `runner set`.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// Build (required if more than one is live) and variable
    #[arg(value_name = "[BUILD] NAME=VALUE", num_args = 0..=2, required_unless_present = "unset")]
    words: Vec<String>,
    /// Unset this variable
    #[arg(long, value_name = "NAME")]
    unset: Option<String>,
}

/// Runs a text at a stop, in the state of the build's commands. Exits as the text does.
pub(super) fn eval(args: &EvalArgs) -> Result<u8, CliError> {
    let home = open()?;
    let (build, text) = split(&args.words);
    let known = find(&home, build, BuildNeed::Live).map_err(|error| {
        let quotes = build.map(|_| "a text of several words stands in quotes: runner eval 'ls -l'");
        CliError::from(error).hints(quotes)
    })?;
    // Before any thread starts.
    let signals = SignalReader::listen(&STOPS)
        .map_err(|error| CliError::ours(format!("cannot listen for signals: {error}")))?;
    let request = ControlRequest::Eval { text: text.to_owned() };
    let ControlResponse::Runs { run } = Client::connect(&known.dir)?.ask(&request)? else {
        return Ok(0);
    };
    let failed =
        |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
    let mut eval = Eval {
        run,
        log: LogReader::open(&known.dir).map_err(failed)?,
        output: OutputReader::open(&known.dir).map_err(failed)?,
    };
    let asked = end_with_signals(&known, run, signals)
        .map_err(|error| CliError::ours(format!("cannot start a thread: {error}")))?;
    match eval.follow(&home, &known)? {
        Some(CommandOutcome::Exited(code)) => Ok(u8::try_from(code).unwrap_or(1)),
        Some(CommandOutcome::Signaled(signal)) => Ok(match asked.get() {
            Some(asked) => of_signal(*asked),
            None => u8::try_from(128 + signal).unwrap_or(1),
        }),
        Some(ended @ (CommandOutcome::NotStarted(_) | CommandOutcome::Cut)) => {
            Err(CliError::ours(format!("the text has not run: {ended}")))
        }
        None => Err(CliError::ours("the build has ended before the text has")),
    }
}

/// Ends the text on the first signal, and this program on the second. Returns the first signal.
fn end_with_signals(
    known: &KnownBuild,
    run: u32,
    signals: SignalReader,
) -> io::Result<Arc<OnceLock<Signal>>> {
    let asked = Arc::new(OnceLock::new());
    let (dir, first) = (known.dir.clone(), Arc::clone(&asked));
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::NONE);
            let Some(signal) = signals.next() else { continue };
            let request = ControlRequest::EndEval { run };
            let is_told = first.set(signal).is_ok()
                && Client::connect(&dir).and_then(|mut client| client.ask(&request)).is_ok();
            if !is_told {
                std::process::exit(of_signal(signal).into());
            }
        }
    })?;
    Ok(asked)
}

/// A running text in the build's log.
struct Eval {
    run: u32,
    log: LogReader,
    output: OutputReader,
}

impl Eval {
    /// Shows its output until it ends; `None` if the build ends first.
    fn follow(
        &mut self,
        home: &Home,
        known: &KnownBuild,
    ) -> Result<Option<CommandOutcome>, CliError> {
        let failed =
            |error: io::Error| CliError::ours(format!("the log of build {}: {error}", known.id));
        let mut course = FollowedBuild::of(home, known)?;
        loop {
            let is_over = course.record().is_some();
            if let Some(outcome) = self.show().map_err(failed)? {
                return Ok(Some(outcome));
            }
            if is_over {
                return Ok(None);
            }
            course.next(None)?;
        }
    }

    /// Shows new output. Returns how the text ended, once it has.
    fn show(&mut self) -> io::Result<Option<CommandOutcome>> {
        while let Some(event) = self.log.next_event()? {
            match event.body {
                EventBody::Output { command, offset, length } if command == self.run => {
                    let written = CheckedStdout.write_all(self.output.read(offset, length)?);
                    // If the reader is gone, stop writing, but still wait for the end of the text.
                    written.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) })?;
                }
                EventBody::CommandEnded { command, outcome, .. } if command == self.run => {
                    return Ok(Some(outcome));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Sets or unsets a variable for the following commands.
pub(super) fn set(args: &SetArgs) -> Result<u8, CliError> {
    let (build, request) = match (&args.unset, args.words.as_slice()) {
        (Some(name), [] | [_]) => {
            let build = args.words.first().map(String::as_str);
            (build, ControlRequest::Set { name: name.clone(), value: None })
        }
        (Some(_), _) => {
            return Err(CliError::usage("--unset NAME takes no value")
                .hint("runner set [BUILD] --unset NAME"));
        }
        (None, words) => {
            let (build, word) = split(words);
            let Some((name, value)) = word.split_once('=') else {
                return Err(CliError::usage(format!("`{word}` is not NAME=VALUE")));
            };
            let value = Some(value.to_owned());
            (build, ControlRequest::Set { name: name.to_owned(), value })
        }
    };
    let known = find(&open()?, build, BuildNeed::Live)?;
    Client::connect(&known.dir)?.ask(&request)?;
    Ok(0)
}

/// Stops a build in the middle of its command.
pub(super) fn pause(build: Option<&str>) -> Result<u8, CliError> {
    let known = find(&open()?, build, BuildNeed::Live)?;
    Client::connect(&known.dir)?.ask(&ControlRequest::Pause)?;
    say(&format!("build {} stands still; `runner resume` continues it", known.id));
    Ok(0)
}
