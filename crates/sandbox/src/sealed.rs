//! Holds the program that runs in every container as a file in memory.
//!
//! Used by `child`, which becomes it, and by `reaper`, which starts it.
#![forbid(unsafe_code)]

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

/// PID 1's program in sealed memory, so that no process of the build can reach a file of the host
/// through /proc/1/exe.
pub(crate) fn program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create("runner-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every such file is executable.
        Err(Errno::INVAL) => rustix::fs::memfd_create("runner-init", flags)?,
        done => done?,
    };
    let mut file = fs::File::from(file);
    file.write_all(runner_init::PROGRAM)?;
    let file = OwnedFd::from(file);
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn nothing_changes_it_any_more() {
        let file = fs::File::from(program().expect("made"));
        let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        assert_eq!(rustix::fs::fcntl_get_seals(&file).expect("told"), all);
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(1).is_err());
    }
}
