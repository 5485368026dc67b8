//! `runner run --watch`: runs the build again after each change in its source.
//!
//! Each build is a separate `runner run`, a child of this program at the same terminal, with the
//! same words: menu, notices and Ctrl-C work as in any build. This program waits for changes, for
//! the build, and for signals. A running build is stopped when the source has changed and is quiet;
//! a paused one, where a person may be at work, is left alone until it has ended.

mod sources;

use super::error::{CliError, OURS, of_status};
use super::project;
use super::run_args::{OnStopName, RunArgs};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner_client::Client;
use runner_core::debug::Breakpoint;
use runner_core::event::{BreakpointFacts, BreakpointOp, EventBody};
use runner_core::phase::Status;
use runner_core::plain;
use runner_engine::MountAccess;
use runner_folder::events::{Follower, LogReader};
use runner_folder::state::{BuildDir, Home};
use runner_host::beneath;
use runner_host::signals::{STOPS, SignalReader};
use runner_host::stdio;
use runner_outputs::OutputStore;
use runner_wire::control::ControlRequest;
use rustix::process::{PidfdFlags, getppid, pidfd_open, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};
use sources::{Changed, Sources, WatchedSources};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a source must be quiet before its change counts as done.
const QUIET: Duration = Duration::from_millis(200);

/// The state that is passed to a build started here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WatchedBuild {
    /// The parent process; the build ends with it.
    by: u32,
    /// Breakpoints that a person has added to earlier builds, and removed ones.
    breakpoints: AddedBreakpoints,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct AddedBreakpoints {
    added: Vec<Breakpoint>,
    removed: Vec<Breakpoint>,
}

impl WatchedBuild {
    /// Parses the option's value.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Ties this process to its parent, whose end stops the build.
    pub(super) fn begin(&self) -> Result<(), CliError> {
        set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .map_err(|error| CliError::of(OURS, error))?;
        // The parent may have ended before that.
        let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
        match parent {
            Some(parent) if parent == self.by => Ok(()),
            _ => Err(CliError::ours("the watching program is gone")),
        }
    }

    /// The breakpoints of this build, starting from the typed ones.
    pub(super) fn of(&self, typed: &mut Vec<Breakpoint>) {
        typed.retain(|breakpoint| !self.breakpoints.removed.contains(breakpoint));
        let added = self.breakpoints.added.iter().filter(|added| !typed.contains(added));
        let added: Vec<_> = added.cloned().collect();
        typed.extend(added);
    }
}

impl AddedBreakpoints {
    /// Learns how breakpoints changed in a build that began with `typed`.
    fn learn(&mut self, mut typed: Vec<Breakpoint>, now: &[Breakpoint]) {
        let began = WatchedBuild { by: 0, breakpoints: self.clone() };
        let declared = typed.clone();
        began.of(&mut typed);
        self.added.retain(|added| now.contains(added));
        self.removed.retain(|removed| !now.contains(removed));
        for new in now.iter().filter(|new| !typed.contains(new) && !declared.contains(new)) {
            self.added.push(new.clone());
        }
        for gone in typed.iter().filter(|gone| !now.contains(gone) && declared.contains(gone)) {
            self.removed.push(gone.clone());
        }
    }
}

/// Runs builds until a signal ends it. Returns the last build's exit code.
pub(super) fn run(args: &RunArgs, typed: &[OsString]) -> Result<u8, CliError> {
    let alone = [("--detach", args.detach), ("--on-stop exit", args.on_stop == OnStopName::Exit)];
    if let Some((option, _)) = alone.iter().find(|(_, is_set)| *is_set) {
        return Err(CliError::usage(format!("--watch shows builds here, and {option} does not")));
    }
    let signals = SignalReader::listen(&STOPS).map_err(failed("listen for signals"))?;
    let home = super::home::open()?;
    let (mut wanted, mut declared) = wanted(args, typed, &home)?;
    let mut watch = WatchLoop {
        home,
        signals,
        source: beneath::real(&args.source).map_err(failed("find the source"))?,
        is_quiet: args.quiet,
        words: words(typed),
        breakpoints: AddedBreakpoints::default(),
    };
    loop {
        // Before the build begins, so that no change in between is missed.
        let mut sources = Sources::of(wanted)?;
        let Round { code, mut changed, leaves } = watch.build(&mut sources, declared)?;
        if leaves {
            return Ok(code);
        }
        loop {
            if changed.is_none() {
                let source = watch.source.display();
                watch.say(&format!("waits for a change in {source}; Ctrl-C ends it"));
                match watch.wait(&mut sources)? {
                    Some(seen) => changed = seen,
                    None => return Ok(code),
                }
                watch.say(&format!("{}: the build runs again", changed.shown(&watch.source)));
            }
            changed = Changed::default();
            // The project file may have changed by now, or be wrong.
            match self::wanted(args, typed, &watch.home) {
                Ok(found) => {
                    (wanted, declared) = found;
                    break;
                }
                Err(error) => drop(error.print()),
            }
        }
    }
}

