//! The freestanding program, compiled by `build.rs`: the entry, the panic handler, and the same
//! modules that `lib.rs` shows to cargo.
#![no_std]
#![no_main]

mod abi;
mod agent;
#[path = "arch_x86_64.rs"]
mod arch;
mod credential;
mod dial;
mod digits;
mod entry;
mod exec;
mod files;
mod glob;
mod hash_files;
mod listing;
mod mem;
mod outbox;
mod path;
mod pid1;
mod place;
mod relay;
mod request;
mod sha256;
mod shim;
mod sockets;
mod still;
mod strings;
mod sys;
mod tests_run;
mod tree;
use entry::start_on_stack;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::complain(b"runner-init: internal error\n");
    sys::exit(72)
}

/// `core` refers to it although nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
