//! Parses the body of an `EXEC` request without copying it.
//!
//! `pid1` passes the runner's bytes; the result goes to `exec`. The runner is trusted, but a
//! mistake there must cause a `FAILED` reply rather than a dead container, so every length is
//! checked.

use crate::abi::{EXEC_HEAD_LEN, ExecHead};
use crate::sys::{Errno, SysResult};

/// An `EXEC` request whose parts all lie inside its body.
#[derive(Debug)]
pub(crate) struct ExecRequest<'a> {
    pub(crate) head: ExecHead,
    /// Supplementary groups, four bytes each.
    pub(crate) groups: &'a [u8],
    /// Working directory, with its NUL.
    pub(crate) cwd: &'a [u8],
    /// Directories to search, separated by colons, with a NUL at the end.
    pub(crate) path: &'a [u8],
    /// `argc` arguments and `envc` variables, each with its NUL, and nothing after them.
    strings: &'a [u8],
}

impl<'a> ExecRequest<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> SysResult<Self> {
        let head = ExecHead::from_body(body).ok_or(Errno::INVAL)?;
        let rest = &body[EXEC_HEAD_LEN..];
        let groups_len = (head.groups as usize).checked_mul(4).ok_or(Errno::INVAL)?;
        if groups_len > rest.len() {
            return Err(Errno::INVAL);
        }
        let (groups, rest) = rest.split_at(groups_len);
        let (cwd, rest) = split_string(rest)?;
        let (path, strings) = split_string(rest)?;
        let wanted = u64::from(head.argc) + u64::from(head.envc);
        let found = strings.iter().filter(|&&byte| byte == 0).count() as u64;
        if head.argc == 0 || found != wanted || strings.last() != Some(&0) {
            return Err(Errno::INVAL);
        }
        Ok(ExecRequest { head, groups, cwd, path, strings })
    }

    /// The first argument, with its NUL.
    pub(crate) fn program(&self) -> &'a [u8] {
        split_string(self.strings).map_or(&[], |(program, _)| program)
    }

    /// Number of words that [`Self::fill_pointers`] needs.
    pub(crate) fn pointer_words(&self) -> usize {
        // One spare word before the arguments, for the interpreter of a script without `#!`.
        self.head.argc as usize + self.head.envc as usize + 3
    }

    /// Writes the argument and environment arrays for exec. Returns their indexes in `words`.
    pub(crate) fn fill_pointers(&self, words: &mut [usize]) -> Option<(usize, usize)> {
        const ARGV: usize = 1;
        let envp = ARGV + self.head.argc as usize + 1;
        let mut rest = self.strings;
        for index in 0..self.head.argc as usize {
            let (string, after) = split_string(rest).ok()?;
            *words.get_mut(ARGV + index)? = string.as_ptr() as usize;
            rest = after;
        }
        *words.get_mut(envp - 1)? = 0;
        for index in 0..self.head.envc as usize {
            let (string, after) = split_string(rest).ok()?;
            *words.get_mut(envp + index)? = string.as_ptr() as usize;
            rest = after;
        }
        *words.get_mut(envp + self.head.envc as usize)? = 0;
        Some((ARGV, envp))
    }
}

/// Splits bytes after the first NUL.
pub(crate) fn split_string(bytes: &[u8]) -> SysResult<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(Errno::INVAL)?;
    Ok(bytes.split_at(end + 1))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn body(argc: u32, envc: u32, strings: &[u8]) -> Vec<u8> {
        let head = ExecHead { flags: 0, uid: 0, gid: 0, rows: 0, cols: 0, groups: 1, argc, envc };
        let mut bytes = head.to_bytes().to_vec();
        bytes.extend_from_slice(&[9, 0, 0, 0]);
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn a_well_formed_request_comes_apart() {
        let body = body(2, 1, b"/src\0/bin:/usr/bin\0ls\0-l\0A=1\0");
        let request = ExecRequest::decode(&body).expect("well formed");
        assert_eq!(request.groups, [9, 0, 0, 0]);
        assert_eq!(request.cwd, b"/src\0");
        assert_eq!(request.path, b"/bin:/usr/bin\0");
        assert_eq!(request.program(), b"ls\0");
        let mut words = [usize::MAX; 6];
        assert_eq!(request.pointer_words(), words.len());
        assert_eq!(request.fill_pointers(&mut words), Some((1, 4)));
        assert_eq!((words[3], words[5]), (0, 0));
        assert_eq!(words[2] - words[1], "ls\0".len());
    }

    #[test]
    fn each_broken_length_is_refused() {
        for (argc, envc, strings) in [
            (0, 1, &b"/\0/\0A=1\0"[..]),
            (2, 0, b"/\0/\0ls\0"),
            (1, 0, b"/\0/\0ls\0more\0"),
            (1, 0, b"/\0/\0ls"),
            (1, 0, b"/"),
            (u32::MAX, u32::MAX, b"/\0/\0ls\0"),
        ] {
            assert!(ExecRequest::decode(&body(argc, envc, strings)).is_err(), "{strings:?}");
        }
        let mut groups = body(1, 0, b"/\0/\0ls\0");
        groups[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(ExecRequest::decode(&groups).err(), Some(Errno::INVAL));
    }
}
