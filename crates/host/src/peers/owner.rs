//! Finds the user at the other end of a connection on this machine.
//!
//! Asks the kernel about one socket (`sock_diag`); if that fails, reads its table of all sockets.
//! Used by `peers` for each connection, and by `http::peer` to find the process.

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{ipproto, recv, sendto, socket_with};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket's user, and the inode that identifies it in processes' descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOwner {
    pub uid: u32,
    pub inode: u64,
}

/// The owner of the socket at `peer` that is connected to `local`; `None` if that socket is on
/// another machine, in another network namespace, or closed.
pub fn owner(peer: SocketAddr, local: SocketAddr) -> Option<SocketOwner> {
    let (peer, local) = (canonical(peer), canonical(local));
    let found = ask(peer, local).unwrap_or_else(|_| look_up(peer, local));
    // A closed socket lingers without an inode, owned by root.
    found.filter(|owner| owner.inode != 0)
}

/// Whether a process of this machine listens at an address.
pub fn listens(pid: u32, address: SocketAddr) -> bool {
    let nobody: IpAddr = match canonical(address) {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connected to nobody, it is the one that listens.
    let Some(found) = owner(address, SocketAddr::new(nobody, 0)) else { return false };
    let wanted = format!("socket:[{}]", found.inode);
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == wanted.as_str())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `struct nlmsghdr`, followed by `struct inet_diag_req_v2` or `struct inet_diag_msg`.
const HEAD: usize = 16;
const REQUEST: usize = HEAD + 56;
const ANSWER: usize = HEAD + 72;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;

/// Asks the kernel about one socket.
fn ask(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<SocketOwner>> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    let request = request(peer, local);
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, &request, SendFlags::empty(), &kernel)?;
    let mut answer = [0; 512];
    // The response is ready once the request has been sent.
    let (length, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    read(&answer[..length])
}

fn request(peer: SocketAddr, local: SocketAddr) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&(REQUEST as u32).to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    put(&[0; 8]);
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    put(&[family.as_raw() as u8, ipproto::TCP.as_raw().get() as u8, 0, 0]);
    // In any state.
    put(&u32::MAX.to_ne_bytes());
    put(&peer.port().to_be_bytes());
    put(&local.port().to_be_bytes());
    for address in [peer.ip(), local.ip()] {
        let mut whole = [0; 16];
        match address {
            IpAddr::V4(v4) => whole[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => whole = v6.octets(),
        }
        put(&whole);
    }
    // On any interface, with any cookie.
    put(&[0; 4]);
    put(&[0xff; 8]);
    bytes
}

fn read(answer: &[u8]) -> io::Result<Option<SocketOwner>> {
    let strange = || io::Error::from(io::ErrorKind::InvalidData);
    let word = |at: usize| -> io::Result<[u8; 4]> {
        answer.get(at..at + 4).and_then(|part| part.try_into().ok()).ok_or_else(strange)
    };
    let kind = u16::from_ne_bytes([word(4)?[0], word(4)?[1]]);
    match kind {
        SOCK_DIAG_BY_FAMILY if answer.len() >= ANSWER => {
            let number = |at| word(at).map(u32::from_ne_bytes);
            Ok(Some(SocketOwner { uid: number(ANSWER - 8)?, inode: number(ANSWER - 4)?.into() }))
        }
        NLMSG_ERROR => {
            let number = i32::from_ne_bytes(word(HEAD)?).checked_neg().ok_or_else(strange)?;
            match number == Errno::NOENT.raw_os_error() {
                true => Ok(None),
                false => Err(io::Error::from_raw_os_error(number)),
            }
        }
        _ => Err(strange()),
    }
}

/// Searches the table of all sockets.
fn look_up(peer: SocketAddr, local: SocketAddr) -> Option<SocketOwner> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_it = address(fields.get(1)?)? == peer && address(fields.get(2)?)? == local;
            is_it.then(|| {
                Some(SocketOwner {
                    uid: fields.get(7)?.parse().ok()?,
                    inode: fields.get(9)?.parse().ok()?,
                })
            })?
        })
    })
}

/// `0100007F:11D7`: the address as words in the machine's byte order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match address.len() {
        8 => word(0)?.into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_mut(4).enumerate() {
                part.copy_from_slice(&word(at * 8)?);
            }
            bytes.into()
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    /// Both methods agree with the socket itself.
    #[test]
    fn the_other_end_of_a_connection() {
        for bound in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let local = listener.local_addr().expect("an address");
            let client = TcpStream::connect(local).expect("a connection");
            let (_server, peer) = listener.accept().expect("a connection");
            let inode = rustix::fs::fstat(client.as_fd()).expect("a socket").st_ino;
            let uid = nix::unistd::geteuid().as_raw();
            let wanted = Some(SocketOwner { uid, inode });
            assert_eq!(owner(peer, local), wanted, "{bound}");
            assert_eq!(look_up(canonical(peer), canonical(local)), wanted, "{bound}");
            drop(client);
            // A child that another test has just forked keeps it open until it executes its
            // program.
            while owner(peer, local) == wanted {
                std::thread::yield_now();
            }
            assert_eq!(owner(peer, local), None, "{bound}");
        }
        let nobody: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        assert_eq!(owner(nobody, nobody), None);
    }

    #[test]
    fn who_listens() {
        let me = std::process::id();
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else { continue };
            let address = listener.local_addr().expect("an address");
            assert!(listens(me, address), "{bound}");
            // With a connection to it as well.
            let _client = TcpStream::connect(address).expect("a connection");
            assert!(listens(me, address), "{bound}");
            assert!(!listens(1, address), "{bound}");
            let other = SocketAddr::new(address.ip(), 1);
            assert!(!listens(me, other), "{bound}");
        }
    }

    #[test]
    fn answers_that_are_none() {
        for bytes in [&[][..], &[0; 15], &[0; 16], &[0xff; 200]] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        let mut cut = [0; ANSWER - 1];
        cut[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        assert!(read(&cut).is_err());
    }
}
