//! `runner run --on-stop exit`: runs the build in a separate process (`headless`) and shows it
//! until it is paused for the first time, or ends.
//!
//! For scripts and agents, which then use other subcommands. The build keeps neither this program's
//! terminal nor its standard streams, so that readers of those streams reach their end.

use super::error::{CliError, OURS, PAUSED};
use crate::terminal::{FaceOptions, TerminalFace};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner_build::{BuildRequest, Face as _, ReadyBuild};
use runner_client::Client;
use runner_core::time::WallTime;
use runner_folder::events::{Follower, Growth, Heads};
use runner_folder::state::{BuildDir, FolderChanges, Home};
use runner_host::clock;
use runner_host::signals::SignalReader;
use runner_host::stdio::say;
use runner_wire::control::{ControlRequest, ControlResponse};
use std::io;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Signals with which a person ends a program.
const ENDS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// An event.
enum OnStopEvent {
    /// The log has grown, or the build's owner has released it.
    Change,
    Ended(io::Result<ExitStatus>),
    Asked(Signal),
}

/// Runs the build until it is paused or over. Returns the exit code.
pub(super) fn run(request: &BuildRequest, home: &Home, shown: FaceOptions) -> Result<u8, CliError> {
    // Before any thread starts.
    let signals = SignalReader::listen(&ENDS).map_err(failed("listen for signals"))?;
    // Nobody stays here to press a key or open an endpoint.
    let mut face = TerminalFace::new(FaceOptions { sessions: false, ..shown }, home)
        .map_err(failed("listen for signals"))?;
    let (child, id, uuid) = super::detach::begin("--on-stop exit", request)?;
    let dir = BuildDir::of(home, &uuid);
    follow_to_stop(child, &id, &uuid, &dir, &mut face, signals).map_err(|mut error| {
        // Nobody would return to it.
        if dir.is_owned()
            && let Ok(mut client) = Client::connect(&dir)
        {
            let _ = client.ask(&ControlRequest::Stop);
        }
        error.message = format!("{}; the build is {id}", error.message);
        error
    })
}

fn follow_to_stop(
    child: Child,
    id: &str,
    uuid: &str,
    dir: &BuildDir,
    face: &mut TerminalFace,
    signals: SignalReader,
) -> Result<u8, CliError> {
    // Watch before the first look, so that nothing in between is missed.
    let changes =
        FolderChanges::of_build(dir.path(), dir.listing()).map_err(failed("follow the build"))?;
    let growth = Growth::default();
    let begun = ReadyBuild { id, uuid, dir, growth: growth.clone() };
    let mut log = follow(dir, &changes).map_err(failed("follow the build"))?;
    face.begin(&begun).map_err(failed("show the build"))?;
    let pid = child.id();
    let happened = listen(child, changes, signals).map_err(failed("start a thread"))?;
    let mut code = None;
    while let Ok(what) = happened.recv() {
        match what {
            OnStopEvent::Change => {}
            OnStopEvent::Asked(signal) => {
                // The process is gone: its end is about to be reported.
                let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
            }
            OnStopEvent::Ended(status) => {
                let status = status.map_err(failed("wait for the build"))?;
                code = Some(status.code().and_then(|code| u8::try_from(code).ok()));
            }
        }
        let is_paused = log
            .catch_up()
            .map_err(failed("read the build's log"))?
            .is_some_and(|view| !view.paused.is_empty());
        let heads = reached(dir);
        growth.tell(Heads { closed: is_paused || code.is_some(), ..heads });
        if is_paused && code.is_none() {
            face.join();
            let code = paused(dir, id);
            return unless_broken(face).map(|()| code);
        }
        if code.is_some() {
            face.join();
            unless_broken(face)?;
            break;
        }
    }
    code.flatten().ok_or_else(|| {
        // The next command repairs it.
        let _ = super::home::open();
        CliError::ours(format!("build {id} was killed"))
    })
}

/// Fails if not all of the log was shown, so that nobody takes that for success.
fn unless_broken(face: &TerminalFace) -> Result<(), CliError> {
    face.broken_output().map_or(Ok(()), |error| Err(CliError::ours(error)))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> CliError {
    move |error| CliError::of(OURS, io::Error::new(error.kind(), format!("cannot {what}: {error}")))
}

/// Opens the build's log, which appears a moment after the build has begun.
fn follow(dir: &BuildDir, changes: &FolderChanges) -> io::Result<Follower> {
    loop {
        match Follower::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_owned() => {
                // A lock becomes free a moment after the kernel has reported it.
                changes.wait(Some(Instant::now() + Duration::from_secs(1)))?;
            }
            done => return done,
        }
    }
}

/// The current end of the log.
fn reached(dir: &BuildDir) -> Heads {
    let length = |path: std::path::PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    Heads {
        output: length(dir.output()),
        events: length(dir.events()),
        complete: false,
        closed: false,
    }
}

/// Sends all events, each source from its own thread.
fn listen(
    mut child: Child,
    changes: FolderChanges,
    signals: SignalReader,
) -> io::Result<mpsc::Receiver<OnStopEvent>> {
    let (tell, happened) = mpsc::channel();
    // Covers changes before the watch began.
    let _ = tell.send(OnStopEvent::Change);
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    };
    let told = tell.clone();
    spawn(
        "changes",
        Box::new(
            move || {
                while changes.wait(None).is_ok() && told.send(OnStopEvent::Change).is_ok() {}
            },
        ),
    )?;
    let told = tell.clone();
    spawn(
        "signals",
        Box::new(move || {
            loop {
                let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ready, PollTimeout::NONE);
                if let Some(signal) = signals.next()
                    && told.send(OnStopEvent::Asked(signal)).is_err()
                {
                    return;
                }
            }
        }),
    )?;
    spawn("build", Box::new(move || drop(tell.send(OnStopEvent::Ended(child.wait())))))?;
    Ok(happened)
}

/// The last line: the build's id, and how long it waits.
fn paused(dir: &BuildDir, id: &str) -> u8 {
    let status = Client::connect(dir).and_then(|mut client| client.ask(&ControlRequest::Status));
    let left = match status {
        Ok(ControlResponse::Status(status)) => status.pause_left_s,
        _ => None,
    };
    let until = left.map(|left| {
        let WallTime(now) = clock::wall();
        let left = i64::try_from(Duration::from_secs(left).as_micros()).unwrap_or(i64::MAX);
        WallTime(now.saturating_add(left) / 1_000_000 * 1_000_000)
    });
    say(&match until {
        Some(until) => format!("{id} is paused until {until}"),
        None => format!("{id} is paused"),
    });
    PAUSED
}
