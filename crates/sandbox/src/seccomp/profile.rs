//! The table of calls as a profile for daemons, which make their own filters.
//!
//! Used by the engines `docker` and `podman`, so that containers there have this version's
//! restrictions rather than the daemon's. The call that our filter elsewhere leaves to PID 1
//! (`socketcall`) must be allowed here.
#![forbid(unsafe_code)]

use super::calls::{
    ABSENT, ALLOWED, ALLOWED_OLD, CLONE, PERSONALITY, REFUSED, SOCKET, SOCKETCALL, SystemCall,
    UNSHARE,
};
use super::filter::{NEW_NAMESPACES, PARTED, PERSONAS};
use runner_init::abi::sockets::{AUDIT, FAMILIES, NETLINK, NO_AUDIT, NO_FAMILY};
use serde_json::{Value, json};

/// The profile as Docker and Podman read it.
#[must_use]
pub fn seccomp_profile() -> String {
    let mut rules: Vec<Value> =
        [ALLOWED, ALLOWED_OLD, SOCKETCALL].map(|calls| allow(calls, &[])).into();
    rules.push(refuse(REFUSED, libc::EPERM, &[]));
    rules.push(refuse(ABSENT, libc::ENOSYS, &[]));
    for (calls, kept) in [(CLONE, !u64::from(NEW_NAMESPACES)), (UNSHARE, u64::from(PARTED))] {
        rules.push(allow(calls, &[masked(!kept, 0)]));
        // A rule cannot say "any of these bits".
        let refused = (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| !kept & bit != 0);
        rules.extend(refused.map(|bit| refuse(calls, libc::EPERM, &[masked(bit, bit)])));
    }
    rules.extend(PERSONAS.map(|persona| allow(PERSONALITY, &[argument(0, "EQ", persona)])));
    rules.extend(sockets());
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::ENOSYS,
        // A program for another CPU may run in an emulator of this one's.
        "archMap": [
            architecture("X86_64", &["X86", "X32"]),
            architecture("AARCH64", &["ARM"]),
        ],
        "syscalls": rules,
    })
    .to_string()
}

fn sockets() -> Vec<Value> {
    let is_netlink = argument(0, "EQ", NETLINK);
    let mut rules = vec![
        allow(SOCKET, &[is_netlink.clone(), argument(2, "NE", AUDIT)]),
        refuse(SOCKET, NO_AUDIT, &[is_netlink, argument(2, "EQ", AUDIT)]),
    ];
    let last = FAMILIES.into_iter().max().unwrap_or_default();
    for family in (0..=last).filter(|family| *family != NETLINK) {
        let is_it = [argument(0, "EQ", family)];
        rules.push(match FAMILIES.contains(&family) {
            true => allow(SOCKET, &is_it),
            false => refuse(SOCKET, NO_FAMILY, &is_it),
        });
    }
    rules.push(refuse(SOCKET, NO_FAMILY, &[argument(0, "GT", last)]));
    rules
}

fn allow(calls: &[SystemCall], arguments: &[Value]) -> Value {
    json!({"names": names(calls), "action": "SCMP_ACT_ALLOW", "args": arguments})
}

fn refuse(calls: &[SystemCall], errno: i32, arguments: &[Value]) -> Value {
    json!({
        "names": names(calls), "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": arguments
    })
}

fn names(calls: &[SystemCall]) -> Vec<&'static str> {
    calls.iter().map(|call| call.name).collect()
}

fn argument(index: u32, comparison: &str, value: u32) -> Value {
    json!({"index": index, "value": value, "op": format!("SCMP_CMP_{comparison}")})
}

/// A condition on these bits of the first argument.
fn masked(bits: u64, value: u64) -> Value {
    json!({"index": 0, "value": bits, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"})
}

fn architecture(name: &str, others: &[&str]) -> Value {
    let scmp = |name: &&str| format!("SCMP_ARCH_{name}");
    let others: Vec<String> = others.iter().map(scmp).collect();
    json!({"architecture": scmp(&name), "subArchitectures": others})
}