struct WatchLoop {
    home: Home,
    signals: SignalReader,
    source: PathBuf,
    is_quiet: bool,
    /// The program's own words up to the subcommand, and those after it.
    words: (Vec<OsString>, Vec<OsString>),
    breakpoints: AddedBreakpoints,
}

/// A finished build.
struct Round {
    code: u8,
    /// Changes since it began.
    changed: Changed,
    /// Whether a signal asks to quit.
    leaves: bool,
}

/// What wakes this program.
enum WatchWake {
    Source,
    Signal,
    Ended,
    /// The quiet time is over.
    Quiet,
}

impl WatchLoop {
    fn say(&self, text: &str) {
        if !self.is_quiet {
            stdio::say(&plain::line(text));
        }
    }

    /// Runs one build to its end, or until a change makes it obsolete.
    fn build(
        &mut self,
        sources: &mut Sources,
        declared: Vec<Breakpoint>,
    ) -> Result<Round, CliError> {
        let known = self.builds();
        // A signal that came while nothing ran is for this program alone.
        if self.signals.next_sent().is_some() {
            let code = of_status(Status::Stopped);
            return Ok(Round { code, changed: Changed::default(), leaves: true });
        }
        let mut child = self.start()?;
        let pid = child.id();
        let ended = pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty())
            .map_err(|errno| failed("wait for the build")(errno.into()))?;
        let mut round = Round { code: OURS, changed: Changed::default(), leaves: false };
        let (mut quiet_at, mut has_told, mut is_stopped) = (None, false, false);
        loop {
            match self.next(sources, Some(ended.as_fd()), quiet_at)? {
                WatchWake::Ended => break,
                WatchWake::Signal => {
                    while let Some((signal, by_terminal)) = self.signals.next_sent() {
                        round.leaves = true;
                        // The terminal has sent the signal to the build itself.
                        if !by_terminal {
                            pass_on(pid, signal);
                        }
                    }
                }
                WatchWake::Source => {
                    let seen = sources.take()?;
                    if !seen.is_none() {
                        round.changed.join(seen);
                        quiet_at = Some(Instant::now() + QUIET);
                    }
                }
                WatchWake::Quiet => {
                    quiet_at = None;
                    if is_stopped || round.leaves {
                        continue;
                    }
                    let what = round.changed.shown(&self.source);
                    let build = self.build_of(pid, &known);
                    let stays = build.and_then(|(id, dir)| Some((id, why_it_stays(&dir)?)));
                    match stays {
                        Some(_) if has_told => {}
                        Some((id, why)) => {
                            has_told = true;
                            self.say(&format!(
                                "{what}: {id} {why} and stays as it is; the build runs again once that one has \
                                 ended"
                            ));
                        }
                        None => {
                            is_stopped = true;
                            self.say(&format!("{what}: the build is stopped, and runs again"));
                            self.stop(pid, &known);
                        }
                    }
                }
            }
        }
        let status = child.wait().map_err(failed("wait for the build"))?;
        // A signal that comes before the build listens ends it at once.
        let if_killed = if round.leaves { of_status(Status::Stopped) } else { OURS };
        round.code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(if_killed);
        if let Some((_, dir)) = self.build_of(pid, &known)
            && let Ok(now) = breakpoints(&dir)
        {
            self.breakpoints.learn(declared, &now);
        }
        // Changes at its end belong to the next one.
        round.changed.join(sources.take()?);
        Ok(round)
    }

    /// Waits for a change; `None` after a signal.
    fn wait(&self, sources: &mut Sources) -> Result<Option<Changed>, CliError> {
        let (mut changed, mut quiet_at) = (Changed::default(), None);
        loop {
            match self.next(sources, None, quiet_at)? {
                WatchWake::Source => {
                    let seen = sources.take()?;
                    if !seen.is_none() {
                        changed.join(seen);
                        quiet_at = Some(Instant::now() + QUIET);
                    }
                }
                WatchWake::Quiet => return Ok(Some(changed)),
                WatchWake::Signal => return Ok(None),
                WatchWake::Ended => {}
            }
        }
    }

    fn next(
        &self,
        sources: &Sources,
        ended: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<WatchWake, CliError> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                // Round up to whole milliseconds.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let none = self.signals.as_fd();
            let mut ready = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(ended.unwrap_or(none), PollFlags::POLLIN),
                PollFd::new(sources.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, timeout) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(failed("wait")(errno.into())),
                Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(WatchWake::Quiet),
                Ok(0) => continue,
                Ok(_) => {}
            }
            let is_ready = |at: usize| ready[at].any().unwrap_or(true);
            return Ok(match () {
                () if is_ready(0) => WatchWake::Signal,
                () if ended.is_some() && is_ready(1) => WatchWake::Ended,
                () => WatchWake::Source,
            });
        }
    }

    /// Starts the next build.
    fn start(&self) -> Result<Child, CliError> {
        let watched =
            WatchedBuild { by: std::process::id(), breakpoints: self.breakpoints.clone() };
        let json = serde_json::to_string(&watched).map_err(|error| CliError::of(OURS, error))?;
        let (before, behind) = &self.words;
        super::once_more()
            .args(before)
            .arg(format!("--watched={json}"))
            .args(behind)
            .spawn()
            .map_err(failed("start the build"))
    }

    /// Stops a build as one Ctrl-C does.
    fn stop(&self, pid: u32, known: &HashSet<OsString>) {
        let asked = self.build_of(pid, known).is_some_and(|(_, dir)| {
            Client::connect(&dir).and_then(|mut client| client.ask(&ControlRequest::Stop)).is_ok()
        });
        if !asked {
            // It has not got that far.
            pass_on(pid, Signal::SIGINT);
        }
    }

    /// Names of all builds' folders.
    fn builds(&self) -> HashSet<OsString> {
        let entries = std::fs::read_dir(self.home.builds()).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    }

    /// The build that a process has begun since `known` was listed, if any.
    fn build_of(&self, pid: u32, known: &HashSet<OsString>) -> Option<(String, BuildDir)> {
        self.builds().into_iter().filter(|name| !known.contains(name)).find_map(|name| {
            let dir = BuildDir::of(&self.home, name.to_str()?);
            let meta = dir.meta().ok().flatten().filter(|meta| meta.runner_pid == pid)?;
            Some((meta.build_id(), dir))
        })
    }
}

