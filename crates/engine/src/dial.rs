//! Connects to listeners in a container: a TCP port on its loopback interface or elsewhere in its
//! network, or a unix socket in its file system.
//!
//! Used by the hub for `runner port-forward` and for port sessions. A child of PID 1 makes the
//! socket inside and hands it over, so its address means what it means there. The bytes then pass
//! through nothing in between.

use super::{Container, OpenMode};
use runner_wire::init::Listener;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Longest wait for one connection: the time the other end is given, and a little more.
const PATIENCE: Duration = Duration::from_secs(35);
/// Most bytes read from a hosts file.
const MAX_HOSTS: u64 = 1 << 20;

/// Credential endpoints of AWS tasks, builds and pods. Forwarding never leads there.
const CREDENTIALS: [IpAddr; 3] = [v4(170, 2), v4(170, 23), v6(0x23)];

/// Credential, DNS and time endpoints of AWS machines: the addresses that AWS's agent denies by
/// default.
pub const DENIED: [IpAddr; 9] = [
    v4(169, 254),
    v4(169, 253),
    v4(169, 123),
    v4(169, 250),
    v4(169, 251),
    v6(0x254),
    v6(0x253),
    v6(0x123),
    v6(0x240),
];

const fn v4(third: u8, last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(169, 254, third, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, last))
}

/// Whether connections to this address are refused, whatever name led to it.
#[must_use]
pub fn is_forbidden(address: IpAddr, denied: &[IpAddr]) -> bool {
    let address = address.to_canonical();
    CREDENTIALS.contains(&address) || denied.iter().any(|denied| denied.to_canonical() == address)
}

/// The other end, as the user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// `PORT`, `HOST:PORT` or `[IPV6]:PORT`. Without a host: the container's own loopback.
    Tcp { host: String, port: u16 },
    /// An absolute path, or `@NAME` for a socket outside of the file system.
    Unix(String),
}

impl FromStr for Remote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > 1 && text.starts_with(['/', '@']) {
            if text.contains('\0') {
                return Err("a path cannot contain a NUL".to_owned());
            }
            return Ok(Remote::Unix(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| {
            format!("`{text}` is not a PORT, HOST:PORT, [IPV6]:PORT or absolute path of a socket")
        })?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if host.is_empty() || (bare.is_none() && host.contains(':')) {
            return Err(format!("`{text}`: write an IPv6 address as [ADDRESS]:PORT"));
        }
        Ok(Remote::Tcp { host: host.to_owned(), port })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remote::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Remote::Tcp { host, port } => write!(f, "{host}:{port}"),
            Remote::Unix(path) => f.write_str(path),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("nothing listens at {0} in the build")]
    Refused(Remote),
    #[error("{0} does not answer in the build")]
    Silent(Remote),
    #[error("forwarding to the address of {0} is forbidden: AWS's machines find credentials there")]
    Forbidden(Remote),
    #[error("the name of {0} is not known, in the build or on this machine")]
    Name(Remote),
    #[error("cannot connect to {remote} in the build: {source}")]
    Other { remote: Remote, source: io::Error },
}

/// A stream socket, connected from inside the container. A TCP socket sends small messages without
/// delay.
pub async fn dial(
    container: &dyn Container,
    remote: &Remote,
    denied: &[IpAddr],
) -> Result<OwnedFd, DialError> {
    let mut last = None;
    for listener in listeners(container, remote).await? {
        if matches!(&listener, Listener::Tcp(address) if is_forbidden(address.ip(), denied)) {
            return Err(DialError::Forbidden(remote.clone()));
        }
        match tokio::time::timeout(PATIENCE, container.dial(&listener)).await {
            Err(_) => last = Some(DialError::Silent(remote.clone())),
            Ok(Ok(socket)) => {
                if matches!(listener, Listener::Tcp(_)) {
                    // A socket that rejects the option works all the same.
                    let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
                }
                return Ok(socket);
            }
            // The first refusal says more than a missing IPv6 does.
            Ok(Err(source)) => last = last.or_else(|| Some(refusal(remote.clone(), source))),
        }
    }
    Err(last.unwrap_or_else(|| DialError::Name(remote.clone())))
}

