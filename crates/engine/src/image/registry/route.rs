//! Decides which addresses a registry may redirect to, and which it may name for tokens.
//!
//! A registry is untrusted: each address it names is checked before a request is made
//! (docs/adr/0072). Used by `http` for redirects and by `token` for realms.

use reqwest::Url;
use std::net::IpAddr;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A manifest or an index.
    Manifest,
    /// A layer or a config.
    Blob,
    /// A token.
    Token,
}

#[derive(Clone, Debug)]
pub(super) struct RegistryBase {
    url: Url,
    /// Whether the registry is on this machine, by address or as `localhost`.
    is_here: bool,
}

impl RegistryBase {
    /// The registry of this name. It uses TLS unless it is on this machine, where nobody can listen
    /// in.
    pub(super) fn new(registry: &str) -> Result<Self, String> {
        let parsed = |scheme: &str| {
            Url::parse(&format!("{scheme}://{registry}/v2/"))
                .map_err(|error| format!("`{registry}` is not the name of a registry: {error}"))
        };
        let url = parsed("https")?;
        match is_loopback(host(&url)) {
            true => Ok(RegistryBase { url: parsed("http")?, is_here: true }),
            false => Ok(RegistryBase { url, is_here: false }),
        }
    }

    /// The address of a path in the registry.
    pub(super) fn at(&self, path: &str) -> Result<Url, String> {
        self.url.join(path).map_err(|error| error.to_string())
    }

    /// Whether this is the registry itself: scheme, host and port.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.url.origin()
    }

    /// Whether an address belongs to someone else: its host is not the registry's, nor are both
    /// this machine.
    pub(super) fn is_away(&self, url: &Url) -> bool {
        host(url) != host(&self.url) && !(self.is_here && is_loopback(host(url)))
    }

    /// Whether a redirect from `from` to `to` may be followed. The error says why not.
    pub(super) fn may_follow(&self, want: Want, from: &Url, to: &Url) -> Result<(), String> {
        let refused = |why: &str| Err(format!("it redirects to {}, {why}", shown(to)));
        if to.origin() == from.origin() && has_no_user(to) {
            return Ok(());
        }
        if want == Want::Token {
            return refused("but a token service may not redirect elsewhere");
        }
        if !has_no_user(to) {
            return refused("with a user's name in the address");
        }
        // A local registry may keep its blobs with another program on this machine, but not its
        // manifests.
        if self.is_here && want == Want::Blob && is_loopback(host(to)) {
            return match to.scheme() {
                "http" | "https" => Ok(()),
                _ => refused("which is not HTTP"),
            };
        }
        self.elsewhere(to).or_else(|why| refused(&why))
    }

    /// Whether to ask for a token at `realm`, perhaps with a password. The error says why not.
    pub(super) fn may_ask(&self, realm: &Url) -> Result<(), String> {
        let refused = |why: &str| Err(format!("it names {} for tokens, {why}", shown(realm)));
        if !has_no_user(realm) {
            return refused("with a user's name in the address");
        }
        let is_same_host = host(realm) == host(&self.url);
        if is_same_host && (realm.scheme() == "https" || self.is_here && realm.scheme() == "http") {
            return Ok(());
        }
        self.elsewhere(realm).or_else(|why| refused(&why))
    }

    /// Whether another host is acceptable: it uses TLS and is neither this machine nor link-local.
    fn elsewhere(&self, url: &Url) -> Result<(), String> {
        if url.scheme() != "https" {
            return Err("which is not encrypted".to_owned());
        }
        match is_near(host(url)) {
            true => Err("a loopback or link-local address".to_owned()),
            false => Ok(()),
        }
    }
}

fn has_no_user(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

/// The host as written in the address.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Scheme, host and port only: the rest of an address may be long or secret.
pub(super) fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    let host: String = host(url).chars().take(100).collect();
    format!("{}://{host}{port}", url.scheme())
}

