//! The capabilities a build's root keeps.
//!
//! Used by `child`. Docker's list, without what would reach past the container: no device nodes, since
//! nothing keeps the host's devices from it but that (pitfall 6 of the engine's design), no raw packets
//! on the host's network (decision 16), no records in the machine's audit log.
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

/// Their names, as daemons have them: without `CAP_`.
pub fn kept_capabilities() -> impl Iterator<Item = &'static str> {
    KEPT.iter_names().map(|(name, _)| name)
}

/// Takes every other capability out of the bounding set. The next exec as root then gets exactly
/// what is left, so nothing else need be dropped.
///
/// PID 1 alone gets one more, by inheritance, which it ends: it looks into the memory of whoever asks it
/// for a socket (`sockets` in `runner-init`).
pub(crate) fn limit(network: ContainerNetwork) -> io::Result<()> {
    let mut sets = capabilities(None)?;
    // The runner may be without it itself.
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
            // Numbers past the kernel's last capability.
            Err(Errno::INVAL) => break,
            done => done?,
        }
    }
    Ok(())
}
