//! Refuses requests made through a foreign host name, and requests of foreign pages.
//!
//! Browsers always send a page's origin, and none of our clients does. Anyone can point a name
//! other than `localhost` here, so `Host` must be that or a plain address.

use super::answer::{HttpResponse, plain};
use super::site::Site;
use http::{HeaderMap, StatusCode};
use std::net::{IpAddr, SocketAddr};

/// The request's host, if nobody else can point it here.
pub(super) fn host(headers: &HeaderMap, local: SocketAddr) -> Option<&str> {
    let host = headers.get(http::header::HOST)?.to_str().ok()?;
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()?),
        _ => (host, 80),
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_known = name.eq_ignore_ascii_case("localhost") || address.is_ok();
    // Another port is fine: someone may forward it.
    (is_known && port > 0 && local.port() > 0).then_some(host)
}

/// Refuses a request without such a host.
pub(super) fn strange_host() -> HttpResponse {
    plain(StatusCode::FORBIDDEN, "call this endpoint by its address")
}

/// Whether a site accepts a request: no page sent it, or the site allows the page.
pub(super) fn is_allowed(site: &dyn Site, headers: &HeaderMap, host: &str) -> bool {
    headers.get_all(http::header::ORIGIN).iter().all(|origin| site.allows(origin, host))
}

/// Refuses any other page.
pub(super) fn strange_page() -> HttpResponse {
    plain(StatusCode::FORBIDDEN, "this endpoint is not for pages in a browser")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_that_nobody_else_can_name() {
        let local: SocketAddr = "127.0.0.1:4599".parse().expect("an address");
        let trusted = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("host", name.parse().expect("text"));
            host(&headers, local).is_some()
        };
        for good in ["localhost:4599", "LOCALHOST", "127.0.0.1:4599", "[::1]:4599", "10.0.0.1:80"] {
            assert!(trusted(good), "{good}");
        }
        for bad in ["evil.example:4599", "localhost.evil.example", "", ":4599", "127.0.0.1:x"] {
            assert!(!trusted(bad), "{bad}");
        }
        assert!(host(&HeaderMap::new(), local).is_none());
    }
}
