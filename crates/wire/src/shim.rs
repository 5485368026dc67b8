//! Parses messages on the shim socket. Any process of the build may write anything there.
//!
//! Used by `crates/build/src/control/shim.rs`, which reads at most [`MessageReader::wanted`] bytes
//! at a time, so a connection uses memory for at most one message.

use crate::abi::shim::{BREAKPOINT, HEAD_LEN, MAX_BODY, RESUME};
use crate::abi::u32_at;

/// A valid message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimRequest {
    /// The process waits for a response.
    Breakpoint(BreakpointCaller),
    /// Let the process that has waited longest go on.
    Resume,
}

/// The caller of `codebuild-breakpoint`, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakpointCaller {
    /// User ID in the container.
    pub uid: u32,
    /// Group ID in the container.
    pub gid: u32,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Variables as `NAME=value`; empty if there were too many to send.
    pub environment: Vec<Vec<u8>>,
}

/// Why bytes are not a valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShimError {
    /// The kind does not exist.
    #[error("unknown request {0}")]
    UnknownKind(u32),
    /// The body is too long.
    #[error("a body of {0} bytes")]
    TooLong(u32),
    /// The body is malformed.
    #[error("a malformed body")]
    Malformed,
}

/// Reads one message from a stream.
#[derive(Debug, Default)]
pub struct MessageReader {
    bytes: Vec<u8>,
}

impl MessageReader {
    /// Number of bytes that it needs next; never 0.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let whole = match self.body_len() {
            None => HEAD_LEN,
            Some(length) => HEAD_LEN + length,
        };
        whole.saturating_sub(self.bytes.len()).clamp(1, 64 << 10)
    }

    /// Appends at most the wanted number of bytes. Returns the message once it is complete.
    ///
    /// # Errors
    /// The bytes can never become a valid message.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<ShimRequest>, ShimError> {
        self.bytes.extend_from_slice(bytes);
        let Some(length) = self.body_len() else { return Ok(None) };
        let kind = u32_at(&self.bytes, 4).unwrap_or(0);
        let announced = u32::try_from(length).unwrap_or(u32::MAX);
        match kind {
            BREAKPOINT if length > MAX_BODY => return Err(ShimError::TooLong(announced)),
            RESUME if length > 0 => return Err(ShimError::TooLong(announced)),
            BREAKPOINT | RESUME => {}
            other => return Err(ShimError::UnknownKind(other)),
        }
        let Some(body) = self.bytes.get(HEAD_LEN..HEAD_LEN + length) else { return Ok(None) };
        if kind == RESUME {
            return Ok(Some(ShimRequest::Resume));
        }
        caller(body).map(|caller| Some(ShimRequest::Breakpoint(caller))).ok_or(ShimError::Malformed)
    }

    fn body_len(&self) -> Option<usize> {
        // The length counts only once the kind has arrived too.
        self.bytes.get(..HEAD_LEN)?;
        u32_at(&self.bytes, 0).map(|length| length as usize)
    }
}

fn caller(body: &[u8]) -> Option<BreakpointCaller> {
    let uid = u32_at(body, 0)?;
    let gid = u32_at(body, 4)?;
    let strings = body.get(8..)?.strip_suffix(b"\0")?;
    let mut strings = strings.split(|&byte| byte == 0);
    let cwd = strings.next().filter(|cwd| cwd.starts_with(b"/"))?.to_vec();
    // An entry that is not a variable would make the next exec fail.
    let environment = strings.filter(|string| string.contains(&b'=')).map(<[u8]>::to_vec).collect();
    Some(BreakpointCaller { uid, gid, cwd, environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).expect("short").to_le_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Option<ShimRequest>, ShimError> {
        let mut reader = MessageReader::default();
        let mut rest = bytes;
        loop {
            let (now, later) = rest.split_at(reader.wanted().min(rest.len()));
            match reader.feed(now)? {
                Some(request) => return Ok(Some(request)),
                None if later.is_empty() => return Ok(None),
                None => rest = later,
            }
        }
    }

    #[test]
    fn a_breakpoint_tells_who_where_and_with_what() {
        let mut body = vec![1, 0, 0, 0, 2, 0, 0, 0];
        body.extend_from_slice(b"/tmp\0A=1\0B=x=y\0nonsense\0");
        let Ok(Some(ShimRequest::Breakpoint(caller))) = read(&message(BREAKPOINT, &body)) else {
            panic!("a breakpoint")
        };
        assert_eq!((caller.uid, caller.gid), (1, 2));
        assert_eq!(caller.cwd, b"/tmp");
        assert_eq!(caller.environment, [b"A=1".to_vec(), b"B=x=y".to_vec()]);
        assert_eq!(read(&message(RESUME, b"")), Ok(Some(ShimRequest::Resume)));
    }

    #[test]
    fn garbage_is_refused_and_costs_no_memory() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Err(ShimError::UnknownKind(0x5448_202f)));
        assert_eq!(read(&message(RESUME, b"x")), Err(ShimError::TooLong(1)));
        let mut huge = u32::MAX.to_le_bytes().to_vec();
        huge.extend_from_slice(&BREAKPOINT.to_le_bytes());
        assert_eq!(read(&huge), Err(ShimError::TooLong(u32::MAX)));
        for body in [&b""[..], b"1234567", b"12345678", b"12345678relative\0", b"12345678/x"] {
            assert_eq!(read(&message(BREAKPOINT, body)), Err(ShimError::Malformed), "{body:?}");
        }
        assert_eq!(read(b"\0\0"), Ok(None));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    u8::try_from(state >> 56 & 3).unwrap_or(0)
                })
                .collect();
            let _ = read(&bytes);
        }
    }
}
