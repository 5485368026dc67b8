//! A server with two sites, tested over real connections.

use super::*;
use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A site that handles the requests below a path.
struct Below {
    path: &'static str,
    /// Whether pages of this server may make requests.
    has_pages: bool,
}

impl Site for Below {
    fn takes(&self, request: &Request<Incoming>) -> bool {
        request.uri().path().starts_with(self.path)
    }

    fn allows(&self, origin: &HeaderValue, host: &str) -> bool {
        self.has_pages && origin.as_bytes().strip_prefix(b"http://") == Some(host.as_bytes())
    }

    fn answer<'a>(&'a self, request: Request<Incoming>, visit: &'a Visit) -> Answering<'a> {
        Box::pin(async move {
            assert_eq!(visit.ends.local.to_string(), visit.host);
            match read_body(request.into_body(), 8).await {
                Ok(_) => plain(StatusCode::OK, self.path),
                Err(unread) => unread.answer(),
            }
        })
    }
}

async fn served() -> (HttpServer, SocketAddr) {
    let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let site = |path, has_pages| Box::new(Below { path, has_pages }) as Box<dyn Site>;
    (HttpServer::start(listener, vec![site("/page", true), site("/call", false)]), address)
}

/// Sends a request and returns the response's status.
async fn ask(address: SocketAddr, path: &str, headers: &str, sent: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let length = sent.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{sent}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer[9..12].parse().expect("a status")
}

#[tokio::test]
async fn each_request_gets_to_its_site() {
    let (server, address) = served().await;
    let host = format!("Host: {address}\r\n");
    assert_eq!(ask(address, "/page", &host, "").await, 200);
    assert_eq!(ask(address, "/call", &host, "").await, 200);
    assert_eq!(ask(address, "/elsewhere", &host, "").await, 404);
    assert_eq!(ask(address, "/call", &host, "12345678").await, 200);
    assert_eq!(ask(address, "/call", &host, "123456789").await, 413);
    server.close();
    server.settle().await;
}

/// A page allowed by one site is not allowed by the next.
#[tokio::test]
async fn a_page_gets_no_further_than_its_site() {
    let (_server, address) = served().await;
    let host = format!("Host: {address}\r\n");
    let own = format!("{host}Origin: http://{address}\r\n");
    assert_eq!(ask(address, "/page", &own, "").await, 200);
    assert_eq!(ask(address, "/call", &own, "").await, 403);
    for origin in ["Origin: http://evil.example\r\n", "Origin: null\r\n", "Origin:\r\n"] {
        assert_eq!(ask(address, "/page", &format!("{host}{origin}"), "").await, 403);
        // An allowed origin does not cover a second one.
        assert_eq!(ask(address, "/page", &format!("{own}{origin}"), "").await, 403);
    }
    let strange = format!("Host: evil.example\r\nOrigin: http://{address}\r\n");
    assert_eq!(ask(address, "/page", &strange, "").await, 403);
    assert_eq!(ask(address, "/page", "", "").await, 403);
}
