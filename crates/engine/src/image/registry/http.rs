//! HTTP requests to a registry: follows redirects and limits how much of a response is read.
//!
//! Redirects are followed here rather than by the client, so that `route` checks each one and only
//! the registry gets credentials.

use super::failure::RegistryFailure;
use super::route::{RegistryBase, Want, is_near_address};
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use runner_host::trust::certificates;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence of a registry.
const READ: Duration = Duration::from_secs(60);
/// Longest time for a response other than a layer.
const WHOLE: Duration = Duration::from_secs(120);
/// Most redirects of one request.
const HOPS: usize = 5;
/// Most bytes read of an error response's body.
const MOST_REFUSAL: usize = 64 << 10;

/// A registry's HTTP client.
pub(super) struct Http {
    client: Client,
    names: Arc<GuardedResolver>,
    pub(super) base: RegistryBase,
}

pub(super) struct RegistryRequest<'a> {
    pub(super) want: Want,
    pub(super) url: Url,
    pub(super) headers: &'a HeaderMap,
    /// Credentials for the requested host only.
    pub(super) authorization: Option<&'a HeaderValue>,
}

impl Http {
    pub(super) fn new(base: RegistryBase) -> Result<Self, RegistryFailure> {
        let names = Arc::new(GuardedResolver::default());
        let client = Client::builder()
            .redirect(Policy::none())
            .dns_resolver(Arc::clone(&names))
            .connect_timeout(CONNECT)
            .read_timeout(READ)
            .tls_certs_merge(trusted()?)
            .user_agent(concat!("runner/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Http { client, names, base })
    }

    /// Sends a request and follows allowed redirects. Returns a response of any status.
    pub(super) async fn get(&self, ask: RegistryRequest<'_>) -> Result<Response, RegistryFailure> {
        let RegistryRequest { want, mut url, headers, mut authorization } = ask;
        for _ in 0..=HOPS {
            let mut request = self.client.get(url.clone()).headers(headers.clone());
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
            if want != Want::Blob {
                request = request.timeout(WHOLE);
            }
            let response = request.send().await?;
            let Some(next) = redirect(&response, &url)? else { return Ok(response) };
            self.base.may_follow(want, &url, &next).map_err(RegistryFailure::Answer)?;
            if next.origin() != url.origin() {
                // No credentials there, nor for later redirects.
                authorization = None;
                self.leave_home(&next);
            }
            url = next;
        }
        Err(RegistryFailure::Answer(format!("it redirects more than {HOPS} times")))
    }

    /// Notes that another host comes next, whose name must not resolve to this machine.
    pub(super) fn leave_home(&self, url: &Url) {
        if let Some(host) = url.host_str().filter(|_| self.base.is_away(url)) {
            let mut away = self.names.away.lock().unwrap_or_else(PoisonError::into_inner);
            away.insert(host.to_owned());
        }
    }
}

/// Certificates that the caller trusts in addition to this machine's.
fn trusted() -> Result<Vec<Certificate>, reqwest::Error> {
    certificates().iter().map(|pem| Certificate::from_pem(pem.as_bytes())).collect()
}

/// The target of a redirect response.
fn redirect(response: &Response, from: &Url) -> Result<Option<Url>, RegistryFailure> {
    let is_one = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let Some(to) = response.headers().get(LOCATION).filter(|_| is_one) else { return Ok(None) };
    let to = to.to_str().ok().and_then(|to| from.join(to).ok());
    to.map(Some)
        .ok_or_else(|| RegistryFailure::Answer("it redirects to an invalid address".to_owned()))
}

/// The whole body of a successful response of at most `most` bytes. Any other response is an error.
pub(super) async fn whole(
    mut response: Response,
    most: u64,
    what: &str,
) -> Result<Vec<u8>, RegistryFailure> {
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    let too_long = || RegistryFailure::Answer(format!("its {what} is longer than {most} bytes"));
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > most {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Makes a failure from an error response and the start of its body.
pub(super) async fn refusal(mut response: Response) -> RegistryFailure {
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    let reading = async {
        // If the body breaks off, the part read so far is used.
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = MOST_REFUSAL - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if bytes.len() == MOST_REFUSAL {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(WHOLE, reading).await;
    RegistryFailure::status(status, &bytes)
}

/// Resolves host names. If a registry names another host, that name may not resolve to this machine
/// or to a link-local address: anyone can give such an address a name.
#[derive(Default)]
struct GuardedResolver {
    away: Mutex<HashSet<String>>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let is_away = away.contains(name.as_str());
        drop(away);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed = |address: &SocketAddr| !is_away || !is_near_address(address.ip());
            let addresses: Vec<SocketAddr> = found.filter(allowed).collect();
            if addresses.is_empty() && is_away {
                let why = "its name leads to a loopback or link-local address";
                return Err(why.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `localhost` is the one name that resolves to the machine itself everywhere.
    #[tokio::test]
    async fn a_name_of_somebody_else_does_not_lead_here() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = Url::parse("https://localhost:9/x").expect("an address");
        for (registry, leads_here) in [("registry.example", false), ("127.0.0.1:5000", true)] {
            let http = Http::new(RegistryBase::new(registry).expect("a name")).expect("a client");
            let look_up = || http.names.resolve("localhost".parse().expect("a name"));
            assert!(look_up().await.is_ok_and(|mut found| found.next().is_some()));
            http.leave_home(&url);
            assert_eq!(look_up().await.is_ok(), leads_here, "{registry}");
        }
    }
}
