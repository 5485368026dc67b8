//! Chooses the program to run by its file name: a command of the build, a reaper, or otherwise PID
//! 1.
//!
//! `arch` enters here with the kernel's initial stack.

use crate::abi::{
    AGENT_NAME, BREAKPOINT_NAME, CONTAINER_NAME, CREDENTIAL_NAME, FILES_NAME, HASH_FILES_NAME,
    REAPER_NAME, RELAY_NAME, RESUME_NAME, TESTS_RUN_NAME,
};
use crate::strings::Strings;
use crate::{agent, credential, files, hash_files, pid1, relay, shim, sys, tests_run};

/// Runs the program.
///
/// # Safety
/// `stack` must point at the argument count, followed by the arguments, a 0, the variables and a 0,
/// as the kernel lays them out.
pub(crate) unsafe extern "C" fn start_on_stack(stack: *const usize) -> ! {
    // SAFETY: the caller vouches for the layout.
    let argc = unsafe { *stack };
    // SAFETY: as above; the arguments follow their count.
    let mut arguments = unsafe { Strings::new(stack.add(1)) };
    // SAFETY: as above; the variables follow the 0 after the arguments.
    let variables = unsafe { Strings::new(stack.add(argc + 2)) };

    let path = arguments.next().unwrap_or_default();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    if name == BREAKPOINT_NAME.as_bytes() {
        sys::exit(shim::breakpoint(variables))
    }
    if name == RESUME_NAME.as_bytes() {
        sys::exit(shim::resume())
    }
    if name == HASH_FILES_NAME.as_bytes() {
        sys::exit(hash_files::run(arguments, variables))
    }
    if name == TESTS_RUN_NAME.as_bytes() {
        sys::exit(tests_run::run(path, arguments, &variables))
    }
    if name == CREDENTIAL_NAME.as_bytes() {
        sys::exit(credential::run(arguments, variables))
    }
    if name == FILES_NAME.as_bytes() {
        sys::exit(files::run())
    }
    if name == CONTAINER_NAME.as_bytes() {
        let socket = arguments.next().unwrap_or_default();
        pid1::run_connected(socket, arguments.next().is_some())
    }
    if name == RELAY_NAME.as_bytes() {
        let dir = arguments.next().unwrap_or_default();
        sys::exit(relay::run(dir, arguments.next().is_some()))
    }
    if name == AGENT_NAME.as_bytes() {
        sys::exit(agent::run(arguments, variables))
    }
    pid1::run(name == REAPER_NAME.as_bytes())
}
