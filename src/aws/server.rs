//! The listening end: connections, requests, and who is not let in whatever they ask.
//!
//! Browsers are not: they always say where a page comes from, and no client of ours does. A name in
//! Host that is not `localhost` could be anybody's who points it here, so only that and plain
//! addresses are known. Websockets go to the gateway, calls to the endpoint.

use super::call::{self, Call, Protocol, Refusal, Service};
use super::endpoint::{Endpoint, Ends, MAX_BODY, Origin};
use super::sigv4::AuthError;
use super::{codebuild, ecs, others, ssm, sts};
use crate::gateway;
use crate::peers::{Guest, Listener, share};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Connections at once, websockets among them: this part of the limit of descriptors, and at most so many.
const CONNECTIONS: (usize, usize) = (4, 2048);
/// How long a request's head may take, and its body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long calls that are being answered are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Listens. An address that is none of this machine's own is for whoever can reach it.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// An endpoint that is being served.
pub(crate) struct Server {
    endpoint: Arc<Endpoint>,
    /// Calls that are being answered.
    busy: watch::Sender<usize>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves until it is closed.
    pub(crate) fn start(listener: TcpListener, endpoint: Arc<Endpoint>) -> Self {
        let busy = watch::Sender::new(0);
        let listener = Listener::new(listener, share(CONNECTIONS.0, CONNECTIONS.1));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&endpoint), busy.clone()));
        Server { endpoint, busy, accepting }
    }

    /// Takes no more calls, tells every session why it ends, and waits, a little, until all have
    /// heard.
    pub(crate) async fn close(&self, reason: &str) {
        self.accepting.abort();
        self.endpoint.close(reason).await;
        let mut busy = self.busy.subscribe();
        let _ = tokio::time::timeout(LAST_ANSWERS, busy.wait_for(|busy| *busy == 0)).await;
    }
}