fn refusal(remote: Remote, source: io::Error) -> DialError {
    use io::ErrorKind;
    match source.kind() {
        ErrorKind::ConnectionRefused => DialError::Refused(remote),
        ErrorKind::NotFound if matches!(remote, Remote::Unix(_)) => DialError::Refused(remote),
        ErrorKind::TimedOut => DialError::Silent(remote),
        _ => DialError::Other { remote, source },
    }
}

async fn listeners(container: &dyn Container, remote: &Remote) -> Result<Vec<Listener>, DialError> {
    let (host, port) = match remote {
        Remote::Unix(path) => {
            let mut path = path.clone().into_bytes();
            if path.first() == Some(&b'@') {
                path[0] = 0;
            }
            return Ok(vec![Listener::Unix(path)]);
        }
        Remote::Tcp { host, port } => (host.as_str(), *port),
    };
    let tcp = |address: IpAddr| Listener::Tcp(SocketAddr::new(address, port));
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![tcp(address)]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![tcp(Ipv4Addr::LOCALHOST.into()), tcp(Ipv6Addr::LOCALHOST.into())]);
    }
    let known = hosts(container, host).await;
    if !known.is_empty() {
        return Ok(known.into_iter().map(tcp).collect());
    }
    let found = tokio::net::lookup_host((host, port)).await;
    found
        .map(|addresses| addresses.map(Listener::Tcp).collect())
        .map_err(|_| DialError::Name(remote.clone()))
}

/// Addresses from the container's own hosts file.
async fn hosts(container: &dyn Container, host: &str) -> Vec<IpAddr> {
    let mut text = Vec::new();
    if let Ok(file) = container.open(Path::new("/etc/hosts"), OpenMode::Read).await {
        // A file that cannot be read counts as empty.
        let _ = File::from(file).take(MAX_HOSTS).read_to_end(&mut text);
    }
    addresses(&String::from_utf8_lossy(&text), host)
}

fn addresses(hosts: &str, host: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_are_read_as_they_are_shown() {
        for text in ["localhost:80", "db:5432", "[::1]:80", "10.0.0.1:1", "/run/x.sock", "@name"] {
            assert_eq!(
                text.parse::<Remote>().map(|remote| remote.to_string()),
                Ok(text.to_owned())
            );
        }
        let local = Remote::Tcp { host: "localhost".to_owned(), port: 80 };
        assert_eq!("80".parse(), Ok(local));
        for text in ["", "0", "x", "65536", "::1:80", ":80", "db:", "@", "/a\0b", "[::1]"] {
            assert!(text.parse::<Remote>().is_err(), "{text}");
        }
    }

    #[test]
    fn services_of_machines_are_no_place_to_go() {
        for text in ["169.254.169.254", "::ffff:169.254.170.2", "fd00:ec2::23", "fd00:ec2::254"] {
            assert!(text.parse().is_ok_and(|address| is_forbidden(address, &DENIED)), "{text}");
        }
        for text in ["169.254.1.1", "127.0.0.1", "fd00:ec2::1"] {
            assert!(!text.parse().is_ok_and(|address| is_forbidden(address, &DENIED)), "{text}");
        }
    }

    #[test]
    fn the_hosts_file_is_read_as_resolvers_do() {
        let text = "127.0.0.1 localhost\n# 1.1.1.1 db\nnonsense db\n10.0.0.2\tx DB # y\n::2 db\n";
        let found = addresses(text, "db");
        assert_eq!(found, [IpAddr::from([10, 0, 0, 2]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 2])]);
        assert!(addresses(text, "y").is_empty());
    }
}
