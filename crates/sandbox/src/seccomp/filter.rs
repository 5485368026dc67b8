//! Compiles the table of calls into a BPF program that finds a call's number by binary search.
//!
//! Built at compile time. Linux itself caches which calls are allowed regardless of arguments
//! (`seccomp_cache`), as long as their path loads only architecture and number. So the search costs
//! little, and only calls with checked arguments run the program each time.
#![forbid(unsafe_code)]

use super::calls::{
    ABSENT, ALLOWED, ALLOWED_OLD, CLONE, PERSONALITY, REFUSED, SOCKET, SOCKETCALL, SystemCall,
    UNSHARE,
};
use libc::{BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO, SECCOMP_RET_USER_NOTIF, sock_filter};
use runner_init::abi::sockets::{AUDIT, FAMILIES, NETLINK, NO_AUDIT, NO_FAMILY};

/// Offsets in the kernel's input to a filter. Arguments have 64 bits, the low half first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const HIGH_HALF: u32 = 4;
const THIRD_ARGUMENT: u32 = 32;

const ARCH_X86_64: u32 = 0xC000_003E;
const ARCH_I386: u32 = 0x4000_0003;

/// The flags of every kind of namespace that clone(2) can make.
pub(super) const NEW_NAMESPACES: u32 = 0x7E02_0000;
/// What unshare(2) may separate without a namespace: CLONE_VM, FS, FILES, SIGHAND, THREAD and
/// SYSVSEM.
pub(super) const PARTED: u32 = 0x0005_0F00;
/// PER_LINUX and PER_LINUX32, each also with UNAME26, and the query for the current one.
pub(super) const PERSONAS: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];
/// The subcall of socketcall(2) that makes a socket: its family is behind a pointer.
const SOCKETCALL_SOCKET: u32 = 1;

const ALLOW: u32 = SECCOMP_RET_ALLOW;
const PERM: u32 = SECCOMP_RET_ERRNO | libc::EPERM as u32;
const NOSYS: u32 = SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// The treatment of a call.
#[derive(Clone, Copy)]
enum FilterAction {
    Unnamed,
    Absent,
    Allowed,
    Refused,
    Clone,
    Unshare,
    Personality,
    Socket,
    Socketcall,
}

impl FilterAction {
    /// Whether adjacent calls with these actions form one run.
    const fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (
                FilterAction::Unnamed | FilterAction::Absent,
                FilterAction::Unnamed | FilterAction::Absent,
            ) => true,
            _ => self as u8 == other as u8,
        }
    }
}

/// The table covers numbers below this; no call has a higher one.
const NUMBERS: usize = 512;

/// The whole filter.
pub(crate) static PROGRAM: [sock_filter; LENGTH] = {
    let mut program = [statement(0, 0); LENGTH];
    let mut at = 0;
    while at < LENGTH {
        program[at] = CODE.code[at];
        at += 1;
    }
    program
};
const LENGTH: usize = CODE.length;
const CODE: Code = Code::build();

/// A program being built.
struct Code {
    code: [sock_filter; Code::MOST],
    length: usize,
}

impl Code {
    const MOST: usize = 1024;

    const fn build() -> Self {
        let mut code = Code { code: [statement(0, 0); Code::MOST], length: 0 };
        code.push(load(ARCH));
        code.push(jump(BPF_JEQ, ARCH_X86_64, 1, 0));
        // Skips the native rules, which are too many for a conditional jump.
        let skip = code.length;
        code.push(statement(0, 0));
        code.look_up(&answers(false));
        code.code[skip] = statement(BPF_JMP, (code.length - skip - 1) as u32);
        code.push(jump(BPF_JEQ, ARCH_I386, 1, 0));
        code.push(ret(NOSYS));
        code.look_up(&answers(true));
        code
    }

    const fn push(&mut self, instruction: sock_filter) {
        self.code[self.length] = instruction;
        self.length += 1;
    }

    /// The rules of one instruction set. The obsolete x32 ABI has higher numbers than any call
    /// here, so its calls do not exist.
    const fn look_up(&mut self, answers: &[FilterAction; NUMBERS]) {
        let mut starts = [0; NUMBERS];
        let mut runs = 0;
        let mut number = 0;
        while number < NUMBERS {
            if number == 0 || !answers[number].is_like(answers[number - 1]) {
                starts[runs] = number;
                runs += 1;
            }
            number += 1;
        }
        assert!(answers[NUMBERS - 1].is_like(FilterAction::Absent), "more calls than numbers");
        self.push(load(NUMBER));
        self.halve(answers, &starts, 0, runs);
    }