async fn accept(listener: Listener, endpoint: Arc<Endpoint>, busy: watch::Sender<usize>) {
    loop {
        let (stream, peer, guest) = listener.accept().await;
        let (endpoint, busy) = (Arc::clone(&endpoint), busy.clone());
        tokio::spawn(async move {
            let served = tokio::select! {
                served = serve(stream, peer, &endpoint, &busy, &guest) => served,
                () = guest.has_lost_its_place() => Err("closed to make room".into()),
            };
            if let Err(error) = served {
                tracing::debug!(%error, %peer, "a client of the endpoint");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    endpoint: &Arc<Endpoint>,
    busy: &watch::Sender<usize>,
    guest: &Arc<Guest>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // A key that is pressed does not wait for the next one.
    stream.set_nodelay(true)?;
    let ends = Ends { peer, local: stream.local_addr()? };
    let service = service_fn(|request| async move {
        let _busy = Busy::new(busy);
        Ok::<_, Infallible>(respond(request, endpoint, ends, guest).await)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(16 << 10)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    Ok(())
}

/// Counts a call that is being answered, also where its connection is closed meanwhile.
struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn respond(
    request: Request<Incoming>,
    endpoint: &Arc<Endpoint>,
    ends: Ends,
    guest: &Arc<Guest>,
) -> Response<Full<Bytes>> {
    let Some(host) = trusted_host(request.headers(), ends.local) else {
        return plain(StatusCode::FORBIDDEN, "call this endpoint by its address");
    };
    if request.headers().contains_key(http::header::ORIGIN) {
        return plain(StatusCode::FORBIDDEN, "this endpoint is not for pages in a browser");
    }
    if request.headers().contains_key(http::header::UPGRADE) {
        return match gateway::upgrade(request, &endpoint.gateway, guest) {
            Ok(response) => response,
            Err(error) => plain(StatusCode::BAD_REQUEST, &error),
        };
    }
    let (parts, body) = request.into_parts();
    if !call::is_one(&parts) {
        return match others::service(&parts) {
            Some(service) => others::refuse(&service, &parts.method),
            None if parts.method == Method::POST => not_a_call(),
            None => plain(StatusCode::METHOD_NOT_ALLOWED, "calls are POST requests"),
        };
    }
    let protocol = call::protocol(&parts);
    let body = match tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the call did not come whole"),
    };
    let caller = match endpoint.authenticate(&parts, &body, ends).await {
        Ok(caller) => caller,
        Err(error) => {
            let refusal = refusal(error, protocol);
            let operation = text(&parts, "x-amz-target").unwrap_or_else(|| parts.uri.path());
            endpoint.note_refused(operation, ends, &refusal);
            return call::write(protocol, "", &Err(refusal));
        }
    };
    let _kept = guest.keep();
    let origin = Origin { caller, host };
    let call = match call::read(&parts, protocol, &body) {
        Ok(call) => call,
        Err(refusal) => return call::write(protocol, "", &Err(refusal)),
    };
    let answer = answer(&call, &origin, endpoint).await;
    endpoint.note(&call, &origin, ends, text(&parts, "user-agent"), &answer);
    call::write(protocol, &call.operation, &answer)
}

/// Has the service that is asked answer a call.
async fn answer(call: &Call, origin: &Origin, endpoint: &Endpoint) -> Result<Value, Refusal> {
    match call.service {
        Service::Ssm => ssm::answer(call, origin, endpoint).await,
        Service::Ecs => ecs::answer(call, origin, endpoint).await,
        Service::CodeBuild => codebuild::answer(call, origin, endpoint).await,
        Service::Sts => sts::answer(call, &origin.caller),
        Service::Other => Err(call::unknown(call.service, &call.operation)),
    }
}

/// A POST request that names no operation.
fn not_a_call() -> Response<Full<Bytes>> {
    let refusal = call::unknown(Service::Other, "(no X-Amz-Target)");
    call::write(Protocol::Json, "", &Err(refusal))
}

fn text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// The host a request is for, if it is one that nobody else can point here.
fn trusted_host(headers: &HeaderMap, local: SocketAddr) -> Option<String> {
    let host = headers.get(http::header::HOST)?.to_str().ok()?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
        _ => (host, 80),
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_known = name.eq_ignore_ascii_case("localhost") || address.is_ok();
    // Another port is fine where somebody forwards one.
    (is_known && port > 0 && local.port() > 0).then(|| host.to_owned())
}

/// In the words that clients of AWS know.
fn refusal(error: AuthError, protocol: Protocol) -> Refusal {
    let (code, message) = match error {
        AuthError::Missing => (
            "MissingAuthenticationTokenException",
            "the call is not signed; the credentials of this endpoint are in the file that the \
             runner names"
                .to_owned(),
        ),
        AuthError::Incomplete(why) => ("IncompleteSignatureException", why),
        AuthError::UnknownKey => (
            "UnrecognizedClientException",
            "the access key is not the one of this endpoint".to_owned(),
        ),
        AuthError::Mismatch(why) => ("InvalidSignatureException", why),
    };
    let query_code = match code {
        "MissingAuthenticationTokenException" => "MissingAuthenticationToken",
        "IncompleteSignatureException" => "IncompleteSignature",
        "UnrecognizedClientException" => "InvalidClientTokenId",
        _ => "SignatureDoesNotMatch",
    };
    match protocol {
        Protocol::Query | Protocol::Ec2 => Refusal::new(query_code, message).with_status(403),
        Protocol::Json | Protocol::Cbor => Refusal::new(code, message),
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_nobody_else_can_name() {
        let local: SocketAddr = "127.0.0.1:4599".parse().expect("an address");
        let trusted = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().expect("text"));
            trusted_host(&headers, local).is_some()
        };
        for good in ["localhost:4599", "LOCALHOST", "127.0.0.1:4599", "[::1]:4599", "10.0.0.1:80"] {
            assert!(trusted(good), "{good}");
        }
        for bad in ["evil.example:4599", "localhost.evil.example", "", ":4599", "127.0.0.1:x"] {
            assert!(!trusted(bad), "{bad}");
        }
        assert!(trusted_host(&HeaderMap::new(), local).is_none());
    }
}
