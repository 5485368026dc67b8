//! The system call filter of a build container.
//!
//! Used by `child`, run by the kernel at each system call. It lets through what Docker's default
//! lets through for an unprivileged container, and refuses (never kills) the rest: making
//! namespaces and mounts, loading code into the kernel, kernel keyrings, swapping, clocks. 32-bit
//! programs get the same treatment under their own numbers, so that they run.
#![forbid(unsafe_code)]

use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, sock_filter};

/// Offsets in what the kernel hands to a filter.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// Low half of the first argument.
const FIRST_ARGUMENT: u32 = 16;

const ARCH_X86_64: u32 = 0xC000_003E;
const ARCH_I386: u32 = 0x4000_0003;
/// Numbers from here on are those of the x32 ABI, which nothing uses any more.
const X32: u32 = 0x4000_0000;

/// Every kind of namespace a process could make, time namespaces included.
const NEW_NAMESPACES: u32 = 0x7E02_0080;

const PERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;
const NOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// What one instruction set calls the same things.
struct Numbers {
    refused: &'static [u32],
    /// Calls that programs try and do without: they hear "no such call", not "not permitted".
    absent: &'static [u32],
    clone: u32,
    unshare: u32,
}

const X86_64: Numbers = Numbers {
    refused: &[
        libc::SYS_mount as u32,
        libc::SYS_umount2 as u32,
        libc::SYS_pivot_root as u32,
        libc::SYS_open_tree as u32,
        libc::SYS_move_mount as u32,
        libc::SYS_fsopen as u32,
        libc::SYS_fsconfig as u32,
        libc::SYS_fsmount as u32,
        libc::SYS_fspick as u32,
        libc::SYS_mount_setattr as u32,
        467, // open_tree_attr; libc does not know it yet
        libc::SYS_setns as u32,
        libc::SYS_init_module as u32,
        libc::SYS_finit_module as u32,
        libc::SYS_delete_module as u32,
        libc::SYS_kexec_load as u32,
        libc::SYS_kexec_file_load as u32,
        libc::SYS_bpf as u32,
        libc::SYS_perf_event_open as u32,
        libc::SYS_userfaultfd as u32,
        libc::SYS_add_key as u32,
        libc::SYS_request_key as u32,
        libc::SYS_keyctl as u32,
        libc::SYS_open_by_handle_at as u32,
        libc::SYS_lookup_dcookie as u32,
        libc::SYS_nfsservctl as u32,
        libc::SYS_quotactl as u32,
        libc::SYS_swapon as u32,
        libc::SYS_swapoff as u32,
        libc::SYS_reboot as u32,
        libc::SYS_acct as u32,
        libc::SYS_settimeofday as u32,
        libc::SYS_clock_settime as u32,
        libc::SYS_iopl as u32,
        libc::SYS_ioperm as u32,
        libc::SYS_uselib as u32,
        174, // create_module; libc leaves out what Linux 2.6 took away
        177, // get_kernel_syms
        178, // query_module
    ],
    absent: &[
        libc::SYS_clone3 as u32,
        libc::SYS_io_uring_setup as u32,
        libc::SYS_io_uring_enter as u32,
        libc::SYS_io_uring_register as u32,
    ],
    clone: libc::SYS_clone as u32,
    unshare: libc::SYS_unshare as u32,
};

/// arch/x86/entry/syscalls/syscall_32.tbl of Linux.
const I386: Numbers = Numbers {
    refused: &[
        21,  // mount
        22,  // umount
        25,  // stime
        51,  // acct
        52,  // umount2
        79,  // settimeofday
        86,  // uselib
        87,  // swapon
        88,  // reboot
        101, // ioperm
        110, // iopl
        113, // vm86old
        115, // swapoff
        127, // create_module
        128, // init_module
        129, // delete_module
        130, // get_kernel_syms
        131, // quotactl
        166, // vm86
        167, // query_module
        169, // nfsservctl
        217, // pivot_root
        253, // lookup_dcookie
        264, // clock_settime
        283, // kexec_load
        286, // add_key
        287, // request_key
        288, // keyctl
        336, // perf_event_open
        342, // open_by_handle_at
        346, // setns
        350, // finit_module
        357, // bpf
        374, // userfaultfd
        404, // clock_settime64
        428, // open_tree
        429, // move_mount
        430, // fsopen
        431, // fsconfig
        432, // fsmount
        433, // fspick
        442, // mount_setattr
        467, // open_tree_attr
    ],
    absent: &[
        435, // clone3: its flags lie behind a pointer, where a filter cannot look
        425, // io_uring_setup
        426, // io_uring_enter
        427, // io_uring_register
    ],
    clone: 120,
    unshare: 310,
};

/// The program, to be installed as it is.
pub(crate) fn filter() -> Vec<sock_filter> {
    let native = rules(&X86_64, Some(X32));
    let compat = rules(&I386, None);
    let mut program = vec![
        load(ARCH),
        jump(BPF_JEQ, ARCH_X86_64, 1, 0),
        // Not the native set: past its rules, which are too many for a conditional jump.
        statement(BPF_JMP, native.len() as u32),
    ];
    program.extend(native);
    program.push(jump(BPF_JEQ, ARCH_I386, 1, 0));
    program.push(statement(BPF_RET | BPF_K, NOSYS));
    program.extend(compat);
    program
}

fn rules(numbers: &Numbers, limit: Option<u32>) -> Vec<sock_filter> {
    let mut program = vec![load(NUMBER)];
    if let Some(limit) = limit {
        program.extend([jump(BPF_JGE, limit, 0, 1), statement(BPF_RET | BPF_K, NOSYS)]);
    }
    for (calls, answer) in [(numbers.refused, PERM), (numbers.absent, NOSYS)] {
        for call in calls {
            program.extend([jump(BPF_JEQ, *call, 0, 1), statement(BPF_RET | BPF_K, answer)]);
        }
    }
    program.extend([
        jump(BPF_JEQ, numbers.clone, 1, 0),
        jump(BPF_JEQ, numbers.unshare, 0, 4),
        load(FIRST_ARGUMENT),
        statement(BPF_ALU | BPF_AND | BPF_K, NEW_NAMESPACES),
        jump(BPF_JEQ, 0, 1, 0),
        statement(BPF_RET | BPF_K, PERM),
        statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    ]);
    program
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn jump(condition: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | condition | BPF_K) as u16, jt: yes, jf: no, k }
}