    const fn halve(
        &mut self,
        answers: &[FilterAction; NUMBERS],
        starts: &[usize; NUMBERS],
        from: usize,
        to: usize,
    ) {
        if to - from == 1 {
            return self.answer(answers[starts[from]]);
        }
        let middle = usize::midpoint(from, to);
        let at = self.length;
        self.push(statement(0, 0));
        self.halve(answers, starts, from, middle);
        let skip = self.length - at - 1;
        assert!(skip <= u8::MAX as usize, "too far for a conditional jump");
        self.code[at] = jump(BPF_JGE, starts[middle] as u32, skip as u8, 0);
        self.halve(answers, starts, middle, to);
    }

    /// Ends the program with an action.
    const fn answer(&mut self, answer: FilterAction) {
        match answer {
            FilterAction::Unnamed | FilterAction::Absent => self.push(ret(NOSYS)),
            FilterAction::Allowed => self.push(ret(ALLOW)),
            FilterAction::Refused => self.push(ret(PERM)),
            FilterAction::Clone => {
                self.push(load(FIRST_ARGUMENT));
                self.none_of(NEW_NAMESPACES);
            }
            FilterAction::Unshare => {
                self.push(load(FIRST_ARGUMENT + HIGH_HALF));
                self.push(jump(BPF_JEQ, 0, 1, 0));
                self.push(ret(PERM));
                self.push(load(FIRST_ARGUMENT));
                self.none_of(!PARTED);
            }
            FilterAction::Personality => {
                self.push(load(FIRST_ARGUMENT));
                self.one_of(&PERSONAS, PERM);
            }
            FilterAction::Socket => {
                self.push(load(FIRST_ARGUMENT));
                self.push(jump(BPF_JEQ, NETLINK, 0, 4));
                self.push(load(THIRD_ARGUMENT));
                self.push(jump(BPF_JEQ, AUDIT, 0, 1));
                self.push(ret(SECCOMP_RET_ERRNO | NO_AUDIT as u32));
                self.push(ret(ALLOW));
                self.one_of(&FAMILIES, SECCOMP_RET_ERRNO | NO_FAMILY as u32);
            }
            FilterAction::Socketcall => {
                self.push(load(FIRST_ARGUMENT));
                self.push(jump(BPF_JEQ, SOCKETCALL_SOCKET, 0, 1));
                self.push(ret(SECCOMP_RET_USER_NOTIF));
                self.push(ret(ALLOW));
            }
        }
    }

    /// Allows a value without any of these bits.
    const fn none_of(&mut self, bits: u32) {
        self.push(statement(BPF_ALU | BPF_AND | BPF_K, bits));
        self.push(jump(BPF_JEQ, 0, 1, 0));
        self.push(ret(PERM));
        self.push(ret(ALLOW));
    }

    /// Allows these values.
    const fn one_of(&mut self, values: &[u32], otherwise: u32) {
        let mut at = 0;
        while at < values.len() {
            self.push(jump(BPF_JEQ, values[at], 0, 1));
            self.push(ret(ALLOW));
            at += 1;
        }
        self.push(ret(otherwise));
    }
}

/// The action for each number of an instruction set.
const fn answers(is_old: bool) -> [FilterAction; NUMBERS] {
    let mut answers = [FilterAction::Unnamed; NUMBERS];
    let lists = [
        (ALLOWED, FilterAction::Allowed),
        (ALLOWED_OLD, FilterAction::Allowed),
        (REFUSED, FilterAction::Refused),
        (ABSENT, FilterAction::Absent),
        (CLONE, FilterAction::Clone),
        (UNSHARE, FilterAction::Unshare),
        (PERSONALITY, FilterAction::Personality),
        (SOCKET, FilterAction::Socket),
        (SOCKETCALL, FilterAction::Socketcall),
    ];
    let mut at = 0;
    while at < lists.len() {
        let (calls, answer) = lists[at];
        name(&mut answers, calls, answer, is_old);
        at += 1;
    }
    answers
}

const fn name(
    answers: &mut [FilterAction; NUMBERS],
    calls: &[SystemCall],
    answer: FilterAction,
    is_old: bool,
) {
    let mut at = 0;
    while at < calls.len() {
        if let Some(number) = if is_old { calls[at].i386 } else { calls[at].x86_64 } {
            let is_new = answers[number as usize] as u8 == FilterAction::Unnamed as u8;
            assert!(is_new, "a number stands for two calls");
            answers[number as usize] = answer;
        }
        at += 1;
    }
}

const fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

