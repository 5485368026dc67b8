//! Sends and receives bytes with descriptors over a non-blocking unix socket.
//!
//! Used by the engine for PID 1's socket and by the control socket to hand pipes to a client.
#![forbid(unsafe_code)]

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most descriptors on one message.
const MAX_FDS: usize = 3;

/// The result of a [`receive`] call.
#[derive(Debug)]
pub struct ReceivedMessage {
    /// Bytes written to the front of the buffer; 0 if the other end is closed.
    pub bytes: usize,
    /// Descriptors that came with them, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Sends as many of `bytes` as the socket accepts now, with `fds` on the first byte. Returns the
/// number of bytes sent.
///
/// # Errors
/// `WouldBlock` while the socket is full; other errors of `sendmsg`; `BrokenPipe` without a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Receives the available bytes, at most `buffer.len()`.
///
/// # Errors
/// `WouldBlock` if there are none; other errors of `recvmsg`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<ReceivedMessage> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let bytes = loop {
        match recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            done => break done?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(ReceivedMessage { bytes, fds })
}
