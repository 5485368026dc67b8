//! Chores that this program does in a separate process (`runner_sandbox::Chore`). Most run as root
//! of a user namespace, because only there can the files of a container's users be created,
//! chowned, inspected and removed. One looks after a program that must not outlive its runner.
//!
//! `main` enters here before anything else; `private`, `image` and `engine` start the chores.

use crate::image::{self, Rules};
use crate::pasta;
use nix::sys::stat::{Mode, umask};
use runner_host::private::remove_as_we_are;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Does one chore and prints its result to standard output.
#[allow(clippy::print_stdout, reason = "its caller reads it")]
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let result = match words.as_slice() {
        ["remove", path] => remove_as_we_are(Path::new(path))
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
        ["filter"] => runner_sandbox::filter_this_process()
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
        ["layer", order] => end_with_parent().and_then(|()| crate::kept::chore_of_layer(order)),
        ["contents"] => {
            end_with_parent().and_then(|()| crate::kept::chore_of_contents(std::io::stdin()))
        }
        ["unpack", tree, marks, most] => unpack(tree, marks, most),
        ["look"] => image::look_at_layers(std::io::stdin()).map_err(|error| error.to_string()),
        ["pasta", program, dir, pid, owner, options @ ..] => {
            pasta::supervise(program, dir, pid, owner, options).map_err(|error| error.to_string())
        }
        _ => Err("this argument is for the runner's own use".to_owned()),
    };
    match result {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            print!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process with its parent: the next command removes the killed runner's layer, and
/// nothing may still be copying into it.
///
/// Only for chores whose caller waits on the thread that started them.
fn end_with_parent() -> Result<(), String> {
    let failed = |errno: rustix::io::Errno| format!("cannot be tied to the runner: {errno}");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed)?;
    // The runner may have died before this call; then nobody holds the other end of standard
    // output.
    let output = rustix::stdio::stdout();
    let mut ends = [PollFd::new(&output, PollFlags::empty())];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_err(failed)?;
    match ends[0].revents().contains(PollFlags::HUP) {
        true => Err("the runner is gone".to_owned()),
        false => Ok(()),
    }
}

/// Unpacks a layer from standard input.
fn unpack(tree: &str, marks: &str, most: &str) -> Result<String, String> {
    // Ignores the caller's umask: the image sets the modes of its files.
    umask(Mode::from_bits_truncate(0o022));
    let rules = Rules::from_words(marks, most).ok_or("these words make no rules")?;
    let said = |value: serde_json::Result<String>| value.map_err(|error| error.to_string());
    match image::unpack(std::io::stdin().lock(), Path::new(tree), rules) {
        Ok(facts) => said(serde_json::to_string(&facts)),
        Err(error) => Err(said(serde_json::to_string(&error)).unwrap_or_else(|error| error)),
    }
}
