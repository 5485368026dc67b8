//! `runner-agent TOKEN`: the program that an image's ENTRYPOINT gets to run, as CodeBuild gives it
//! its agent.
//!
//! Reports the variables that the entrypoint has set to the runner on standard output: the token,
//! the variables, each followed by a NUL, and the token again. Then it stays, because entrypoints
//! end their other programs when it ends.

use crate::strings::Strings;
use crate::sys;

const USAGE: i32 = 2;

/// Runs the program and returns its exit code.
pub(crate) fn run(mut arguments: Strings, environment: Strings) -> i32 {
    let Some(token) = arguments.next() else {
        sys::complain(b"runner-agent: this is for the runner's own use\n");
        return USAGE;
    };
    sys::say(token);
    for variable in environment {
        sys::say(variable);
        sys::say(b"\0");
    }
    sys::say(token);
    loop {
        // Stay until the container ends.
        let _ = sys::poll(&mut []);
    }
}
