//! Network connections: tells who is at the other end, and limits their number.
//!
//! Used by the listeners: the endpoint for AWS clients (`http`) and the credentials endpoint. Every
//! user of this machine can connect to both, as can builds, so connections must not use up a
//! build's descriptors or lock the owner out (docs/adr/0073).

mod owner;
mod places;

pub use owner::{listens, owner};
pub use places::{Slot, Slots};

use rustix::process::{Resource, getrlimit};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections that may still be open without a slot, in addition to those with slots.
const LEAVING: usize = 16;
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The user this program runs for, or root. Builds that share the network count as well.
    Ours,
    /// Another user of this machine.
    User(u32),
    /// Another machine, or a process whose user the kernel does not report.
    Address(IpAddr),
}

/// Listens, and accepts as many connections as there are slots.
pub struct PeerListener {
    tcp: TcpListener,
    ours: Arc<Slots<Peer>>,
    strangers: Arc<Slots<Peer>>,
    /// Limits descriptors while connections without slots close.
    open: Arc<Semaphore>,
}

/// A connection's slot.
#[derive(Debug)]
pub struct Guest {
    place: Arc<Slot<Peer>>,
    _open: Option<OwnedSemaphorePermit>,
}

/// Keeps the slot of a connection that has authenticated.
pub type KeptPeer = places::KeptSlot<Peer>;

/// The descriptor limit divided by `part`, at most `most`: how many items strangers may make us
/// open.
pub fn share(part: usize, most: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (limit / part).clamp(4, most)
}

impl PeerListener {
    /// With `most` slots: strangers get a quarter, and each of them a quarter of that.
    pub fn new(tcp: TcpListener, most: usize) -> Self {
        let strangers = (most / 4).max(1);
        let ours = most.saturating_sub(strangers).max(1);
        PeerListener {
            tcp,
            ours: Slots::new(ours, ours),
            strangers: Slots::new(strangers, (strangers / 4).max(1)),
            open: Arc::new(Semaphore::new(ours + strangers + LEAVING)),
        }
    }

    /// The next connection that gets a slot.
    pub async fn accept(&self) -> (TcpStream, SocketAddr, Arc<Guest>) {
        loop {
            let open = Arc::clone(&self.open).acquire_owned().await.ok();
            let Ok((stream, address)) = self.tcp.accept().await else {
                // Out of descriptors, for example; others close meanwhile.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let local = stream.local_addr();
            let peer = local.map_or(Peer::Address(address.ip()), |local| who(address, local));
            let places = if peer == Peer::Ours { &self.ours } else { &self.strangers };
            match places.enter(peer) {
                Some(place) => {
                    let guest = Guest { place: Arc::new(place), _open: open };
                    return (stream, address, Arc::new(guest));
                }
                None => tracing::debug!(?peer, "no place for one more connection"),
            }
        }
    }
}

impl Guest {
    /// Resolves when the connection has lost its slot and must be closed.
    pub async fn has_lost_its_place(&self) {
        self.place.is_lost().await;
    }

    /// Keeps the slot of a connection that has authenticated.
    pub fn keep(&self) -> KeptPeer {
        self.place.keep()
    }

    /// A guest without a listener, with its own slot.
    pub fn alone() -> Arc<Self> {
        let place = Slots::new(1, 1).enter(Peer::Ours).map(Arc::new).expect("a place");
        Arc::new(Guest { place, _open: None })
    }
}

fn who(peer: SocketAddr, local: SocketAddr) -> Peer {
    let (address, own) = (peer.ip().to_canonical(), local.ip().to_canonical());
    let owner = (address.is_loopback() || address == own).then(|| owner(peer, local)).flatten();
    match owner {
        Some(owner) if is_ours(owner.uid) => Peer::Ours,
        Some(owner) => Peer::User(owner.uid),
        None => Peer::Address(network(address)),
    }
}

/// Whether this is the user this program runs for, or root.
pub fn is_ours(uid: u32) -> bool {
    let caller = crate::users::caller().map(|caller| caller.uid);
    uid == nix::unistd::geteuid().as_raw() || uid == 0 || Some(uid) == caller
}

/// The network that one machine controls: with IPv6 it chooses the lower half itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn our_own_connections_are_ours() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("a connection");
        let (_server, peer) = tcp.accept().await.expect("a connection");
        assert_eq!(who(peer, address), Peer::Ours);
        drop(client);
    }

    /// With more connections than slots the oldest lose theirs, but count until they are closed.
    #[tokio::test]
    async fn no_more_than_there_are_places() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = tcp.local_addr().expect("an address");
        let listener = PeerListener::new(tcp, 8);
        let (mut clients, mut guests) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            clients.push(TcpStream::connect(address).await.expect("a connection"));
            guests.push(listener.accept().await.2);
        }
        for guest in &guests[..6] {
            guest.has_lost_its_place().await;
        }
        assert_eq!(listener.open.available_permits(), 8 + LEAVING - 12);
        drop(guests.drain(..6));
        assert_eq!(listener.open.available_permits(), 8 + LEAVING - 6);
    }

    #[test]
    fn a_machine_has_many_addresses() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(address("2001:db8:1:2:3::4")), address("2001:db8:1:2::"));
        assert_eq!(network(address("192.0.2.7")), address("192.0.2.7"));
    }
}
