//! Local ports that are forwarded into a build, and whether HTTP is served there.
//!
//! `runner port-forward` tells the build's owner where it listens, and the owner has seen that it
//! does. Whether a link makes sense is asked there, with the one request that asks a server for
//! nothing, where that is this machine alone.

use super::WebPage;
use super::reply::{Refused, json};
use super::routes::VisitorRequest;
use crate::aws::{Deed, VisibleBuild};
use crate::http::HttpResponse;
use runner_wire::control::{ControlStatus, ForwardLine};
use serde_json::{Value, json};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Most forwards shown for a build.
const MOST: usize = 16;
/// How long a server has to respond in HTTP.
const PATIENCE: Duration = Duration::from_secs(3);
const GET_FORWARDS: Deed =
    Deed { name: "GetForwards", action: "runner:GetForwards", is_read_only: true };

impl WebPage {
    /// The addresses of forwards behind which HTTP is served.
    pub(super) async fn forwards(
        &self,
        asked: &VisitorRequest,
        known: &VisibleBuild,
    ) -> Result<HttpResponse, Refused> {
        asked.may_act()?;
        self.endpoint.permit(&asked.owner, GET_FORWARDS, known).await?;
        if asked.visitor.looks_first(format!("forwards {}", known.uuid)) {
            self.endpoint.note(&asked.owner, GET_FORWARDS, known, Value::Null, None).await;
        }
        let status = known.status().await?;
        let mut asking = JoinSet::new();
        for (line, address) in listed(&status).filter(|(_, address)| is_asked(*address)) {
            let local = line.local.clone();
            asking.spawn(async move { serves_http(address).await.then_some(local) });
        }
        let mut serving: Vec<String> = asking.join_all().await.into_iter().flatten().collect();
        serving.sort();
        json(&serving)
    }
}

/// The forwards in the page's form: both ends, and the local address that leads there.
pub(super) fn shown(status: &ControlStatus) -> Vec<Value> {
    let shown = |(line, address): (&ForwardLine, SocketAddr)| json!({"local": line.local, "remote": line.remote, "address": address.to_string()});
    listed(status).map(shown).collect()
}

fn listed(status: &ControlStatus) -> impl Iterator<Item = (&ForwardLine, SocketAddr)> {
    status.forwards.iter().filter_map(|line| Some((line, reached(&line.local)?))).take(MOST)
}

/// The address at which a program on this machine reaches a forward.
fn reached(local: &str) -> Option<SocketAddr> {
    let mut address: SocketAddr = local.parse().ok()?;
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

/// Whether HTTP is asked for there. At an address of the network a request would be seen by others.
fn is_asked(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

async fn serves_http(address: SocketAddr) -> bool {
    let ask = async || -> io::Result<bool> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("OPTIONS * HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut begin = [0; 5];
        stream.read_exact(&mut begin).await?;
        Ok(begin == *b"HTTP/")
    };
    tokio::time::timeout(PATIENCE, ask()).await.is_ok_and(|said| said.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_on_this_machine() {
        let reached = |local: &str| reached(local).map(|address| address.to_string());
        for (local, wanted) in [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            ("0.0.0.0:80", Some("127.0.0.1:80")),
            ("[::]:80", Some("[::1]:80")),
            ("192.0.2.7:80", Some("192.0.2.7:80")),
            // What is no address gets no link.
            ("localhost:80", None),
            ("javascript:alert(1)", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(reached(local).as_deref(), wanted, "{local}");
        }
    }

    #[test]
    fn only_this_machine_is_asked() {
        for (local, wanted) in [
            ("127.0.0.1:80", true),
            ("127.8.0.1:80", true),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("192.0.2.7:80", false),
            ("169.254.169.254:80", false),
            ("[fe80::1]:80", false),
        ] {
            assert_eq!(reached(local).map(is_asked), Some(wanted), "{local}");
        }
    }
}
