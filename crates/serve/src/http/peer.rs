//! Finds the process at the other end of a connection on this machine.
//!
//! Used only for unsigned requests, where those are allowed: they are meant for programs of the
//! user who runs the server, and a build may share the machine's network with them. The kernel
//! tells the user and the inode of the other socket (`peers`); processes that have this inode open
//! are found in /proc. A process that cannot be found is a stranger: a build could hide its socket
//! from us, but it cannot put it into a process outside. Between fork and exec a program's child
//! has all its sockets open and may have ended a moment later; then the search is repeated.

use super::site::ConnectionEnds;
use runner_host::peers;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most searches. A build could make processes come and go for ever.
const LOOKS: usize = 10;

/// Checks that the process at the other end belongs to this user and to no build. `reapers` are the
/// first processes of builds without containers.
///
/// # Errors
/// If it does not, or cannot be found, with the reason for the caller.
pub(super) fn is_ours(ends: ConnectionEnds, reapers: &[u32]) -> Result<(), &'static str> {
    let owner = peers::owner(ends.peer, ends.local)
        .ok_or("the other end is not a process of this machine")?;
    if !peers::is_ours(owner.uid) {
        return Err("the other end belongs to another user");
    }
    let wanted = format!("socket:[{}]", owner.inode);
    for _ in 0..LOOKS {
        let owners = owners(&wanted).unwrap_or_default();
        if owners.is_empty() {
            break;
        }
        match judge(&owners, reapers) {
            Err(Stranger::Gone) => {}
            Err(Stranger::Known(why)) => return Err(why),
            Ok(()) => return Ok(()),
        }
    }
    Err("the process at the other end cannot be found")
}

/// Why a process is not accepted.
enum Stranger {
    Known(&'static str),
    /// It ended during the check.
    Gone,
}

/// Checks that all these processes belong to this user and to no build.
fn judge(owners: &[u32], reapers: &[u32]) -> Result<(), Stranger> {
    let own = namespace("self").map_err(|_| Stranger::Known("this program cannot be looked at"))?;
    for pid in owners {
        if namespace(&pid.to_string()).map_err(|error| stranger(&error))? != own {
            return Err(Stranger::Known("the other end is a process in a container"));
        }
        let line = ancestors(*pid).map_err(|error| stranger(&error))?;
        if line.iter().any(|pid| reapers.contains(pid)) {
            return Err(Stranger::Known("the other end is a process of a build"));
        }
    }
    Ok(())
}

/// The meaning of a failure to read a process's files.
fn stranger(error: &io::Error) -> Stranger {
    match error.kind() {
        io::ErrorKind::NotFound => Stranger::Gone,
        _ if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Stranger::Gone,
        _ => Stranger::Known("the other end is a process that cannot be looked at"),
    }
}

/// Processes that have this socket open, as far as we may look.
fn owners(wanted: &str) -> io::Result<Vec<u32>> {
    let mut owners = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has_it = descriptors
            .flatten()
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| target.as_os_str() == wanted);
        if has_it {
            owners.push(pid);
        }
    }
    Ok(owners)
}

fn namespace(pid: &str) -> io::Result<PathBuf> {
    fs::read_link(Path::new("/proc").join(pid).join("ns/pid"))
}

/// A process and its ancestors.
fn ancestors(mut pid: u32) -> io::Result<Vec<u32>> {
    let mut line = vec![pid];
    while pid > 1 {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let parent = parent.and_then(|parent| parent.trim().parse().ok());
        pid = parent.ok_or(io::ErrorKind::InvalidData)?;
        line.push(pid);
        if line.len() > 1000 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn our_own_connection_is_found() {
        for bound in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let address = listener.local_addr().expect("an address");
            let client = TcpStream::connect(address).expect("a connection");
            let (_server, peer) = listener.accept().expect("a connection");
            let ends = ConnectionEnds { peer, local: address };
            assert_eq!(is_ours(ends, &[]), Ok(()));
            // A descendant of a build's reaper belongs to the build.
            let me = std::process::id();
            assert!(is_ours(ends, &[me]).is_err());
            drop(client);
        }
        let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        assert!(is_ours(ConnectionEnds { peer: nobody, local: nobody }, &[]).is_err());
    }

    /// Each child has our connection open until it executes its program.
    #[test]
    fn children_that_come_and_go_are_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let _client = TcpStream::connect(address).expect("a connection");
        let (_server, peer) = listener.accept().expect("a connection");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    Command::new("true").status().expect("a child");
                }
            });
            let ends = ConnectionEnds { peer, local: address };
            let judged: Vec<_> = (0..200).map(|_| is_ours(ends, &[])).collect();
            is_over.store(true, Ordering::Relaxed);
            assert!(judged.iter().all(Result::is_ok), "{judged:?}");
        });
    }
}
