//! The capabilities a build's root keeps.
//!
//! Used by `child`. Docker's list, without those that reach beyond the container: no device nodes,
//! because nothing else protects the host's devices (pitfall 6 of the engine's design); no raw
//! packets on the host's network (decision 16); no records in the machine's audit log.
#![forbid(unsafe_code)]

use crate::spec::ContainerNetwork;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities,
};
use std::io;

const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETFCAP);

/// The names of the capabilities as daemons write them: without `CAP_`.
pub fn kept_capabilities() -> impl Iterator<Item = &'static str> {
    KEPT.iter_names().map(|(name, _)| name)
}

/// Removes every other capability from the bounding set. The next exec as root then gets exactly
/// the rest, so nothing else needs to be dropped.
///
/// PID 1 alone inherits one more, which it does not pass on: it reads the memory of processes that
/// ask it for a socket (`sockets` in `runner-init`).
pub(crate) fn limit(network: ContainerNetwork) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    // The runner itself may not have it.
    sets.inheritable = sets.permitted & CapabilitySet::SYS_PTRACE;
    set_capabilities(None, sets)?;
    let kept = match network {
        ContainerNetwork::Host => KEPT,
        ContainerNetwork::Own => KEPT.union(CapabilitySet::NET_RAW),
    };
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // Numbers beyond the kernel's last capability.
            Err(Errno::INVAL) => break,
            done => done?,
        }
    }
    Ok(())
}
