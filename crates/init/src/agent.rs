//! `runner-agent TOKEN`: what an image's ENTRYPOINT is given to run, as CodeBuild gives it its agent.
//!
//! Tells the runner, on standard output, the variables that the entrypoint has set up: the token, the
//! variables with a 0 behind each, the token. Then it stays, because entrypoints take what they have
//! started down with them when it ends.

use crate::strings::Strings;
use crate::sys;

const USAGE: i32 = 2;

/// The program.
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
        // Until the container ends.
        let _ = sys::poll(&mut []);
    }
}
