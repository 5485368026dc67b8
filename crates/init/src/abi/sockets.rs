//! Which sockets a build may make.
//!
//! Read by the filter of system calls (`runner-sandbox`) and, for the sockets a filter cannot look at, by
//! `sockets` in this crate.

/// Families a build may have: those that stay within a network namespace and that programs use. Of the
/// others some reach past every namespace (AF_VSOCK, AF_QIPCRTR), some are ways into the kernel that no
/// build needs (AF_ALG, AF_TIPC). None at all is for the kernel to refuse.
pub const FAMILIES: [u32; 6] = [
    0,  // AF_UNSPEC
    1,  // AF_UNIX
    2,  // AF_INET
    10, // AF_INET6
    NETLINK, 17, // AF_PACKET
];
/// AF_NETLINK, all but [`AUDIT`].
pub const NETLINK: u32 = 16;
/// NETLINK_AUDIT: the machine's own log of what its users do, whatever the namespace.
pub const AUDIT: u32 = 9;
/// What is said of it: as by a kernel without audit, so that `useradd` and PAM go on without.
pub const NO_AUDIT: i32 = 93; // EPROTONOSUPPORT
/// What is said of other families.
pub const NO_FAMILY: i32 = 1; // EPERM

/// The error in place of a socket, where a build may have none of that kind.
#[must_use]
pub fn refusal(family: u32, protocol: u32) -> Option<i32> {
    if !FAMILIES.contains(&family) {
        return Some(NO_FAMILY);
    }
    (family == NETLINK && protocol == AUDIT).then_some(NO_AUDIT)
}