/// The sources to watch for such a build, and its breakpoints, typed or from its project file.
fn wanted(
    args: &RunArgs,
    typed: &[OsString],
    home: &Home,
) -> Result<(WatchedSources, Vec<Breakpoint>), CliError> {
    // The build itself reports the files' settings.
    let args = RunArgs { quiet: true, ..args.clone() };
    let (args, _) = project::with_files(args, typed)?;
    let real = |path: &Path| beneath::real(path).map_err(failed("find what to watch"));
    let mut sources = vec![super::run::source(&args.source)?];
    for (_, dir) in &args.secondary_source {
        sources.push(real(dir)?);
    }
    let buildspec = args.buildspec.clone().unwrap_or_else(|| sources[0].join("buildspec.yml"));
    let buildspec = match (buildspec.parent(), buildspec.file_name()) {
        (Some(above), Some(name)) => {
            let here = Path::new(".");
            let above = if above.as_os_str().is_empty() { here } else { above };
            real(above)?.join(name)
        }
        _ => buildspec,
    };
    let folder = |store: &OutputStore| match store {
        OutputStore::Folder(folder) => Some(folder.clone()),
        OutputStore::Bucket(_) => None,
    };
    let artifacts = args.artifacts.as_ref().and_then(|to| folder(&to.store));
    let cache = args.cache.as_ref().and_then(folder);
    let others = [
        ("--reports", args.reports),
        ("--log-file", args.log_file),
        ("--build-json", args.build_json),
        ("--id-file", args.id_file),
        ("--session-log", args.session_log),
        ("RUNNER_HOME", Some(home.root().to_path_buf())),
    ];
    let mounts = args.mount.into_iter().filter(|mount| mount.access == MountAccess::Write);
    let mounts = mounts.map(|mount| ("--mount", Some(mount.source)));
    let mut left = Vec::new();
    for (option, place) in
        [("--artifacts", artifacts), ("--cache", cache)].into_iter().chain(others).chain(mounts)
    {
        let Some(place) = place else { continue };
        let place = real(&place)?;
        if let Some(source) = sources.iter().find(|source| source.starts_with(&place)) {
            return Err(CliError::usage(format!(
                "--watch: {option} is {}, where the source is: each build would start the next one",
                source.display()
            ))
            .hint("name a separate directory for the outputs of builds"));
        }
        left.push(place);
    }
    Ok((WatchedSources { sources, files: vec![buildspec], left }, args.break_on))
}

