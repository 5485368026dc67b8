//! Rules on the origin of requests to the page, and on what a browser may do with the responses.

use crate::http::{ConnectionEnds, HttpResponse};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers of every response. A foreign page cannot load it, not even as an image.
const CLOSED: [(HeaderName, &str); 5] = [
    (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (http::header::REFERRER_POLICY, "no-referrer"),
    (http::header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
/// The policy of responses that are no page: a browser may do nothing with them.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// Checks that a request comes from this machine and, if a browser tells, from the page itself.
pub(super) fn is_from_here(ends: ConnectionEnds, headers: &HeaderMap) -> Result<(), &'static str> {
    let is_here = |address: std::net::SocketAddr| address.ip().to_canonical().is_loopback();
    if !is_here(ends.local) || !is_here(ends.peer) {
        return Err("the page is for this machine alone");
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    match site {
        // `none`: the address was typed, or opened by another program.
        None | Some(b"same-origin" | b"none") => Ok(()),
        // A foreign link may lead to the page, which shows nothing without a key.
        Some(_) if is_visit(headers) => Ok(()),
        Some(_) => Err("another page has no business here"),
    }
}

/// Whether a user navigates to the page in a tab.
fn is_visit(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &[u8]| headers.get(name).is_some_and(|it| it.as_bytes() == value);
    is("sec-fetch-mode", b"navigate") && is("sec-fetch-dest", b"document")
}

/// Whether a request claims to come from this server's page. Browsers always send the origin with
/// changes and websockets.
pub(super) fn is_of_page(headers: &HeaderMap, host: &str) -> bool {
    let origin = headers.get(http::header::ORIGIN).map(HeaderValue::as_bytes);
    origin.and_then(|origin| origin.strip_prefix(b"http://")) == Some(host.as_bytes())
}

/// The response, with rules against storing and running it.
pub(super) fn close(answer: HttpResponse) -> HttpResponse {
    let mut answer = with_rules(answer, NOTHING);
    let no_store = HeaderValue::from_static("no-store");
    answer.headers_mut().entry(http::header::CACHE_CONTROL).or_insert(no_store);
    answer
}

/// The response with the general rules and this policy.
pub(super) fn with_rules(mut answer: HttpResponse, policy: &str) -> HttpResponse {
    let headers = answer.headers_mut();
    for (name, value) in CLOSED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(http::header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn ends(peer: &str, local: &str) -> ConnectionEnds {
        ConnectionEnds {
            peer: peer.parse().expect("a peer"),
            local: local.parse().expect("an address"),
        }
    }

    #[test]
    fn only_this_machine_is_answered() {
        let here = ends("127.0.0.1:1", "127.0.0.1:2");
        let none = HeaderMap::new();
        assert!(is_from_here(here, &none).is_ok());
        assert!(is_from_here(ends("[::1]:1", "[::1]:2"), &none).is_ok());
        assert!(is_from_here(ends("[::ffff:127.0.0.1]:1", "127.0.0.1:2"), &none).is_ok());
        assert!(is_from_here(ends("10.0.0.9:1", "10.0.0.1:2"), &none).is_err());
        assert!(is_from_here(ends("10.0.0.9:1", "127.0.0.1:2"), &none).is_err());
    }

    #[test]
    fn only_the_page_itself_is_answered() {
        let here = ends("127.0.0.1:1", "127.0.0.1:2");
        let from = |site: &str| is_from_here(here, &headers(&[("sec-fetch-site", site)])).is_ok();
        assert!(from("same-origin") && from("none"));
        // `same-site` is another port of this machine, perhaps a build's server.
        assert!(!from("same-site") && !from("cross-site") && !from("x"));
        let by_link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert!(is_from_here(here, &headers(&by_link)).is_ok());
        let framed = [by_link[0], by_link[1], ("sec-fetch-dest", "iframe")];
        assert!(is_from_here(here, &headers(&framed)).is_err());
    }

    #[test]
    fn changes_say_where_they_come_from() {
        let of = |origin: &str| is_of_page(&headers(&[("origin", origin)]), "127.0.0.1:4599");
        assert!(of("http://127.0.0.1:4599"));
        for other in ["http://127.0.0.1:4598", "https://127.0.0.1:4599", "null", "http://evil", ""]
        {
            assert!(!of(other), "{other}");
        }
        assert!(!is_of_page(&HeaderMap::new(), "127.0.0.1:4599"));
    }
}