fn address(host: &str) -> Option<IpAddr> {
    let text = host.trim_start_matches('[').trim_end_matches(']');
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether a host is this machine, where nobody can listen in.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

/// Whether a host is this machine, or an address that differs in meaning from machine to machine.
fn is_near(host: &str) -> bool {
    is_localhost(host) || address(host).is_some_and(is_near_address)
}

/// Loopback, link-local (where clouds give out credentials), and addresses of no single host.
pub(super) fn is_near_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => {
            // AWS's metadata service over IPv6: fd00:ec2::/32.
            let is_of_aws = v6.segments()[..2] == [0xfd00, 0x0ec2];
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unicast_link_local()
                || is_of_aws
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("an address")
    }

    fn base(registry: &str) -> RegistryBase {
        RegistryBase::new(registry).expect("a registry")
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for (registry, is_here) in [
            ("localhost:5000", true),
            ("localhost", true),
            ("127.0.0.1:5000", true),
            ("127.8.9.10", true),
            ("[::1]:5000", true),
            ("localhost.evil.org", false),
            ("127.0.0.1.evil.org:5000", false),
            ("10.0.0.1:5000", false),
            ("docker.io", false),
        ] {
            let base = base(registry);
            assert_eq!(base.is_here, is_here, "{registry}");
            let scheme = if is_here { "http" } else { "https" };
            assert_eq!(base.at("x").expect("an address").scheme(), scheme, "{registry}");
        }
    }

    #[test]
    fn redirects() {
        let far = "registry.example.org";
        let here = "127.0.0.1:5000";
        for (registry, want, to, is_followed) in [
            // The same host.
            (far, Want::Manifest, "https://registry.example.org/v2/y", true),
            (far, Want::Token, "https://registry.example.org/v2/y", true),
            (here, Want::Manifest, "http://127.0.0.1:5000/v2/y", true),
            (far, Want::Manifest, "https://me@registry.example.org/v2/y", false),
            // Another host over TLS: registry.k8s.io does this, and everyone with a CDN.
            (far, Want::Manifest, "https://cdn.example.net/y", true),
            (far, Want::Blob, "https://cdn.example.net/y", true),
            (far, Want::Blob, "https://10.1.2.3/y", true),
            (here, Want::Blob, "https://cdn.example.net/y", true),
            (far, Want::Token, "https://cdn.example.net/y", false),
            (far, Want::Blob, "https://me:word@cdn.example.net/y", false),
            // Without TLS.
            (far, Want::Manifest, "http://registry.example.org/v2/y", false),
            (far, Want::Blob, "http://cdn.example.net/y", false),
            (here, Want::Blob, "http://cdn.example.net/y", false),
            (far, Want::Blob, "file:///etc/passwd", false),
            // This machine and its neighbours, in every spelling.
            (far, Want::Blob, "https://localhost/y", false),
            (far, Want::Blob, "https://a.localhost./y", false),
            (far, Want::Blob, "https://127.0.0.1/y", false),
            (far, Want::Blob, "https://2130706433/y", false),
            (far, Want::Blob, "https://0x7f.1/y", false),
            (far, Want::Blob, "https://0.0.0.0/y", false),
            (far, Want::Blob, "https://[::1]/y", false),
            (far, Want::Blob, "https://[::ffff:127.0.0.1]/y", false),
            (far, Want::Blob, "https://169.254.169.254/y", false),
            (far, Want::Blob, "https://[::ffff:a9fe:a9fe]/y", false),
            (far, Want::Blob, "https://[fe80::1]/y", false),
            (far, Want::Blob, "https://[fd00:ec2::254]/y", false),
            (here, Want::Blob, "http://169.254.170.2/y", false),
            // A local registry may keep its blobs on this machine, and nothing else.
            (here, Want::Blob, "http://127.0.0.1:9000/y", true),
            (here, Want::Blob, "https://localhost:9000/y", true),
            (here, Want::Manifest, "http://127.0.0.1:9000/y", false),
            (here, Want::Manifest, "https://127.0.0.1:9000/y", false),
        ] {
            let base = base(registry);
            let from = base.at("x").expect("an address");
            let judged = base.may_follow(want, &from, &url(to));
            assert_eq!(judged.is_ok(), is_followed, "{registry} {want:?} {to}: {judged:?}");
        }
    }

    #[test]
    fn realms() {
        for (registry, realm, is_asked) in [
            ("registry-1.docker.io", "https://auth.docker.io/token", true),
            ("ghcr.io", "https://ghcr.io/token", true),
            ("ghcr.io", "http://ghcr.io/token", false),
            ("ghcr.io", "http://auth.example.org/token", false),
            ("ghcr.io", "https://localhost/token", false),
            ("ghcr.io", "https://169.254.169.254/token", false),
            ("ghcr.io", "https://me@ghcr.io/token", false),
            ("127.0.0.1:5000", "http://127.0.0.1:6000/token", true),
            ("127.0.0.1:5000", "http://127.0.0.2:6000/token", false),
            ("127.0.0.1:5000", "https://auth.example.org/token", true),
        ] {
            let judged = base(registry).may_ask(&url(realm));
            assert_eq!(judged.is_ok(), is_asked, "{registry} {realm}: {judged:?}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_shown() {
        assert_eq!(shown(&url("https://a:b@h.example:8443/p?X-Sig=s")), "https://h.example:8443");
    }
}