/// This program's words: up to the subcommand, and after it.
fn words(typed: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let mut all: Vec<OsString> = std::env::args_os().skip(1).collect();
    let behind = all.split_off(all.len().saturating_sub(typed.len()));
    (all, behind)
}

/// Why a build must not be stopped: it is paused, or may be. A build without a log has not begun.
fn why_it_stays(dir: &BuildDir) -> Option<String> {
    let is_paused = Follower::open(dir)
        .and_then(|mut log| Ok(log.catch_up()?.is_some_and(|view| !view.paused.is_empty())));
    match is_paused {
        Ok(is_paused) => is_paused.then(|| "is paused".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("may be paused (its log cannot be read: {error})")),
    }
}

/// A person's breakpoints at the end of a build.
fn breakpoints(dir: &BuildDir) -> io::Result<Vec<Breakpoint>> {
    let mut log = LogReader::open(dir)?;
    let mut all = BTreeMap::new();
    while let Some(event) = log.next_event()? {
        if let EventBody::Breakpoint(BreakpointFacts { op, id, text, .. }) = event.body {
            match op {
                BreakpointOp::Set => all.insert(id.0, text),
                BreakpointOp::Removed => all.remove(&id.0),
            };
        }
    }
    Ok(all.values().filter_map(|text| text.parse().ok()).collect())
}

/// Sends a signal. The process may be gone: then its end is about to be reported.
fn pass_on(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> CliError {
    move |error| CliError::ours(format!("cannot {what}: {error}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<Breakpoint> {
        texts.iter().map(|text| text.parse().expect("a breakpoint")).collect()
    }

    #[test]
    fn breakpoints_of_people_stay() {
        let mut kept = AddedBreakpoints::default();
        let began = |kept: &AddedBreakpoints, typed: &[&str]| {
            let mut typed = all(typed);
            WatchedBuild { by: 1, breakpoints: kept.clone() }.of(&mut typed);
            typed
        };
        // As typed.
        kept.learn(all(&["failure"]), &all(&["failure"]));
        assert_eq!(kept, AddedBreakpoints::default());
        // One added, and the typed one removed.
        kept.learn(all(&["failure"]), &all(&["start"]));
        assert_eq!(began(&kept, &["failure"]), all(&["start"]));
        // The next build has these, and its file has changed meanwhile.
        kept.learn(all(&["failure"]), &all(&["start"]));
        assert_eq!(began(&kept, &["failure", "longer:5m"]), all(&["longer:5m", "start"]));
        // It is added again, and the other one removed.
        kept.learn(all(&["failure"]), &all(&["failure"]));
        assert_eq!(began(&kept, &["failure"]), all(&["failure"]));
        assert_eq!(kept, AddedBreakpoints::default());
        let json = serde_json::to_string(&WatchedBuild { by: 1, breakpoints: kept }).expect("JSON");
        assert!(WatchedBuild::parse(&json).is_ok() && WatchedBuild::parse("{}").is_err());
    }
}