const fn ret(answer: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, answer)
}

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn jump(condition: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | condition | BPF_K) as u16, jt: yes, jf: no, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does, as far as filters need it.
    fn run(arch: u32, number: u32, arguments: [u64; 3]) -> u32 {
        let mut data = [0; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (at, argument) in arguments.iter().enumerate() {
            data[16 + 8 * at..24 + 8 * at].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = PROGRAM[at];
            at += 1;
            let by = |is_so: bool| usize::from(if is_so { jt } else { jf });
            match u32::from(code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    let bytes = &data[k as usize..k as usize + 4];
                    accumulator = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => accumulator &= k,
                code if code == BPF_JMP => at += k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += by(accumulator == k),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += by(accumulator >= k),
                code if code == BPF_RET | BPF_K => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn every_call_of_the_table_has_its_answer() {
        for (calls, answer) in
            [(ALLOWED, ALLOW), (ALLOWED_OLD, ALLOW), (REFUSED, PERM), (ABSENT, NOSYS)]
        {
            for call in calls {
                for (arch, number) in [(ARCH_X86_64, call.x86_64), (ARCH_I386, call.i386)] {
                    let Some(number) = number else { continue };
                    let name = call.name;
                    assert_eq!(run(arch, number.into(), [u64::MAX; 3]), answer, "{name}");
                }
            }
        }
    }

    #[test]
    fn what_nobody_knows_does_not_exist() {
        for number in [335 + 1, 400, 471, 511, 512, 1000, 0x4000_0000, 0x4000_0027, u32::MAX] {
            assert_eq!(run(ARCH_X86_64, number, [0; 3]), NOSYS, "{number}");
        }
        for number in [17, 222, 471, 512, 0x4000_0014, u32::MAX] {
            assert_eq!(run(ARCH_I386, number, [0; 3]), NOSYS, "{number}");
        }
        // Another machine's instruction set.
        assert_eq!(run(0xC000_00B7, 0, [0; 3]), NOSYS);
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        for (name, number) in [
            ("read", libc::SYS_read),
            ("execveat", libc::SYS_execveat),
            ("rseq", libc::SYS_rseq),
            ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
            ("ptrace", libc::SYS_ptrace),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mseal", libc::SYS_mseal),
        ] {
            let call = ALLOWED.iter().find(|call| call.name == name).expect("named");
            assert_eq!(call.x86_64.map(i64::from), Some(number), "{name}");
        }
    }

    #[test]
    fn namespaces_are_not_to_be_had() {
        let clone = |flags| run(ARCH_X86_64, libc::SYS_clone as u32, [flags, 0, 0]);
        let unshare = |flags| run(ARCH_X86_64, libc::SYS_unshare as u32, [flags, 0, 0]);
        let namespaces = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000];
        for flag in namespaces.into_iter().chain([0x4000_0000]) {
            assert_eq!(clone(flag | 17), PERM, "{flag:#x}");
            assert_eq!(unshare(flag), PERM, "{flag:#x}");
            assert_eq!(run(ARCH_I386, 120, [flag, 0, 0]), PERM, "{flag:#x}");
            assert_eq!(run(ARCH_I386, 310, [flag, 0, 0]), PERM, "{flag:#x}");
        }
        // The kind that shares its bit with a signal.
        assert_eq!(unshare(0x80), PERM);
        assert_eq!(unshare(1 << 32), PERM);
        // A thread, a process, and a partial unshare.
        assert_eq!(clone(0x3d_0f00), ALLOW);
        assert_eq!(clone(17), ALLOW);
        assert_eq!(unshare(0x600), ALLOW);
    }

    #[test]
    fn sockets_go_by_their_family() {
        let refuse = |errno: i32| SECCOMP_RET_ERRNO | errno as u32;
        for (arch, number) in [(ARCH_X86_64, libc::SYS_socket as u32), (ARCH_I386, 359)] {
            let socket = |family, protocol| run(arch, number, [family, 1, protocol]);
            for family in 0..64 {
                let is_known = FAMILIES.contains(&(family as u32));
                let wanted = if is_known { ALLOW } else { refuse(libc::EPERM) };
                assert_eq!(socket(family, 0), wanted, "{family}");
            }
            assert_eq!(socket(libc::AF_VSOCK as u64, 0), refuse(libc::EPERM));
            // The kernel uses only the low half.
            assert_eq!(socket(1 << 32 | libc::AF_VSOCK as u64, 0), refuse(libc::EPERM));
            assert_eq!(socket(libc::AF_NETLINK as u64, 9), refuse(libc::EPROTONOSUPPORT));
            assert_eq!(socket(libc::AF_INET as u64, 9), ALLOW);
        }
        assert_eq!(run(ARCH_I386, 102, [1, 0, 0]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(run(ARCH_I386, 102, [3, 0, 0]), ALLOW);
    }

    #[test]
    fn personas_are_those_of_docker() {
        for (persona, answer) in [
            (0, ALLOW),
            (8, ALLOW),
            (0x2_0008, ALLOW),
            (0xffff_ffff, ALLOW),
            (0x4_0000, PERM),  // ADDR_NO_RANDOMIZE
            (0x40_0000, PERM), // READ_IMPLIES_EXEC
            (6, PERM),
        ] {
            assert_eq!(run(ARCH_X86_64, 135, [persona, 0, 0]), answer, "{persona:#x}");
        }
    }
}
