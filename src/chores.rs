//! Chores that this program does as root of a user namespace (`runner_sandbox::chore`): there alone
//! may the files of a container's users be made, given away and removed.
//!
//! Entered from `main` before anything else; started by `state` and `engine`.

use crate::engine::rootfs;
use crate::state::remove_as_we_are;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// Does one chore; what there is to say goes to standard output.
#[allow(clippy::print_stdout, reason = "its caller reads it")]
pub(crate) fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let result = match words.as_slice() {
        ["remove", path] => remove_as_we_are(Path::new(path))
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
        ["unpack", tar, tree] => rootfs::unpack_file(Path::new(tar), Path::new(tree))
            .map(|skipped| skipped.to_string())
            .map_err(|error| error.to_string()),
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
