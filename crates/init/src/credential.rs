//! `git-credential-helper`, which git asks if the buildspec says `git-credential-helper: yes`.
//!
//! The build's git calls it with git's own protocol: lines of `key=value` on standard input, and a
//! user name and a password as the answer. Its credentials are in a variable that the runner sets:
//! lines of `https://USER:PASSWORD@HOST`. Without it the helper answers nothing, and git goes on as
//! if there were no helper.

use crate::abi::GIT_CREDENTIALS;
use crate::strings::Strings;
use crate::sys::{self, Errno, Fd};

/// Most bytes read of a request.
const MAX_QUESTION: usize = 16 << 10;

/// Runs the program and returns its exit code.
pub(crate) fn run(mut arguments: Strings, mut environment: Strings) -> i32 {
    // `store` and `erase` are for helpers that store credentials.
    if arguments.next() != Some(b"get") {
        return 0;
    }
    let mut question = [0; MAX_QUESTION];
    let length = read_all(&mut question);
    let question = &question[..length];
    let known = environment.find_map(|variable| {
        let (name, value) = variable.split_at_checked(GIT_CREDENTIALS.len())?;
        (name == GIT_CREDENTIALS.as_bytes()).then_some(value)?.strip_prefix(b"=")
    });
    let (Some(protocol), Some(host)) = (field(question, b"protocol"), field(question, b"host"))
    else {
        return 0;
    };
    if let Some((user, password)) = known.and_then(|known| find(known, protocol, host)) {
        for part in [b"username=", user, b"\npassword=", password, b"\n"] {
            sys::say(part);
        }
    }
    0
}

fn read_all(into: &mut [u8]) -> usize {
    let stdin = core::mem::ManuallyDrop::new(Fd::from_number(0));
    let mut filled = 0;
    loop {
        match sys::read(&stdin, &mut into[filled..]) {
            Ok(0) => return filled,
            Ok(got) => filled += got,
            Err(Errno::INTR) => {}
            Err(_) => return filled,
        }
    }
}

/// The value of a key.
fn field<'a>(question: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    question
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(b"="))
}

/// User and password for a host.
fn find<'a>(known: &'a [u8], protocol: &[u8], host: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    known.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(protocol)?.strip_prefix(b"://")?;
        let at = rest.iter().rposition(|&byte| byte == b'@')?;
        if &rest[at + 1..] != host {
            return None;
        }
        let credentials = &rest[..at];
        let colon = credentials.iter().position(|&byte| byte == b':')?;
        Some((&credentials[..colon], &credentials[colon + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_finds_its_own_credentials() {
        let known = b"https://al:secret@git.example.com\nhttps://bob:p:w@d@example.org";
        assert_eq!(find(known, b"https", b"git.example.com"), Some((&b"al"[..], &b"secret"[..])));
        assert_eq!(find(known, b"https", b"example.org"), Some((&b"bob"[..], &b"p:w@d"[..])));
        assert_eq!(find(known, b"http", b"example.org"), None);
        assert_eq!(find(known, b"https", b"example.com"), None);
        let question = b"protocol=https\nhost=example.org\n\n";
        assert_eq!(field(question, b"host"), Some(&b"example.org"[..]));
        assert_eq!(field(question, b"path"), None);
    }
}
