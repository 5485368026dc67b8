//! The sockets that a build may make.
//!
//! Used by the system call filter (`runner-sandbox`) and, for sockets that a filter cannot check,
//! by `sockets` in this crate.

/// Families a build may use: those that stay within a network namespace and that programs need. Of
/// the others, some reach beyond every namespace (AF_VSOCK, AF_QIPCRTR), and some open parts of the
/// kernel that no build needs (AF_ALG, AF_TIPC). AF_UNSPEC is left for the kernel to refuse.
pub const FAMILIES: [u32; 6] = [
    0,  // AF_UNSPEC
    1,  // AF_UNIX
    2,  // AF_INET
    10, // AF_INET6
    NETLINK, 17, // AF_PACKET
];
/// AF_NETLINK, except [`AUDIT`].
pub const NETLINK: u32 = 16;
/// NETLINK_AUDIT: the machine's log of its users' actions, whatever the namespace.
pub const AUDIT: u32 = 9;
/// The error for [`AUDIT`]: as from a kernel without audit, so that `useradd` and PAM go on.
pub const NO_AUDIT: i32 = 93; // EPROTONOSUPPORT
/// The error for other families.
pub const NO_FAMILY: i32 = 1; // EPERM

/// The error if a build may not have this kind of socket.
#[must_use]
pub fn refusal(family: u32, protocol: u32) -> Option<i32> {
    if !FAMILIES.contains(&family) {
        return Some(NO_FAMILY);
    }
    (family == NETLINK && protocol == AUDIT).then_some(NO_AUDIT)
}
