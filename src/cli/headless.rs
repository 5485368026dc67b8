//! `runner __build`: runs one build without a terminal, for a display in another process.
//!
//! It reads its request, as JSON, from standard input to the end, and writes one line of JSON to
//! standard output: which build has begun, or why none has. After that, displays are clients of its
//! control socket, and the build does not depend on any of them: it ends as its request says, by
//! `runner stop`, or by a signal. The request contains secret values, so it appears neither in a
//! list of processes nor in a file.

use super::error::{CliError, USAGE, of_status};
use super::say;
use crate::door::{Door, DoorParts};
use runner_build::headless::{HeadlessAnswer, HeadlessRefusal};
use runner_build::{self as build, BuildOutcome, BuildRequest, Face, OpenedBuild, ReadyBuild};
use runner_engine::Fut;
use runner_folder::state::Home;
use runner_host::stdio;
use runner_service::queue::BEGUN;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Maximum bytes of a request: the longest buildspec and all variables that a program can be given.
const MAX_REQUEST: u64 = 16 << 20;

/// The requester, which learns only that the build has begun.
struct Requester {
    has_heard: bool,
    /// The state folder and the settings of the endpoint for AWS's clients.
    way_in: Option<(Home, DoorParts)>,
    door: Option<Door>,
    /// The lock of a service's start, held to the end: it tells the service whether the build is
    /// running.
    start: Option<File>,
}

/// Runs the build. Returns its exit code.
pub(crate) fn main() -> u8 {
    let mut asker = Requester { has_heard: false, way_in: None, door: None, start: None };
    match run(&mut asker) {
        Ok(code) => code,
        Err(error) if asker.has_heard => error.print(),
        Err(error) => {
            let CliError { code, message, hints, .. } = &error;
            // The requester may be gone.
            let (message, hints) = (message.clone(), hints.clone());
            let _ = tell(&HeadlessAnswer::Failed(HeadlessRefusal { code: *code, message, hints }));
            *code
        }
    }
}

fn run(asker: &mut Requester) -> Result<u8, CliError> {
    leave_terminal();
    let request = read(&mut io::stdin().lock())?;
    forget_request()
        .map_err(|error| CliError::ours(format!("cannot close standard input: {error}")))?;
    if request.accepted.is_some() {
        let taken = take_lock();
        asker.start =
            Some(taken.map_err(|error| CliError::ours(format!("cannot keep the lock: {error}")))?);
    }
    if let Some(owner) = request.member.as_ref().and_then(|member| member.owner) {
        end_with(owner)?;
    }
    std::env::set_current_dir(&request.directory).map_err(|error| {
        CliError::usage(format!("directory {}: {error}", request.directory.display()))
    })?;
    let home = super::home::open()?;
    let (spec, _) = request.buildspec.parse(&request.values.fetched)?;
    let opened = OpenedBuild::open(&request, spec, &home)?;
    let rejected = opened.is_rejected();
    asker.way_in = request.sessions.is_enabled.then(|| (home.clone(), DoorParts::of(&request)));
    let BuildOutcome { status, warnings } = build::run(request, opened, home, of_status, asker)?;
    for text in warnings {
        say(&format!("warning: {text}"));
    }
    Ok(if rejected { USAGE } else { of_status(status) })
}

/// Takes the lock, which is passed as standard error, so that no child inherits it.
fn take_lock() -> io::Result<File> {
    let lock = io::stderr().as_fd().try_clone_to_owned()?;
    let nothing = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stderr(nothing)?;
    Ok(File::from(lock))
}

/// Closes standard input, which holds secret values while it is open.
fn forget_request() -> io::Result<()> {
    let nothing = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(nothing).map_err(Into::into)
}

/// Starts a new session without a terminal, so that neither its keys nor its end reach the build.
fn leave_terminal() {
    // The process already leads its session, or its parent made it a process group leader.
    if let Err(error) = nix::unistd::setsid() {
        tracing::debug!(%error, "cannot start a new session");
    }
}

/// Makes a batch's build end with the batch's owner, however that ends: the kernel kills this
/// process, and the next command repairs what is left.
fn end_with(owner: u32) -> Result<(), CliError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| CliError::ours(format!("cannot be tied to the batch: {error}")))?;
    // The owner may have died before that.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    match parent {
        Some(parent) if parent == owner => Ok(()),
        _ => Err(CliError::ours("the owner of the batch is gone")),
    }
}

/// Reads a request, which may contain anything.
fn read(from: &mut impl Read) -> Result<BuildRequest, CliError> {
    let mut text = Vec::new();
    from.take(MAX_REQUEST + 1)
        .read_to_end(&mut text)
        .map_err(|error| CliError::ours(format!("cannot read the request: {error}")))?;
    if text.len() as u64 > MAX_REQUEST {
        return Err(CliError::usage(format!("the request has more than {MAX_REQUEST} bytes")));
    }
    serde_json::from_slice(&text)
        .map_err(|error| CliError::usage(format!("the request is none: {error}")))
}

/// Writes the answer and closes standard output.
fn tell(answer: &HeadlessAnswer) -> io::Result<()> {
    let line = serde_json::to_string(answer)? + "\n";
    stdio::answer(line)?;
    let nothing = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(nothing).map_err(Into::into)
}

impl Face for Requester {
    fn begin(&mut self, begun: &ReadyBuild<'_>) -> io::Result<()> {
        self.has_heard = true;
        if let Some(start) = &mut self.start {
            start.write_all(BEGUN.as_bytes())?;
        }
        let ReadyBuild { id, uuid, dir, .. } = begun;
        let (id, uuid) = ((*id).to_owned(), (*uuid).to_owned());
        let folder = dir.path().to_path_buf();
        if let Err(error) = tell(&HeadlessAnswer::Started { id, uuid, folder }) {
            // The build continues without its requester.
            tracing::debug!(%error, "nobody hears which build this is");
        }
        if let Some((home, parts)) = &self.way_in {
            self.door = Some(Door::new(home, dir, parts.clone()));
        }
        Ok(())
    }

    fn close(&mut self, reason: String) -> Fut<'_, ()> {
        let door = self.door.take();
        Box::pin(async {
            if let Some(door) = door {
                door.close(reason).await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused() {
        let refused =
            |mut text: &[u8]| read(&mut text).err().map(|error| (error.code, error.message));
        for text in [&b""[..], b"{}", b"[[[[", b"\xff", &[b'['; 10_000], b"{\"project\": 1}"] {
            let (code, message) = refused(text).expect("refused");
            assert_eq!(code, USAGE);
            assert!(message.starts_with("the request is none: "), "{message}");
        }
        let mut endless = io::repeat(b' ');
        let error = read(&mut endless).err().expect("refused");
        assert_eq!(
            (error.code, error.message.as_str()),
            (USAGE, "the request has more than 16777216 bytes")
        );
    }
}
