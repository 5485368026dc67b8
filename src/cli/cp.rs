//! `runner cp`.

use super::error::{CliError, OURS, SESSION};
use super::sessions::connect;
use clap::Args;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runner_client::{self as client, Copied, CopyDirection, CopyError, Manner, Unfinished};
use runner_host::signals::{ENDS, SignalReader};
use runner_host::stdio::say;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Options of `runner cp`.
#[derive(Debug, Args)]
#[command(after_help = CP_HELP)]
pub(super) struct CpArgs {
    /// Source: BUILD:PATH in a build, or a path on this machine
    src: OsString,
    /// Destination: a path on this machine if SRC is in a build, otherwise BUILD:PATH
    dst: OsString,
    /// If SRC is a symbolic link, copy its target
    #[arg(short = 'L', long)]
    follow_link: bool,
}

const CP_HELP: &str = "\
BUILD is a build id, its uuid, a unique prefix of either, or a project with one live build; `:PATH`
is enough if only one build is live. A relative PATH starts where `runner exec` runs commands. Begin
a path of this machine that contains a colon with / or ./

As with cp -r and docker cp, a file or directory is copied into DST if DST is a directory, and gets
that name if nothing is there. SRC/. copies the contents of SRC. To copy a file to DST/, DST has to
be a directory. Modes, times, symbolic and hard links and holes are kept. Files written here belong
to you and grant no rights (no set-user-id bits); files written in the build belong to its root.
FIFOs, sockets and devices are not copied, but named.

  runner cp :target/report.html .        out of the one live build
  runner cp demo:/var/log ./logs         a directory, of project demo's live build
  runner cp fixed.py 4f2a:src/           into a build

Exit status: 0 if everything was copied; 2 for wrong usage or an unknown BUILD; 3 if a path was not
copied, which is then named.";

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Build { build: Option<&'a str>, path: &'a [u8] },
    Here(&'a Path),
}

impl<'a> Side<'a> {
    fn parse(text: &'a OsStr) -> Result<Self, CliError> {
        let bytes = text.as_bytes();
        let is_explicit = [&b"/"[..], b"./", b"../"].iter().any(|start| bytes.starts_with(start));
        let colon = bytes.iter().position(|&byte| byte == b':').filter(|_| !is_explicit);
        let Some(mut colon) = colon else {
            return match bytes {
                b"-" => Err(CliError::usage("cp does not read or write standard input and output")
                    .hint("runner exec BUILD -- tar -cC DIR . > FILE.tar does")),
                b"" => Err(CliError::usage("a path cannot be empty")),
                _ => Ok(Side::Here(Path::new(text))),
            };
        };
        // PROJECT:UUID is one name.
        if let Some(second) = bytes[colon + 1..].iter().position(|&byte| byte == b':') {
            let middle = &bytes[colon + 1..][..second];
            let is_uuid = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
            if !middle.is_empty() && middle.iter().all(is_uuid) {
                colon += 1 + second;
            }
        }
        let (build, path) = (&bytes[..colon], &bytes[colon + 1..]);
        let build = std::str::from_utf8(build)
            .map_err(|_| CliError::usage(format!("there is no build `{}`", text.display())))?;
        if path.is_empty() || path.contains(&0) {
            return Err(CliError::usage(format!("name a path after `{build}:`"))
                .hint(format!("the directory that commands run in: {build}:.")));
        }
        Ok(Side::Build { build: Some(build).filter(|build| !build.is_empty()), path })
    }
}

/// Copies. Returns the exit code.
pub(super) fn cp(args: &CpArgs) -> Result<u8, CliError> {
    let (build, way) = match (Side::parse(&args.src)?, Side::parse(&args.dst)?) {
        (Side::Build { build, path }, Side::Here(to)) => {
            (build, CopyDirection::Out { from: path, to })
        }
        (Side::Here(from), Side::Build { build, path }) => {
            (build, CopyDirection::In { from, to: path })
        }
        (Side::Here(_), Side::Here(_)) => {
            return Err(CliError::usage("neither SRC nor DST is in a build")
                .hint("write BUILD:PATH, or :PATH where one build is live"));
        }
        (Side::Build { .. }, Side::Build { .. }) => {
            return Err(CliError::usage("SRC and DST are both in a build")
                .hint("copy to this machine first; a path of this machine begins with / or ./"));
        }
    };
    let unfinished = clean_up_on_signals()
        .map_err(|error| CliError::ours(format!("cannot listen for signals: {error}")))?;
    let client = connect(build)?;
    let manner =
        Manner { follows: args.follow_link, tell: &|text| say(text), unfinished: &unfinished };
    let copied = client::copy(client, way, manner)?;
    finish(&copied)
}

fn finish(copied: &Copied) -> Result<u8, CliError> {
    let Copied { entries, bytes, problems } = *copied;
    if problems > 0 {
        let things = if problems == 1 { "path" } else { "paths" };
        return Err(CliError::ours(format!(
            "{problems} {things} could not be copied completely; see above"
        )));
    }
    if std::io::stderr().is_terminal() {
        let size = indicatif::HumanBytes(bytes);
        say(&format!("copied {entries} files and directories, {size}"));
    }
    Ok(0)
}

/// Makes sure that no partial file remains if a signal ends this program.
fn clean_up_on_signals() -> std::io::Result<Arc<Unfinished>> {
    let signals = SignalReader::listen(&ENDS)?;
    let unfinished = Arc::new(Unfinished::default());
    let shared = Arc::clone(&unfinished);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, PollTimeout::NONE);
            if let Some(signal) = signals.next() {
                let _none_begins = shared.remove();
                std::process::exit(128 + signal as i32);
            }
        }
    })?;
    Ok(unfinished)
}

impl From<CopyError> for CliError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Client(error) => {
                let mut error = CliError::from(error);
                // The exit code that `exec` would use.
                if error.code == SESSION {
                    error.code = OURS;
                }
                error
            }
            CopyError::NoSuchDirectory { .. } => CliError::of(OURS, error)
                .hint("without the slash at its end, DST is the name of the copy"),
            CopyError::Files(_)
            | CopyError::Local { .. }
            | CopyError::Remote { .. }
            | CopyError::DirectoryToFile { .. }
            | CopyError::NotADirectory { .. }
            | CopyError::Ended(_) => CliError::of(OURS, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_told_from_a_path() {
        let id = "demo:4f2a1c00-0000-4000-8000-000000000000";
        let whole = format!("{id}:/a:b");
        for (text, wanted) in [
            ("demo:/a", Some((Some("demo"), "/a"))),
            (whole.as_str(), Some((Some(id), "/a:b"))),
            ("demo:4f2a:a", Some((Some("demo:4f2a"), "a"))),
            ("4f2a:dir:x/a", Some((Some("4f2a"), "dir:x/a"))),
            (":a", Some((None, "a"))),
            ("./a:b", None),
            ("/a:b", None),
            ("a", None),
        ] {
            let wanted = match wanted {
                Some((build, path)) => Side::Build { build, path: path.as_bytes() },
                None => Side::Here(Path::new(text)),
            };
            assert_eq!(Side::parse(OsStr::new(text)).ok(), Some(wanted), "{text}");
        }
        for text in ["", "-", "demo:"] {
            assert!(Side::parse(OsStr::new(text)).is_err(), "{text}");
        }
    }
}
